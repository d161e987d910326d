"""Who is on khugepaged's list (mm/khugepaged.c)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import ONCE, PLAIN
from kmm.kernel.bug import VM_BUG_ON
from kmm.kernel.locks import lockdep_assert_held, might_sleep, spin_lock, spin_unlock
from kmm.mm import system
from kmm.mm.khugepaged.limits import collapse_allowable_orders, collapse_test_exit
from kmm.mm.khugepaged.mm_slot import KhugepagedMmSlot, KhugepagedScan, KhugepagedThread
from kmm.mm.mm_types import MMF_VM_HUGEPAGE, MmStruct, VmAreaStruct
from kmm.mm.mmap import mmap_write_lock, mmap_write_unlock
from kmm.mm.sched_mm import mmdrop, mmgrab
from kmm.mm.system import Sysctl


def hugepage_enabled() -> bool:
    """Some size of anonymous huge pages is enabled, so khugepaged has a reason to run.

    :source: mm/khugepaged.c, v12 14/15
    """
    read, sysctl = current.machine.read, system.this.sysctl
    if read(sysctl, Sysctl.huge_anon_orders_always, PLAIN) or read(sysctl, Sysctl.huge_anon_orders_madvise, PLAIN):
        return True
    inherits = read(sysctl, Sysctl.huge_anon_orders_inherit, PLAIN)
    return bool(inherits) and read(sysctl, Sysctl.enabled, ONCE) != "never"


def wake_up_khugepaged() -> None:
    """``wake_up_interruptible(&khugepaged_wait)``: who does not wait does not notice."""
    current.machine.write(system.this.khugepaged_thread, KhugepagedThread.woken, True, ONCE)


def khugepaged_enter_vma(vma: VmAreaStruct, vm_flags: int) -> None:
    """Register the VMA's address space, if khugepaged may collapse in the VMA.

    :param vma: ``struct vm_area_struct *``
    :param vm_flags: flags that it has, or is about to get
    :source: mm/khugepaged.c, v12 11/15 and 14/15
    """
    mm = vma.vm_mm
    if not current.machine.read(mm, MmStruct.flags, ONCE) & MMF_VM_HUGEPAGE and hugepage_enabled():
        if collapse_allowable_orders(vma, vm_flags, True):
            __khugepaged_enter(mm)


def __khugepaged_enter(mm: MmStruct) -> None:
    """Put an address space at the tail of the list. May sleep.

    The flag comes first: when the slot cannot be allocated, the address space counts as registered and is never scanned.

    :source: mm/khugepaged.c, v12 01/15
    """
    this = system.this
    VM_BUG_ON(collapse_test_exit(mm), "collapse_test_exit(mm)")
    if current.machine.rmw(mm, MmStruct.flags, MMF_VM_HUGEPAGE.__or__, ONCE) & MMF_VM_HUGEPAGE:
        return
    mm_slot = mm_slot_alloc(mm)
    if mm_slot is None:
        return
    spin_lock(this.khugepaged_mm_lock)
    wakeup = mm_slot_insert(mm, mm_slot)
    spin_unlock(this.khugepaged_mm_lock)
    mmgrab(mm)
    if wakeup:
        wake_up_khugepaged()


def __khugepaged_exit(mm: MmStruct) -> None:
    """Take an address space off the list, before its mappings are torn down. May sleep.

    khugepaged frees a slot under scan itself; the lock waits until it has finished with the page tables.

    :source: mm/khugepaged.c
    """
    this = system.this
    spin_lock(this.khugepaged_mm_lock)
    mm_slot = mm_slot_lookup(mm)
    free = mm_slot is not None and this.khugepaged_scan.mm_slot is not mm_slot
    if mm_slot is not None and free:
        mm_slot_del(mm, mm_slot)
    spin_unlock(this.khugepaged_mm_lock)
    if mm_slot is not None and free:
        current.machine.rmw(mm, MmStruct.flags, (~MMF_VM_HUGEPAGE).__and__, ONCE)
        mm_slot_free(mm_slot)
        mmdrop(mm)
    elif mm_slot is not None:
        mmap_write_lock(mm)
        mmap_write_unlock(mm)


def khugepaged_fork(mm: MmStruct, oldmm: MmStruct) -> None:
    """A child is registered if its parent is."""
    if current.machine.read(oldmm, MmStruct.flags, ONCE) & MMF_VM_HUGEPAGE:
        __khugepaged_enter(mm)


def khugepaged_exit(mm: MmStruct) -> None:
    """The last user of an address space is gone."""
    if current.machine.read(mm, MmStruct.flags, ONCE) & MMF_VM_HUGEPAGE:
        __khugepaged_exit(mm)


def mm_slot_alloc(mm: MmStruct) -> KhugepagedMmSlot | None:
    """A slot for ``mm``, or ``None``. May sleep."""
    might_sleep()
    this = system.this
    if system.injects():
        this.slot_allocations += 1
        if this.slot_allocations in this.injected.slot:
            return None
    return KhugepagedMmSlot(mm)


def mm_slot_free(mm_slot: KhugepagedMmSlot) -> None:
    """Free a slot that is on no list."""
    current.machine.free(mm_slot, "mm_slot_free")


def mm_slot_lookup(mm: MmStruct) -> KhugepagedMmSlot | None:
    """The slot of an address space."""
    return system.this.khugepaged_scan.mm_slots_hash.get(mm.ident)


def mm_slot_insert(mm: MmStruct, mm_slot: KhugepagedMmSlot) -> bool:
    """Put a slot into the hash, and at the tail of the list; true when the list was empty."""
    scan, machine = system.this.khugepaged_scan, current.machine
    lockdep_assert_held(system.this.khugepaged_mm_lock)
    machine.write(scan, KhugepagedScan.mm_slots_hash, {**scan.mm_slots_hash, mm.ident: mm_slot}, PLAIN)
    head = scan.mm_head
    machine.write(scan, KhugepagedScan.mm_head, (*head, mm_slot), ONCE)
    return not head


def mm_slot_del(mm: MmStruct, mm_slot: KhugepagedMmSlot) -> None:
    """Take a slot out of the hash and off the list."""
    scan, machine = system.this.khugepaged_scan, current.machine
    lockdep_assert_held(system.this.khugepaged_mm_lock)
    left = {ident: each for ident, each in scan.mm_slots_hash.items() if ident != mm.ident}
    machine.write(scan, KhugepagedScan.mm_slots_hash, left, PLAIN)
    machine.write(scan, KhugepagedScan.mm_head, tuple(each for each in scan.mm_head if each is not mm_slot), ONCE)
