"""A patch as data: unified diffs, alone or in mails, read strictly.

What is not understood is refused. Nothing here touches a file but the patch; :mod:`kmm.lab.apply` changes a tree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from kmm.lab.mail import Letter, letters
from kmm.scenario.errors import BadInputError

MAX_BYTES: Final = 4 << 20
NO_FILE: Final = "/dev/null"
_HUNK: Final = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_NO_END: Final = "\\ No newline at end of file"
_REFUSED: Final = {
    "rename from": "renames a file",
    "copy from": "copies a file",
    "old mode": "changes the mode of a file",
    "new file mode 12": "makes a symbolic link",
    "new file mode 16": "adds a submodule",
    "Binary files": "changes a binary file",
    "GIT binary patch": "changes a binary file",
}
_REFRESH: Final = "make the patch again with git format-patch or git diff"


class PatchError(BadInputError):
    """A patch that cannot be used."""


@attrs.frozen(kw_only=True)
class Hunk:
    """Lines in place of others. A line holds its newline, but for a last one that has none.

    :param number: in its file's part of the patch, from 1
    :param where: file and line of its header in the patch
    :param first: line of the file where ``old`` begins, from 1; with nothing in ``old``, the line after which ``new`` goes
    :param old: what stands there
    :param new: what shall stand there
    """

    number: int
    where: str
    first: int
    old: tuple[str, ...]
    new: tuple[str, ...]


@attrs.frozen(kw_only=True)
class FileChange:
    """What a patch does to one file.

    :param where: file and line in the patch
    :param before: as the patch names it, or :data:`NO_FILE` for a new file
    :param after: likewise; :data:`NO_FILE` removes it
    """

    where: str
    before: str
    after: str
    hunks: tuple[Hunk, ...]

    @property
    def name(self) -> str:
        """The file, as the patch names it."""
        return self.before if self.after == NO_FILE else self.after

    def hunk_at(self, line: int) -> Hunk | None:
        """The hunk that a line of the patched file is in, if any.

        :param line: from 1
        """
        shift = 0
        for hunk in self.hunks:
            start = hunk.first + shift + (0 if hunk.old else 1)
            if start <= line < start + len(hunk.new):
                return hunk
            shift += len(hunk.new) - len(hunk.old)
        return None


@attrs.frozen(kw_only=True)
class Patch:
    """One change, with what its author says.

    :param origin: the file it was read from; in a file with several, with its number behind ``#``
    :param subject: first line of the message, without ``[PATCH ...]``; may be empty
    :param message: the rest, without what follows the ``---``
    """

    origin: str
    subject: str
    message: str
    changes: tuple[FileChange, ...]


def read_patches(path: str | Path) -> tuple[Patch, ...]:
    """The patches of a file: a diff, or one mail or several (an mbox).

    :raises PatchError: it cannot be read, holds no diff, or something that is not understood
    """
    origin = str(path)
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PatchError(f"cannot be read ({reason})", "name a readable patch", origin) from None
    if len(data) > MAX_BYTES:
        raise PatchError(f"the file is larger than {MAX_BYTES >> 20} MiB", "check that it is a patch", origin)
    return parse_patches(data, origin)


def parse_patches(data: bytes, origin: str) -> tuple[Patch, ...]:
    """The patches of a text; a mail without a diff (a cover letter) is left out where another one has some.

    :param origin: for messages
    :raises PatchError: there is none, or something that is not understood
    """
    try:
        found = letters(data)
    except ValueError as error:
        raise PatchError(f"is no text ({error})", "name a patch in UTF-8", origin) from None
    patches = []
    for number, letter in enumerate(found, 1):
        name = f"{origin}#{number}" if len(found) > 1 else origin
        changes = tuple(_changes(letter, name))
        if changes:
            patches.append(Patch(origin=name, subject=letter.subject, message=_message(letter.text), changes=changes))
    if not patches:
        raise PatchError("holds no diff", "name a unified diff, or a mail or mbox with one", origin)
    return tuple(patches)


def _message(text: str) -> str:
    """What is said before the diff."""
    return re.split(r"^(?:---$|diff --git |--- \S)", text, maxsplit=1, flags=re.MULTILINE)[0].strip()


def _changes(letter: Letter, origin: str) -> Iterator[FileChange]:
    lines = letter.text.split("\n")
    at = 0
    pending: str | None = None
    while at < len(lines):
        line = lines[at]
        where = f"{origin}:{letter.line + at}"
        for start, what in _REFUSED.items():
            if pending and line.startswith(start):
                raise PatchError(what, "kmm takes only changes of text, new files and removed ones", where)
        if line.startswith("diff --git "):
            _need_no(pending)
            pending = where
        elif line.startswith("--- ") and at + 1 < len(lines) and lines[at + 1].startswith("+++ "):
            before, after = (_name(each, where) for each in lines[at : at + 2])
            hunks, at = _hunks(lines, at + 2, origin, letter.line)
            if not hunks:
                raise PatchError("no hunk follows", _REFRESH, where)
            yield FileChange(where=where, before=before, after=after, hunks=hunks)
            pending = None
            continue
        elif _HUNK.match(line):
            raise PatchError("a hunk without the name of its file", _REFRESH, where)
        at += 1
    _need_no(pending)


def _need_no(pending: str | None) -> None:
    """A ``diff --git`` must have been followed by its hunks."""
    if pending is not None:
        raise PatchError("a file without hunks", "kmm takes only changes of text, new files and removed ones", pending)


def _name(line: str, where: str) -> str:
    name = line[4:].split("\t", maxsplit=1)[0].rstrip("\r ")
    if not name or name.startswith('"') or not name.isprintable() or "\\" in name:
        raise PatchError(f"{name or 'nothing'} as the name of a file", "kmm takes plain names only", where)
    return name


def _hunks(lines: list[str], at: int, origin: str, shift: int) -> tuple[tuple[Hunk, ...], int]:
    """The hunks from a line on, and the line after them."""
    hunks: list[Hunk] = []
    while at < len(lines) and (match := _HUNK.match(lines[at])):
        where = f"{origin}:{shift + at}"
        numbers = [1 if each is None else int(each) for each in match.groups()]
        old, new, at = _body(lines, at + 1, numbers[1], numbers[3], f"hunk {len(hunks) + 1}", where)
        hunks.append(Hunk(number=len(hunks) + 1, where=where, first=numbers[0], old=old, new=new))
    return tuple(hunks), at


def _body(lines: list[str], at: int, old_count: int, new_count: int, hunk: str, where: str) -> tuple[tuple[str, ...], tuple[str, ...], int]:
    old: list[str] = []
    new: list[str] = []
    while at < len(lines) and (len(old) < old_count or len(new) < new_count):
        mark, text = lines[at][:1] or " ", lines[at][1:] + "\n"
        if mark not in " -+" or (at == len(lines) - 1 and not lines[at]):
            break
        if mark in " -":
            old.append(text)
        if mark in " +":
            new.append(text)
        at += 1
        if at < len(lines) and lines[at].rstrip("\r") == _NO_END:
            for side in (old if mark in " -" else new, new if mark in " +" else old):
                if side and side[-1] == text:
                    side[-1] = text[:-1]
            at += 1
    if (len(old), len(new)) != (old_count, new_count):
        said = f"{hunk} has {len(old)} old and {len(new)} new lines where its header says {old_count} and {new_count}"
        raise PatchError(said, f"it was cut or wrapped on its way; {_REFRESH}", where)
    if at < len(lines) and lines[at][:1] in tuple(" +-") and not re.match(r"--(?: ?\r?$|- )", lines[at]):
        raise PatchError(f"{hunk} has more lines than its header says", _REFRESH, where)
    return tuple(old), tuple(new), at
