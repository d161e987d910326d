"""Reclaim unmaps a folio: swap entries take its place, or nothing where it is lazyfree (mm/rmap.c, mm/huge_memory.c)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import PLAIN
from kmm.kernel.bug import WARN_ON_ONCE
from kmm.mm import system
from kmm.mm.folio import (
    Folio,
    Page,
    PageAnonExclusive,
    PG_dirty,
    PG_swapbacked,
    folio_mapcount,
    folio_nr_pages,
    folio_ref_count,
    folio_set_flag,
    folio_test_dirty,
    folio_test_swapbacked,
    folio_test_swapcache,
)
from kmm.mm.geometry import HPAGE_PMD_MASK, HPAGE_PMD_NR, HPAGE_PMD_SIZE, PAGE_SIZE
from kmm.mm.memory import folio_pte_batch
from kmm.mm.mlock import mlock_drain_local, mlock_vma_folio
from kmm.mm.mm_types import MM_ANONPAGES, MM_SWAPENTS, VM_DROPPABLE, VM_LOCKED, VM_UFFD_WP, VmAreaStruct
from kmm.mm.mmu_notifier import MmuNotifierRange, mmu_notifier_invalidate_range_end, mmu_notifier_invalidate_range_start
from kmm.mm.page_alloc import folio_put, folio_put_refs
from kmm.mm.page_vma_mapped import PVMW_PGTABLE_CROSSED, PVMW_SYNC, PageVmaMappedWalk, page_vma_mapped_walk
from kmm.mm.pgtable import (
    PmdSlot,
    PtePtr,
    flush_tlb_range,
    mm_dec_nr_ptes,
    pgtable_trans_huge_withdraw,
    pmdp_get,
    ptep_get,
    ptep_get_and_clear,
    set_pte_at,
)
from kmm.mm.pgtable_generic import pmdp_huge_clear_flush, set_pmd_at
from kmm.mm.pte import (
    pmd_dirty,
    pte_dirty,
    pte_pfn,
    pte_present,
    pte_soft_dirty,
    pte_t,
    pte_uffd_wp,
    swp_entry_to_pte,
)
from kmm.mm.rmap import folio_remove_rmap_ptes, page_number
from kmm.mm.rmap_large import folio_remove_rmap_pmd, folio_try_share_anon_rmap
from kmm.mm.rmap_walk import folio_vma_walk, rmap_walk
from kmm.mm.split_pmd import split_huge_pmd_locked
from kmm.mm.swapfile import swap_duplicate, swap_free
from kmm.mm.vmstat import add_mm_counter


def try_to_unmap(folio: Folio) -> None:
    """Unmap a locked, isolated folio wherever it is mapped; stops at a page that must stay. May sleep.

    A folio that is backed by swap is in the swap cache; one that is not is dropped if nobody has written to it. Every flush of a
    TLB is done at once, none is put off.
    """
    flags = PVMW_SYNC if folio_nr_pages(folio) > 1 else 0

    def one(folio: Folio, vma: VmAreaStruct, address: int) -> bool:
        return try_to_unmap_one(folio, vma, address, flags)

    rmap_walk(folio, one)


def try_to_unmap_one(folio: Folio, vma: VmAreaStruct, address: int, flags: int = 0) -> bool:
    """:func:`try_to_unmap` in one VMA; false: a page stays mapped there.

    :param flags: ``PVMW_SYNC``
    :source: mm/rmap.c, v6.18
    """
    pvmw = folio_vma_walk(folio, vma, address, flags)
    window = MmuNotifierRange(vma.vm_mm, address, pvmw.end)
    mmu_notifier_invalidate_range_start(window)
    good = _unmap_all(folio, vma, pvmw)
    mmu_notifier_invalidate_range_end(window)
    return good


def _unmap_all(folio: Folio, vma: VmAreaStruct, pvmw: PageVmaMappedWalk) -> bool:
    locked = 0
    for _ in page_vma_mapped_walk(pvmw):
        if vma.vm_flags & VM_LOCKED:
            locked += 1
            if pvmw.pte is None or locked == pvmw.nr_pages:
                _mlock_missed(folio, vma, pvmw)
                break
        elif pvmw.pte is None:
            assert pvmw.pmd is not None
            if not folio_test_swapbacked(folio):
                dropped = unmap_huge_pmd_locked(vma, pvmw.address, pvmw.pmd, folio)
                pvmw.done()
                return dropped
            split_huge_pmd_locked(vma, pvmw.address, pvmw.pmd, freeze=False)
            pvmw.restart()
        else:
            nr = _unmap_ptes(folio, vma, pvmw.address, pvmw.pte)
            if nr in (0, folio_nr_pages(folio)):
                pvmw.done()
                return nr > 0
            pvmw.pte += nr - 1
            pvmw.address += (nr - 1) * PAGE_SIZE()
    return not locked


def _mlock_missed(folio: Folio, vma: VmAreaStruct, pvmw: PageVmaMappedWalk) -> None:
    """A locked VMA maps the whole folio, through one table: it should have been mlocked."""
    if not pvmw.look & PVMW_PGTABLE_CROSSED:
        mlock_vma_folio(folio, vma)
    pvmw.done()


def _unmap_ptes(folio: Folio, vma: VmAreaStruct, address: int, ptep: PtePtr) -> int:
    """Unmap as many pages as may be unmapped at once.

    :returns: their number; 0: the entries are back, the pages must stay
    """
    pte = ptep_get(ptep)
    page = folio.pages[pte_pfn(pte) - folio.pfn]
    exclusive = PageAnonExclusive(page)
    nr = _folio_unmap_pte_batch(folio, vma, address, ptep, pte)
    old = [ptep_get_and_clear(vma.vm_mm, address, ptep + i) for i in range(nr)]
    flush_tlb_range(vma, address, address + nr * PAGE_SIZE())
    if any(pte_dirty(each) for each in old):
        folio_set_flag(folio, PG_dirty)
    backed, cached = folio_test_swapbacked(folio), folio_test_swapcache(folio)
    if WARN_ON_ONCE(backed != cached, "folio_test_swapbacked(folio) != folio_test_swapcache(folio)"):
        good = False
    elif backed:
        good = _leave_swap_entry(folio, vma, address, ptep, old[0], page, exclusive)
    else:
        good = _drop_lazyfree(folio, vma, address, nr)
    if not good:
        for i, each in enumerate(old):
            set_pte_at(vma.vm_mm, address + i * PAGE_SIZE(), ptep + i, each)
        return 0
    folio_remove_rmap_ptes(folio, page, nr, vma)
    if vma.vm_flags & VM_LOCKED:
        mlock_drain_local()
    folio_put_refs(folio, nr)
    return nr


def _folio_unmap_pte_batch(folio: Folio, vma: VmAreaStruct, address: int, ptep: PtePtr, pte: pte_t) -> int:
    """Only lazyfree pages go several at a time."""
    if not folio.order or folio_test_swapbacked(folio) or not pte_present(pte) or vma.vm_flags & VM_UFFD_WP:
        return 1
    end = min((address & HPAGE_PMD_MASK()) + HPAGE_PMD_SIZE(), vma.vm_end)
    return folio_pte_batch(folio, ptep, pte, (end - address) // PAGE_SIZE())


def _leave_swap_entry(folio: Folio, vma: VmAreaStruct, address: int, ptep: PtePtr, pte: pte_t, page: Page, exclusive: bool) -> bool:
    """The swap slot of the page takes its place; false: the page may be pinned."""
    mm = vma.vm_mm
    offset = current.machine.read(folio, Folio.swap, PLAIN) + page.index
    swap_duplicate(offset)
    if exclusive and not folio_try_share_anon_rmap(folio, page):
        swap_free(offset)
        return False
    add_mm_counter(mm, MM_ANONPAGES, -1)
    add_mm_counter(mm, MM_SWAPENTS, 1)
    entry = swp_entry_to_pte(offset, exclusive=exclusive, uffd_wp=pte_uffd_wp(pte), soft_dirty=pte_soft_dirty(pte))
    set_pte_at(mm, address, ptep, entry)
    return True


def _drop_lazyfree(folio: Folio, vma: VmAreaStruct, address: int, nr: int) -> bool:
    """May the pages be dropped? Not when they were written again, or when somebody else has a reference."""
    references, mapcount = folio_ref_count(folio), folio_mapcount(folio)
    if folio_test_dirty(folio) and not vma.vm_flags & VM_DROPPABLE:
        folio_set_flag(folio, PG_swapbacked)
        return False
    if references != 1 + mapcount:
        return False
    add_mm_counter(vma.vm_mm, MM_ANONPAGES, -nr)
    _forget(vma, address, nr)
    return True


def _forget(vma: VmAreaStruct, address: int, nr: int) -> None:
    """The process reads zeros from now on, if it has not written since its MADV_FREE."""
    this, first = system.this, page_number(address)
    for key in ((vma.vm_mm.ident, index) for index in range(first, first + nr)):
        token = this.lazyfree.pop(key, None)
        if vma.vm_flags & VM_DROPPABLE or (token is not None and token == this.shadow.get(key)):
            this.shadow[key] = 0


def unmap_huge_pmd_locked(vma: VmAreaStruct, address: int, pmd: PmdSlot, folio: Folio) -> bool:
    """Drop a lazyfree huge page under the PMD lock; false: it was written again, or somebody else has a reference.

    :source: mm/huge_memory.c, v6.18
    """
    mm = vma.vm_mm
    keep = not vma.vm_flags & VM_DROPPABLE
    if pmd_dirty(pmdp_get(pmd)):
        folio_set_flag(folio, PG_dirty)
    if folio_test_dirty(folio) and keep:
        folio_set_flag(folio, PG_swapbacked)
        return False
    old = pmdp_huge_clear_flush(vma, address, pmd)
    references, mapcount = folio_ref_count(folio), folio_mapcount(folio)
    if pmd_dirty(old):
        folio_set_flag(folio, PG_dirty)
    if folio_test_dirty(folio) and keep:
        folio_set_flag(folio, PG_swapbacked)
        set_pmd_at(mm, address, pmd, old)
        return False
    if references != mapcount + 1:
        set_pmd_at(mm, address, pmd, old)
        return False
    folio_remove_rmap_pmd(folio, vma)
    current.machine.free(pgtable_trans_huge_withdraw(mm, pmd), "zap_deposited_table")
    mm_dec_nr_ptes(mm)
    add_mm_counter(mm, MM_ANONPAGES, -HPAGE_PMD_NR())
    _forget(vma, address, HPAGE_PMD_NR())
    if vma.vm_flags & VM_LOCKED:
        mlock_drain_local()
    folio_put(folio)
    return True
