"""What a recorded program leaves behind: the operations of the recordings, over pages as a scenario describes them.

Pages are numbered as in the recording: from the first byte of its first 2 MiB range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import attrs

from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.page import Kind, PageState

NR: Final = 512
NONE: Final = ALPHABET["."]
WRITTEN: Final = ALPHABET["a"]
_MTHP: Final = 4

_ACCESS: Final = {"r": "read", "w": "write", "x": "exec"}
_MAP_FLAGS: Final = {"grow": "growsdown", "droppable": "droppable"}
_ADVICE: Final[dict[str, tuple[str, str]]] = {
    "hugepage": ("hugepage", "nohugepage"),
    "nohugepage": ("nohugepage", "hugepage"),
    "dontfork": ("dontcopy", ""),
    "dontdump": ("dontdump", ""),
    "unmergeable": ("", "mergeable"),
    "mergeable": ("mergeable", ""),
}


class LeftOutError(Exception):
    """A scenario cannot say this; the text is the reason."""


@attrs.define
class Area:
    """What was mapped at once."""

    anon_vma: bool = False


@attrs.define
class Memory:
    """An address space of the recordings.

    :param swap: the swap device, or nothing
    :param large: faults in advised VMAs give folios of 64 KiB
    :param flags: VMA flags of each mapped page
    :param huge: by range: ``huge`` or ``huge_zero`` where there is no table
    :param tables: ranges that have a table
    :param alike: pages with equal contents
    :param limited: the cgroup has a limit
    :param shared_huge: a child has been forked that maps the huge page too
    :param window: the page at which what is read back begins
    """

    swap: str = ""
    large: bool = False
    areas: dict[int, Area] = attrs.field(factory=dict)
    flags: dict[int, frozenset[str]] = attrs.field(factory=dict)
    pages: dict[int, PageState] = attrs.field(factory=dict)
    huge: dict[int, str] = attrs.field(factory=dict)
    tables: set[int] = attrs.field(factory=set)
    alike: set[int] = attrs.field(factory=set)
    thp_disable: str = "no"
    limited: bool = False
    shared_huge: bool = False
    window: int = 0

    def do(self, text: str) -> None:
        """One operation of a program."""
        op, *words = text.split()
        if op not in _OPERATIONS:
            raise LeftOutError(f"the operation {op} is not known")
        _OPERATIONS[op](self, words)

    def change(self, pages: Iterable[int], change: Callable[[PageState], PageState]) -> None:
        """Replace the state of present pages."""
        for index in pages:
            page = self.pages[index]
            if page.kind is Kind.PRESENT:
                self.pages[index] = change(page)

    def flag(self, pages: Iterable[int], add: str = "", drop: str = "") -> None:
        """Change the flags of the VMA around each page."""
        for index in pages:
            self.flags[index] = (self.flags[index] | {add}) - {drop, ""}

    def split(self, pages: Iterable[int]) -> None:
        """A huge page of which a part is touched is mapped by a table from then on."""
        for number in {index // NR for index in pages}:
            if self.huge.get(number) == "huge":
                del self.huge[number]
                self.tables.add(number)
                for index in range(number * NR, (number + 1) * NR):
                    self.pages[index] = attrs.evolve(WRITTEN, order=9)


def _range(words: list[str]) -> range:
    return range(int(words[0]), int(words[1]))


def _map(m: Memory, words: list[str]) -> None:
    access, *options = words[2:] or ["rw"]
    area = Area()
    flags = {_ACCESS[letter] for letter in access}
    for option in options:
        if option not in _MAP_FLAGS:
            raise LeftOutError("shared mappings collapse as files do, which is not modelled")
        flags.add(_MAP_FLAGS[option])
    for index in _range(words):
        m.areas[index], m.flags[index], m.pages[index] = area, frozenset(flags), NONE


def _map_file(_m: Memory, _words: list[str]) -> None:
    raise LeftOutError("mappings of files are not modelled")


def _unmap(m: Memory, words: list[str]) -> None:
    for index in _range(words):
        for each in (m.areas, m.flags, m.pages):
            each.pop(index, None)


def _written(m: Memory, index: int) -> PageState:
    """A page that has just been written."""
    page, flags = m.pages[index], m.flags[index]
    if page.kind is Kind.PRESENT and not page.mapped_by:
        return attrs.evolve(page, young=True, dirty=True, write=True, exclusive=True)
    return attrs.evolve(WRITTEN, lazyfree="droppable" in flags, mlocked="locked" in flags)


def _write(m: Memory, words: list[str]) -> None:
    for index in _range(words):
        m.areas[index].anon_vma = True
        m.tables.add(index // NR)
        if m.large and "hugepage" in m.flags[index] and m.pages[index] == NONE:
            for page in range(index >> _MTHP << _MTHP, (index >> _MTHP) + 1 << _MTHP):
                m.pages[page] = attrs.evolve(WRITTEN, order=_MTHP)
        else:
            m.pages[index] = _written(m, index)


def _same(m: Memory, words: list[str]) -> None:
    _write(m, words)
    m.alike.update(_range(words))


def _read(m: Memory, words: list[str]) -> None:
    for index in _range(words):
        page = m.pages[index]
        if page.kind is Kind.PRESENT:
            m.pages[index] = attrs.evolve(page, young=True)
        elif page.kind is Kind.SWAP:
            m.pages[index] = attrs.evolve(ALPHABET["c"], swapcache=m.swap != "zram")
        elif "hugepage" in m.flags[index] and index // NR not in m.tables:
            m.huge[index // NR] = "huge_zero"
            m.areas[index].anon_vma = True
        elif index // NR not in m.huge:
            m.pages[index] = ALPHABET["z"]
            m.tables.add(index // NR)


def _advise(m: Memory, words: list[str]) -> None:
    pages, name = _range(words), words[2]
    if name in _ADVICE:
        m.flag(pages, *_ADVICE[name])
        if name == "unmergeable":
            for index in m.alike:
                m.pages[index] = WRITTEN
    elif name in ("free", "cold"):
        free = name == "free"
        m.change(pages, lambda page: attrs.evolve(page, young=False, dirty=page.dirty and not free, lazyfree=page.lazyfree or free))
    elif name == "willneed":
        for index in pages:
            m.pages[index] = attrs.evolve(m.pages[index], swapcache=True)
    elif name == "guard":
        _zap(m, pages, ALPHABET["g"])
    elif name == "dontneed":
        _zap(m, pages, NONE)
        m.tables -= {number for number in m.tables if number * NR in pages and (number + 1) * NR - 1 in pages}
    else:
        raise LeftOutError(f"the advice {name} is not known")


def _zap(m: Memory, pages: range, to: PageState) -> None:
    m.split(pages)
    for index in pages:
        m.areas[index].anon_vma |= to != NONE
        m.pages[index] = to


def _protect(m: Memory, words: list[str]) -> None:
    pages = _range(words)
    access = {_ACCESS[letter] for letter in words[2] if letter in _ACCESS}
    m.split(pages)
    for index in pages:
        m.flags[index] = m.flags[index] - set(_ACCESS.values()) | access
    m.change(pages, lambda page: attrs.evolve(page, write="write" in access and page.exclusive))


def _lock(m: Memory, words: list[str]) -> None:
    pages = _range(words)
    m.flag(pages, "locked")
    if "onfault" in words:
        m.flag(pages, "lockonfault")
    m.change(pages, lambda page: attrs.evolve(page, mlocked=True))


def _move(m: Memory, words: list[str]) -> None:
    first, end, to = map(int, words)
    for each in (m.areas, m.flags, m.pages):
        moved = {to - first + index: each.pop(index) for index in range(first, end)}
        each.update(moved)  # type: ignore[arg-type]
    m.tables = {index // NR for index in range(to, to + end - first)}


def _collapse(m: Memory, words: list[str]) -> None:
    for number in {index // NR for index in _range(words)}:
        m.huge[number] = "huge"
        m.tables.discard(number)
        for index in range(number * NR, (number + 1) * NR):
            m.pages[index] = NONE


def _fork(m: Memory, words: list[str]) -> None:
    """The child keeps a range of its pages; without one it has exited."""
    m.shared_huge = bool(m.huge)
    kept = _range(words) if words else range(0)
    for index, page in m.pages.items():
        if page.kind is Kind.PRESENT:
            m.pages[index] = attrs.evolve(page, write=False, exclusive=False, mapped_by=page.mapped_by + (index in kept))
        elif page.kind is Kind.SWAP:
            m.pages[index] = attrs.evolve(page, exclusive=False, mapped_by=page.mapped_by + (index in kept))


def _pin(m: Memory, words: list[str]) -> None:
    for index in _range(words):
        order = m.pages[index].order
        first = index >> order << order
        m.change(range(first, first + (1 << order)), lambda page: attrs.evolve(page, pins=1))


def _unpin(m: Memory, _words: list[str]) -> None:
    m.change(list(m.pages), lambda page: attrs.evolve(page, pins=0))


def _userfaultfd(m: Memory, words: list[str]) -> None:
    m.flag(_range(words), "uffd_missing" if "missing" in words else "uffd_wp")


def _protect_by_uffd(m: Memory, words: list[str]) -> None:
    m.change(_range(words), lambda page: attrs.evolve(page, uffd_wp=True, write=False))
    for index in _range(words):
        if m.pages[index] == NONE:
            m.pages[index] = ALPHABET["U"]


def _unprotect_by_uffd(m: Memory, words: list[str]) -> None:
    m.change(_range(words), lambda page: attrs.evolve(page, uffd_wp=False, write=page.exclusive))


def _swap_out(m: Memory, words: list[str]) -> None:
    """A swap file keeps what was just written in the swap cache."""
    for index in _range(words):
        page = m.pages[index]
        m.pages[index] = attrs.evolve(ALPHABET["w"], exclusive=page.exclusive, uffd_wp=page.uffd_wp, swapcache=m.swap == "file")


def _merge(m: Memory, words: list[str]) -> None:
    """The pages with equal contents become one; of those outside of the first table the others count as another address space's."""
    m.flag(_range(words), "mergeable")
    outside = sum(index >= NR for index in m.alike)
    for index in m.alike:
        m.pages[index] = attrs.evolve(ALPHABET["K"], mapped_by=outside if index < NR else 1)


