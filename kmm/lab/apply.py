"""Apply patches to a scratch tree: exactly, all of a patch or nothing, and only to the files that may be changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from kmm.lab.patch import NO_FILE, FileChange, Hunk, Patch, PatchError

ROOMS: Final = ("refactors", "kmm/mm")
"""What a patch may change."""
_MAX_QUOTED: Final = 60
_REFRESH: Final = "rebase the patch on this version"


def files_touched(patch: Patch, rooms: Sequence[str] = ROOMS) -> tuple[str, ...]:
    """The files that a patch changes, makes or removes, relative to the tree, each once.

    :raises PatchError: it names a file outside of ``rooms``
    """
    return tuple(dict.fromkeys(path_of(change, rooms) for change in patch.changes))


def path_of(change: FileChange, rooms: Sequence[str] = ROOMS) -> str:
    """The file of a change, relative to the tree: as the patch names it, or without its first directory (``a/``, ``b/``).

    :raises PatchError: it climbs out of the tree, or is outside of ``rooms``
    """
    found = {_inside(name, change.where, rooms) for name in (change.before, change.after) if name != NO_FILE}
    if not found:
        raise PatchError(f"both names are {NO_FILE}", "name the file", change.where)
    if len(found) > 1:
        raise PatchError(f"names both {' and '.join(sorted(found))}", "kmm takes no renames", change.where)
    return found.pop()


def apply_patch(patch: Patch, tree: Path, rooms: Sequence[str] = ROOMS) -> tuple[str, ...]:
    """Apply a patch to a tree. Each hunk must match in full at the line that it names.

    :param tree: a directory that is written to; on an error nothing was
    :return: the files that it changed, made or removed, relative to the tree
    :raises PatchError: it does not apply, or would leave the rooms
    """
    after: dict[str, str | None] = {}
    for change in patch.changes:
        path = path_of(change, rooms)
        before = after[path] if path in after else _read(tree, path, change.where)
        after[path] = patched(change, path, before)
    for path, text in after.items():
        target = tree / path
        if text is None:
            target.unlink(missing_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text.encode())
    return tuple(after)


def patched(change: FileChange, path: str, text: str | None) -> str | None:
    """What a change makes of a file.

    :param path: for messages
    :param text: ``None`` if there is no such file
    :return: ``None`` if it removes the file
    :raises PatchError: a hunk does not match
    """
    if change.before == NO_FILE:
        if text is not None:
            raise PatchError(f"makes {path}, which is there already", _REFRESH, change.where)
        text = ""
    elif text is None:
        raise PatchError(f"there is no {path}", _REFRESH, change.where)
    lines = text.split("\n")
    file = [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
    out: list[str] = []
    done = 0
    for hunk in change.hunks:
        start = hunk.first - 1 if hunk.old else hunk.first
        _match(hunk, path, file, start, done)
        out += [*file[done:start], *hunk.new]
        done = start + len(hunk.old)
    out += file[done:]
    if not all(line.endswith("\n") for line in out[:-1]):
        raise PatchError(f"lines of {path} would run together", "a line without a newline can only be the last", change.where)
    if change.after != NO_FILE:
        return "".join(out)
    if out:
        raise PatchError(f"removes {path} and leaves lines of it", _REFRESH, change.where)
    return None


def _match(hunk: Hunk, path: str, file: list[str], start: int, done: int) -> None:
    def refuse(problem: str, remedy: str = _REFRESH) -> PatchError:
        return PatchError(f"hunk {hunk.number} does not apply to {path}: {problem}", remedy, hunk.where)

    if start < done:
        raise refuse("it overlaps the one before, or stands before it")
    if not hunk.old and file:
        raise refuse("it has no line of context", "make the patch with three lines of context")
    old = list(hunk.old)
    if file[start : start + len(old)] == old:
        return
    elsewhere = [at + 1 for at in range(len(file) - len(old) + 1) if file[at : at + len(old)] == old]
    if elsewhere:
        raise refuse(f"its lines stand at line {elsewhere[0]}, not {hunk.first}")
    for at, wanted in enumerate(old, start):
        if at >= len(file):
            raise refuse(f"line {at + 1} is behind the end")
        if file[at] == wanted:
            continue
        if file[at].rstrip("\r\n") == wanted.rstrip("\r\n"):
            raise refuse(f"line {at + 1} ends otherwise", "keep the line ends of the file")
        raise refuse(f"line {at + 1} is {_quoted(file[at])}, and the patch has {_quoted(wanted)}")


def _quoted(line: str) -> str:
    text = line.strip()
    return f'"{text if len(text) <= _MAX_QUOTED else text[: _MAX_QUOTED - 3] + "..."}"'


def _inside(name: str, where: str, rooms: Sequence[str]) -> str:
    parts = name.split("/")
    if name.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise PatchError(f"{name} climbs out of the tree", "name files from the top of the tree, as git does", where)
    for path in ("/".join(parts), "/".join(parts[1:])):
        if any(PurePosixPath(path).is_relative_to(room) and path != room for room in rooms):
            return path
    raise PatchError(f"changes {name}, outside of {' and '.join(rooms)}", "leave that file alone", where)


def _read(tree: Path, path: str, where: str) -> str | None:
    """The text of a file of the tree, with its line ends; ``None`` if there is none."""
    target = tree / path
    for each in (target, *target.parents):
        if each == tree:
            break
        if each.is_symlink():
            raise PatchError(f"{path} is reached through a symbolic link", "leave that file alone", where)
    try:
        return target.read_bytes().decode("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise PatchError(f"{path} cannot be read ({error})", "leave that file alone", where) from None
