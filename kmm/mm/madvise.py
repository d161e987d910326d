"""Whole operations of other tasks: MADV_DONTNEED, munmap, mmap, exit, prctl, pinning (mm/madvise.c, memory.c, mmap.c, gup.c)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import ONCE, PLAIN
from kmm.kernel.barrier import call_rcu
from kmm.kernel.locks import down_read, down_write, spin_lock, spin_unlock, up_read, up_write
from kmm.mm import system
from kmm.mm.folio import Folio, folio_get, page_folio
from kmm.mm.geometry import HPAGE_PMD_NR, HPAGE_PMD_SIZE, PAGE_SIZE
from kmm.mm.ksm import ksm_might_unmap_zero_page
from kmm.mm.memory import pte_page, vm_normal_page
from kmm.mm.mm_types import (
    MM_ANONPAGES,
    MM_SWAPENTS,
    MMF_DISABLE_THP_COMPLETELY,
    MMF_DISABLE_THP_EXCEPT_ADVISED,
    MmStruct,
    VmAreaStruct,
)
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
from kmm.mm.pte import (
    PTE_MARKER_GUARD,
    is_device_private_entry,
    is_migration_entry,
    is_swap_pte,
    non_swap_entry,
    pmd_none,
    pmd_present,
    pmd_trans_huge,
    pte_marker_get,
    pte_none,
    pte_present,
    pte_t,
    pte_to_swp_offset,
    swp_entry_pfn,
)
from kmm.mm.rmap import folio_remove_rmap_ptes, page_number
from kmm.mm.swapfile import delete_from_swap_cache, free_swap_cache, swap_free
from kmm.mm.system import page_at
from kmm.mm.vmstat import add_mm_counter


def _zap_pte(vma: VmAreaStruct, ptep: PtePtr, addr: int) -> Folio | None:
    """Remove one entry, with what it stands for. The table's lock is held.

    :returns: the folio that it mapped; its reference lasts until the TLB flush
    """
    mm = vma.vm_mm
    old = ptep_get_and_clear(mm, addr, ptep)
    if is_swap_pte(old):
        return _zap_nonpresent(vma, old)
    if pte_none(old):
        return None
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
        offset = pte_to_swp_offset(old)
        folio = system.this.swap[offset].folio
        swap_free(offset)
        if folio is not None and system.this.swap[offset].count == 0:
            delete_from_swap_cache(folio)
        add_mm_counter(mm, MM_SWAPENTS, -1)
    return None


def _zap_range(vma: VmAreaStruct, pmd: PmdSlot, start: int, nr: int, *, drop_markers: bool = False) -> bool:
    """Remove ``nr`` entries, flush, and only then give up the pages.

    :param drop_markers: guard markers go, too
    :returns: nothing was left in place
    """
    end = start + nr * PAGE_SIZE()
    window = MmuNotifierRange(vma.vm_mm, start, end)
    mmu_notifier_invalidate_range_start(window)
    gathered: list[Folio] = []
    all_gone = True
    pte, ptl = pte_offset_map_lock(vma.vm_mm, pmd, start)
    if pte is not None:
        for i in range(nr):
            if not drop_markers and pte_marker_get(ptep_get(pte + i)) & PTE_MARKER_GUARD:
                all_gone = False
                continue
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
    return all_gone


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
    if pmd is None or pmd_none(pmdp_get(pmd)) or pmd_trans_huge(pmdp_get(pmd)) or not pmd_present(pmdp_get(pmd)):
        return None
    return pmd


def _vma_at(mm: MmStruct, address: int) -> VmAreaStruct | None:
    """The VMA that an address lies in."""
    return next((vma for vma in _vmas(mm) if vma.vm_start <= address < vma.vm_end), None)


def _vmas(mm: MmStruct) -> tuple[VmAreaStruct, ...]:
    return current.machine.read(mm, MmStruct.vmas, PLAIN)


def _inside(vma: VmAreaStruct) -> tuple[int, int]:
    """What of a VMA lies in the table's range: its first byte there, and how many pages."""
    base = system.this.base
    start, end = max(vma.vm_start, base), min(vma.vm_end, base + HPAGE_PMD_SIZE())
    return start, (end - start) // PAGE_SIZE()


