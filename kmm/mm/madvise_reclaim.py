"""MADV_COLD, MADV_PAGEOUT and MADV_FREE of a part of one VMA (mm/madvise.c, mm/huge_memory.c).

The mmap lock is held for reading; for MADV_FREE that of the VMA is enough.

Each gives the errno's name, empty when the advice was taken.
"""

from __future__ import annotations

from typing import Final

from kmm.kernel.locks import SpinLock, spin_unlock
from kmm.mm import system
from kmm.mm.folio import (
    Folio,
    PG_dirty,
    PG_referenced,
    folio_clear_flag,
    folio_get,
    folio_lock,
    folio_mapcount,
    folio_maybe_mapped_shared,
    folio_nr_pages,
    folio_test_dirty,
    folio_test_lru,
    folio_test_swapcache,
    folio_trylock,
    folio_unlock,
    page_folio,
)
from kmm.mm.geometry import HPAGE_PMD_NR, HPAGE_PMD_SIZE
from kmm.mm.madvise_walk import MadviseWalk, madvise_pmds, madvise_ptes
from kmm.mm.mm_types import MM_SWAPENTS, VM_HUGETLB, VM_LOCKED, VM_PFNMAP, VmAreaStruct
from kmm.mm.mmu_gather import MmuGather
from kmm.mm.mmu_notifier import MmuNotifierRange, mmu_notifier_invalidate_range_end, mmu_notifier_invalidate_range_start
from kmm.mm.page_alloc import folio_put
from kmm.mm.pgtable import PtePtr, flush_tlb_range, pmd_lock, pmdp_get, ptep_get, ptep_get_and_clear
from kmm.mm.pgtable_generic import pmdp_invalidate, ptep_clear_young_dirty, ptep_test_and_clear_young, set_pmd_at
from kmm.mm.pte import (
    PTE_MARKER_POISONED,
    is_huge_zero_pmd,
    is_hwpoison_entry,
    non_swap_entry,
    pmd_dirty,
    pmd_mkclean,
    pmd_mkold,
    pmd_pfn,
    pmd_present,
    pmd_trans_huge,
    pmd_young,
    pte_dirty,
    pte_marker_get,
    pte_present,
    pte_t,
    pte_to_swp_offset,
    pte_young,
)
from kmm.mm.rmap import page_number
from kmm.mm.rmap_walk import folio_test_ksm
from kmm.mm.split import split_folio
from kmm.mm.swap import folio_mark_lazyfree, lru_add_drain
from kmm.mm.swapfile import folio_free_swap, free_swap_and_cache
from kmm.mm.system import page_at
from kmm.mm.vmscan import isolate_for_reclaim, reclaim_pages
from kmm.mm.vmstat import add_mm_counter

_NO_LRU: Final = VM_LOCKED | VM_PFNMAP | VM_HUGETLB


def madvise_cold_range(vma: VmAreaStruct, start: int, end: int) -> str:
    """MADV_COLD: forget that [start, end) bytes were used. May sleep.

    :returns: ``EINVAL`` for a VMA that is locked or has no pages of its own on the LRU
    :source: mm/madvise.c, v6.18
    """
    return _cold_or_pageout(vma, start, end, pageout=False)


def madvise_pageout_range(vma: VmAreaStruct, start: int, end: int) -> str:
    """MADV_PAGEOUT: reclaim [start, end) bytes, used or not, except what others map, too. May sleep.

    :returns: ``EINVAL`` for a VMA that is locked or has no pages of its own on the LRU
    :source: mm/madvise.c, v6.18
    """
    return _cold_or_pageout(vma, start, end, pageout=True)


def _cold_or_pageout(vma: VmAreaStruct, start: int, end: int, *, pageout: bool) -> str:
    if vma.vm_flags & _NO_LRU:
        return "EINVAL"
    lru_add_drain()
    for walk in madvise_pmds(vma, start, end):
        isolated: list[Folio] = []
        if not pmd_trans_huge(pmdp_get(walk.pmd)) or _cold_huge(walk, isolated, pageout):
            _cold_ptes(walk, isolated, pageout)
        reclaim_pages(isolated)
        _finish(walk)
    return ""


def _finish(walk: MadviseWalk) -> None:
    """Flush what was gathered."""
    if walk.flush:
        flush_tlb_range(walk.vma, walk.start, walk.end)


def _cold_huge(walk: MadviseWalk, isolated: list[Folio], pageout: bool) -> bool:
    """A huge entry; true: it was split, and the pages are still to be looked at."""
    found = _lock_huge(walk)
    if found is None:
        return False
    folio, ptl = found
    if walk.end - walk.addr != HPAGE_PMD_SIZE():
        folio_get(folio)
        spin_unlock(ptl)
        folio_lock(folio)
        return not _split_and_put(folio)
    value = pmdp_get(walk.pmd)
    if not pageout and pmd_young(value):
        pmdp_invalidate(walk.vma, walk.addr, walk.pmd)
        set_pmd_at(walk.vma.vm_mm, walk.addr, walk.pmd, pmd_mkold(value))
        walk.flush = True
    _deactivate(folio, isolated, pageout)
    spin_unlock(ptl)
    return False


def _lock_huge(walk: MadviseWalk) -> tuple[Folio, SpinLock] | None:
    """The folio that a huge entry maps and the entry's lock, held; ``None`` where there is none that nobody else maps."""
    ptl = pmd_lock(walk.vma.vm_mm, walk.pmd)
    value = pmdp_get(walk.pmd)
    if pmd_trans_huge(value) and pmd_present(value) and not is_huge_zero_pmd(value):
        folio = page_folio(page_at(pmd_pfn(value)))
        if not folio_maybe_mapped_shared(folio):
            return folio, ptl
    spin_unlock(ptl)
    return None


