"""Whole operations of other tasks: MADV_DONTNEED, munmap, mmap, exit, prctl, pinning (mm/madvise.c, memory.c, mmap.c, gup.c)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import ONCE, PLAIN
from kmm.kernel.barrier import call_rcu
from kmm.kernel.locks import down_read, down_write, spin_lock, spin_unlock, up_read, up_write
from kmm.mm import system
from kmm.mm.folio import Folio, folio_get, page_folio
from kmm.mm.geometry import HPAGE_PMD_NR, PAGE_SIZE
from kmm.mm.memory import pte_page, vm_normal_page
from kmm.mm.mm_types import MM_ANONPAGES, MM_SWAPENTS, MMF_DISABLE_THP_COMPLETELY, MmStruct, VmAreaStruct
from kmm.mm.mmu_notifier import MmuNotifierRange, mmu_notifier_invalidate_range_end, mmu_notifier_invalidate_range_start
from kmm.mm.page_alloc import folio_put
from kmm.mm.pgtable import (
    PmdSlot,
    PtePage,
    PtePtr,
    flush_tlb_range,
    mm_dec_nr_ptes,
    pmd_clear,
    pmd_lockptr,
    pmd_offset,
    pmd_pgtable,
    pmdp_get,
    pte_offset_map_lock,
    pte_unmap_unlock,
    ptep_get,
    ptep_get_and_clear,
)
from kmm.mm.pte import is_swap_pte, pmd_none, pmd_trans_huge, pte_none, pte_present, pte_to_swp_offset
from kmm.mm.rmap import folio_remove_rmap_ptes
from kmm.mm.swapfile import delete_from_swap_cache, free_swap_cache, swap_free
from kmm.mm.vmstat import add_mm_counter


def _zap_pte(vma: VmAreaStruct, ptep: PtePtr, addr: int) -> Folio | None:
    """Remove one entry, with what it stands for. The table's lock is held.

    :returns: the folio that it mapped; its reference lasts until the TLB flush
    """
    mm = vma.vm_mm
    old = ptep_get_and_clear(mm, addr, ptep)
    if is_swap_pte(old):
        offset = pte_to_swp_offset(old)
        folio = system.this.swap[offset].folio
        swap_free(offset)
        if folio is not None and system.this.swap[offset].count == 0:
            delete_from_swap_cache(folio)
        add_mm_counter(mm, MM_SWAPENTS, -1)
    elif not pte_none(old):
        page = vm_normal_page(vma, addr, old)
        if page is not None:
            add_mm_counter(mm, MM_ANONPAGES, -1)
            folio_remove_rmap_ptes(page_folio(page), page, 1, vma)
            return page_folio(page)
    return None


def _zap_range(vma: VmAreaStruct, pmd: PmdSlot, start: int, nr: int) -> None:
    """Remove ``nr`` entries, flush, and only then give up the pages."""
    end = start + nr * PAGE_SIZE()
    window = MmuNotifierRange(vma.vm_mm, start, end)
    mmu_notifier_invalidate_range_start(window)
    gathered: list[Folio] = []
    pte, ptl = pte_offset_map_lock(vma.vm_mm, pmd, start)
    if pte is not None:
        for i in range(nr):
            folio = _zap_pte(vma, pte + i, start + i * PAGE_SIZE())
            if folio is not None:
                gathered.append(folio)
            system.this.shadow[vma.vm_mm.ident, pte.index + i] = 0
        pte_unmap_unlock(pte, ptl)
    mmu_notifier_invalidate_range_end(window)
    if gathered:
        flush_tlb_range(vma, start, end)
    for folio in gathered:
        free_swap_cache(folio)
        folio_put(folio)


def _free_pte_table(vma: VmAreaStruct, pmd: PmdSlot) -> None:
    """Detach the table and free it after a grace period."""
    mm = vma.vm_mm
    ptl = pmd_lockptr(mm, pmd)
    spin_lock(ptl)
    table = pmd_pgtable(pmdp_get(pmd))
    pmd_clear(pmd)
    spin_unlock(ptl)
    mm_dec_nr_ptes(mm)
    call_rcu(lambda: _free_table(table))


def _free_table(table: PtePage) -> None:
    table.freed_by = "free_pte_table"


def _table_slot(mm: MmStruct, address: int) -> PmdSlot | None:
    """The slot of an address if it leads to a table."""
    pmd = pmd_offset(mm, address)
    if pmd is None or pmd_none(pmdp_get(pmd)) or pmd_trans_huge(pmdp_get(pmd)):
        return None
    return pmd


def _vma_at_base(mm: MmStruct) -> VmAreaStruct | None:
    vmas = current.machine.read(mm, MmStruct.vmas, PLAIN)
    return vmas[0] if vmas else None


def madvise_dontneed_page(mm: MmStruct, index: int) -> bool:
    """MADV_DONTNEED of one page; false when nothing is mapped there."""
    down_read(mm.mmap_lock)
    vma = _vma_at_base(mm)
    address = system.this.base + index * PAGE_SIZE()
    pmd = _table_slot(mm, address)
    done = vma is not None and pmd is not None
    if vma is not None and pmd is not None:
        _zap_range(vma, pmd, address, 1)
    up_read(mm.mmap_lock)
    return done


def madvise_dontneed_table(mm: MmStruct) -> bool:
    """MADV_DONTNEED of a whole PMD range, which frees the table; false when there is none."""
    down_read(mm.mmap_lock)
    vma = _vma_at_base(mm)
    pmd = _table_slot(mm, system.this.base)
    done = vma is not None and pmd is not None
    if vma is not None and pmd is not None:
        _zap_range(vma, pmd, system.this.base, HPAGE_PMD_NR())
        _free_pte_table(vma, pmd)
    up_read(mm.mmap_lock)
    return done


def munmap(mm: MmStruct, replacement_flags: int | None = None, first: int = 0) -> bool:
    """Unmap the VMA; false when there is none.

    :param replacement_flags: map the range anew with these flags, under the same lock
    :param first: page from which it is mapped anew
    """
    down_write(mm.mmap_lock)
    vma = _vma_at_base(mm)
    if vma is not None:
        pmd = _table_slot(mm, system.this.base)
        if pmd is not None:
            _zap_range(vma, pmd, system.this.base, HPAGE_PMD_NR())
            _free_pte_table(vma, pmd)
        fresh: tuple[VmAreaStruct, ...] = ()
        if replacement_flags is not None:
            fresh = (VmAreaStruct(mm, vma.vm_start + first * PAGE_SIZE(), vma.vm_end, replacement_flags, None),)
        current.machine.write(mm, MmStruct.vmas, fresh, PLAIN)
        vma.freed_by = "munmap"
        _forget(mm, HPAGE_PMD_NR() if replacement_flags is None else first)
    up_write(mm.mmap_lock)
    return vma is not None


def _forget(mm: MmStruct, first: int) -> None:
    """Pages before ``first`` are not mapped any more; the others read as zero."""
    shadow = system.this.shadow
    for index in range(HPAGE_PMD_NR()):
        if index >= first:
            shadow[mm.ident, index] = 0
        else:
            shadow.pop((mm.ident, index), None)


def mmput(mm: MmStruct) -> None:
    """The last user goes; the address space waits for its other references."""
    current.machine.write(mm, MmStruct.mm_users, 0, ONCE)


def prctl_thp_disable(mm: MmStruct) -> None:
    """PR_SET_THP_DISABLE."""
    down_write(mm.mmap_lock)
    current.machine.rmw(mm, MmStruct.flags, MMF_DISABLE_THP_COMPLETELY.__or__, ONCE)
    up_write(mm.mmap_lock)


def pin_user_page(mm: MmStruct, index: int) -> bool:
    """Take a long-lived reference to the page that an entry maps; false when it maps none."""
    pmd = _table_slot(mm, system.this.base)
    if pmd is None:
        return False
    ptep = PtePtr(pmd_pgtable(pmdp_get(pmd)), index)
    pte = ptep_get(ptep)
    if not pte_present(pte):
        return False
    vma = _vma_at_base(mm)
    if vma is None or vm_normal_page(vma, 0, pte) is None:
        return False
    folio = page_folio(pte_page(pte))
    folio_get(folio)
    system.this.pins[folio.pfn] = system.this.pins.get(folio.pfn, 0) + 1
    return True
