"""The scenario: one value that says everything a run depends on."""

from __future__ import annotations

import enum

import attrs

from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.errors import ScenarioError
from kmm.scenario.page import Kind, PageState

PAGE_SIZES = (4096, 16384, 65536)
MIN_MTHP_ORDER = 2


def _require(good: bool, problem: str, remedy: str) -> None:
    if not good:
        raise ScenarioError(problem, remedy)


@attrs.frozen(kw_only=True)
class Geometry:
    """Sizes of the machine.

    :param page_size: bytes
    :param ptes: entries of one PTE table, a power of two from 8 to 8192 (``HPAGE_PMD_NR``)
    :param lru_batch: folios that a per-CPU LRU batch holds before it is drained, 1 to 31
    """

    page_size: int = 4096
    ptes: int = 512
    lru_batch: int = 31

    def __attrs_post_init__(self) -> None:
        _require(self.page_size in PAGE_SIZES, f"page_size = {self.page_size} is not supported", "use 4096, 16384 or 65536")
        ok = 8 <= self.ptes <= 8192 and self.ptes & (self.ptes - 1) == 0
        _require(ok, f"ptes = {self.ptes} is not supported", "use a power of two from 8 to 8192")
        _require(1 <= self.lru_batch <= 31, f"lru_batch = {self.lru_batch} is out of range", "use 1 to 31")

    @property
    def pmd_order(self) -> int:
        """``HPAGE_PMD_ORDER``."""
        return self.ptes.bit_length() - 1


@attrs.frozen(kw_only=True)
class Config:
    """How the kernel is built.

    :param debug_vm: CONFIG_DEBUG_VM
    :param split_ptlocks: every table has its own lock; otherwise the mm has one
    :param tlb: how a flush reaches other CPUs, ``broadcast`` or ``ipi``
    :param arch: ``x86``, or ``walking``: the cache hook looks the address up in the live tables
    """

    debug_vm: bool = True
    split_ptlocks: bool = True
    tlb: str = "broadcast"
    arch: str = "x86"

    def __attrs_post_init__(self) -> None:
        _require(self.tlb in ("broadcast", "ipi"), f'tlb = "{self.tlb}" is not known', 'use "broadcast" or "ipi"')
        _require(self.arch in ("x86", "walking"), f'arch = "{self.arch}" is not known', 'use "x86" or "walking"')


GLOBAL_MODES = ("always", "madvise", "never")
ORDER_MODES = ("always", "inherit", "madvise", "never")