def _split_and_put(folio: Folio) -> str:
    errno = split_folio(folio)
    folio_unlock(folio)
    folio_put(folio)
    return errno


def _cold_ptes(walk: MadviseWalk, isolated: list[Folio], pageout: bool) -> None:
    for folio, nr in madvise_ptes(walk):
        if folio is None or not folio_test_lru(folio) or folio_mapcount(folio) != folio_nr_pages(folio):
            continue
        assert walk.pte is not None
        if not pageout and sum(ptep_test_and_clear_young(walk.pte + i) for i in range(nr)):
            walk.flush = True
        _deactivate(folio, isolated, pageout)


def _deactivate(folio: Folio, isolated: list[Folio], pageout: bool) -> None:
    """Nobody has used it; without an active list there is none to take it off."""
    folio_clear_flag(folio, PG_referenced)
    if pageout and isolate_for_reclaim(folio):
        isolated.append(folio)


def madvise_free_single_vma(tlb: MmuGather, vma: VmAreaStruct, start: int, end: int) -> str:
    """MADV_FREE: allow the kernel to forget [start, end) bytes until they are written again; what is swapped out goes at once. May sleep.

    :param tlb: takes what has to be flushed
    :returns: ``EINVAL`` for a locked VMA, or one without pages of its own
    :source: mm/madvise.c, v6.18
    """
    if vma.vm_flags & _NO_LRU:
        return "EINVAL"
    window = MmuNotifierRange(vma.vm_mm, start, end)
    lru_add_drain()
    mmu_notifier_invalidate_range_start(window)
    for walk in madvise_pmds(vma, start, end):
        if not pmd_trans_huge(pmdp_get(walk.pmd)) or not _free_huge(walk):
            _free_ptes(walk)
        if walk.flush:
            tlb.ranges.append((walk.start, walk.end))
    mmu_notifier_invalidate_range_end(window)
    return ""


def _free_huge(walk: MadviseWalk) -> bool:
    """``madvise_free_huge_pmd``; false: it was split, or is to be left alone."""
    found = _lock_huge(walk)
    if found is None:
        return False
    folio, ptl = found
    if not folio_trylock(folio):
        spin_unlock(ptl)
        return False
    if walk.end - walk.addr != HPAGE_PMD_SIZE():
        folio_get(folio)
        spin_unlock(ptl)
        _split_and_put(folio)
        return False
    if folio_test_dirty(folio):
        folio_clear_flag(folio, PG_dirty)
    folio_unlock(folio)
    value = pmdp_get(walk.pmd)
    if pmd_young(value) or pmd_dirty(value):
        pmdp_invalidate(walk.vma, walk.addr, walk.pmd)
        set_pmd_at(walk.vma.vm_mm, walk.addr, walk.pmd, pmd_mkclean(pmd_mkold(value)))
        walk.flush = True
    _may_forget(walk, HPAGE_PMD_NR())
    folio_mark_lazyfree(folio)
    spin_unlock(ptl)
    return True


def _free_ptes(walk: MadviseWalk) -> None:
    for folio, nr in madvise_ptes(walk):
        assert walk.pte is not None
        if folio is None:
            _free_nonpresent(walk, walk.pte)
        elif _drop_swap_and_dirty(folio):
            if sum(_clear_young_dirty(walk.pte + i) for i in range(nr)):
                walk.flush = True
            _may_forget(walk, nr)
            folio_mark_lazyfree(folio)


def _clear_young_dirty(ptep: PtePtr) -> bool:
    """Make an entry old and clean; was it anything else?"""
    pte = ptep_get(ptep)
    if not pte_young(pte) and not pte_dirty(pte):
        return False
    ptep_clear_young_dirty(ptep)
    return True


def _drop_swap_and_dirty(folio: Folio) -> bool:
    """Leave the swap cache, and be clean; false: others map it, too, or it is locked. A merged page of KSM is always dirty."""
    if not folio_test_swapcache(folio) and not folio_test_dirty(folio) and not folio_test_ksm(folio):
        return True
    if not folio_trylock(folio):
        return False
    alone = folio_mapcount(folio) == folio_nr_pages(folio)
    good = alone and (not folio_test_swapcache(folio) or folio_free_swap(folio))
    if good:
        folio_clear_flag(folio, PG_dirty)
    folio_unlock(folio)
    return good


def _free_nonpresent(walk: MadviseWalk, ptep: PtePtr) -> None:
    """A swap slot is given up, and so is a poisoned page; the zero page and other entries stay."""
    pte = ptep_get(ptep)
    if pte_present(pte):
        return
    mm = walk.vma.vm_mm
    if not non_swap_entry(pte):
        free_swap_and_cache(pte_to_swp_offset(pte))
        add_mm_counter(mm, MM_SWAPENTS, -1)
    elif not _poisoned(pte):
        return
    ptep_get_and_clear(mm, walk.addr, ptep)
    system.this.shadow[mm.ident, page_number(walk.addr)] = 0


def _poisoned(pte: pte_t) -> bool:
    return is_hwpoison_entry(pte) or bool(pte_marker_get(pte) & PTE_MARKER_POISONED)


def _may_forget(walk: MadviseWalk, nr: int) -> None:
    """What is there now may become zeros, until it is written again."""
    this, ident, first = system.this, walk.vma.vm_mm.ident, page_number(walk.addr)
    for key in ((ident, index) for index in range(first, first + nr)):
        this.lazyfree[key] = this.shadow.get(key, 0)
