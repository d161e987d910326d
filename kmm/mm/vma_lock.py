"""The lock of one VMA: readers that find it without the mmap lock, and the writer that shuts them out (mm/mmap_lock.c, mmap_lock.h).

``vm_refcnt`` is 0 while a VMA is detached, 1 while it is attached, and 1 more for each reader; :data:`VMA_LOCK_OFFSET` is added while a
writer waits for the readers. A VMA is locked for writing as long as its ``vm_lock_seq`` equals the ``mm_lock_seq`` of its address space.
"""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ACQUIRE, ONCE, PLAIN, RELEASE
from kmm.kernel.bug import VM_BUG_ON, VM_WARN_ON_ONCE
from kmm.kernel.locks import lockdep_acquire, lockdep_assert_held, lockdep_release, rcu_read_lock, rcu_read_unlock
from kmm.kernel.wait import smp_cond_load_acquire
from kmm.mm.mm_types import MmStruct, VmAreaStruct

VMA_LOCK_OFFSET: Final = 0x40000000
"""Part of ``vm_refcnt``: a writer is there."""

_refcnt: Final = VmAreaStruct.vm_refcnt
_lock_seq: Final = VmAreaStruct.vm_lock_seq
_mm_seq: Final = MmStruct.mm_lock_seq
_start: Final = VmAreaStruct.vm_start
_end: Final = VmAreaStruct.vm_end

LOCKED: Final = "locked"
BUSY: Final = "busy"
DETACHED: Final = "detached"
"""What comes of an attempt to lock a VMA for reading."""


def lock_vma_under_rcu(mm: MmStruct, address: int) -> VmAreaStruct | None:
    """Find the VMA of an address and lock it for reading, without the mmap lock.

    :param mm: ``struct mm_struct *``
    :param address: in bytes
    :returns: ``None``: there is none, or it cannot be had this way; the mmap lock has to be taken
    :source: mm/mmap_lock.c, v6.18
    """
    outcome = DETACHED
    vma = None
    while outcome is DETACHED:
        rcu_read_lock()
        vma = _mas_walk(mm, address)
        outcome = BUSY if vma is None else vma_start_read(mm, vma)
        rcu_read_unlock()
    if vma is None or outcome is BUSY:
        return None
    if vma.vm_start <= address < vma.vm_end:
        return vma
    vma_end_read(vma)
    return None


def _mas_walk(mm: MmStruct, address: int) -> VmAreaStruct | None:
    """The VMA that the tree has for an address. The tree knows the ranges itself; here the VMAs do, which may be freed by now."""
    read, task = current.machine.read, current.task
    found = None
    for vma in read(mm, MmStruct.vmas, ACQUIRE):
        task.speculates = vma
        if address < read(vma, _end, ONCE):
            found = vma if read(vma, _start, ONCE) <= address else None
            break
    task.speculates = None
    return found


def vma_start_read(mm: MmStruct, vma: VmAreaStruct) -> str:
    """Try to lock a VMA for reading, that was found in an RCU read section which is still open.

    It may be freed: its memory stays that of a VMA until the section ends (SLAB_TYPESAFE_BY_RCU), and the reference count is 0 then.

    :returns: :data:`LOCKED`; :data:`BUSY`: a writer has it; :data:`DETACHED`: it is not in the tree any more
    :source: mm/mmap_lock.c, v6.18
    """
    read, task = current.machine.read, current.task
    task.speculates = vma
    if read(vma, _lock_seq, ONCE) == read(mm, _mm_seq, ONCE):
        task.speculates = None
        return BUSY
    before = current.machine.rmw(vma, _refcnt, _one_more_unless_excluded, ACQUIRE)
    task.speculates = None
    if not before:
        return DETACHED
    if before >= VMA_LOCK_OFFSET:
        return BUSY
    lockdep_acquire(vma.vmlock_dep_map, "read", trylock=True)
    if vma.vm_mm is not mm or vma.vm_lock_seq == read(mm, _mm_seq, ACQUIRE):
        vma_end_read(vma)
        return BUSY
    return LOCKED


