"""One visit of khugepaged to an address space (mm/khugepaged.c)."""

from __future__ import annotations

from collections.abc import Iterator

from kmm.kernel import current
from kmm.kernel.access import PLAIN
from kmm.kernel.bug import VM_BUG_ON
from kmm.kernel.locks import lockdep_assert_held, spin_lock, spin_unlock
from kmm.kernel.ref import Ref
from kmm.kernel.stop import Label, goto
from kmm.mm import system
from kmm.mm.geometry import HPAGE_PMD_MASK, HPAGE_PMD_NR, HPAGE_PMD_SIZE
from kmm.mm.khugepaged.enter import mm_slot_del, mm_slot_free
from kmm.mm.khugepaged.limits import collapse_allowable_orders, collapse_test_exit, collapse_test_exit_or_disable
from kmm.mm.khugepaged.mm_slot import KhugepagedMmSlot, KhugepagedScan
from kmm.mm.khugepaged.scan import collapse_single_pmd
from kmm.mm.khugepaged.types import CollapseControl, ScanResult
from kmm.mm.mm_types import MmStruct, VmAreaStruct
from kmm.mm.mmap import mmap_read_trylock, mmap_read_unlock
from kmm.mm.sched_mm import mmdrop


class MmSlotVisit:
    """The locals of a visit.

    ``pages`` is the budget, ``vma`` where the scan stopped: ``None`` before the first one and behind the last one.
    """

    __slots__ = ("cc", "mm", "pages", "progress", "result", "vma")

    def __init__(self, mm: MmStruct, pages: int, result: Ref[ScanResult], cc: CollapseControl) -> None:
        self.mm = mm
        self.pages = pages
        self.result = result
        self.cc = cc
        self.progress = 0
        self.vma: VmAreaStruct | None = None


def collapse_scan_mm_slot(pages: int, result: Ref[ScanResult], cc: CollapseControl) -> int:
    """Scan the address space under the cursor until the budget is used up, the mmap lock was lost, or its end is reached.

    Entered and left with ``khugepaged_mm_lock``, which is dropped meanwhile.

    :param pages: ``unsigned int``: what is left of the pass, in pages
    :param result: ``int *``: that of the last PMD; FAIL if there was none
    :param cc: ``struct collapse_control *``
    :returns: progress: one for the visit and for each VMA that is skipped, ``HPAGE_PMD_NR`` for each PMD
    :source: mm/khugepaged.c, v12 02/15 and 11/15
    """
    this = system.this
    VM_BUG_ON(not pages, "!pages")
    lockdep_assert_held(this.khugepaged_mm_lock)
    result.value = ScanResult.SCAN_FAIL
    mm_slot = _slot_under_cursor()
    spin_unlock(this.khugepaged_mm_lock)
    mm = mm_slot.mm
    visit = MmSlotVisit(mm, pages, result, cc)
    with Label("breakouterloop_mmap_lock") as breakouterloop_mmap_lock:
        if not mmap_read_trylock(mm):
            goto(breakouterloop_mmap_lock)
        with Label("breakouterloop") as breakouterloop:
            _scan_vmas(visit, breakouterloop, breakouterloop_mmap_lock)
        mmap_read_unlock(mm)
    spin_lock(this.khugepaged_mm_lock)
    VM_BUG_ON(this.khugepaged_scan.mm_slot is not mm_slot, "khugepaged_scan.mm_slot != mm_slot")
    if collapse_test_exit(mm) or visit.vma is None:
        _advance(mm_slot)
        collect_mm_slot(mm_slot)
    return visit.progress


def _slot_under_cursor() -> KhugepagedMmSlot:
    """The slot at which the pass before stopped, else the first of the list."""
    scan = system.this.khugepaged_scan
    mm_slot = scan.mm_slot
    if mm_slot is None:
        mm_slot = scan.mm_head[0]
        scan.address = 0
        current.machine.write(scan, KhugepagedScan.mm_slot, mm_slot, PLAIN)
    return mm_slot


def _scan_vmas(visit: MmSlotVisit, breakouterloop: Label, breakouterloop_mmap_lock: Label) -> None:
    """The VMAs from the cursor on, under the mmap read lock."""
    visit.progress += 1
    if collapse_test_exit_or_disable(visit.mm):
        goto(breakouterloop)
    for vma in _for_each_vma(visit.mm, system.this.khugepaged_scan.address):
        visit.vma = vma
        if collapse_test_exit_or_disable(visit.mm):
            visit.progress += 1
            goto(breakouterloop)
        _scan_vma(visit, vma, breakouterloop, breakouterloop_mmap_lock)
    visit.vma = None


def _for_each_vma(mm: MmStruct, start: int) -> Iterator[VmAreaStruct]:
    """The VMAs that end behind ``start``, by address."""
    return (vma for vma in mm.vmas if vma.vm_end > start)


def _scan_vma(visit: MmSlotVisit, vma: VmAreaStruct, breakouterloop: Label, breakouterloop_mmap_lock: Label) -> None:
    """The whole PMDs of a VMA, from the cursor on."""
    scan = system.this.khugepaged_scan
    if not collapse_allowable_orders(vma, vma.vm_flags, True):
        visit.progress += 1
        return
    hstart = -(-vma.vm_start & HPAGE_PMD_MASK())
    hend = vma.vm_end & HPAGE_PMD_MASK()
    if scan.address > hend:
        visit.progress += 1
        return
    scan.address = max(scan.address, hstart)
    VM_BUG_ON(bool(scan.address & ~HPAGE_PMD_MASK()), "khugepaged_scan.address & ~HPAGE_PMD_MASK")
    while scan.address < hend:
        if collapse_test_exit_or_disable(visit.mm):
            goto(breakouterloop)
        outside = scan.address < hstart or scan.address + HPAGE_PMD_SIZE() > hend
        VM_BUG_ON(outside, "khugepaged_scan.address < hstart || khugepaged_scan.address + HPAGE_PMD_SIZE > hend")
        mmap_locked = Ref(True)
        single = system.this.variant.collapse_single_pmd or collapse_single_pmd
        visit.result.value = single(scan.address, vma, mmap_locked, visit.cc)
        scan.address += HPAGE_PMD_SIZE()
        visit.progress += HPAGE_PMD_NR()
        if not mmap_locked.value:
            goto(breakouterloop_mmap_lock)
        if visit.progress >= visit.pages:
            goto(breakouterloop)


def _advance(mm_slot: KhugepagedMmSlot) -> None:
    """Put the cursor on the next slot; behind the last one a full scan ends."""
    scan, machine = system.this.khugepaged_scan, current.machine
    head = scan.mm_head
    behind = head[head.index(mm_slot) + 1 :] if mm_slot in head else ()
    if behind:
        machine.write(scan, KhugepagedScan.mm_slot, behind[0], PLAIN)
        scan.address = 0
    else:
        machine.write(scan, KhugepagedScan.mm_slot, None, PLAIN)
        machine.write(scan, KhugepagedScan.full_scans, scan.full_scans + 1, PLAIN)


def collect_mm_slot(mm_slot: KhugepagedMmSlot) -> None:
    """Free a slot whose address space has no user any more. Its flag stays set: nobody is left to look at it."""
    lockdep_assert_held(system.this.khugepaged_mm_lock)
    mm = mm_slot.mm
    if collapse_test_exit(mm):
        mm_slot_del(mm, mm_slot)
        mm_slot_free(mm_slot)
        mmdrop(mm)
