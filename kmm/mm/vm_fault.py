"""``struct vm_fault`` and what a fault handler answers (include/linux/mm_types.h, mm.h)."""

from __future__ import annotations

from typing import Final

from kmm.mm.mm_types import VM_UFFD_MISSING, VM_UFFD_WP, VmAreaStruct
from kmm.mm.mmap import mmap_read_trylock, mmap_read_unlock
from kmm.mm.pgalloc import anon_vma_prepare
from kmm.mm.pgtable import PmdSlot
from kmm.mm.pte import PMD_NONE, pmd_t, pmd_uffd_wp, pte_t, pte_uffd_wp
from kmm.mm.vma_lock import vma_end_read

VM_FAULT_DONE: Final = "done"
VM_FAULT_RETRY: Final = "retry"
VM_FAULT_FALLBACK: Final = "fallback"
VM_FAULT_WRITE: Final = "write"
VM_FAULT_OOM: Final = "OOM"
VM_FAULT_SIGBUS: Final = "SIGBUS"
VM_FAULT_SIGSEGV: Final = "SIGSEGV"
VM_FAULT_HWPOISON: Final = "HWPOISON"
VM_FAULT_USERFAULT: Final = "userfault"
"""Answers of a handler. RETRY and USERFAULT have released the fault's lock; WRITE: mapped, but not yet for the write that is wanted."""


class VmFault:
    """``struct vm_fault``: an access that the page tables did not allow.

    :param address: first byte of the page
    :param pmd: its slot
    :param write: FAULT_FLAG_WRITE
    :param tried: FAULT_FLAG_TRIED: the lock has been dropped once, and this time the fault waits with it held
    :param user: FAULT_FLAG_USER; without it khugepaged asks
    :param vma_lock: FAULT_FLAG_VMA_LOCK: the lock is that of the VMA, not the mmap lock
    :param unshare: FAULT_FLAG_UNSHARE: a page of its own is wanted, for reading

    ``orig_pmd`` and ``orig_pte`` are the entries that were found; ``orig_pte`` is ``None`` where there was nothing.
    """

    __slots__ = ("address", "orig_pmd", "orig_pte", "pmd", "tried", "unshare", "user", "vma", "vma_lock", "write")

    def __init__(
        self,
        vma: VmAreaStruct,
        address: int,
        pmd: PmdSlot,
        *,
        write: bool = False,
        tried: bool = False,
        user: bool = False,
        vma_lock: bool = False,
        unshare: bool = False,
    ) -> None:
        self.vma = vma
        self.address = address
        self.pmd = pmd
        self.write = write
        self.tried = tried
        self.user = user
        self.vma_lock = vma_lock
        self.unshare = unshare
        self.orig_pmd: pmd_t = PMD_NONE
        self.orig_pte: pte_t | None = None


def handle_userfault(vmf: VmFault) -> str:
    """Ask the monitor of the VMA. Nobody is one, so the access stays unanswered; the lock is released. May sleep."""
    release_fault_lock(vmf)
    return VM_FAULT_USERFAULT


def release_fault_lock(vmf: VmFault) -> None:
    """Release the lock that the fault has: the VMA must not be used any more.

    :source: include/linux/mm.h, v6.18
    """
    if vmf.vma_lock:
        vma_end_read(vmf.vma)
    else:
        mmap_read_unlock(vmf.vma.vm_mm)


def vmf_anon_prepare(vmf: VmFault) -> bool:
    """Give the VMA an anon_vma, for which its neighbours are looked at: under the mmap lock, if that can be had at once. May sleep.

    :returns: false: it cannot, and the VMA's lock has been released; the answer is :data:`VM_FAULT_RETRY`
    :source: mm/memory.c, v6.18
    """
    vma = vmf.vma
    if not vmf.vma_lock:
        anon_vma_prepare(vma)
    elif vma.anon_vma is None:
        if not mmap_read_trylock(vma.vm_mm):
            vma_end_read(vma)
            return False
        anon_vma_prepare(vma)
        mmap_read_unlock(vma.vm_mm)
    return True


def userfaultfd_missing(vma: VmAreaStruct) -> bool:
    """The monitor wants to fill holes itself."""
    return bool(vma.vm_flags & VM_UFFD_MISSING)


def userfaultfd_pte_wp(vma: VmAreaStruct, pte: pte_t) -> bool:
    """The monitor wants to know of a write through the entry."""
    return bool(vma.vm_flags & VM_UFFD_WP) and pte_uffd_wp(pte)


def userfaultfd_huge_pmd_wp(vma: VmAreaStruct, pmd: pmd_t) -> bool:
    """The monitor wants to know of a write through the huge entry."""
    return bool(vma.vm_flags & VM_UFFD_WP) and pmd_uffd_wp(pmd)