def vma_start_read_locked(vma: VmAreaStruct) -> bool:
    """Lock a VMA for reading, for when the mmap lock, which is held, is given back; false: it cannot be had.

    :source: include/linux/mmap_lock.h, v6.18
    """
    lockdep_assert_held(vma.vm_mm.mmap_lock)
    if not 0 < current.machine.rmw(vma, _refcnt, _one_more_unless_excluded, ACQUIRE) < VMA_LOCK_OFFSET:
        return False
    lockdep_acquire(vma.vmlock_dep_map, "read", trylock=True)
    return True


def _one_more_unless_excluded(count: int) -> int:
    return count + 1 if 0 < count < VMA_LOCK_OFFSET else count


def vma_end_read(vma: VmAreaStruct) -> None:
    """Unlock a VMA that was locked for reading; a writer that waits goes on when the last reader is gone.

    :source: include/linux/mmap_lock.h, v6.18
    """
    lockdep_release(vma.vmlock_dep_map, "read")
    current.machine.fetch_add(vma, _refcnt, -1, RELEASE)


def __is_vma_write_locked(vma: VmAreaStruct) -> tuple[bool, int]:
    """Is it, under the mmap lock held for writing? And the number that says so.

    :source: include/linux/mmap_lock.h, v6.18
    """
    seq = current.machine.read(vma.vm_mm, _mm_seq, PLAIN)
    return current.machine.read(vma, _lock_seq, PLAIN) == seq, seq


def vma_assert_write_locked(vma: VmAreaStruct) -> None:
    """Its flags are about to change: nobody reads them.

    :source: include/linux/mmap_lock.h, v6.18
    """
    VM_BUG_ON(not __is_vma_write_locked(vma)[0], "!__is_vma_write_locked(vma)")


def __vma_start_write(vma: VmAreaStruct, mm_lock_seq: int) -> None:
    """Wait for the readers, and let no new ones in. May sleep.

    :param mm_lock_seq: the number of this holding of the mmap lock
    :source: mm/mmap_lock.c, v6.18
    """
    locked = __vma_enter_locked(vma, detaching=False)
    current.machine.write(vma, _lock_seq, mm_lock_seq, ONCE)
    if locked:
        __vma_exit_locked(vma)


def __vma_enter_locked(vma: VmAreaStruct, *, detaching: bool) -> bool:
    """Keep new readers out and wait for the others; false: the VMA is detached, and has none. May sleep.

    :param detaching: the reference of being attached is gone already
    :source: mm/mmap_lock.c, v6.18
    """
    if not current.machine.rmw(vma, _refcnt, _excluding_unless_none, ONCE):
        return False
    lockdep_acquire(vma.vmlock_dep_map, "write")
    alone = VMA_LOCK_OFFSET + (0 if detaching else 1)
    smp_cond_load_acquire(vma, _refcnt, alone.__eq__)
    return True


def _excluding_unless_none(count: int) -> int:
    return count + VMA_LOCK_OFFSET if count else 0


def __vma_exit_locked(vma: VmAreaStruct) -> bool:
    """Let readers try again; true: there is no reference left.

    :source: mm/mmap_lock.c, v6.18
    """
    lockdep_release(vma.vmlock_dep_map, "write")
    return current.machine.fetch_add(vma, _refcnt, -VMA_LOCK_OFFSET, RELEASE) == VMA_LOCK_OFFSET


def vma_mark_attached(vma: VmAreaStruct) -> None:
    """A VMA is about to come into the tree, locked for writing.

    :source: include/linux/mmap_lock.h, v6.18
    """
    VM_WARN_ON_ONCE(not __is_vma_write_locked(vma)[0], "!__is_vma_write_locked(vma)")
    current.machine.write(vma, _refcnt, 1, RELEASE)


def vma_mark_detached(vma: VmAreaStruct) -> None:
    """A VMA, locked for writing, leaves the tree: nobody can lock it for reading any more. Whoever tries just now is waited for. May sleep.

    :source: mm/mmap_lock.c, v6.18
    """
    VM_WARN_ON_ONCE(not __is_vma_write_locked(vma)[0], "!__is_vma_write_locked(vma)")
    if current.machine.fetch_add(vma, _refcnt, -1, RELEASE) != 1 and __vma_enter_locked(vma, detaching=True):
        VM_WARN_ON_ONCE(not __vma_exit_locked(vma), "!detached")
