"""Scan one table, then walk over the orders that may be collapsed."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import PLAIN
from kmm.kernel.bug import VM_BUG_ON
from kmm.kernel.ref import Ref
from kmm.mm import system
from kmm.mm.folio import (
    Folio,
    folio_expected_ref_count,
    folio_is_zone_device,
    folio_maybe_mapped_shared,
    folio_nid,
    folio_ref_count,
    folio_test_anon,
    folio_test_locked,
    folio_test_lru,
    folio_test_referenced,
    folio_test_young,
    page_folio,
)
from kmm.mm.geometry import BIT, HPAGE_PMD_MASK, HPAGE_PMD_NR, HPAGE_PMD_ORDER, KHUGEPAGED_MIN_MTHP_ORDER, PAGE_SIZE
from kmm.mm.khugepaged.alloc import collapse_scan_abort
from kmm.mm.khugepaged.limits import collapse_allowable_orders, collapse_max_ptes_none
from kmm.mm.khugepaged.revalidate import find_pmd_or_thp_or_none
from kmm.mm.khugepaged.types import MAX_NUMNODES, CollapseControl, ScanResult, trace_folio
from kmm.mm.memory import vm_normal_page
from kmm.mm.mm_types import MmStruct, VmAreaStruct
from kmm.mm.mmu_notifier import mmu_notifier_test_young
from kmm.mm.pgtable import pte_offset_map_lock, pte_unmap_unlock, ptep_get
from kmm.mm.pte import is_swap_pte, pte_none_or_zero, pte_swp_uffd_wp_any, pte_t, pte_uffd_wp, pte_young
from kmm.mm.system import Sysctl
from kmm.mm.userfaultfd import userfaultfd_armed
from kmm.mm.vmstat import count_vm_event

_TRY_SMALLER = frozenset(
    {
        ScanResult.SCAN_LACK_REFERENCED_PAGE,
        ScanResult.SCAN_EXCEED_NONE_PTE,
        ScanResult.SCAN_EXCEED_SWAP_PTE,
        ScanResult.SCAN_EXCEED_SHARED_PTE,
        ScanResult.SCAN_PAGE_LOCK,
        ScanResult.SCAN_PAGE_COUNT,
        ScanResult.SCAN_PAGE_LRU,
        ScanResult.SCAN_PAGE_NULL,
        ScanResult.SCAN_DEL_PAGE_LRU,
        ScanResult.SCAN_PTE_NON_PRESENT,
        ScanResult.SCAN_PTE_UFFD_WP,
        ScanResult.SCAN_ALLOC_HUGE_PAGE_FAIL,
    }
)


def collapse_scan_bitmap(
    mm: MmStruct, address: int, referenced: int, unmapped: int, cc: CollapseControl, mmap_locked: Ref[bool], enabled_orders: int
) -> int:
    """Try the orders from PMD order down, depth first and left half first.

    :param address: first byte of the table's range
    :param enabled_orders: bit mask
    :returns: pages collapsed
    :source: mm/khugepaged.c, v12 12/15 and 13/15
    """
    total_collapsed = 0
    stack = cc.mthp_bitmap_stack
    stack.clear()
    stack.append((HPAGE_PMD_ORDER(), 0))
    while stack:
        order, offset = stack.pop()
        num_chunks = 1 << order
        if enabled_orders & BIT(order):
            max_ptes_none = collapse_max_ptes_none(order, not cc.is_khugepaged)
            bits_set = (cc.mthp_bitmap >> offset & (1 << num_chunks) - 1).bit_count()
            if bits_set > num_chunks - max_ptes_none - 1:
                collapse_huge_page = system.this.variant.collapse_huge_page
                ret = collapse_huge_page(mm, address, referenced, unmapped, cc, mmap_locked, order, offset)
                if ret == ScanResult.SCAN_SUCCEED:
                    total_collapsed += num_chunks
                    continue
                if ret == ScanResult.SCAN_PTE_MAPPED_HUGEPAGE:
                    continue
                if ret not in _TRY_SMALLER:
                    return total_collapsed
        if order > KHUGEPAGED_MIN_MTHP_ORDER:
            stack.append((order - 1, offset + num_chunks // 2))
            stack.append((order - 1, offset))
    return total_collapsed


class PmdScan:
    """What :func:`collapse_scan_pmd` counts in one table.

    ``folio`` is the last one that was looked at: the trace event shows it even when a later entry ended the scan.
    """

    __slots__ = ("folio", "none_or_zero", "referenced", "shared", "unmapped")

    def __init__(self) -> None:
        self.folio: Folio | None = None
        self.none_or_zero = 0
        self.referenced = 0
        self.shared = 0
        self.unmapped = 0


def collapse_scan_pmd(mm: MmStruct, vma: VmAreaStruct, start_addr: int, mmap_locked: Ref[bool], cc: CollapseControl) -> ScanResult:
    """Scan the table of one PMD and collapse what may be collapsed. Entered with the mmap read lock.

    :param start_addr: first byte, PMD aligned
    :param mmap_locked: set to whether the mmap lock is still held
    :returns: why the table was refused; after the scan only SUCCEED or FAIL
    :source: mm/khugepaged.c, v12 12/15
    """
    VM_BUG_ON(bool(start_addr & ~HPAGE_PMD_MASK()), "start_addr & ~HPAGE_PMD_MASK")
    scan = PmdScan()
    result, pmd = find_pmd_or_thp_or_none(mm, start_addr)
    if result == ScanResult.SCAN_SUCCEED:
        cc.mthp_bitmap = 0
        cc.node_load = [0] * MAX_NUMNODES
        cc.alloc_nmask.clear()
        enabled_orders = collapse_allowable_orders(vma, vma.vm_flags, cc.is_khugepaged)
        full_scan = not (cc.is_khugepaged and enabled_orders == BIT(HPAGE_PMD_ORDER()))
        max_ptes_none = collapse_max_ptes_none(HPAGE_PMD_ORDER(), full_scan)
        pte, ptl = pte_offset_map_lock(mm, pmd, start_addr)
        if pte is None:
            result = ScanResult.SCAN_PMD_NULL
        else:
            for i in range(HPAGE_PMD_NR()):
                refused = _scan_pte(scan, mm, vma, start_addr + i * PAGE_SIZE(), i, ptep_get(pte + i), max_ptes_none, cc)
                if refused is not None:
                    result = refused
                    break
            else:
                result = _enough_referenced(scan, cc)
            pte_unmap_unlock(pte, ptl)
            if result == ScanResult.SCAN_SUCCEED:
                walk = system.this.variant.collapse_scan_bitmap or collapse_scan_bitmap
                nr = walk(mm, start_addr, scan.referenced, scan.unmapped, cc, mmap_locked, enabled_orders)
                result = ScanResult.SCAN_SUCCEED if nr > 0 else ScanResult.SCAN_FAIL
    current.machine.trace("mm_khugepaged_scan_pmd", mm, trace_folio(scan.folio), scan.referenced, scan.none_or_zero, result, scan.unmapped)
    return result


def _enough_referenced(scan: PmdScan, cc: CollapseControl) -> ScanResult:
    few = not scan.referenced or (scan.unmapped and scan.referenced < HPAGE_PMD_NR() // 2)
    if cc.is_khugepaged and few:
        return ScanResult.SCAN_LACK_REFERENCED_PAGE
    return ScanResult.SCAN_SUCCEED


def _scan_pte(
    scan: PmdScan, mm: MmStruct, vma: VmAreaStruct, addr: int, i: int, pteval: pte_t, max_ptes_none: int, cc: CollapseControl
) -> ScanResult | None:
    """Look at one entry: count it, or say why the whole table is refused."""
    sysctl = system.this.sysctl
    if is_swap_pte(pteval):
        scan.unmapped += 1
        if cc.is_khugepaged and scan.unmapped > current.machine.read(sysctl, Sysctl.khugepaged_max_ptes_swap, PLAIN):
            count_vm_event("thp_scan_exceed_swap_pte")
            return ScanResult.SCAN_EXCEED_SWAP_PTE
        return ScanResult.SCAN_PTE_UFFD_WP if pte_swp_uffd_wp_any(pteval) else None
    if pte_none_or_zero(pteval):
        scan.none_or_zero += 1
        if not userfaultfd_armed(vma) and scan.none_or_zero <= max_ptes_none:
            return None
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
        if cc.is_khugepaged and scan.shared > current.machine.read(sysctl, Sysctl.khugepaged_max_ptes_shared, PLAIN):
            count_vm_event("thp_scan_exceed_share_pte")
            return ScanResult.SCAN_EXCEED_SHARED_PTE
    cc.mthp_bitmap |= 1 << i
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
    if cc.is_khugepaged and (
        pte_young(pteval) or folio_test_young(folio) or folio_test_referenced(folio) or mmu_notifier_test_young(mm, addr)
    ):
        scan.referenced += 1
    return None


def collapse_single_pmd(addr: int, vma: VmAreaStruct, mmap_locked: Ref[bool], cc: CollapseControl) -> ScanResult:
    """Collapse in one PMD range of an anonymous VMA (file mappings are not modelled).

    :source: mm/khugepaged.c, v12 02/15
    """
    scan = system.this.variant.collapse_scan_pmd or collapse_scan_pmd
    result = scan(vma.vm_mm, vma, addr, mmap_locked, cc)
    if cc.is_khugepaged and result == ScanResult.SCAN_SUCCEED:
        system.this.node_stat["pages_collapsed"] = system.this.node_stat.get("pages_collapsed", 0) + 1
    return result


def madvise_collapse_errno(result: ScanResult) -> str:
    """Name of the errno that MADV_COLLAPSE gives for the last failing range."""
    if result == ScanResult.SCAN_ALLOC_HUGE_PAGE_FAIL:
        return "ENOMEM"
    if result in (ScanResult.SCAN_CGROUP_CHARGE_FAIL, ScanResult.SCAN_EXCEED_NONE_PTE):
        return "EBUSY"
    transient = {
        ScanResult.SCAN_PAGE_COUNT,
        ScanResult.SCAN_PAGE_LOCK,
        ScanResult.SCAN_PAGE_LRU,
        ScanResult.SCAN_DEL_PAGE_LRU,
        ScanResult.SCAN_PAGE_FILLED,
    }
    return "EAGAIN" if result in transient else "EINVAL"
