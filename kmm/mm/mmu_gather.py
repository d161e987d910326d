"""Flushes that wait until all entries are changed, and what is given up behind them (mm/mmu_gather.c, include/linux/mm_types.h)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.kernel.barrier import call_rcu
from kmm.mm import system
from kmm.mm.folio import Folio
from kmm.mm.geometry import HPAGE_PMD_SIZE
from kmm.mm.mm_types import MmStruct
from kmm.mm.page_alloc import folio_put
from kmm.mm.pgtable import PtePage, flush_tlb_mm_range, mm_dec_nr_ptes
from kmm.mm.swapfile import free_swap_cache
from kmm.mm.tlb import wait_for_instructions


class Gathered:
    """What is unmapped, and waits for the TLB flush.

    ``folios`` keep their references until then, and ``tables``, which nobody can find any more, are freed a grace period later. ``flush``:
    some CPU may have a translation; ``leaving``: see :class:`~kmm.mm.system.System`.
    """

    __slots__ = ("flush", "folios", "leaving", "tables")

    def __init__(self) -> None:
        self.folios: list[Folio] = []
        self.tables: list[PtePage] = []
        self.flush = False
        self.leaving: list[tuple[int, int, int]] = []

    def append(self, folio: Folio) -> None:
        """One folio more."""
        self.folios.append(folio)


class MmuGather(Gathered):
    """``struct mmu_gather``: with the addresses whose translations have to go.

    From its making to :func:`tlb_finish_mmu` the address space counts as one that has a flush to come.

    :param mm: ``struct mm_struct *``
    """

    __slots__ = ("mm", "ranges")

    def __init__(self, mm: MmStruct) -> None:
        super().__init__()
        self.mm = mm
        self.ranges: list[tuple[int, int]] = []
        current.machine.fetch_add(mm, MmStruct.tlb_flush_pending, 1)

    def add(self, start: int, end: int) -> None:
        """[start, end) bytes as well, and whatever lies between them and those before."""
        if self.ranges:
            first, last = self.ranges.pop()
            start, end = min(first, start), max(last, end)
        self.ranges.append((start, end))


def tlb_finish_mmu(tlb: MmuGather) -> None:
    """Flush what was gathered, and only then give it up.

    Who gathers at the same time may have changed entries that are right already, so that nothing was gathered here: then everything goes.

    :source: mm/mmu_gather.c, v6.18
    """
    mm = tlb.mm
    if mm_tlb_flush_nested(mm):
        base = system.this.base
        tlb.ranges = [(base, base + len(mm.pmds) * HPAGE_PMD_SIZE())]
    for start, end in tlb.ranges:
        flush_tlb_mm_range(mm, start, end)
    give_up(tlb)
    current.machine.fetch_add(mm, MmStruct.tlb_flush_pending, -1)


def give_up(gathered: Gathered) -> None:
    """The flush is over: pages go, and tables when no CPU walks them any more."""
    system.this.leaving.difference_update(gathered.leaving)
    for folio in gathered.folios:
        free_swap_cache(folio)
        folio_put(folio)
    if gathered.tables:
        wait_for_instructions()
    for table in gathered.tables:
        tlb_remove_table(table)


def tlb_remove_table(table: PtePage) -> None:
    """Free a table after a grace period.

    :source: mm/mmu_gather.c, v6.18
    """
    call_rcu(lambda: current.machine.free(table, "free_pte_table"))


def pte_free_tlb(gathered: Gathered, mm: MmStruct, table: PtePage) -> None:
    """Nobody can find the table any more; who has found it may go on until the flush, or until his read section ends.

    :source: include/asm-generic/tlb.h, v6.18
    """
    gathered.tables.append(table)
    mm_dec_nr_ptes(mm)


def mm_tlb_flush_pending(mm: MmStruct) -> bool:
    """Somebody has changed entries, or is about to, and has not flushed yet. What he changed is known under the lock of its table."""
    return current.machine.read(mm, MmStruct.tlb_flush_pending, ONCE) > 0


def mm_tlb_flush_nested(mm: MmStruct) -> bool:
    """More than one does."""
    return current.machine.read(mm, MmStruct.tlb_flush_pending, ONCE) > 1
