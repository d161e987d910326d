"""The reader's kernel tree: which version it is, and where a function stands in it."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import attrs

from docs._ext.csource import KINDS, Definition, Source, find

PLACES: Final = (
    "mm/*.c",
    "mm/*.h",
    "include/linux/*.h",
    "include/asm-generic/*.h",
    "include/vdso/*.h",
    "arch/x86/include/asm/*.h",
    "arch/x86/mm/*.c",
    "kernel/*.c",
)
"""Where a function is looked for that is not in the file that the port names."""

_SKIPPED: Final = ("mm/nommu.c",)
BAD_INPUT: Final = 4


class KernelTreeError(Exception):
    """A directory is not a kernel tree; one line that says what to do."""


@attrs.frozen
class Found:
    """A definition and the file that it stands in.

    :param file: path in the tree
    """

    file: str
    definition: Definition


@attrs.frozen
class KernelTree:
    """A Linux source tree.

    :param root: the directory with the top Makefile
    :param version: as that Makefile has it
    """

    root: Path
    version: str
    _sources: dict[str, Source] = attrs.field(factory=dict, init=False, repr=False, eq=False)

    @classmethod
    def open(cls, path: str) -> KernelTree:
        """Look at a directory.

        :raises KernelTreeError: it is no Linux source tree
        """
        root = Path(path).expanduser()
        remedy = "name the directory that holds the kernel's top Makefile and mm/khugepaged.c"
        if not root.is_dir():
            raise KernelTreeError(f"KERNEL={path}: there is no such directory; {remedy}")
        try:
            numbers = dict(
                re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION)[ \t]*=[ \t]*(\S*)", _text(root / "Makefile"), re.MULTILINE)
            )
            _text(root / "mm/khugepaged.c")
        except OSError as error:
            raise KernelTreeError(f"KERNEL={path}: {error.filename} cannot be read ({error.strerror}); {remedy}") from None
        if not {"VERSION", "PATCHLEVEL"} <= set(numbers):
            raise KernelTreeError(f"KERNEL={path}: its Makefile names no kernel version; {remedy}")
        parts = [numbers["VERSION"], numbers["PATCHLEVEL"], numbers.get("SUBLEVEL") or "0"]
        return cls(root, ".".join(parts) + numbers.get("EXTRAVERSION", ""))

    @property
    def has_v12(self) -> bool:
        """Whether ``collapse_huge_page`` takes an order and an offset, as v12 07/15 makes it."""
        found = self.look_up("collapse_huge_page", ("mm/khugepaged.c",))
        head = found.definition.text.partition("{")[0] if found else ""
        return bool(re.search(r"\border\b", head) and re.search(r"\boffset\b", head))

    def look_up(self, name: str, files: Iterable[str]) -> Found | None:
        """The definition of ``name``: first a function, in ``files`` and then anywhere near; else a macro, likewise."""
        places = tuple(dict.fromkeys((*files, *self._around(name))))
        found = [Found(file, definition) for file in places for definition in [self._find(file, name)] if definition is not None]
        return min(found, key=lambda each: KINDS.index(each.definition.kind), default=None)

    def _find(self, file: str, name: str) -> Definition | None:
        if file not in self._sources:
            path = self.root / file
            self._sources[file] = Source.of(_text(path) if path.is_file() else "")
        return find(self._sources[file], name)

    def _around(self, name: str) -> Iterator[str]:
        """Files of :data:`PLACES` in which the name occurs."""
        return (file for file, words in self._words.items() if name in words)

    @functools.cached_property
    def _words(self) -> dict[str, frozenset[str]]:
        """The words of each file of :data:`PLACES`."""
        paths = [path for place in PLACES for path in sorted(self.root.glob(place))]
        files = {path.relative_to(self.root).as_posix(): path for path in paths if path.is_file()}
        return {file: frozenset(re.findall(r"\w+", _text(path))) for file, path in files.items() if file not in _SKIPPED}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def main(argv: list[str]) -> int:
    """Say in one line what is wrong with a tree; nothing when it will do."""
    try:
        KernelTree.open(argv[0])
    except KernelTreeError as error:
        print(f"make docs: {error}", file=sys.stderr)
        return BAD_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
