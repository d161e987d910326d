"""Flushes that wait until all entries are changed (mm/mmu_gather.c, include/linux/mm_types.h)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.mm.mm_types import MmStruct
from kmm.mm.pgtable import flush_tlb_range
from kmm.mm.vma import vmas_of


class MmuGather:
    """``struct mmu_gather``: the addresses whose translations have to go, as one range.

    From its making to :func:`tlb_finish_mmu` the address space counts as one that has a flush to come.

    :param mm: ``struct mm_struct *``
    """

    __slots__ = ("end", "mm", "start")

    def __init__(self, mm: MmStruct) -> None:
        self.mm = mm
        self.start = self.end = 0
        current.machine.fetch_add(mm, MmStruct.tlb_flush_pending, 1)

    def add(self, start: int, end: int) -> None:
        """[start, end) bytes as well."""
        self.start = min(self.start, start) if self.end else start
        self.end = max(self.end, end)


def tlb_finish_mmu(tlb: MmuGather) -> None:
    """Flush what was gathered.

    Who gathers at the same time may have changed entries that are right already, so that nothing was gathered here: then everything goes.

    :source: mm/mmu_gather.c, v6.18
    """
    vmas = vmas_of(tlb.mm)
    if mm_tlb_flush_nested(tlb.mm) and vmas:
        tlb.add(vmas[0].vm_start, vmas[-1].vm_end)
    if tlb.end and vmas:
        flush_tlb_range(vmas[0], tlb.start, tlb.end)
    current.machine.fetch_add(tlb.mm, MmStruct.tlb_flush_pending, -1)


def mm_tlb_flush_pending(mm: MmStruct) -> bool:
    """Somebody has changed entries, or is about to, and has not flushed yet. What he changed is known under the lock of its table."""
    return current.machine.read(mm, MmStruct.tlb_flush_pending, ONCE) > 0


def mm_tlb_flush_nested(mm: MmStruct) -> bool:
    """More than one does."""
    return current.machine.read(mm, MmStruct.tlb_flush_pending, ONCE) > 1
