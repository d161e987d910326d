"""The collapse path before the series (6.18, PMD order only), behind v12's signatures (docs/base.md)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import PLAIN, Field
from kmm.kernel.bug import BUG_ON, VM_BUG_ON
from kmm.kernel.locks import spin_lock, spin_unlock
from kmm.kernel.ref import NULL, Ref
from kmm.kernel.stop import Label, NotApplicable, goto
from kmm.mm import system
from kmm.mm.folio import (
    Folio,
    __folio_mark_uptodate,
    folio_expected_ref_count,
    folio_is_zone_device,
    folio_maybe_mapped_shared,
    folio_nid,
    folio_nr_pages,
    folio_ref_count,
    folio_test_anon,
    folio_test_large,
    folio_test_locked,
    folio_test_lru,
    folio_test_referenced,
    folio_test_young,
    folio_trylock,
    folio_unlock,
    page_folio,
)
from kmm.mm.geometry import BIT, HPAGE_PMD_MASK, HPAGE_PMD_NR, HPAGE_PMD_ORDER, HPAGE_PMD_SIZE, PAGE_SIZE
from kmm.mm.huge_memory import map_anon_folio_pmd_nopf
from kmm.mm.khugepaged.alloc import (
    GFP_TRANSHUGE,
    alloc_hugepage_khugepaged_gfpmask,
    collapse_find_target_node,
    collapse_scan_abort,
)
from kmm.mm.khugepaged.copy import __collapse_huge_page_copy
from kmm.mm.khugepaged.isolate import release_pte_pages
from kmm.mm.khugepaged.limits import collapse_allowable_orders
from kmm.mm.khugepaged.revalidate import check_pmd_still_valid, find_pmd_or_thp_or_none, hugepage_vma_revalidate
from kmm.mm.khugepaged.scan import PmdScan
from kmm.mm.khugepaged.swapin import __collapse_huge_page_swapin
from kmm.mm.khugepaged.types import MAX_NUMNODES, CollapseControl, ScanResult, trace_folio
from kmm.mm.memcontrol import count_memcg_folio_events, mem_cgroup_charge
from kmm.mm.memory import vm_normal_page
from kmm.mm.mm_types import MmStruct, VmAreaStruct
from kmm.mm.mmap import (
    anon_vma_lock_write,
    anon_vma_unlock_write,
    mmap_read_lock,
    mmap_read_unlock,
    mmap_write_lock,
    mmap_write_unlock,
    vma_start_write,
)
from kmm.mm.mmu_notifier import (
    MmuNotifierRange,
    mmu_notifier_invalidate_range_end,
    mmu_notifier_invalidate_range_start,
    mmu_notifier_test_young,
)
from kmm.mm.page_alloc import __folio_alloc, folio_put
from kmm.mm.pgtable import (
    PmdSlot,
    PtePtr,
    pgtable_trans_huge_deposit,
    pmd_lock,
    pmd_pgtable,
    pmd_populate,
    pmdp_collapse_flush,
    pmdp_get,
    pte_offset_map_lock,
    pte_unmap,
    pte_unmap_unlock,
    ptep_get,
    tlb_remove_table_sync_one,
)
from kmm.mm.pte import is_swap_pte, pmd_none, pte_none_or_zero, pte_present, pte_swp_uffd_wp_any, pte_t, pte_uffd_wp, pte_young
from kmm.mm.swap import folio_isolate_lru
from kmm.mm.system import Sysctl
from kmm.mm.userfaultfd import userfaultfd_armed
from kmm.mm.variant import Variant
from kmm.mm.vmstat import count_vm_event, node_stat_mod_folio


def alloc_charge_folio(mm: MmStruct, cc: CollapseControl) -> tuple[ScanResult, Folio]:
    """Allocate and charge a huge folio. May sleep.

    :returns: the result, and the folio when it is SUCCEED
    :source: mm/khugepaged.c, 6.18: no statistics of orders
    """
    gfp = alloc_hugepage_khugepaged_gfpmask() if cc.is_khugepaged else GFP_TRANSHUGE
    node = collapse_find_target_node(cc)
    folio = __folio_alloc(gfp, HPAGE_PMD_ORDER(), node, frozenset(cc.alloc_nmask))
    if folio is None:
        count_vm_event("thp_collapse_alloc_failed")
        return ScanResult.SCAN_ALLOC_HUGE_PAGE_FAIL, NULL(Folio)
    count_vm_event("thp_collapse_alloc")
    if not mem_cgroup_charge(folio, mm):
        folio_put(folio)
        return ScanResult.SCAN_CGROUP_CHARGE_FAIL, NULL(Folio)
    count_memcg_folio_events(folio, "thp_collapse_alloc", 1)
    return ScanResult.SCAN_SUCCEED, folio


def __collapse_huge_page_isolate(
    vma: VmAreaStruct, address: int, pte: PtePtr, cc: CollapseControl, compound_pagelist: list[Folio]
) -> ScanResult:
    """Lock and isolate the folios behind all entries of the table; on failure all of them are released again.

    The table's lock is held and the table is detached.

    :param address: first byte of the table's range
    :param pte: the first entry
    :param compound_pagelist: large folios, each once; filled here
    :source: mm/khugepaged.c, 6.18: no statistics of orders
    """
    none_or_zero = shared = referenced = 0
    folio: Folio | None = None
    result = ScanResult.SCAN_FAIL
    for i in range(HPAGE_PMD_NR()):
        addr = address + i * PAGE_SIZE()
        pteval = ptep_get(pte + i)
        if pte_none_or_zero(pteval):
            none_or_zero += 1
            if _hole_is_allowed(vma, none_or_zero, cc):
                continue
            result = ScanResult.SCAN_EXCEED_NONE_PTE
            count_vm_event("thp_scan_exceed_none_pte")
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
            if cc.is_khugepaged and shared > _tunable(Sysctl.khugepaged_max_ptes_shared):
                result = ScanResult.SCAN_EXCEED_SHARED_PTE
                count_vm_event("thp_scan_exceed_share_pte")
                break
        if not (folio_test_large(folio) and folio in reversed(compound_pagelist)):
            result = _isolate_folio(folio)
            if result != ScanResult.SCAN_SUCCEED:
                break
            node_stat_mod_folio(folio, "nr_isolated_anon", folio_nr_pages(folio))
            if folio_test_large(folio):
                compound_pagelist.append(folio)
        if cc.is_khugepaged and _is_referenced(vma.vm_mm, addr, folio, pteval):
            referenced += 1
    else:
        i = HPAGE_PMD_NR()
        unused = cc.is_khugepaged and not referenced
        result = ScanResult.SCAN_LACK_REFERENCED_PAGE if unused else ScanResult.SCAN_SUCCEED
    if result != ScanResult.SCAN_SUCCEED:
        release_pte_pages(pte, pte + i, compound_pagelist)
    current.machine.trace("mm_collapse_huge_page_isolate", trace_folio(folio), none_or_zero, referenced, result, HPAGE_PMD_ORDER())
    return result


def _tunable(field: Field[int]) -> int:
    return current.machine.read(system.this.sysctl, field, PLAIN)


def _hole_is_allowed(vma: VmAreaStruct, none_or_zero: int, cc: CollapseControl) -> bool:
    """The table may have so many holes: for MADV_COLLAPSE all of its entries may be, for userfaultfd none."""
    if userfaultfd_armed(vma):
        return False
    return not cc.is_khugepaged or none_or_zero <= _tunable(Sysctl.khugepaged_max_ptes_none)


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


def _is_referenced(mm: MmStruct, addr: int, folio: Folio, pteval: pte_t) -> bool:
    """Somebody used the page since it was last looked at."""
    return pte_young(pteval) or folio_test_young(folio) or folio_test_referenced(folio) or mmu_notifier_test_young(mm, addr)


def collapse_huge_page(mm: MmStruct, address: int, referenced: int, unmapped: int, cc: CollapseControl) -> ScanResult:
    """Collapse a whole table into one huge folio. Left without the mmap lock; :func:`call_site` has dropped it already.

    :param mm: ``struct mm_struct *``
    :param address: ``unsigned long``, first byte of the table's range
    :param referenced: ``int``, young pages that the scan counted
    :param unmapped: ``int``, swap entries that the scan counted
    :param cc: ``struct collapse_control *``
    :source: mm/khugepaged.c, 6.18
    """
    order = HPAGE_PMD_ORDER()
    compound_pagelist: list[Folio] = []

    VM_BUG_ON(bool(address & ~HPAGE_PMD_MASK()), "address & ~HPAGE_PMD_MASK")

    with Label("out_nolock") as out_nolock:
        result, folio = alloc_charge_folio(mm, cc)
        if result != ScanResult.SCAN_SUCCEED:
            goto(out_nolock)

        mmap_read_lock(mm)
        result, vma = hugepage_vma_revalidate(mm, address, True, cc, order)
        if result != ScanResult.SCAN_SUCCEED:
            mmap_read_unlock(mm)
            goto(out_nolock)

        result, pmd = find_pmd_or_thp_or_none(mm, address)
        if result != ScanResult.SCAN_SUCCEED:
            mmap_read_unlock(mm)
            goto(out_nolock)

        if unmapped:
            result = __collapse_huge_page_swapin(mm, vma, address, pmd, referenced, order)
            if result != ScanResult.SCAN_SUCCEED:
                goto(out_nolock)

        mmap_read_unlock(mm)

        with Label("out_up_write") as out_up_write:
            mmap_write_lock(mm)
            result, vma = hugepage_vma_revalidate(mm, address, True, cc, order)
            if result != ScanResult.SCAN_SUCCEED:
                goto(out_up_write)
            vma_start_write(vma)
            result = check_pmd_still_valid(mm, address, pmd)
            if result != ScanResult.SCAN_SUCCEED:
                goto(out_up_write)

            anon_vma_lock_write(vma.anon_vma)

            window = MmuNotifierRange(mm, address, address + HPAGE_PMD_SIZE())
            mmu_notifier_invalidate_range_start(window)

            pmd_ptl = pmd_lock(mm, pmd)
            _pmd = PmdSlot(pmdp_collapse_flush(vma, address, pmd))
            spin_unlock(pmd_ptl)
            mmu_notifier_invalidate_range_end(window)
            tlb_remove_table_sync_one()

            pte, pte_ptl = pte_offset_map_lock(mm, _pmd, address)
            if pte is not None:
                result = __collapse_huge_page_isolate(vma, address, pte, cc, compound_pagelist)
                spin_unlock(pte_ptl)
            else:
                result = ScanResult.SCAN_PMD_NULL

            if pte is None or result != ScanResult.SCAN_SUCCEED:
                if pte is not None:
                    pte_unmap(pte)
                spin_lock(pmd_ptl)
                BUG_ON(not pmd_none(pmdp_get(pmd)), "!pmd_none(*pmd)")
                pmd_populate(mm, pmd, pmd_pgtable(pmdp_get(_pmd)))
                spin_unlock(pmd_ptl)
                anon_vma_unlock_write(vma.anon_vma)
                goto(out_up_write)

            anon_vma_unlock_write(vma.anon_vma)

            result = __collapse_huge_page_copy(pte, folio, pmd, _pmd, vma, address, pte_ptl, order, compound_pagelist)
            pte_unmap(pte)
            if result != ScanResult.SCAN_SUCCEED:
                goto(out_up_write)

            __folio_mark_uptodate(folio)
            pgtable = pmd_pgtable(pmdp_get(_pmd))

            spin_lock(pmd_ptl)
            BUG_ON(not pmd_none(pmdp_get(pmd)), "!pmd_none(*pmd)")
            pgtable_trans_huge_deposit(mm, pmd, pgtable)
            map_anon_folio_pmd_nopf(folio, pmd, vma, address)
            spin_unlock(pmd_ptl)

            folio = NULL(Folio)

            result = ScanResult.SCAN_SUCCEED
        # out_up_write:
        mmap_write_unlock(mm)
    # out_nolock:
    if folio is not None:
        folio_put(folio)
    current.machine.trace("mm_collapse_huge_page", mm, result == ScanResult.SCAN_SUCCEED, result, order)
    return result


def call_site(
    mm: MmStruct,
    pmd_address: int,
    referenced: int,
    unmapped: int,
    cc: CollapseControl,
    mmap_locked: Ref[bool],
    order: int,
    offset: int,
) -> ScanResult:
    """The caller's side in v12's signature. The base always comes with the mmap lock, and its first step is to drop it.

    :raises NotApplicable: the order is not PMD order
    """
    if order != HPAGE_PMD_ORDER():
        raise NotApplicable(f"order {order}")
    if mmap_locked.value:
        mmap_read_unlock(mm)
        mmap_locked.value = False
    return collapse_huge_page(mm, pmd_address + offset * PAGE_SIZE(), referenced, unmapped, cc)


def collapse_scan_pmd(mm: MmStruct, vma: VmAreaStruct, start_addr: int, mmap_locked: Ref[bool], cc: CollapseControl) -> ScanResult:
    """``hpage_collapse_scan_pmd``: scan the table of one PMD, and collapse it if nothing refuses. Entered with the mmap read lock.

    :param start_addr: first byte, PMD aligned
    :param mmap_locked: cleared when a collapse was attempted
    :returns: why the table was refused, or the result of :func:`collapse_huge_page`
    :raises NotApplicable: khugepaged may use an order below PMD order in the VMA
    :source: mm/khugepaged.c, 6.18
    """
    if collapse_allowable_orders(vma, vma.vm_flags, cc.is_khugepaged) & ~BIT(HPAGE_PMD_ORDER()):
        raise NotApplicable("an order below PMD order is enabled")
    VM_BUG_ON(bool(start_addr & ~HPAGE_PMD_MASK()), "start_addr & ~HPAGE_PMD_MASK")
    scan = PmdScan()
    result, pmd = find_pmd_or_thp_or_none(mm, start_addr)
    if result == ScanResult.SCAN_SUCCEED:
        cc.node_load = [0] * MAX_NUMNODES
        cc.alloc_nmask.clear()
        pte, ptl = pte_offset_map_lock(mm, pmd, start_addr)
        if pte is None:
            result = ScanResult.SCAN_PMD_NULL
        else:
            for i in range(HPAGE_PMD_NR()):
                result = _scan_pte(scan, vma, start_addr + i * PAGE_SIZE(), ptep_get(pte + i), cc)
                if result != ScanResult.SCAN_SUCCEED:
                    break
            else:
                few = not scan.referenced or (scan.unmapped and scan.referenced < HPAGE_PMD_NR() // 2)
                if cc.is_khugepaged and few:
                    result = ScanResult.SCAN_LACK_REFERENCED_PAGE
            pte_unmap_unlock(pte, ptl)
            if result == ScanResult.SCAN_SUCCEED:
                attempt = system.this.variant.collapse_huge_page
                result = attempt(mm, start_addr, scan.referenced, scan.unmapped, cc, mmap_locked, HPAGE_PMD_ORDER(), 0)
    current.machine.trace("mm_khugepaged_scan_pmd", mm, trace_folio(scan.folio), scan.referenced, scan.none_or_zero, result, scan.unmapped)
    return result


def _scan_pte(scan: PmdScan, vma: VmAreaStruct, addr: int, pteval: pte_t, cc: CollapseControl) -> ScanResult:
    """Look at one entry: count it, or say why the whole table is refused."""
    if is_swap_pte(pteval):
        scan.unmapped += 1
        if cc.is_khugepaged and scan.unmapped > _tunable(Sysctl.khugepaged_max_ptes_swap):
            count_vm_event("thp_scan_exceed_swap_pte")
            return ScanResult.SCAN_EXCEED_SWAP_PTE
        return ScanResult.SCAN_PTE_UFFD_WP if pte_swp_uffd_wp_any(pteval) else ScanResult.SCAN_SUCCEED
    if pte_none_or_zero(pteval):
        scan.none_or_zero += 1
        if _hole_is_allowed(vma, scan.none_or_zero, cc):
            return ScanResult.SCAN_SUCCEED
        count_vm_event("thp_scan_exceed_none_pte")
        return ScanResult.SCAN_EXCEED_NONE_PTE
    if pte_uffd_wp(pteval):
        return ScanResult.SCAN_PTE_UFFD_WP
    page = vm_normal_page(vma, addr, pteval)
    if page is None or folio_is_zone_device(page_folio(page)):
        return ScanResult.SCAN_PAGE_NULL
    folio = scan.folio = page_folio(page)
    if not folio_test_anon(folio):
        return ScanResult.SCAN_PAGE_ANON
    if folio_maybe_mapped_shared(folio):
        scan.shared += 1
        if cc.is_khugepaged and scan.shared > _tunable(Sysctl.khugepaged_max_ptes_shared):
            count_vm_event("thp_scan_exceed_share_pte")
            return ScanResult.SCAN_EXCEED_SHARED_PTE
    node = folio_nid(folio)
    if collapse_scan_abort(node, cc):
        return ScanResult.SCAN_SCAN_ABORT
    cc.node_load[node] += 1
    if not folio_test_lru(folio):
        return ScanResult.SCAN_PAGE_LRU
    if folio_test_locked(folio):
        return ScanResult.SCAN_PAGE_LOCK
    if folio_expected_ref_count(folio) != folio_ref_count(folio):
        return ScanResult.SCAN_PAGE_COUNT
    if cc.is_khugepaged and _is_referenced(vma.vm_mm, addr, folio, pteval):
        scan.referenced += 1
    return ScanResult.SCAN_SUCCEED


VARIANT = Variant(name="base", collapse_huge_page=call_site, collapse_scan_pmd=collapse_scan_pmd)
