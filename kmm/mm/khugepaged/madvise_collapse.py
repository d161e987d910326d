"""MADV_COLLAPSE (mm/khugepaged.c)."""

from __future__ import annotations

from typing import Final

from kmm.kernel.bug import BUG_ON
from kmm.kernel.locks import might_sleep
from kmm.kernel.ref import Ref
from kmm.kernel.stop import Label, goto
from kmm.mm import system
from kmm.mm.geometry import HPAGE_PMD_MASK, HPAGE_PMD_ORDER, HPAGE_PMD_SIZE
from kmm.mm.khugepaged.limits import collapse_allowable_orders
from kmm.mm.khugepaged.revalidate import hugepage_vma_revalidate
from kmm.mm.khugepaged.scan import collapse_single_pmd, madvise_collapse_errno
from kmm.mm.khugepaged.types import MAX_NUMNODES, CollapseControl, ScanResult
from kmm.mm.mm_types import VmAreaStruct
from kmm.mm.mmap import mmap_assert_locked, mmap_read_lock
from kmm.mm.sched_mm import mmdrop, mmgrab
from kmm.mm.swap import lru_add_drain_all

_GO_ON: Final = frozenset(
    {
        ScanResult.SCAN_PTE_MAPPED_HUGEPAGE,
        ScanResult.SCAN_PMD_NULL,
        ScanResult.SCAN_PTE_NON_PRESENT,
        ScanResult.SCAN_PTE_UFFD_WP,
        ScanResult.SCAN_LACK_REFERENCED_PAGE,
        ScanResult.SCAN_PAGE_NULL,
        ScanResult.SCAN_PAGE_COUNT,
        ScanResult.SCAN_PAGE_LOCK,
        ScanResult.SCAN_PAGE_COMPOUND,
        ScanResult.SCAN_PAGE_LRU,
        ScanResult.SCAN_DEL_PAGE_LRU,
    }
)


def madvise_collapse(vma: VmAreaStruct, start: int, end: int, lock_dropped: Ref[bool]) -> str:
    """Collapse the whole PMDs of a range. Entered and left with the mmap read lock. May sleep.

    :param vma: ``struct vm_area_struct *``; it may be gone on return, if the lock was dropped
    :param start: first byte, inside the VMA
    :param end: one behind the last byte
    :param lock_dropped: ``bool *``: set to true when the lock was given up meanwhile
    :returns: the errno's name: empty when every PMD is huge now, else that of the last one that is not. A range inside one PMD
        has none to collapse, and gives EINVAL
    :source: mm/khugepaged.c, v12 02/15
    """
    mm = vma.vm_mm
    BUG_ON(vma.vm_start > start, "vma->vm_start > start")
    BUG_ON(vma.vm_end < end, "vma->vm_end < end")
    if not collapse_allowable_orders(vma, vma.vm_flags, False):
        return "EINVAL"
    cc = _alloc_collapse_control()
    if cc is None:
        return "ENOMEM"
    mmgrab(mm)
    lru_add_drain_all()
    hstart = -(-start & HPAGE_PMD_MASK())
    hend = end & HPAGE_PMD_MASK()
    thps, last_fail = 0, ScanResult.SCAN_FAIL
    mmap_locked = Ref(True)
    addr = hstart
    with Label("out_nolock") as out_nolock:
        while addr < hend:
            if not mmap_locked.value:
                mmap_read_lock(mm)
                mmap_locked.value = True
                result, vma = hugepage_vma_revalidate(mm, addr, False, cc, HPAGE_PMD_ORDER())
                if result != ScanResult.SCAN_SUCCEED:
                    last_fail = result
                    goto(out_nolock)
                hend = min(hend, vma.vm_end & HPAGE_PMD_MASK())
            mmap_assert_locked(mm)
            result = _collapse_pmd(addr, vma, mmap_locked, cc)
            if not mmap_locked.value:
                lock_dropped.value = True
            if result in (ScanResult.SCAN_SUCCEED, ScanResult.SCAN_PMD_MAPPED):
                thps += 1
            else:
                last_fail = result
                if result not in _GO_ON:
                    break
            addr += HPAGE_PMD_SIZE()
        if not mmap_locked.value:
            mmap_read_lock(mm)
    mmap_assert_locked(mm)
    mmdrop(mm)
    return "" if thps == (hend - hstart) // HPAGE_PMD_SIZE() else madvise_collapse_errno(last_fail)


def _collapse_pmd(addr: int, vma: VmAreaStruct, mmap_locked: Ref[bool], cc: CollapseControl) -> ScanResult:
    """One PMD, with nothing left in ``cc`` of the one before."""
    cc.node_load = [0] * MAX_NUMNODES
    cc.alloc_nmask.clear()
    single = system.this.variant.collapse_single_pmd or collapse_single_pmd
    return single(addr, vma, mmap_locked, cc)


def _alloc_collapse_control() -> CollapseControl | None:
    """``kmalloc``, which may sleep."""
    might_sleep()
    this = system.this
    if system.injects():
        this.cc_allocations += 1
        if this.cc_allocations in this.injected.cc:
            return None
    return CollapseControl(is_khugepaged=False)
