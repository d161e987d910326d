"""Source trees to compare: a directory, a revision, either with patches. Of each, only ``refactors`` and ``kmm/mm`` are taken."""

from __future__ import annotations

import ast
import hashlib
import io
import os
import subprocess
import tarfile
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Final

import attrs

import kmm
from kmm.judge.variants import checkout
from kmm.kernel import ACCESS_VERSION
from kmm.lab.apply import ROOMS, apply_patch
from kmm.lab.patch import read_patches
from kmm.scenario.errors import BadInputError

TOOL: Final = Path(kmm.__file__).parent.parent
"""The tree of the running tool."""
KERNEL: Final = "kmm/kernel/__init__.py"
MAX_BYTES: Final = 64 << 20
_NEEDED: Final = (KERNEL, "kmm/mm/variant.py", "refactors/__init__.py")
_SKIPPED: Final = "__pycache__"
_LATER_S: Final = 2
_NO_TREE: Final = "name the top directory of a checkout of kmm"


class TreeError(BadInputError):
    """A source tree that cannot be used."""


@attrs.frozen(kw_only=True)
class Tree:
    """Where code comes from.

    :param directory: top of a checkout, or what holds the installed packages
    :param rev: a revision of the git repository there; empty: the files as they are
    :param patches: files with patches, to be applied in this order
    """

    directory: Path
    rev: str = ""
    patches: tuple[Path, ...] = ()

    @property
    def is_home(self) -> bool:
        """Just the files that a name without a tree stands for."""
        return not self.rev and not self.patches and self.directory.resolve() == home().resolve()

    @property
    def title(self) -> str:
        """For people."""
        place = self.rev[:12] or ("the tree" if self.directory.resolve() == home().resolve() else str(self.directory))
        return f"{place} with {', '.join(each.name for each in self.patches)}" if self.patches else place

    @property
    def mark(self) -> str:
        """In a word, which does not depend on where the tree is."""
        return "patched" if self.patches else self.rev[:12] or "other tree"


@attrs.frozen
class Taken:
    """What was taken from a tree.

    :param touched: files that the patches changed, from the root
    :param sha256: of the files, in hexadecimal
    """

    touched: tuple[str, ...]
    sha256: str


def home() -> Path:
    """The tree that is meant when none is named: the checkout around the current directory, else the tool's own."""
    refactors = checkout()
    around = None if refactors is None else refactors.parent
    return around if around is not None and all((around / each).is_file() for each in _NEEDED) else TOOL


def take(tree: Tree, to: Path) -> Taken:
    """Make a tree at ``to`` that can be imported: the rooms of the running tool, with ``kmm/mm`` and ``refactors`` of the other one.

    :param to: an empty directory
    :raises TreeError: it is no tree of kmm, or there is no such revision
    :raises PatchError: a patch does not apply
    """
    files = dict(_of_revision(tree) if tree.rev else _of_directory(tree.directory))
    _need_interface(tree, files)
    for path, data in files.items():
        if path != KERNEL:
            target = to / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    touched: dict[str, None] = {}
    for patch in (patch for file in tree.patches for patch in read_patches(file)):
        touched.update(dict.fromkeys(apply_patch(patch, to)))
    if not tree.rev and tree.directory.resolve() == TOOL:
        _share_bytecode(to, [path for path in files if path != KERNEL and (to / path).exists()], touched)
    for each in sorted((TOOL / "kmm").iterdir()):
        if each.name not in ("mm", _SKIPPED):
            (to / "kmm" / each.name).symlink_to(each)
    return Taken(tuple(touched), digest(to))


def _share_bytecode(to: Path, paths: list[str], changed: Container[str]) -> None:
    """Let Python find what it has compiled of the running tool: files that have its times are not compiled again, others are."""
    for path in paths:
        own = (TOOL / path).stat()
        os.utime(to / path, (own.st_atime, own.st_mtime + _LATER_S) if path in changed else (own.st_atime, own.st_mtime))
    for folder in {(to / path).parent for path in paths}:
        compiled = TOOL / folder.relative_to(to) / _SKIPPED
        if compiled.is_dir() and not (folder / _SKIPPED).exists():
            (folder / _SKIPPED).symlink_to(compiled)


