"""What the kernel keeps once: the memory map, tunables, statistics, LRU batches; and the variant under test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import attrs

from kmm.kernel import current
from kmm.kernel.access import Field, Shared
from kmm.kernel.locks import RwSem, SpinLock
from kmm.mm.folio import Folio, Page
from kmm.mm.khugepaged.mm_slot import KhugepagedScan, KhugepagedThread
from kmm.mm.mm_types import AnonVma
from kmm.mm.percpu import PerCpu

if TYPE_CHECKING:
    from kmm.kernel.machine import Machine
    from kmm.kernel.task import Task
    from kmm.mm.mm_types import MmStruct
    from kmm.mm.pgtable import PtePage
    from kmm.mm.variant import Variant


class Sysctl(Shared):
    """The tunables under ``transparent_hugepage/``, and ``vm.zone_reclaim_mode``.

    ``defrag`` is khugepaged's, ``defrag_fault`` that of page faults.

    :param huge_anon_orders: bit masks of the orders set to always, madvise and inherit
    """

    __slots__ = (
        "_defrag",
        "_defrag_fault",
        "_enabled",
        "_huge_anon_orders_always",
        "_huge_anon_orders_inherit",
        "_huge_anon_orders_madvise",
        "_khugepaged_alloc_sleep_millisecs",
        "_khugepaged_max_ptes_none",
        "_khugepaged_max_ptes_shared",
        "_khugepaged_max_ptes_swap",
        "_khugepaged_pages_to_scan",
        "_khugepaged_scan_sleep_millisecs",
        "_node_reclaim_mode",
        "_shrink_underused",
        "_use_zero_page",
    )

    defrag: Field[bool] = Field()
    defrag_fault: Field[str] = Field()
    enabled: Field[str] = Field()
    huge_anon_orders_always: Field[int] = Field()
    huge_anon_orders_inherit: Field[int] = Field()
    huge_anon_orders_madvise: Field[int] = Field()
    khugepaged_alloc_sleep_millisecs: Field[int] = Field()
    khugepaged_max_ptes_none: Field[int] = Field()
    khugepaged_max_ptes_shared: Field[int] = Field()
    khugepaged_max_ptes_swap: Field[int] = Field()
    khugepaged_pages_to_scan: Field[int] = Field()
    khugepaged_scan_sleep_millisecs: Field[int] = Field()
    node_reclaim_mode: Field[bool] = Field()
    shrink_underused: Field[bool] = Field()
    use_zero_page: Field[bool] = Field()

    def __init__(
        self,
        none: int,
        swap: int,
        shared: int,
        enabled: str,
        *,
        defrag: bool,
        shrink_underused: bool,
        node_reclaim: bool = False,
        pages_to_scan: int = 4096,
        scan_sleep_millisecs: int = 10000,
        alloc_sleep_millisecs: int = 60000,
    ) -> None:
        self.freed_by = ""
        self._khugepaged_max_ptes_none = none
        self._khugepaged_max_ptes_swap = swap
        self._khugepaged_max_ptes_shared = shared
        self._enabled = enabled
        self._defrag = defrag
        self._defrag_fault = "madvise"
        self._use_zero_page = True
        self._shrink_underused = shrink_underused
        self._node_reclaim_mode = node_reclaim
        self._khugepaged_pages_to_scan = pages_to_scan
        self._khugepaged_scan_sleep_millisecs = scan_sleep_millisecs
        self._khugepaged_alloc_sleep_millisecs = alloc_sleep_millisecs
        self._huge_anon_orders_always = 0
        self._huge_anon_orders_madvise = 0
        self._huge_anon_orders_inherit = 0


class SwapSlot(Shared):
    """One slot of the swap device. It is free when no entry refers to it and the swap cache has nothing for it.

    :param offset: its number
    :param count: swap entries that refer to it
    :param cached: its folio in the swap cache
    :param contents: token of the swapped page
    :param zeromap: its page was all zeros when it was written, so that nothing was
    """

    __slots__ = ("_cached", "_contents", "_count", "_zeromap", "offset")

    cached: Field[Folio | None] = Field()
    contents: Field[int] = Field()
    count: Field[int] = Field()
    zeromap: Field[bool] = Field()

    def __init__(self, offset: int, count: int, cached: Folio | None, contents: int, zeromap: bool = False) -> None:
        self.freed_by = ""
        self.offset = offset
        self._count = count
        self._cached = cached
        self._contents = contents
        self._zeromap = zeromap

    @property
    def name(self) -> str:
        """By its number."""
        return f"swap slot {self.offset}"


class DeferredSplit(Shared):
    """``struct deferred_split``: large folios that the shrinker may split, oldest first; under ``split_queue_lock``."""

    __slots__ = ("_split_queue", "split_queue_lock")

    split_queue: Field[tuple[Folio, ...]] = Field()

    def __init__(self) -> None:
        self.freed_by = ""
        self.split_queue_lock = SpinLock("split_queue_lock")
        self._split_queue: tuple[Folio, ...] = ()

    @property
    def name(self) -> str:
        """As in C."""
        return "deferred_split"


class Migrations(Shared):
    """The migrations that were under way when the scenario began: frame number to the task that migrates the page."""

    __slots__ = ("_under_way",)

    under_way: Field[dict[int, Task]] = Field()

    def __init__(self) -> None:
        self.freed_by = ""
        self._under_way: dict[int, Task] = {}

    @property
    def name(self) -> str:
        """What they are."""
        return "migrations"


class Ksm(Shared):
    """What ksmd knows (mm/ksm.c).

    ``ksm_thread_mutex``: one scan at a time; ``stable_tree``: the merged pages, without references to them, under the mutex;
    ``stable_node`` stands in ``mapping`` of each for its node.
    """

    __slots__ = ("_stable_tree", "ksm_thread_mutex", "stable_node")

    stable_tree: Field[tuple[Folio, ...]] = Field()

    def __init__(self) -> None:
        self.freed_by = ""
        self.ksm_thread_mutex = RwSem("ksm_thread_mutex")
        self.stable_node = AnonVma("ksm")
        self._stable_tree: tuple[Folio, ...] = ()

    @property
    def name(self) -> str:
        """Whose it is."""
        return "ksm"


class PidNamespace(Shared):
    """``struct pid_namespace``: here it numbers address spaces.

    ``last`` is the number that was given last.
    """

    __slots__ = ("_last",)

    last: Field[int] = Field()

    def __init__(self) -> None:
        self.freed_by = ""
        self._last = 0

    @property
    def name(self) -> str:
        """As in C."""
        return "init_pid_ns"


@attrs.frozen
class Injected:
    """Failures that this run injects; counts from 1."""

    alloc: frozenset[int] = frozenset()
    charge: frozenset[int] = frozenset()
    poison: frozenset[int] = frozenset()
    swapin_error: frozenset[int] = frozenset()
    swapin_retry: frozenset[int] = frozenset()
    migration_again: frozenset[int] = frozenset()
    slot: frozenset[int] = frozenset()
    cc: frozenset[int] = frozenset()
    swap_slots: frozenset[int] = frozenset()


class System:
    """The kernel's globals.

    What several tasks can reach is a :class:`~kmm.kernel.access.Shared` object. The rest is one of these:

    * Found by a number that is given once and never again, and by nobody before its entry is there: ``mem_map`` (frame number to page;
      a split replaces the pages of a folio to which nobody has a reference), ``tables`` (frame number to PTE table), ``swap`` (slots ever
      used), ``mms`` (by ident), ``folios`` (all there ever were; only the harness looks).
    * Counters that no decision reads: ``vm_events``, ``mthp_stats`` ((order, name)), ``node_stat``, ``poison_queued``.
    * The harness's own: ``shadow``; ``lazyfree``, (address space, page) to the token that the process allowed the kernel to forget by
      MADV_FREE; ``leaving``, (address space, page, frame) that a zap has taken out of the tables, until no CPU translates to it any
      more: what it holds may still be read, and what is written to it is lost; ``notifier_windows``, the invalidate windows as (start,
      end) bytes; ``poisoned``, the folios to which memory failure keeps a reference; the counts of allocations and charges, for
      ``injected`` failures, which concern ``driver_cpu`` alone where several tasks run.
    * Said before the run: ``hwpoison``: memory may fail in it, so that who gets at contents has to look at their page's mark.
    * khugepaged's alone: ``clock_ms``, the model's time, which only its sleeping moves.
    """

    __slots__ = (
        "allocations",
        "base",
        "cc_allocations",
        "charges",
        "clock_ms",
        "deferred_split",
        "driver_cpu",
        "folios",
        "hwpoison",
        "injected",
        "khugepaged_mm_lock",
        "khugepaged_mutex",
        "khugepaged_scan",
        "khugepaged_thread",
        "ksm",
        "lazyfree",
        "leaving",
        "machine",
        "mem_map",
        "mf_mutex",
        "migrations",
        "mms",
        "mthp_stats",
        "node_stat",
        "notifier_windows",
        "per_cpu",
        "pids",
        "poison_queued",
        "poisoned",
        "shadow",
        "slot_allocations",
        "swap",
        "swap_allocations",
        "swap_cache_lock",
        "sysctl",
        "tables",
        "variant",
        "vm_events",
    )

    def __init__(self, machine: Machine, sysctl: Sysctl, variant: Variant, injected: Injected, base: int) -> None:
        self.machine = machine
        self.sysctl = sysctl
        self.variant = variant
        self.injected = injected
        self.hwpoison = False
        self.base = base
        self.allocations = 0
        self.charges = 0
        self.slot_allocations = 0
        self.cc_allocations = 0
        self.khugepaged_scan = KhugepagedScan()
        self.khugepaged_thread = KhugepagedThread()
        self.khugepaged_mm_lock = SpinLock("khugepaged_mm_lock")
        self.khugepaged_mutex = RwSem("khugepaged_mutex")
        self.ksm = Ksm()
        self.mf_mutex = RwSem("mf_mutex")
        self.mem_map: dict[int, Page] = {}
        self.tables: dict[int, PtePage] = {}
        self.folios: list[Folio] = []
        self.mms: list[MmStruct] = []
        self.swap_allocations = 0
        self.driver_cpu = 0
        self.clock_ms = 0
        self.swap: dict[int, SwapSlot] = {}
        self.swap_cache_lock = SpinLock("swap_cache")
        self.per_cpu = tuple([PerCpu(cpu.number) for cpu in machine.cpus])
        self.pids = PidNamespace()
        self.lazyfree: dict[tuple[int, int], int] = {}
        self.leaving: set[tuple[int, int, int]] = set()
        self.migrations = Migrations()
        self.deferred_split = DeferredSplit()
        self.vm_events: dict[str, int] = {}
        self.mthp_stats: dict[tuple[int, str], int] = {}
        self.node_stat: dict[str, int] = {}
        self.notifier_windows: list[tuple[int, int]] = []
        self.poison_queued: list[str] = []
        self.poisoned: list[Folio] = []
        self.shadow: dict[tuple[int, int], int] = {}

    @contextmanager
    def running(self, task: Task) -> Iterator[None]:
        """Run ``task`` on this system for the time of the block."""
        global this
        before = globals().get("this", self)
        with self.machine.running(task):
            this = self
            try:
                yield
            finally:
                this = before


this: System


def injects() -> bool:
    """An allocation here counts for the failures that the scenario injects: one of the driver's, if several tasks run."""
    return current.machine.scheduler is None or current.cpu.number == this.driver_cpu


def numbers() -> PerCpu:
    """Whose numbers an allocation takes: those of its CPU. Where one operation follows the other all take those of the first one."""
    return this.per_cpu[0 if current.machine.scheduler is None else current.cpu.number]


SIGBUS: Final = -2
"""In the shadow memory: the process gets a signal instead of contents."""


def page_at(pfn: int) -> Page:
    """``pfn_to_page``."""
    return this.mem_map[pfn]


def recorder_note(text: str) -> None:
    """Log a step, if the run is logged."""
    recorder = current.machine.recorder
    if recorder is not None:
        recorder.note(text)