def _prctl(m: Memory, words: list[str]) -> None:
    m.thp_disable = {"1 0": "yes", "1 2": "except_advised"}[" ".join(words)]


def _clear_refs(m: Memory, _words: list[str]) -> None:
    m.change(list(m.pages), lambda page: attrs.evolve(page, young=False))


def _limit(m: Memory, _words: list[str]) -> None:
    m.limited = True


def _window(m: Memory, words: list[str]) -> None:
    m.window = int(words[0])


def _nothing(_m: Memory, _words: list[str]) -> None:
    """An operation that leaves no trace in the pages."""


_OPERATIONS: Final[Mapping[str, Callable[[Memory, list[str]], None]]] = {
    "map": _map,
    "mapfile": _map_file,
    "unmap": _unmap,
    "w": _write,
    "w0": _write,
    "w1": _write,
    "same": _same,
    "r": _read,
    "adv": _advise,
    "prot": _protect,
    "lock": _lock,
    "mrem": _move,
    "thp": _collapse,
    "fork": _fork,
    "forkexit": _fork,
    "pinv": _pin,
    "pinu": _pin,
    "unpinv": _unpin,
    "unpinu": _unpin,
    "uffd": _userfaultfd,
    "uwp": _protect_by_uffd,
    "unwp": _unprotect_by_uffd,
    "swapout": _swap_out,
    "ksm": _merge,
    "prctlthp": _prctl,
    "drain": _nothing,
    "clearrefs": _clear_refs,
    "cg": _limit,
    "snap": _window,
    "sleep": _nothing,
    "write1": _nothing,
}
