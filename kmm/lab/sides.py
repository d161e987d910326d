"""Load two variants for a comparison, each of its own tree where it says so, with patches or without."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path, PurePosixPath
from typing import Final

import attrs

from kmm.judge.named import Named, Opener, is_path
from kmm.judge.variants import LoadedVariant, checkout, load_variant
from kmm.lab.apply import path_of
from kmm.lab.patch import NO_FILE, PatchError, read_patches
from kmm.lab.trees import TOOL, Tree, digest, home, take
from kmm.lab.typecheck import Check, can_type_check, new_errors
from kmm.scenario.errors import BadInputError

USUAL: Final = "v12"


@contextmanager
def opened(baseline: Named, candidate: Named, *, typed: bool = True) -> Iterator[tuple[LoadedVariant, LoadedVariant]]:
    """Load baseline and candidate. Of other trees, copies are run, in processes that end with the block.

    :param typed: type-check what patches change
    :raises BadInputError: a tree, a revision, a patch or a variant cannot be used
    """
    if not (baseline.in_tree or candidate.in_tree):
        yield load_variant(baseline.variant), load_variant(candidate.variant)
        return
    with ExitStack() as stack:
        second = _open(stack, candidate, typed=typed)
        yield _open(stack, baseline, typed=typed), second


def default_variants(patches: tuple[str, ...]) -> tuple[str, str]:
    """The variants that patches are about: baseline and candidate. That of the one file of ``refactors`` that they change, else v12.

    :raises PatchError: a patch cannot be read
    """
    changes = [change for file in patches for patch in read_patches(file) for change in patch.changes]
    names = {PurePosixPath(path_of(change)): change for change in reversed(changes)}
    variants = [path for path in names if str(path.parent) == "refactors" and path.suffix == ".py" and path.stem != "__init__"]
    if len(variants) != 1:
        return USUAL, USUAL
    change = names[variants[0]]
    if change.after == NO_FILE:
        return USUAL, USUAL
    return USUAL if change.before == NO_FILE else variants[0].stem, variants[0].stem


def _open(stack: ExitStack, named: Named, *, typed: bool) -> LoadedVariant:
    tree = Tree(directory=Path(named.tree) if named.tree else home(), rev=named.rev, patches=tuple(map(Path, named.patches)))
    if tree.is_home and _is_own(tree.directory):
        return _of_tree(load_variant(named.variant), digest(tree.directory))
    root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kmm-tree-"))).resolve()
    taken = take(tree, root)
    variant = str(Path(named.variant).absolute()) if is_path(named.variant) else named.variant
    from kmm.judge.process import TreeProcess

    with _type_checked(tree, root) if typed else nullcontext():
        process = stack.enter_context(TreeProcess(root, variant, tree.title, tree.mark))
    return _of_tree(process.loaded(), taken.sha256)


def _is_own(directory: Path) -> bool:
    """What a variant finds there is what this process has imported."""
    refactors = checkout()
    own = refactors is None or refactors.resolve() == (directory / "refactors").resolve()
    return own and directory.resolve() == TOOL.resolve()


def _of_tree(loaded: LoadedVariant, sha256: str) -> LoadedVariant:
    """The hash of a variant that is judged with its tree covers both."""
    return attrs.evolve(loaded, sha256=hashlib.sha256(f"{loaded.sha256} {sha256}".encode()).hexdigest())


@contextmanager
def _type_checked(tree: Tree, root: Path) -> Iterator[None]:
    """Meanwhile look for type errors that the patches bring in; the first one is what is wrong, whatever else may be.

    :raises PatchError: there is one
    """
    if not tree.patches or not can_type_check():
        yield
        return
    with Check(root) as check:
        try:
            yield
        except BadInputError:
            _need_types(tree, check)
            raise
        _need_types(tree, check)


def _need_types(tree: Tree, check: Check) -> None:
    with tempfile.TemporaryDirectory(prefix="kmm-tree-") as before:

        def untouched() -> Path:
            take(attrs.evolve(tree, patches=()), Path(before).resolve())
            return Path(before).resolve()

        errors = new_errors(check, untouched)
    if errors:
        file, line, text = errors[0]
        raise PatchError(f"the code does not type-check ({text})", "correct it", f"{file}:{line} of {tree.title}")


@contextmanager
def keeping() -> Iterator[Opener]:
    """An opener that opens what it is asked for again only once. It is there as long as the block lasts."""
    with ExitStack() as stack:
        known: dict[tuple[Named, Named], tuple[LoadedVariant, LoadedVariant]] = {}

        @contextmanager
        def once(baseline: Named, candidate: Named) -> Iterator[tuple[LoadedVariant, LoadedVariant]]:
            asked = _absolute(baseline), _absolute(candidate)
            if asked not in known:
                known[asked] = stack.enter_context(opened(baseline, candidate))
            yield known[asked]

        yield once


def _absolute(named: Named) -> Named:
    """The same, whatever the current directory: what two ways to say it have in common."""
    variant = os.path.abspath(named.variant) if is_path(named.variant) else named.variant
    tree = os.path.abspath(named.tree) if named.tree else ""
    return attrs.evolve(named, variant=variant, tree=tree, patches=tuple(map(os.path.abspath, named.patches)))
