"""Bring swapped pages of the range back."""

from __future__ import annotations

from kmm.kernel import current
from kmm.mm.geometry import HPAGE_PMD_ORDER, PAGE_SIZE
from kmm.mm.khugepaged.types import ScanResult
from kmm.mm.memory import VM_FAULT_ERROR, VM_FAULT_RETRY, do_swap_page
from kmm.mm.mm_types import MmStruct, VmAreaStruct
from kmm.mm.mmap import mmap_read_unlock
from kmm.mm.pgtable import PmdSlot, PtePtr, pte_offset_map_ro_nolock, pte_unmap, ptep_get_lockless
from kmm.mm.pte import is_swap_pte
from kmm.mm.swap import lru_add_drain
from kmm.mm.vmstat import count_mthp_stat


def __collapse_huge_page_swapin(mm: MmStruct, vma: VmAreaStruct, start_addr: int, pmd: PmdSlot, referenced: int, order: int) -> ScanResult:
    """Swap in every page of the range, at PMD order; a smaller range that holds a swap entry is refused.

    Entered with the mmap read lock; it has been released when the result is not SUCCEED.

    :param start_addr: first byte of the range
    :source: mm/khugepaged.c, v12 05/15 and 09/15
    """
    swapped_in = 0
    result = ScanResult.SCAN_SUCCEED
    pte: PtePtr | None = None
    first = start_addr
    for address in range(start_addr, start_addr + (PAGE_SIZE() << order), PAGE_SIZE()):
        if pte is None:
            pte, _ = pte_offset_map_ro_nolock(mm, pmd, address)
            if pte is None:
                mmap_read_unlock(mm)
                result = ScanResult.SCAN_PMD_NULL
                break
            first = address
        ptep = pte + (address - first) // PAGE_SIZE()
        orig_pte = ptep_get_lockless(ptep)
        if not is_swap_pte(orig_pte):
            continue
        if order != HPAGE_PMD_ORDER():
            count_mthp_stat(order, "collapse_exceed_swap_pte")
            pte_unmap(pte)
            mmap_read_unlock(mm)
            result = ScanResult.SCAN_EXCEED_SWAP_PTE
            break
        ret = do_swap_page(vma, address, ptep, orig_pte)
        pte = None
        if ret == VM_FAULT_RETRY:
            result = ScanResult.SCAN_PAGE_LOCK
            break
        if ret == VM_FAULT_ERROR:
            mmap_read_unlock(mm)
            result = ScanResult.SCAN_FAIL
            break
        swapped_in += 1
    else:
        if pte is not None:
            pte_unmap(pte)
        if swapped_in:
            lru_add_drain()
    current.machine.trace("mm_collapse_huge_page_swapin", mm, swapped_in, referenced, int(result), order)
    return result
