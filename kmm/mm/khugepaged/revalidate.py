"""Is the range still what the scan saw?"""

from __future__ import annotations

from kmm.kernel.ref import NULL
from kmm.mm.geometry import BIT, HPAGE_PMD_ORDER
from kmm.mm.huge_memory import TVA_FORCED_COLLAPSE, TVA_KHUGEPAGED, thp_vma_allowable_orders, thp_vma_suitable_order
from kmm.mm.khugepaged.limits import collapse_test_exit_or_disable
from kmm.mm.khugepaged.types import CollapseControl, ScanResult
from kmm.mm.mm_types import MmStruct, VmAreaStruct
from kmm.mm.mmap import find_vma, mmap_assert_locked, vma_is_anonymous
from kmm.mm.pgtable import PmdSlot, mm_find_pmd, pmdp_get_lockless
from kmm.mm.pte import is_pmd_migration_entry, pmd_bad, pmd_none, pmd_present, pmd_trans_huge


def hugepage_vma_revalidate(
    mm: MmStruct, address: int, expect_anon: bool, cc: CollapseControl, order: int
) -> tuple[ScanResult, VmAreaStruct]:
    """Look the VMA up again, under the mmap lock in either mode.

    :param address: byte address inside the range
    :returns: the result, and the VMA that was found; it is valid only while the lock is held
    :source: mm/khugepaged.c, v12 03/15
    """
    mmap_assert_locked(mm)
    if collapse_test_exit_or_disable(mm):
        return ScanResult.SCAN_ANY_PROCESS, NULL(VmAreaStruct)
    vma = find_vma(mm, address)
    if vma is None:
        return ScanResult.SCAN_VMA_NULL, NULL(VmAreaStruct)
    if not thp_vma_suitable_order(vma, address, HPAGE_PMD_ORDER()):
        return ScanResult.SCAN_ADDRESS_RANGE, vma
    tva_type = TVA_KHUGEPAGED if cc.is_khugepaged else TVA_FORCED_COLLAPSE
    if not thp_vma_allowable_orders(vma, vma.vm_flags, tva_type, BIT(order)):
        return ScanResult.SCAN_VMA_CHECK, vma
    if expect_anon and (vma.anon_vma is None or not vma_is_anonymous(vma)):
        return ScanResult.SCAN_PAGE_ANON, vma
    return ScanResult.SCAN_SUCCEED, vma


def check_pmd_state(pmd: PmdSlot) -> ScanResult:
    """What one lockless look at a slot says."""
    pmde = pmdp_get_lockless(pmd)
    if pmd_none(pmde):
        return ScanResult.SCAN_PMD_NONE
    if is_pmd_migration_entry(pmde):
        return ScanResult.SCAN_PMD_MAPPED
    if not pmd_present(pmde):
        return ScanResult.SCAN_PMD_NULL
    if pmd_trans_huge(pmde):
        return ScanResult.SCAN_PMD_MAPPED
    if pmd_bad(pmde):
        return ScanResult.SCAN_PMD_NULL
    return ScanResult.SCAN_SUCCEED


def find_pmd_or_thp_or_none(mm: MmStruct, address: int) -> tuple[ScanResult, PmdSlot]:
    """The slot of an address, if it leads to a table.

    :returns: the result, and the slot if there is one
    """
    pmd = mm_find_pmd(mm, address)
    if pmd is None:
        return ScanResult.SCAN_PMD_NULL, NULL(PmdSlot)
    return check_pmd_state(pmd), pmd


def check_pmd_still_valid(mm: MmStruct, address: int, pmd: PmdSlot) -> ScanResult:
    """The same slot still leads to a table; which table is not compared."""
    result, new_pmd = find_pmd_or_thp_or_none(mm, address)
    if result != ScanResult.SCAN_SUCCEED:
        return result
    if new_pmd is not pmd:
        return ScanResult.SCAN_FAIL
    return ScanResult.SCAN_SUCCEED
