"""The scenario: one value that says everything a run depends on."""

from __future__ import annotations

import enum

import attrs

from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.checks import GAP, MIN_MTHP_ORDER, THP_DISABLE, check_scenario
from kmm.scenario.errors import require
from kmm.scenario.page import PageState
from kmm.scenario.step import Step

PAGE_SIZES = (4096, 16384, 65536)


@attrs.frozen(kw_only=True)
class Geometry:
    """Sizes of the machine.

    :param page_size: bytes
    :param ptes: entries of one PTE table, a power of two from 8 to 8192 (``HPAGE_PMD_NR``)
    :param lru_batch: folios that a per-CPU LRU batch holds before it is drained, 1 to 31
    :param ranges: PMD ranges of an address space, 1 to 64
    """

    page_size: int = 4096
    ptes: int = 512
    lru_batch: int = 31
    ranges: int = 1

    def __attrs_post_init__(self) -> None:
        require(self.page_size in PAGE_SIZES, f"page_size = {self.page_size} is not supported", "use 4096, 16384 or 65536")
        ok = 8 <= self.ptes <= 8192 and self.ptes & (self.ptes - 1) == 0
        require(ok, f"ptes = {self.ptes} is not supported", "use a power of two from 8 to 8192")
        require(1 <= self.lru_batch <= 31, f"lru_batch = {self.lru_batch} is out of range", "use 1 to 31")
        require(1 <= self.ranges <= 64, f"ranges = {self.ranges} is out of range", "use 1 to 64")

    @property
    def pmd_order(self) -> int:
        """``HPAGE_PMD_ORDER``."""
        return self.ptes.bit_length() - 1

    @property
    def pages(self) -> int:
        """Pages of an address space."""
        return self.ptes * self.ranges


