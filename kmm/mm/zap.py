"""Unmapping pages and giving up page tables (mm/memory.c, mm/huge_memory.c)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.locks import spin_lock, spin_trylock, spin_unlock
from kmm.mm import system
from kmm.mm.folio import Folio, page_folio
from kmm.mm.geometry import HPAGE_PMD_MASK, HPAGE_PMD_NR, HPAGE_PMD_SIZE, PAGE_SIZE
from kmm.mm.ksm import ksm_might_unmap_zero_page
from kmm.mm.memory import vm_normal_page
from kmm.mm.mm_types import MM_ANONPAGES, MM_SWAPENTS, MmStruct, VmAreaStruct
from kmm.mm.mmu_gather import Gathered, MmuGather, give_up, pte_free_tlb
from kmm.mm.mmu_notifier import MmuNotifierRange, mmu_notifier_invalidate_range_end, mmu_notifier_invalidate_range_start
from kmm.mm.pgtable import (
    PmdSlot,
    PtePage,
    PtePtr,
    flush_tlb_range,
    mm_dec_nr_ptes,
    pgtable_trans_huge_withdraw,
    pmd_clear,
    pmd_lock,
    pmd_lockptr,
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
from kmm.mm.swapfile import free_swap_and_cache
from kmm.mm.system import page_at
from kmm.mm.vmstat import add_mm_counter


def zap_page_range(
    tlb: MmuGather, vma: VmAreaStruct, start: int, end: int, *, drop_markers: bool = False, reclaim_tables: bool = False
) -> None:
    """Unmap [start, end) bytes of a VMA, over tables and huge entries. The mmap lock is held, or that of the VMA.

    :param tlb: takes what has to be flushed, and what is given up after that
    :param vma: ``struct vm_area_struct *``
    :param drop_markers: guard markers go, too
    :param reclaim_tables: a table of which the whole range is unmapped, and is empty then, is given up
    :source: mm/memory.c, v6.18
    """
    window = MmuNotifierRange(vma.vm_mm, start, end)
    mmu_notifier_invalidate_range_start(window)
    tlb.flush = False
    address = start
    while address < end:
        upto = min((address & HPAGE_PMD_MASK()) + HPAGE_PMD_SIZE(), end)
        zap_pmd_range(tlb, vma, address, upto, drop_markers=drop_markers, reclaim_tables=reclaim_tables)
        address = upto
    mmu_notifier_invalidate_range_end(window)
    if tlb.flush:
        tlb.ranges.append((start, end))


def zap_pmd_range(tlb: MmuGather, vma: VmAreaStruct, start: int, end: int, *, drop_markers: bool, reclaim_tables: bool) -> None:
    """Unmap what lies in one PMD range."""
    pmd = pmd_offset(vma.vm_mm, start)
    if pmd is None or pmd_none(pmdp_get(pmd)):
        return
    value = pmdp_get(pmd)
    if pmd_trans_huge(value) or is_pmd_migration_entry(value):
        if end - start != HPAGE_PMD_SIZE():
            split_huge_pmd(vma, pmd, start)
        elif zap_huge_pmd(vma, pmd, start, tlb):
            return
    zap_pte_range(tlb, vma, pmd, start, end, drop_markers=drop_markers, reclaim_tables=reclaim_tables)


def zap_huge_pmd(vma: VmAreaStruct, pmd: PmdSlot, address: int, gathered: Gathered) -> bool:
    """Unmap a huge page, the huge zero page, or a huge page that is being migrated; the deposited table is freed.

    :returns: false: there is none any more
    :source: mm/huge_memory.c, v6.18
    """
    mm = vma.vm_mm
    ptl = pmd_lock(mm, pmd)
    value = pmdp_get(pmd)
    if not pmd_trans_huge(value) and not is_pmd_migration_entry(value):
        spin_unlock(ptl)
        return False
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
    _read_zeros(vma, address, HPAGE_PMD_NR())
    _leaves(vma, address, pmd_pfn(old), HPAGE_PMD_NR(), gathered)
    current.machine.free(withdrawn, "zap_deposited_table")
    spin_unlock(ptl)
    return True


def zap_pte_range(
    tlb: MmuGather, vma: VmAreaStruct, pmd: PmdSlot, start: int, end: int, *, drop_markers: bool, reclaim_tables: bool
) -> None:
    """Unmap what lies in one table, and give the table up if the whole of it was unmapped.

    The fast way is to detach it while its lock is held. Where the lock of its slot cannot be had then, the entries are looked at again.

    :source: mm/memory.c, v6.18
    """
    mm, nr = vma.vm_mm, (end - start) // PAGE_SIZE()
    pte, ptl = pte_offset_map_lock(mm, pmd, start)
    if pte is None:
        return
    all_gone = _zap_locked(vma, pte, start, nr, tlb, drop_markers=drop_markers)
    reclaim = reclaim_tables and all_gone and nr == HPAGE_PMD_NR()
    table = try_get_and_clear_pmd(mm, pmd) if reclaim else None
    pte_unmap_unlock(pte, ptl)
    if table is not None:
        pte_free_tlb(tlb, mm, table)
    elif reclaim:
        try_to_free_pte(tlb, mm, pmd)


def try_get_and_clear_pmd(mm: MmStruct, pmd: PmdSlot) -> PtePage | None:
    """Detach a table whose lock is held, if the lock of its slot can be had at once.

    :source: mm/pt_reclaim.c, v6.18
    """
    pml = pmd_lockptr(mm, pmd)
    if not spin_trylock(pml):
        return None
    table = pmd_pgtable(pmdp_get(pmd))
    pmd_clear(pmd)
    spin_unlock(pml)
    return table


def try_to_free_pte(gathered: Gathered, mm: MmStruct, pmd: PmdSlot) -> None:
    """Detach a table, if there still is one and nobody has filled an entry meanwhile.

    :source: mm/pt_reclaim.c, v6.18
    """
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
        pte_free_tlb(gathered, mm, table)


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
    give_up(gathered)
    return all_gone


def zap_ptes(vma: VmAreaStruct, pmd: PmdSlot, start: int, nr: int, gathered: Gathered, *, drop_markers: bool) -> bool:
    """Remove ``nr`` entries of one table.

    :param gathered: takes the folios, whose references last until the TLB flush
    :returns: nothing was left in place
    """
    pte, ptl = pte_offset_map_lock(vma.vm_mm, pmd, start)
    if pte is None:
        return False
    all_gone = _zap_locked(vma, pte, start, nr, gathered, drop_markers=drop_markers)
    pte_unmap_unlock(pte, ptl)
    return all_gone


def _zap_locked(vma: VmAreaStruct, pte: PtePtr, start: int, nr: int, gathered: Gathered, *, drop_markers: bool) -> bool:
    """Remove ``nr`` entries under the table's lock; true: nothing was left in place."""
    all_gone = True
    for i in range(nr):
        if not drop_markers and pte_marker_get(ptep_get(pte + i)) & PTE_MARKER_GUARD:
            all_gone = False
            continue
        folio = _zap_pte(vma, pte + i, start + i * PAGE_SIZE(), gathered)
        if folio is not None:
            gathered.append(folio)
        _read_zeros(vma, start + i * PAGE_SIZE(), 1)
    return all_gone


def free_pte_table(vma: VmAreaStruct, pmd: PmdSlot) -> None:
    """Detach the table, if there still is one and nobody has filled an entry meanwhile, and free it after a grace period."""
    gathered = Gathered()
    try_to_free_pte(gathered, vma.vm_mm, pmd)
    give_up(gathered)


def table_slot(mm: MmStruct, address: int) -> PmdSlot | None:
    """The slot of an address if it leads to a table."""
    pmd = pmd_offset(mm, address)
    if pmd is None or pmd_none(pmdp_get(pmd)) or pmd_trans_huge(pmdp_get(pmd)) or not pmd_present(pmdp_get(pmd)):
        return None
    return pmd


def free_pte_range(tlb: MmuGather, address: int) -> None:
    """Detach the table of a range that no VMA has any more.

    :source: mm/memory.c, v6.18
    """
    pmd = table_slot(tlb.mm, address)
    if pmd is None:
        return
    table = pmd_pgtable(pmdp_get(pmd))
    pmd_clear(pmd)
    pte_free_tlb(tlb, tlb.mm, table)