def digest(root: Path) -> str:
    """A hash over ``refactors`` and ``kmm/mm`` of a tree, in hexadecimal."""
    out = hashlib.sha256()
    for path, data in sorted(_of_directory(root)):
        if path != KERNEL:
            out.update(f"{path} {hashlib.sha256(data).hexdigest()}\n".encode())
    return out.hexdigest()


def _of_directory(directory: Path) -> Iterator[tuple[str, bytes]]:
    try:
        yield from _read(directory)
    except OSError as error:
        raise TreeError(f"cannot be read ({error.strerror})", _NO_TREE, str(directory)) from None


def _read(directory: Path) -> Iterator[tuple[str, bytes]]:
    room = MAX_BYTES
    todo = [directory / each for each in ROOMS]
    while todo:
        for entry in sorted(os.scandir(todo.pop()), key=lambda each: each.name):
            if entry.name == _SKIPPED:
                continue
            path = Path(entry.path)
            if entry.is_symlink() or not (entry.is_dir() or entry.is_file()):
                raise TreeError("this is neither a file nor a directory", "kmm takes no symbolic links from a tree", str(path))
            if entry.is_dir():
                todo.append(path)
                continue
            room -= entry.stat().st_size
            _need_room(room, str(directory))
            yield path.relative_to(directory).as_posix(), path.read_bytes()
    yield KERNEL, (directory / KERNEL).read_bytes()


def _need_room(room: int, where: str) -> None:
    if room < 0:
        raise TreeError(f"refactors and kmm/mm have more than {MAX_BYTES >> 20} MiB", _NO_TREE, where)


def commit(directory: Path, rev: str) -> str:
    """The commit that a revision names, in hexadecimal.

    :raises TreeError: there is none
    """
    done = _git(directory, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}")
    if done.returncode == 1:
        raise TreeError(f'there is no revision "{rev}"', "see git log", str(directory))
    if done.returncode:
        raise TreeError("this is no git repository", "run kmm in a checkout, or name one with --tree", str(directory))
    return done.stdout.decode().strip()


def commits(directory: str, rev: str) -> tuple[str, ...]:
    """The commits that ``REV`` or ``OLD..NEW`` names; what is left out is HEAD.

    :param directory: in the repository; empty: the tree that is meant when none is named
    :raises TreeError: there is none
    """
    place = Path(directory) if directory else home()
    if "..." in rev:
        raise TreeError("three dots do not name two revisions", "write OLD..NEW", f"--rev {rev}")
    return tuple(commit(place, each or "HEAD") for each in rev.split("..", maxsplit=1))


def _of_revision(tree: Tree) -> Iterator[tuple[str, bytes]]:
    where = f"{tree.rev} of {tree.directory}"
    done = _git(tree.directory, "archive", "--format=tar", commit(tree.directory, tree.rev), *ROOMS, KERNEL)
    if done.returncode:
        raise TreeError("this revision is no tree of kmm", "name a later one", where)
    room = MAX_BYTES
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        for member in archive:
            if member.isdir():
                continue
            content = archive.extractfile(member) if member.isfile() else None
            if content is None:
                raise TreeError(f"{member.name} is neither a file nor a directory", "kmm takes no symbolic links from a tree", where)
            room -= member.size
            _need_room(room, where)
            yield member.name, content.read()


def _git(directory: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["git", "-C", str(directory), *arguments], capture_output=True, check=False)
    except OSError as error:
        raise TreeError(f"git cannot be run ({error.strerror})", "install git, or name a directory with --tree", str(directory)) from None


def _need_interface(tree: Tree, files: dict[str, bytes]) -> None:
    """Raise for a tree of another interface, or of none."""
    missing = [each for each in _NEEDED if each not in files]
    version = None if missing else _access_version(files[KERNEL])
    where = f"{tree.rev} of {tree.directory}" if tree.rev else str(tree.directory)
    if missing or version is None:
        what = f"it has no {missing[0]}" if missing else f"its {KERNEL} has no ACCESS_VERSION"
        raise TreeError(f"this is no tree of kmm ({what})", _NO_TREE, where)
    if version != ACCESS_VERSION:
        problem = f"its access interface has version {version}, and this kmm has {ACCESS_VERSION}"
        raise TreeError(problem, "use the kmm of that tree, or compare trees of one version", where)


def _access_version(source: bytes) -> int | None:
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return None
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "ACCESS_VERSION":
            return node.value.value if isinstance(node.value, ast.Constant) and isinstance(node.value.value, int) else None
    return None
