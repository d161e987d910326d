"""Copy the range into the new folio, then drop or release the sources."""

from __future__ import annotations

from kmm.kernel.locks import SpinLock, spin_lock, spin_unlock
from kmm.mm.folio import Folio, folio_page, folio_test_large, folio_unlock, page_folio
from kmm.mm.geometry import PAGE_SIZE
from kmm.mm.khugepaged.isolate import release_pte_folio, release_pte_pages
from kmm.mm.khugepaged.types import ScanResult
from kmm.mm.ksm import ksm_might_unmap_zero_page
from kmm.mm.memory import clear_user_highpage, copy_mc_user_highpage, folio_pte_batch, pte_page
from kmm.mm.mm_types import MM_ANONPAGES, VmAreaStruct
from kmm.mm.page_alloc import folio_put_refs
from kmm.mm.pgtable import (
    PmdSlot,
    PtePtr,
    clear_ptes,
    pmd_lock,
    pmd_pgtable,
    pmd_populate,
    pmdp_get,
    pte_clear,
    ptep_get,
)
from kmm.mm.pte import pte_none, pte_none_or_zero
from kmm.mm.rmap import folio_remove_rmap_ptes
from kmm.mm.swap import folio_putback_lru
from kmm.mm.swapfile import free_swap_cache
from kmm.mm.vmstat import add_mm_counter, node_stat_sub_folio


def __collapse_huge_page_copy_succeeded(
    pte: PtePtr, vma: VmAreaStruct, address: int, ptl: SpinLock, order: int, compound_pagelist: list[Folio]
) -> None:
    """Every page was copied: unmap the sources and give them up.

    :param address: first byte of the range
    """
    mm = vma.vm_mm
    nr_pages = 1 << order
    i = 0
    while i < nr_pages:
        ptep, addr = pte + i, address + i * PAGE_SIZE()
        nr_ptes = 1
        pteval = ptep_get(ptep)
        if pte_none_or_zero(pteval):
            add_mm_counter(mm, MM_ANONPAGES, 1)
            if not pte_none(pteval):
                spin_lock(ptl)
                pte_clear(mm, addr, ptep)
                spin_unlock(ptl)
                ksm_might_unmap_zero_page(mm, pteval)
        else:
            src_page = pte_page(pteval)
            src = page_folio(src_page)
            if folio_test_large(src):
                nr_ptes = folio_pte_batch(src, ptep, pteval, nr_pages - i)
            else:
                release_pte_folio(src)
            spin_lock(ptl)
            clear_ptes(mm, addr, ptep, nr_ptes)
            folio_remove_rmap_ptes(src, src_page, nr_ptes, vma)
            spin_unlock(ptl)
            free_swap_cache(src)
            folio_put_refs(src, nr_ptes)
        i += nr_ptes
    while compound_pagelist:
        src = compound_pagelist.pop(0)
        node_stat_sub_folio(src, "nr_isolated_anon")
        folio_unlock(src)
        free_swap_cache(src)
        folio_putback_lru(src)


def __collapse_huge_page_copy_failed(
    pte: PtePtr, pmd: PmdSlot, orig_pmd: PmdSlot, vma: VmAreaStruct, order: int, compound_pagelist: list[Folio]
) -> None:
    """A page could not be copied: put the table back, and only then release the sources."""
    pmd_ptl = pmd_lock(vma.vm_mm, pmd)
    pmd_populate(vma.vm_mm, pmd, pmd_pgtable(pmdp_get(orig_pmd)))
    spin_unlock(pmd_ptl)
    release_pte_pages(pte, pte + (1 << order), compound_pagelist)


def __collapse_huge_page_copy(
    pte: PtePtr,
    folio: Folio,
    pmd: PmdSlot,
    orig_pmd: PmdSlot,
    vma: VmAreaStruct,
    address: int,
    ptl: SpinLock,
    order: int,
    compound_pagelist: list[Folio],
) -> ScanResult:
    """Copy 2^order pages into ``folio``; holes become zeros. The sources are locked and isolated.

    :param address: first byte of the range
    :param orig_pmd: the saved entry of the detached table
    :returns: SUCCEED, or COPY_MC when a source is poisoned (the table is back in place then)
    :source: mm/khugepaged.c, v12 05/15
    """
    result = ScanResult.SCAN_SUCCEED
    for i in range(1 << order):
        pteval = ptep_get(pte + i)
        page = folio_page(folio, i)
        src_addr = address + i * PAGE_SIZE()
        if pte_none_or_zero(pteval):
            clear_user_highpage(page, src_addr)
            continue
        src_page = pte_page(pteval)
        if copy_mc_user_highpage(page, src_page, src_addr, vma) > 0:
            result = ScanResult.SCAN_COPY_MC
            break
    if result == ScanResult.SCAN_SUCCEED:
        __collapse_huge_page_copy_succeeded(pte, vma, address, ptl, order, compound_pagelist)
    else:
        __collapse_huge_page_copy_failed(pte, pmd, orig_pmd, vma, order, compound_pagelist)
    return result
