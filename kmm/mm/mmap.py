"""mmap lock, VMA lookup, VMA and anon_vma write locks (mm/mmap.c, mmap_lock.h, mm/rmap.c)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import PLAIN, RELEASE
from kmm.kernel.locks import (
    down_read,
    down_read_trylock,
    down_write,
    downgrade_write,
    lockdep_assert_held,
    might_sleep,
    up_read,
    up_write,
)
from kmm.mm.mm_types import AnonVma, MmStruct, VmAreaStruct
from kmm.mm.vma_lock import __is_vma_write_locked, __vma_start_write


def mmap_read_lock(mm: MmStruct) -> None:
    """Take the mmap lock for reading."""
    current.machine.sleeping_point("mmap_read_lock")
    down_read(mm.mmap_lock)


def mmap_read_trylock(mm: MmStruct) -> bool:
    """Take the mmap lock for reading, if nobody has it for writing."""
    return down_read_trylock(mm.mmap_lock)


def mmap_read_unlock(mm: MmStruct) -> None:
    """Release the mmap lock."""
    up_read(mm.mmap_lock)


def mmap_write_lock(mm: MmStruct) -> None:
    """Take the mmap lock for writing; the sequence number becomes odd."""
    current.machine.sleeping_point("mmap_write_lock")
    down_write(mm.mmap_lock)
    current.machine.fetch_add(mm, MmStruct.mm_lock_seq, 1)


def mmap_write_unlock(mm: MmStruct) -> None:
    """Release the mmap lock and with it every VMA write lock."""
    current.machine.fetch_add(mm, MmStruct.mm_lock_seq, 1, RELEASE)
    up_write(mm.mmap_lock)


def mmap_write_downgrade(mm: MmStruct) -> None:
    """Go on with the mmap lock held for reading; every VMA write lock ends."""
    current.machine.fetch_add(mm, MmStruct.mm_lock_seq, 1, RELEASE)
    downgrade_write(mm.mmap_lock)


def mmap_assert_locked(mm: MmStruct) -> None:
    """LOCKDEP: the mmap lock is held."""
    lockdep_assert_held(mm.mmap_lock)


def find_vma(mm: MmStruct, addr: int) -> VmAreaStruct | None:
    """First VMA that ends behind ``addr`` (it may start behind it too)."""
    mmap_assert_locked(mm)
    for vma in current.machine.read(mm, MmStruct.vmas, PLAIN):
        if addr < vma.vm_end:
            return vma
    return None


def vma_start_write(vma: VmAreaStruct) -> None:
    """Shut out the readers of one VMA until the mmap lock is released; those that there are, are waited for. May sleep."""
    current.machine.sleeping_point("vma_start_write")
    might_sleep()
    lockdep_assert_held(vma.vm_mm.mmap_lock, "write")
    locked, mm_lock_seq = __is_vma_write_locked(vma)
    if not locked:
        __vma_start_write(vma, mm_lock_seq)


def vma_is_anonymous(vma: VmAreaStruct) -> bool:
    """No file behind it: every VMA of the model."""
    return True


def anon_vma_lock_write(anon_vma: AnonVma | None) -> None:
    """Take the root anon_vma's lock for writing."""
    current.machine.sleeping_point("anon_vma_lock_write")
    assert anon_vma is not None
    down_write(anon_vma.rwsem)


def anon_vma_unlock_write(anon_vma: AnonVma | None) -> None:
    """Release the root anon_vma's lock."""
    assert anon_vma is not None
    up_write(anon_vma.rwsem)
