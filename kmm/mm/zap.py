"""Unmapping pages and giving up page tables (mm/memory.c, mm/huge_memory.c)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.barrier import call_rcu
from kmm.kernel.locks import spin_lock, spin_unlock
from kmm.mm import system
from kmm.mm.folio import Folio, page_folio
from kmm.mm.geometry import HPAGE_PMD_MASK, HPAGE_PMD_NR, HPAGE_PMD_SIZE, PAGE_SIZE
from kmm.mm.ksm import ksm_might_unmap_zero_page
from kmm.mm.memory import vm_normal_page
from kmm.mm.mm_types import MM_ANONPAGES, MM_SWAPENTS, MmStruct, VmAreaStruct
from kmm.mm.mmu_notifier import MmuNotifierRange, mmu_notifier_invalidate_range_end, mmu_notifier_invalidate_range_start
from kmm.mm.page_alloc import folio_put
from kmm.mm.pgtable import (
    PmdSlot,
    PtePage,
    PtePtr,
    flush_tlb_range,
    mm_dec_nr_ptes,
    pgtable_trans_huge_withdraw,
    pmd_clear,
    pmd_lock,
    pmd_offset,
    pmd_pgtable,
    pmdp_get,
    pmdp_huge_get_and_clear,
    pte_lockptr,
    pte_offset_map_lock,
    pte_unmap_unlock,
    ptep_get,
    ptep_get_and_clear,
)
from kmm.mm.pte import (
    HUGE_ZERO_PFN,
    PTE_MARKER_GUARD,
    is_device_private_entry,
    is_migration_entry,
    is_pmd_migration_entry,
    is_swap_pte,
    non_swap_entry,
    pmd_none,
    pmd_pfn,
    pmd_present,
    pmd_trans_huge,
    pte_marker_get,
    pte_none,
    pte_pfn,
    pte_t,
    pte_to_swp_offset,
    swp_entry_pfn,
)
from kmm.mm.rmap import folio_remove_rmap_ptes, page_number
from kmm.mm.rmap_large import folio_remove_rmap_pmd
from kmm.mm.split_pmd import split_huge_pmd
from kmm.mm.swapfile import free_swap_and_cache, free_swap_cache
from kmm.mm.system import page_at
from kmm.mm.tlb import wait_for_instructions
from kmm.mm.vmstat import add_mm_counter


class Gathered:
    """``struct mmu_gather``: what is unmapped, and waits for the TLB flush.

    ``folios`` keep their references until then; ``flush``: some CPU may have a translation; ``leaving``: see
    :class:`~kmm.mm.system.System`.
    """

    __slots__ = ("flush", "folios", "leaving")

    def __init__(self) -> None:
        self.folios: list[Folio] = []
        self.flush = False
        self.leaving: list[tuple[int, int, int]] = []

    def append(self, folio: Folio) -> None:
        """One folio more."""
        self.folios.append(folio)


def zap_page_range(vma: VmAreaStruct, start: int, end: int, *, drop_markers: bool = False, reclaim_tables: bool = False) -> None:
    """Unmap [start, end) bytes of a VMA, over tables and huge entries. The mmap lock is held.

    :param vma: ``struct vm_area_struct *``
    :param drop_markers: guard markers go, too
    :param reclaim_tables: a table of which the whole range is unmapped, and is empty then, is freed
    :source: mm/memory.c, v6.18
    """
    window = MmuNotifierRange(vma.vm_mm, start, end)
    mmu_notifier_invalidate_range_start(window)
    gathered = Gathered()
    empty: list[PmdSlot] = []
    address = start
    while address < end:
        upto = min((address & HPAGE_PMD_MASK()) + HPAGE_PMD_SIZE(), end)
        if zap_pmd_range(vma, address, upto, gathered, drop_markers=drop_markers):
            pmd = table_slot(vma.vm_mm, address)
            if pmd is not None:
                empty.append(pmd)
        address = upto
    mmu_notifier_invalidate_range_end(window)
    if gathered.flush:
        flush_tlb_range(vma, start, end)
    _give_up(gathered)
    for pmd in empty if reclaim_tables else ():
        free_pte_table(vma, pmd)


def zap_pmd_range(vma: VmAreaStruct, start: int, end: int, gathered: Gathered, *, drop_markers: bool) -> bool:
    """Unmap what lies in one PMD range.

    :param gathered: takes the folios, whose references last until the TLB flush
    :returns: all of the range, and nothing was left in its table
    """
    pmd = pmd_offset(vma.vm_mm, start)
    if pmd is None or pmd_none(pmdp_get(pmd)):
        return False
    value = pmdp_get(pmd)
    if pmd_trans_huge(value) or is_pmd_migration_entry(value):
        if end - start == HPAGE_PMD_SIZE():
            zap_huge_pmd(vma, pmd, start, gathered)
            return False
        split_huge_pmd(vma, pmd, start)
    nr = (end - start) // PAGE_SIZE()
    return zap_ptes(vma, pmd, start, nr, gathered, drop_markers=drop_markers) and nr == HPAGE_PMD_NR()


def zap_huge_pmd(vma: VmAreaStruct, pmd: PmdSlot, address: int, gathered: Gathered) -> None:
    """Unmap a huge page, the huge zero page, or a huge page that is being migrated; the deposited table is freed.

    :source: mm/huge_memory.c, v6.18
    """
    mm = vma.vm_mm
    ptl = pmd_lock(mm, pmd)
    old = pmdp_huge_get_and_clear(mm, address, pmd)
    withdrawn = pgtable_trans_huge_withdraw(mm, pmd)
    if is_pmd_migration_entry(old):
        add_mm_counter(mm, MM_ANONPAGES, -HPAGE_PMD_NR())
    elif pmd_pfn(old) != HUGE_ZERO_PFN:
        folio = page_folio(page_at(pmd_pfn(old)))
        folio_remove_rmap_pmd(folio, vma)
        add_mm_counter(mm, MM_ANONPAGES, -HPAGE_PMD_NR())
        gathered.append(folio)
    mm_dec_nr_ptes(mm)
    gathered.flush |= pmd_present(old)
    spin_unlock(ptl)
    current.machine.free(withdrawn, "zap_deposited_table")
    _read_zeros(vma, address, HPAGE_PMD_NR())
    _leaves(vma, address, pmd_pfn(old), HPAGE_PMD_NR(), gathered)


def _read_zeros(vma: VmAreaStruct, address: int, nr: int) -> None:
    """What was there is forgotten."""
    this, first = system.this, page_number(address)
    for index in range(first, first + nr):
        this.shadow[vma.vm_mm.ident, index] = 0
        this.lazyfree.pop((vma.vm_mm.ident, index), None)


def _leaves(vma: VmAreaStruct, address: int, pfn: int, nr: int, gathered: Gathered) -> None:
    """The flush is still to come."""
    index, left = page_number(address), gathered.leaving
    left.extend((vma.vm_mm.ident, index + i, pfn + i) for i in range(nr))
    system.this.leaving.update(left)


def _give_up(gathered: Gathered) -> None:
    system.this.leaving.difference_update(gathered.leaving)
    for folio in gathered.folios:
        free_swap_cache(folio)
        folio_put(folio)


def _zap_pte(vma: VmAreaStruct, ptep: PtePtr, addr: int, gathered: Gathered) -> Folio | None:
    """Remove one entry, with what it stands for. The table's lock is held.

    :returns: the folio that it mapped; its reference lasts until the TLB flush
    """
    mm = vma.vm_mm
    old = ptep_get_and_clear(mm, addr, ptep)
    if is_swap_pte(old):
        return _zap_nonpresent(vma, old)
    if pte_none(old):
        return None
    gathered.flush = True
    _leaves(vma, addr, pte_pfn(old), 1, gathered)
    page = vm_normal_page(vma, addr, old)
    if page is None:
        ksm_might_unmap_zero_page(mm, old)
        return None
    add_mm_counter(mm, MM_ANONPAGES, -1)
    folio_remove_rmap_ptes(page_folio(page), page, 1, vma)
    return page_folio(page)


def _zap_nonpresent(vma: VmAreaStruct, old: pte_t) -> Folio | None:
    mm = vma.vm_mm
    if is_device_private_entry(old):
        page = page_at(swp_entry_pfn(old))
        add_mm_counter(mm, MM_ANONPAGES, -1)
        folio_remove_rmap_ptes(page_folio(page), page, 1, vma)
        return page_folio(page)
    if is_migration_entry(old):
        add_mm_counter(mm, MM_ANONPAGES, -1)
    elif not non_swap_entry(old):
        free_swap_and_cache(pte_to_swp_offset(old))
        add_mm_counter(mm, MM_SWAPENTS, -1)
    return None


def zap_table(vma: VmAreaStruct, pmd: PmdSlot, start: int, nr: int, *, drop_markers: bool = False) -> bool:
    """Unmap ``nr`` pages of one table, flush, and only then give up the pages.

    :param drop_markers: guard markers go, too
    :returns: nothing was left in place
    """
    end = start + nr * PAGE_SIZE()
    window = MmuNotifierRange(vma.vm_mm, start, end)
    mmu_notifier_invalidate_range_start(window)
    gathered = Gathered()
    all_gone = zap_ptes(vma, pmd, start, nr, gathered, drop_markers=drop_markers)
    mmu_notifier_invalidate_range_end(window)
    if gathered.folios:
        flush_tlb_range(vma, start, end)
    _give_up(gathered)
    return all_gone


def zap_ptes(vma: VmAreaStruct, pmd: PmdSlot, start: int, nr: int, gathered: Gathered, *, drop_markers: bool) -> bool:
    """Remove ``nr`` entries of one table.

    :param gathered: takes the folios, whose references last until the TLB flush
    :returns: nothing was left in place
    """
    all_gone = True
    pte, ptl = pte_offset_map_lock(vma.vm_mm, pmd, start)
    if pte is None:
        return False
    for i in range(nr):
        if not drop_markers and pte_marker_get(ptep_get(pte + i)) & PTE_MARKER_GUARD:
            all_gone = False
            continue
        folio = _zap_pte(vma, pte + i, start + i * PAGE_SIZE(), gathered)
        if folio is not None:
            gathered.append(folio)
        _read_zeros(vma, start + i * PAGE_SIZE(), 1)
    pte_unmap_unlock(pte, ptl)
    return all_gone


def free_pte_table(vma: VmAreaStruct, pmd: PmdSlot) -> None:
    """Detach the table, if there still is one and nobody has filled an entry meanwhile, and free it after a grace period."""
    mm = vma.vm_mm
    ptl = pmd_lock(mm, pmd)
    value = pmdp_get(pmd)
    if not pmd_present(value) or pmd_trans_huge(value):
        spin_unlock(ptl)
        return
    table = pmd_pgtable(value)
    pte_ptl = pte_lockptr(mm, table)
    if pte_ptl is not ptl:
        spin_lock(pte_ptl)
    empty = not any(ptep_get(PtePtr(table, i)) for i in range(HPAGE_PMD_NR()))
    if empty:
        pmd_clear(pmd)
    if pte_ptl is not ptl:
        spin_unlock(pte_ptl)
    spin_unlock(ptl)
    if empty:
        tlb_remove_table(mm, table)


def _free_table(table: PtePage) -> None:
    current.machine.free(table, "free_pte_table")


def table_slot(mm: MmStruct, address: int) -> PmdSlot | None:
    """The slot of an address if it leads to a table."""
    pmd = pmd_offset(mm, address)
    if pmd is None or pmd_none(pmdp_get(pmd)) or pmd_trans_huge(pmdp_get(pmd)) or not pmd_present(pmdp_get(pmd)):
        return None
    return pmd


def free_table_unlocked(mm: MmStruct, address: int) -> None:
    """Detach the table of a range that no VMA has any more, and free it after a grace period."""
    pmd = table_slot(mm, address)
    if pmd is None:
        return
    table = pmd_pgtable(pmdp_get(pmd))
    pmd_clear(pmd)
    tlb_remove_table(mm, table)


def tlb_remove_table(mm: MmStruct, table: PtePage) -> None:
    """Give up a table that nobody can find any more: it is freed when no CPU walks it, and after a grace period.

    The kernel flushes once, at the end of all unmapping; the flush that was observed before stands for it.
    """
    mm_dec_nr_ptes(mm)
    wait_for_instructions()
    call_rcu(lambda: _free_table(table))