@attrs.frozen(kw_only=True)
class Config:
    """How the kernel is built.

    :param debug_vm: CONFIG_DEBUG_VM
    :param split_ptlocks: every table has its own lock; otherwise the mm has one
    :param tlb: how a flush reaches other CPUs, ``broadcast`` or ``ipi``
    :param arch: ``x86``, or ``walking``: the cache hook looks the address up in the live tables
    :param highpte: CONFIG_HIGHPTE: a page table is mapped before it is touched
    :param pt_reclaim: CONFIG_PT_RECLAIM: MADV_DONTNEED of a whole table frees it
    :param sparsemem_vmemmap: CONFIG_SPARSEMEM_VMEMMAP; without it the frame number of a folio is read from the folio
    """

    debug_vm: bool = True
    split_ptlocks: bool = True
    tlb: str = "broadcast"
    arch: str = "x86"
    highpte: bool = False
    pt_reclaim: bool = True
    sparsemem_vmemmap: bool = True

    def __attrs_post_init__(self) -> None:
        require(self.tlb in ("broadcast", "ipi"), f'tlb = "{self.tlb}" is not known', 'use "broadcast" or "ipi"')
        require(self.arch in ("x86", "walking"), f'arch = "{self.arch}" is not known', 'use "x86" or "walking"')


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
    :param node_reclaim: ``vm.zone_reclaim_mode`` is set: a table that is spread over far nodes is refused
    """

    max_ptes_none: int
    max_ptes_swap: int
    max_ptes_shared: int
    enabled: str = "always"
    hugepages: tuple[str, ...]
    defrag: bool = True
    shrink_underused: bool = True
    node_reclaim: bool = False

    def __attrs_post_init__(self) -> None:
        require(self.enabled in GLOBAL_MODES, f'enabled = "{self.enabled}" is not a mode', "use always, madvise or never")
        for mode in self.hugepages:
            require(mode in ORDER_MODES, f'"{mode}" is not a mode of a hugepage size', "use always, inherit, madvise or never")

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


VMA_FLAGS = (
    "dontcopy",
    "dontdump",
    "dontexpand",
    "droppable",
    "exec",
    "growsdown",
    "hugepage",
    "hugetlb",
    "io",
    "locked",
    "lockonfault",
    "mergeable",
    "mixedmap",
    "nohugepage",
    "pfnmap",
    "read",
    "temporary_stack",
    "uffd_missing",
    "uffd_wp",
    "write",
)
"""``VM_`` flags by their kernel names; ``temporary_stack`` is the stack of a program that execve is still building."""

_EXCLUSIVE_FLAGS = (("hugepage", "nohugepage"), ("droppable", "locked"))


@attrs.frozen(kw_only=True)
class Vma:
    """A VMA that lies, at least with a part, in the range of the table, or of the tables.

    :param pages: one letter a page, of those inside the range
    :param flags: sorted names out of :data:`VMA_FLAGS`
    :param anon_vma: the VMA has an anon_vma (it must where a page is anonymous)
    :param start: index of its first page; ``None``: it covers the range
    :param before: pages by which it begins before the range; 0 unless it has the first page of the range
    :param after: pages by which it ends after the range
    """

    pages: str
    flags: tuple[str, ...] = ("read", "write")
    anon_vma: bool = True
    start: int | None = None
    before: int = 0
    after: int = 0

    @property
    def first(self) -> int:
        """Index of its first page inside the range."""
        return self.start or 0

    @property
    def end(self) -> int:
        """Index behind its last page inside the range."""
        return self.first + len(self.pages)

    def __attrs_post_init__(self) -> None:
        for flag in self.flags:
            require(flag in VMA_FLAGS, f'"{flag}" is not a VMA flag', "use " + ", ".join(VMA_FLAGS))
        require(tuple(sorted(set(self.flags))) == self.flags, "VMA flags must be sorted and distinct", "sort them")
        for one, other in _EXCLUSIVE_FLAGS:
            require(not {one, other} <= set(self.flags), f"a VMA cannot be both {one} and {other}", "drop one")
        require("locked" in self.flags or "lockonfault" not in self.flags, "lockonfault needs locked", 'add "locked" to its flags')
        require(bool(self.pages), "the map of a VMA is empty", "write a letter for each of its pages")
        for name, value in (("start", self.first), ("before", self.before), ("after", self.after)):
            require(0 <= value <= 8192, f"{name} = {value} is out of range", "use 0 to 8192 pages")
        require(not self.before or not self.first, f"before = {self.before} needs a map from page 0 on", "drop before or start")


class DriverKind(enum.Enum):
    """Who calls the collapse path."""

    KHUGEPAGED = "khugepaged"
    MADVISE = "madvise"
    DIRECT = "direct"
    STEPS = "steps"


ONE_TABLE = (DriverKind.KHUGEPAGED, DriverKind.MADVISE, DriverKind.DIRECT)
"""Drivers that need no steps."""


@attrs.frozen(kw_only=True)
class Driver:
    """The call that is judged.

    ``khugepaged`` and ``madvise`` scan the one table, ``passes`` times. ``direct`` makes one attempt at an order and offset; all
    other fields concern only it. ``steps`` does the steps of the scenario, one after the other.

    :param passes: how often the table is visited, 1 to 9; from the second time on the LRU batches are drained first
    :param order: order of the attempt; ``None`` outside ``direct``
    :param offset: first page of the attempt in the table, a multiple of 2^order
    :param is_khugepaged: whose limits apply
    :param mmap_locked: the caller holds the mmap read lock
    :param referenced: what the scan counted; ``None``: what a scan of the whole table would
    :param unmapped: likewise
    :param misalign: pages by which the address is off its PMD (``contract = "unchecked"`` only)
    """

    kind: DriverKind
    passes: int = 1
    order: int | None = None
    offset: int = 0
    is_khugepaged: bool = True
    mmap_locked: bool = True
    referenced: int | None = None
    unmapped: int | None = None
    misalign: int = 0

    def __attrs_post_init__(self) -> None:
        direct = self.kind is DriverKind.DIRECT
        require(direct == (self.order is not None), "only a direct attempt has an order, and it must", "add or drop order")
        of_direct = (self.offset, self.is_khugepaged, self.mmap_locked, self.referenced, self.unmapped, self.misalign)
        plain = of_direct == (0, True, True, None, None, 0)
        require(direct or plain, "offset, is_khugepaged, mmap_locked and the like belong to a direct attempt", "drop them")
        require(1 <= self.passes <= 9, f"passes = {self.passes} is out of range", "use 1 to 9")
        scans = self.kind in (DriverKind.KHUGEPAGED, DriverKind.MADVISE)
        require(scans or self.passes == 1, f"passes = {self.passes} of {'a direct attempt' if direct else 'steps'}", "drop it")
        for name in ("referenced", "unmapped"):
            value = getattr(self, name)
            require(value is None or value >= 0, f"{name} = {value} is negative", "use 0 or more")


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
        require(self.op in EVENT_OPS, f'"{self.op}" is not an event', "use " + ", ".join(EVENT_OPS))
        require(self.before in POINTS, f'"{self.before}" is not a sleeping point', "use " + ", ".join(POINTS))
        require(1 <= self.nth <= 999, f"nth = {self.nth} is out of range", "use 1 to 999")
        require((self.op == "sysfs") == bool(self.name), "a sysfs event has a name and a value, no other has", "add or drop name")
        plain = self.op == "sysfs" or not self.value or (self.op, self.value) == ("prctl", "except_advised")
        require(plain, f'value = "{self.value}" does not belong to this event', "drop it (sysfs has one; prctl may say except_advised)")
        known = self.name in SYSFS_FILES or self.name.removeprefix("hugepages-").isdecimal()
        require(self.op != "sysfs" or known, f'name = "{self.name}" is not a file', f"use {', '.join(SYSFS_FILES)} or hugepages-N")
        if self.op != "replace_vma":
            named = (self.op in ("pin", "zap")) == (self.page is not None)
            require(named, "pin and zap name a page, replace_vma may, no other event does", "add or drop page")


BY_COUNT = ("alloc", "charge")
OF_STEPS = ("cc", "slot", "swap_slots")
FAILURE_KINDS = ("alloc", "cc", "charge", "migration_again", "poison", "slot", "swap_slots", "swapin_error", "swapin_retry")


@attrs.frozen(kw_only=True)
class Failure:
    """One injected failure.

    :param kind: ``alloc`` or ``charge`` (the ``nth`` one fails), among steps also ``cc`` (the structure of a MADV_COLLAPSE),
        ``slot`` (khugepaged's of an address space) and ``swap_slots`` (of a folio that is swapped out);
        ``poison`` (reading ``page`` hits a memory error),
        ``swapin_error`` or ``swapin_retry`` (of ``page``), ``migration_again`` (after the migration of ``page`` was waited for, it
        is being migrated once more)
    """

    kind: str
    nth: int = 1
    page: int | None = None

    def __attrs_post_init__(self) -> None:
        require(self.kind in FAILURE_KINDS, f'"{self.kind}" is not a failure', "use " + ", ".join(FAILURE_KINDS))
        by_count = self.kind in (*BY_COUNT, *OF_STEPS)
        require(by_count == (self.page is None), f"{self.kind} fails {'by count' if by_count else 'at a page'}", "add or drop page")
        require(1 <= self.nth <= 999, f"nth = {self.nth} is out of range", "use 1 to 999")


def _pages_of(vmas: tuple[Vma, ...], nr: int) -> str:
    """One letter for each of ``nr`` pages; :data:`GAP` where no VMA is."""
    if vmas and len(vmas[0].pages) == nr:
        return vmas[0].pages
    out, end = "", 0
    for vma in vmas:
        out += GAP * (vma.first - end) + vma.pages
        end = vma.end
    return out + GAP * (nr - end)


@attrs.frozen(kw_only=True)
class Process:
    """One more address space. The scenario itself describes the first one.

    :param vmas: by address; there may be none
    :param pmd: as :attr:`Scenario.pmd`
    :param thp_disable: as :attr:`Scenario.thp_disable`
    """

    vmas: tuple[Vma, ...] = ()
    pmd: str = "table"
    thp_disable: str = "no"

    def __attrs_post_init__(self) -> None:
        require(self.thp_disable in THP_DISABLE, f'thp_disable = "{self.thp_disable}" is not known', "use " + ", ".join(THP_DISABLE))


@attrs.frozen(kw_only=True)
class Scenario:
    """Everything that a run depends on; equal values give byte-identical observations.

    :param vmas: by address; pages between them are not mapped
    :param letters: letters beyond the default alphabet, sorted
    :param pmd: what the PMD entry is: ``table``, ``none``, ``absent`` (no PMD page), ``huge``, ``huge_zero`` (the huge zero page) or
        ``migration`` (a huge page that is being migrated); unless it is a table, the map is all none. Of several ranges: one word for
        all of them, or one for each
    :param processes: the second process and those after it
    :param steps: what is done, with ``driver`` ``steps``
    :param actors: what others do at the same time, each in a task of its own; beside the driver's call, or after the steps
    :param deposited: tables that wait behind the same PMD page for other huge pages to be split, 0 to 2
    :param thp_disable: PR_SET_THP_DISABLE: ``no``, ``yes`` or ``except_advised``
    :param memcg_room: pages that the cgroup may still be charged; ``None``: it has no limit
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
    deposited: int = 0
    thp_disable: str = "no"
    memcg_room: int | None = None
    processes: tuple[Process, ...] = ()
    driver: Driver
    steps: tuple[Step, ...] = ()
    actors: tuple[Step, ...] = ()
    events: tuple[Event, ...] = ()
    failures: tuple[Failure, ...] = ()
    contract: str = "checked"
    assumed: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        check_scenario(self)

    @property
    def pages(self) -> str:
        """One letter for each page of the first process; :data:`GAP` where no VMA is."""
        return _pages_of(self.vmas, self.geometry.pages)

    @property
    def address_spaces(self) -> tuple[Process, ...]:
        """Every process, the first one included."""
        return Process(vmas=self.vmas, pmd=self.pmd, thp_disable=self.thp_disable), *self.processes

    def pages_of(self, process: Process) -> str:
        """One letter for each page of a process; :data:`GAP` where no VMA is."""
        return _pages_of(process.vmas, self.geometry.pages)

    def pmds_of(self, process: Process) -> tuple[str, ...]:
        """What the PMD entries of a process are, one for each range."""
        words = tuple(process.pmd.split())
        return words if len(words) == self.geometry.ranges else words * self.geometry.ranges

    def alphabet(self) -> dict[str, PageState]:
        """Every letter that the map may use."""
        return {**ALPHABET, **dict(self.letters)} if self.letters else ALPHABET