def madvise_dontneed_page(mm: MmStruct, index: int) -> bool:
    """MADV_DONTNEED of one page; false when nothing is mapped there."""
    down_read(mm.mmap_lock)
    address = system.this.base + index * PAGE_SIZE()
    vma = _vma_at(mm, address)
    pmd = _table_slot(mm, address)
    done = vma is not None and pmd is not None
    if vma is not None and pmd is not None:
        _zap_range(vma, pmd, address, 1)
    up_read(mm.mmap_lock)
    return done


def madvise_dontneed_table(mm: MmStruct) -> bool:
    """MADV_DONTNEED of every VMA in the PMD range; false when there is no table.

    With CONFIG_PT_RECLAIM a VMA that covers the range, and leaves nothing in it, loses its table.
    """
    down_read(mm.mmap_lock)
    pmd = _table_slot(mm, system.this.base)
    if pmd is not None:
        for vma in _vmas(mm):
            start, nr = _inside(vma)
            if _zap_range(vma, pmd, start, nr) and nr == HPAGE_PMD_NR() and current.machine.pt_reclaim:
                _free_pte_table(vma, pmd)
    up_read(mm.mmap_lock)
    return pmd is not None


def munmap(mm: MmStruct, replacement_flags: int | None = None, first: int = 0) -> bool:
    """Unmap the PMD range, whole VMAs with it; false when no VMA is there.

    :param replacement_flags: map what was mapped anew, as one VMA with these flags, under the same lock
    :param first: page from which it is mapped anew
    """
    down_write(mm.mmap_lock)
    vmas = _vmas(mm)
    if vmas:
        pmd = _table_slot(mm, system.this.base)
        if pmd is not None:
            for vma in vmas:
                _zap_range(vma, pmd, *_inside(vma), drop_markers=True)
            _free_pte_table(vmas[0], pmd)
        fresh: tuple[VmAreaStruct, ...] = ()
        if replacement_flags is not None:
            start = max(vmas[0].vm_start, system.this.base + first * PAGE_SIZE())
            fresh = (VmAreaStruct(mm, start, vmas[-1].vm_end, replacement_flags, None, page_number(start)),)
        current.machine.write(mm, MmStruct.vmas, fresh, PLAIN)
        for vma in vmas:
            vma.freed_by = "munmap"
        _remember(mm, fresh)
    up_write(mm.mmap_lock)
    return bool(vmas)


def _remember(mm: MmStruct, fresh: tuple[VmAreaStruct, ...]) -> None:
    """The pages of ``fresh`` read as zero; the others are not mapped any more."""
    shadow = system.this.shadow
    for index in range(HPAGE_PMD_NR()):
        shadow.pop((mm.ident, index), None)
    for vma in fresh:
        start, nr = _inside(vma)
        first = (start - system.this.base) // PAGE_SIZE()
        shadow.update(dict.fromkeys(((mm.ident, index) for index in range(first, first + nr)), 0))


def mmput(mm: MmStruct) -> None:
    """The last user goes; the address space waits for its other references."""
    current.machine.write(mm, MmStruct.mm_users, 0, ONCE)


def prctl_thp_disable(mm: MmStruct, *, except_advised: bool = False) -> None:
    """PR_SET_THP_DISABLE; ``except_advised`` is PR_THP_DISABLE_EXCEPT_ADVISED."""
    down_write(mm.mmap_lock)
    flag = MMF_DISABLE_THP_EXCEPT_ADVISED if except_advised else MMF_DISABLE_THP_COMPLETELY
    current.machine.rmw(mm, MmStruct.flags, flag.__or__, ONCE)
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
    vma = _vma_at(mm, system.this.base + index * PAGE_SIZE())
    if vma is None or vm_normal_page(vma, 0, pte) is None:
        return False
    folio = page_folio(pte_page(pte))
    folio_get(folio)
    system.this.pins[folio.pfn] = system.this.pins.get(folio.pfn, 0) + 1
    return True