@attrs.frozen(kw_only=True)
class Tunables:
    """The sysfs values; make one with :meth:`default` and :func:`attrs.evolve`.

    :param max_ptes_none: pages, 0 to NR-1
    :param max_ptes_swap: pages, 0 to NR-1
    :param max_ptes_shared: pages, 0 to NR-1
    :param enabled: the global switch
    :param hugepages: the per-order switches, for the orders 2 to PMD order
    :param defrag: khugepaged may compact when it allocates
    :param shrink_underused: PMD-order folios go to the deferred-split queue whole
    """

    max_ptes_none: int
    max_ptes_swap: int
    max_ptes_shared: int
    enabled: str = "always"
    hugepages: tuple[str, ...]
    defrag: bool = True
    shrink_underused: bool = True

    def __attrs_post_init__(self) -> None:
        _require(self.enabled in GLOBAL_MODES, f'enabled = "{self.enabled}" is not a mode', "use always, madvise or never")
        for mode in self.hugepages:
            _require(mode in ORDER_MODES, f'"{mode}" is not a mode of a hugepage size', "use always, inherit, madvise or never")

    @classmethod
    def default(cls, geometry: Geometry) -> Tunables:
        """The kernel's defaults: PMD order inherits, every other order is off."""
        nr = geometry.ptes
        below = ("never",) * (geometry.pmd_order - MIN_MTHP_ORDER)
        return cls(max_ptes_none=nr - 1, max_ptes_swap=nr // 8, max_ptes_shared=nr // 2, hugepages=(*below, "inherit"))

    def with_orders(self, geometry: Geometry, *orders: int) -> Tunables:
        """Exactly ``orders`` are ``always``, the others ``never``."""
        modes = ("always" if o in orders else "never" for o in range(MIN_MTHP_ORDER, geometry.pmd_order + 1))
        return attrs.evolve(self, hugepages=tuple(modes))


VMA_FLAGS = ("exec", "hugepage", "nohugepage", "read", "uffd_missing", "uffd_wp", "write")


@attrs.frozen(kw_only=True)
class Vma:
    """The VMA that covers the table.

    :param pages: one letter a page
    :param flags: sorted names out of :data:`VMA_FLAGS`
    :param anon_vma: the VMA has an anon_vma (it must where a page is present or swapped)
    """

    pages: str
    flags: tuple[str, ...] = ("read", "write")
    anon_vma: bool = True

    def __attrs_post_init__(self) -> None:
        for flag in self.flags:
            _require(flag in VMA_FLAGS, f'"{flag}" is not a VMA flag', "use " + ", ".join(VMA_FLAGS))
        _require(tuple(sorted(set(self.flags))) == self.flags, "VMA flags must be sorted and distinct", "sort them")
        both = {"hugepage", "nohugepage"} <= set(self.flags)
        _require(not both, "a VMA cannot be both hugepage and nohugepage", "drop one")


class DriverKind(enum.Enum):
    """Who calls the collapse path."""

    KHUGEPAGED = "khugepaged"
    MADVISE = "madvise"
    DIRECT = "direct"


@attrs.frozen(kw_only=True)
class Driver:
    """The call that is judged.

    ``khugepaged`` and ``madvise`` scan the one table. ``direct`` makes one attempt at an order and offset; all further
    fields concern only it.

    :param order: order of the attempt; ``None`` outside ``direct``
    :param offset: first page of the attempt in the table, a multiple of 2^order
    :param is_khugepaged: whose limits apply
    :param mmap_locked: the caller holds the mmap read lock
    :param referenced: what the scan counted; ``None``: what a scan of the whole table would
    :param unmapped: likewise
    :param misalign: pages by which the address is off its PMD (``contract = "unchecked"`` only)
    """

    kind: DriverKind
    order: int | None = None
    offset: int = 0
    is_khugepaged: bool = True
    mmap_locked: bool = True
    referenced: int | None = None
    unmapped: int | None = None
    misalign: int = 0

    def __attrs_post_init__(self) -> None:
        direct = self.kind is DriverKind.DIRECT
        _require(direct == (self.order is not None), "only a direct attempt has an order, and it must", "add or drop order")
        of_direct = (self.offset, self.is_khugepaged, self.mmap_locked, self.referenced, self.unmapped, self.misalign)
        plain = of_direct == (0, True, True, None, None, 0)
        _require(direct or plain, "offset, is_khugepaged, mmap_locked and the like belong to a direct attempt", "drop them")
        for name in ("referenced", "unmapped"):
            value = getattr(self, name)
            _require(value is None or value >= 0, f"{name} = {value} is negative", "use 0 or more")


POINTS = ("alloc", "mmap_read_lock", "mmap_write_lock", "vma_start_write", "anon_vma_lock_write")
SYSFS_FILES = ("enabled", "max_ptes_none", "max_ptes_swap", "max_ptes_shared")
EVENT_OPS = ("sysfs", "munmap", "replace_vma", "free_table", "exit", "prctl", "pin", "zap")


@attrs.frozen(kw_only=True)
class Event:
    """One whole operation of somebody else, just before a sleeping point is passed.

    :param op: ``sysfs`` (``name``, ``value``), ``munmap``, ``replace_vma`` (unmapped and mapped anew from ``page``
        or the start on, without anon_vma),
        ``free_table`` (MADV_DONTNEED of the table's range), ``exit`` (last user gone), ``prctl`` (THP disabled), ``pin``
        (``page``), ``zap`` (``page``)
    :param before: name of the sleeping point
    :param nth: which time it is passed, from 1
    :param name: ``enabled``, ``hugepages-N`` (N is the order), ``max_ptes_none``, ``max_ptes_swap`` or ``max_ptes_shared``
    :param value: the new value, as text
    :param page: PTE index
    """

    op: str
    before: str
    nth: int = 1
    name: str = ""
    value: str = ""
    page: int | None = None

    def __attrs_post_init__(self) -> None:
        _require(self.op in EVENT_OPS, f'"{self.op}" is not an event', "use " + ", ".join(EVENT_OPS))
        _require(self.before in POINTS, f'"{self.before}" is not a sleeping point', "use " + ", ".join(POINTS))
        _require(1 <= self.nth <= 999, f"nth = {self.nth} is out of range", "use 1 to 999")
        _require((self.op == "sysfs") == bool(self.name), "a sysfs event has a name and a value, no other has", "add or drop name")
        _require(self.op == "sysfs" or not self.value, '"value" belongs to a sysfs event', "drop it")
        known = self.name in SYSFS_FILES or self.name.removeprefix("hugepages-").isdecimal()
        _require(self.op != "sysfs" or known, f'name = "{self.name}" is not a file', f"use {', '.join(SYSFS_FILES)} or hugepages-N")
        if self.op != "replace_vma":
            named = (self.op in ("pin", "zap")) == (self.page is not None)
            _require(named, "pin and zap name a page, replace_vma may, no other event does", "add or drop page")


FAILURE_KINDS = ("alloc", "charge", "poison", "swapin_error", "swapin_retry")


@attrs.frozen(kw_only=True)
class Failure:
    """One injected failure.

    :param kind: ``alloc`` or ``charge`` (the ``nth`` one fails), ``poison`` (reading ``page`` hits a memory error),
        ``swapin_error`` or ``swapin_retry`` (of ``page``)
    """

    kind: str
    nth: int = 1
    page: int | None = None

    def __attrs_post_init__(self) -> None:
        _require(self.kind in FAILURE_KINDS, f'"{self.kind}" is not a failure', "use " + ", ".join(FAILURE_KINDS))
        by_count = self.kind in ("alloc", "charge")
        _require(by_count == (self.page is None), "alloc and charge fail by count, the others at a page", "add or drop page")
        _require(1 <= self.nth <= 999, f"nth = {self.nth} is out of range", "use 1 to 999")


PMD_STATES = ("table", "none", "absent", "huge")


@attrs.frozen(kw_only=True)
class Scenario:
    """Everything that a run depends on; equal values give byte-identical observations.

    :param vmas: for now exactly one, which covers the table
    :param letters: letters beyond the default alphabet, sorted
    :param pmd: what the PMD entry is: ``table``, ``none``, ``absent`` (no PMD page) or ``huge``; in the last three the map is
        all none
    :param contract: ``checked``, or ``unchecked``: an unaligned address is allowed
    :param assumed: states that a capture could not see and that took their default
    :param name: for people; not part of the identity
    :param remark: for people; not part of the identity
    """

    name: str = attrs.field(default="", eq=False)
    remark: str = attrs.field(default="", eq=False)
    geometry: Geometry = Geometry()
    config: Config = Config()
    tunables: Tunables
    vmas: tuple[Vma, ...]
    letters: tuple[tuple[str, PageState], ...] = ()
    pmd: str = "table"
    driver: Driver
    events: tuple[Event, ...] = ()
    failures: tuple[Failure, ...] = ()
    contract: str = "checked"
    assumed: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        check_scenario(self)

    def alphabet(self) -> dict[str, PageState]:
        """Every letter that the map may use."""
        return {**ALPHABET, **dict(self.letters)} if self.letters else ALPHABET


def check_scenario(s: Scenario) -> None:
    """Raise for what no single part can see.

    :raises ScenarioError: for the first thing that cannot be
    """
    g, t, d = s.geometry, s.tunables, s.driver
    _require(len(s.vmas) == 1, f"{len(s.vmas)} VMAs in one table are not supported", "use exactly one [[vma]]")
    vma = s.vmas[0]
    _require(len(vma.pages) == g.ptes, f"the map has {len(vma.pages)} letters, the table {g.ptes} entries", f"write {g.ptes} letters")
    _require(len(t.hugepages) == g.pmd_order - 1, "the per-order switches do not fit the geometry", f"name orders 2 to {g.pmd_order}")
    for name in ("max_ptes_none", "max_ptes_swap", "max_ptes_shared"):
        value = getattr(t, name)
        _require(0 <= value < g.ptes, f"{name} = {value} is out of range", f"use 0 to {g.ptes - 1}")
    for letter, _ in s.letters:
        _require(
            len(letter) == 1 and letter.isascii() and letter.isprintable() and not letter.isspace(),
            f'"{letter}" is not one letter',
            "use one printable ASCII character",
        )
        _require(letter not in ALPHABET, f'"{letter}" is a letter of the default alphabet', "choose another")
    _require(s.pmd in PMD_STATES, f'pmd = "{s.pmd}" is not known', "use " + ", ".join(PMD_STATES))
    _require(s.pmd == "table" or set(vma.pages) == {"."}, f'pmd = "{s.pmd}" has no page-table entries', "make the map all none")
    _require(s.contract in ("checked", "unchecked"), f'contract = "{s.contract}" is not known', 'use "checked" or "unchecked"')
    if d.order is not None:
        _require(MIN_MTHP_ORDER <= d.order <= g.pmd_order, f"order = {d.order} is out of range", f"use 2 to {g.pmd_order}")
        _require(0 <= d.offset <= g.ptes - (1 << d.order), f"offset = {d.offset} is out of range", "keep the attempt inside the table")
        aligned = d.offset % (1 << d.order) == 0 and d.misalign == 0
        _require(
            aligned or s.contract == "unchecked", "an unaligned address is outside the contract", 'align it, or say contract = "unchecked"'
        )
    for page in (*(e.page for e in s.events), *(f.page for f in s.failures)):
        _require(page is None or 0 <= page < g.ptes, f"page {page} lies outside the table", f"use 0 to {g.ptes - 1}")
    touches_table = {"munmap", "replace_vma", "free_table", "pin", "zap"}
    _require(
        s.pmd != "huge" or not any(e.op in touches_table for e in s.events), "an event on a huge page is not supported", "drop the event"
    )
    _check_map(s, vma)


def _check_map(s: Scenario, vma: Vma) -> None:
    alphabet = s.alphabet()
    for letter in sorted(set(vma.pages)):
        _require(letter in alphabet, f'"{letter}" is not in the alphabet', f"see the alphabet page, or add [letters.{letter}]")
        page = alphabet[letter]
        anon = page.kind in (Kind.PRESENT, Kind.SWAP)
        _require(vma.anon_vma or not anon, f'"{letter}" needs an anon_vma', "say anon_vma = true")
        _require(
            "write" in vma.flags or not page.write, f'"{letter}" is writable in a VMA that is not', "use a read-only letter, or add write"
        )
        _require("uffd_wp" in vma.flags or not page.uffd_wp, f'"{letter}" needs a VMA armed for uffd-wp', 'add "uffd_wp" to its flags')
        _require(1 << page.order <= s.geometry.ptes, f'"{letter}" is larger than the table', "use a smaller order")
        if page.index is not None:
            where = vma.pages.index(letter)
            ok = all(i % (1 << page.order) == page.index for i, c in enumerate(vma.pages) if c == letter)
            _require(ok, f'the large folio of "{letter}" is misaligned (page {where})', "folios are naturally aligned; move it")
    _check_folios(vma.pages, alphabet)


def _check_folios(pages: str, alphabet: dict[str, PageState]) -> None:
    """Letters that share a large folio agree on what belongs to the folio."""
    large = [c for c in set(pages) if alphabet[c].order]
    if len({folio_state(alphabet[c]) for c in large}) == len({alphabet[c].order for c in large}):
        return
    blocks: dict[tuple[int, int], str] = {}
    for i, letter in enumerate(pages):
        page = alphabet[letter]
        if page.order:
            first = blocks.setdefault((page.order, i >> page.order), letter)
            same = folio_state(alphabet[first]) == folio_state(page)
            problem = f'"{first}" and "{letter}" at page {i} share a folio but not its state'
            _require(same, problem, "give both the same pins, lock, lru and node")


def folio_state(page: PageState) -> tuple[object, ...]:
    """What all pages of a large folio have in common."""
    return page.order, page.pins, page.locked, page.lru, page.referenced, page.node
