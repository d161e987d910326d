"""Lock and isolate every page of the range, or none."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import PLAIN
from kmm.kernel.bug import VM_BUG_ON
from kmm.mm import system
from kmm.mm.folio import (
    Folio,
    folio_expected_ref_count,
    folio_is_zone_device,
    folio_maybe_mapped_shared,
    folio_nr_pages,
    folio_order,
    folio_ref_count,
    folio_test_anon,
    folio_test_large,
    folio_test_referenced,
    folio_test_young,
    folio_trylock,
    folio_unlock,
    page_folio,
)
from kmm.mm.geometry import HPAGE_PMD_ORDER, PAGE_SIZE
from kmm.mm.khugepaged.limits import collapse_max_ptes_none
from kmm.mm.khugepaged.types import CollapseControl, ScanResult, trace_folio
from kmm.mm.memory import pte_page, vm_normal_page
from kmm.mm.mm_types import VmAreaStruct
from kmm.mm.mmu_notifier import mmu_notifier_test_young
from kmm.mm.pgtable import PtePtr, ptep_get
from kmm.mm.pte import pte_none_or_zero, pte_present, pte_uffd_wp, pte_young
from kmm.mm.swap import folio_isolate_lru, folio_putback_lru
from kmm.mm.system import Sysctl
from kmm.mm.userfaultfd import userfaultfd_armed
from kmm.mm.vmstat import count_mthp_stat, count_vm_event, node_stat_mod_folio


def release_pte_folio(folio: Folio) -> None:
    """Unlock an isolated folio and give it back to the LRU, through this CPU's batch."""
    node_stat_mod_folio(folio, "nr_isolated_anon", -folio_nr_pages(folio))
    folio_unlock(folio)
    folio_putback_lru(folio)


def release_pte_pages(pte: PtePtr, end: PtePtr, compound_pagelist: list[Folio]) -> None:
    """Release the small folios of [pte, end), last first, then the large ones of the list."""
    for i in range(end.index - pte.index - 1, -1, -1):
        pteval = ptep_get(pte + i)
        if pte_none_or_zero(pteval):
            continue
        folio = page_folio(pte_page(pteval))
        if folio_test_large(folio):
            continue
        release_pte_folio(folio)
    while compound_pagelist:
        release_pte_folio(compound_pagelist.pop(0))


def __collapse_huge_page_isolate(
    vma: VmAreaStruct, start_addr: int, pte: PtePtr, cc: CollapseControl, order: int, compound_pagelist: list[Folio]
) -> ScanResult:
    """Lock and isolate the folios behind 2^order entries; on failure all of them are released again.

    The table's lock is held and the table is detached.

    :param start_addr: first byte of the range
    :param pte: its first entry
    :param compound_pagelist: large folios, each once; filled here
    :source: mm/khugepaged.c, v12 05/15, 06/15, 08/15 and 09/15
    """
    none_or_zero = shared = referenced = 0
    folio: Folio | None = None
    result = ScanResult.SCAN_FAIL
    max_ptes_none = collapse_max_ptes_none(order, not cc.is_khugepaged)
    at_pmd = order == HPAGE_PMD_ORDER()
    nr = 1 << order
    for i in range(nr):
        addr = start_addr + i * PAGE_SIZE()
        pteval = ptep_get(pte + i)
        if pte_none_or_zero(pteval):
            none_or_zero += 1
            if not userfaultfd_armed(vma) and (not cc.is_khugepaged or none_or_zero <= max_ptes_none):
                continue
            result = ScanResult.SCAN_EXCEED_NONE_PTE
            if at_pmd:
                count_vm_event("thp_scan_exceed_none_pte")
            count_mthp_stat(order, "collapse_exceed_none_pte")
            break
        if not pte_present(pteval):
            result = ScanResult.SCAN_PTE_NON_PRESENT
            break
        if pte_uffd_wp(pteval):
            result = ScanResult.SCAN_PTE_UFFD_WP
            break
        page = vm_normal_page(vma, addr, pteval)
        if page is None or folio_is_zone_device(page_folio(page)):
            result = ScanResult.SCAN_PAGE_NULL
            break
        folio = page_folio(page)
        VM_BUG_ON(not folio_test_anon(folio), "!folio_test_anon(folio)")
        if folio_maybe_mapped_shared(folio):
            shared += 1
            if not at_pmd or (cc.is_khugepaged and shared > _max_ptes_shared()):
                result = ScanResult.SCAN_EXCEED_SHARED_PTE
                if at_pmd:
                    count_vm_event("thp_scan_exceed_share_pte")
                count_mthp_stat(order, "collapse_exceed_shared_pte")
                break
        if not at_pmd and folio_order(folio) >= order:
            result = ScanResult.SCAN_PTE_MAPPED_HUGEPAGE
            break
        if not (folio_test_large(folio) and folio in reversed(compound_pagelist)):
            result = _isolate_folio(folio)
            if result != ScanResult.SCAN_SUCCEED:
                break
            node_stat_mod_folio(folio, "nr_isolated_anon", folio_nr_pages(folio))
            if folio_test_large(folio):
                compound_pagelist.append(folio)
        if cc.is_khugepaged and (
            pte_young(pteval) or folio_test_young(folio) or folio_test_referenced(folio) or mmu_notifier_test_young(vma.vm_mm, addr)
        ):
            referenced += 1
    else:
        i = nr
        if cc.is_khugepaged and not referenced:
            result = ScanResult.SCAN_LACK_REFERENCED_PAGE
        else:
            result = ScanResult.SCAN_SUCCEED
    if result != ScanResult.SCAN_SUCCEED:
        release_pte_pages(pte, pte + i, compound_pagelist)
    current.machine.trace("mm_collapse_huge_page_isolate", trace_folio(folio), none_or_zero, referenced, result, order)
    return result


def _max_ptes_shared() -> int:
    return current.machine.read(system.this.sysctl, Sysctl.khugepaged_max_ptes_shared, PLAIN)


def _isolate_folio(folio: Folio) -> ScanResult:
    """Lock one folio, check that nobody else holds it, take it off the LRU."""
    if not folio_trylock(folio):
        return ScanResult.SCAN_PAGE_LOCK
    if folio_expected_ref_count(folio) != folio_ref_count(folio):
        folio_unlock(folio)
        return ScanResult.SCAN_PAGE_COUNT
    if not folio_isolate_lru(folio):
        folio_unlock(folio)
        return ScanResult.SCAN_DEL_PAGE_LRU
    return ScanResult.SCAN_SUCCEED
