"""``struct vm_fault`` and what a fault handler answers (include/linux/mm_types.h, mm.h)."""

from __future__ import annotations

from typing import Final

from kmm.mm.mm_types import VM_UFFD_MISSING, VM_UFFD_WP, VmAreaStruct
from kmm.mm.mmap import mmap_read_unlock
from kmm.mm.pgtable import PmdSlot
from kmm.mm.pte import PMD_NONE, pmd_t, pmd_uffd_wp, pte_t, pte_uffd_wp

VM_FAULT_DONE: Final = "done"
VM_FAULT_RETRY: Final = "retry"
VM_FAULT_FALLBACK: Final = "fallback"
VM_FAULT_WRITE: Final = "write"
VM_FAULT_OOM: Final = "OOM"
VM_FAULT_SIGBUS: Final = "SIGBUS"
VM_FAULT_SIGSEGV: Final = "SIGSEGV"
VM_FAULT_HWPOISON: Final = "HWPOISON"
VM_FAULT_USERFAULT: Final = "userfault"
"""Answers of a handler. RETRY and USERFAULT have released the mmap lock; WRITE: mapped, but not yet for the write that is wanted."""


class VmFault:
    """``struct vm_fault``: an access that the page tables did not allow.

    :param address: first byte of the page
    :param pmd: its slot
    :param write: FAULT_FLAG_WRITE
    :param tried: FAULT_FLAG_TRIED: the lock has been dropped once, and this time the fault waits with it held
    :param user: FAULT_FLAG_USER; without it khugepaged asks
    :param unshare: FAULT_FLAG_UNSHARE: a page of its own is wanted, for reading

    ``orig_pmd`` and ``orig_pte`` are the entries that were found; ``orig_pte`` is ``None`` where there was nothing.
    """

    __slots__ = ("address", "orig_pmd", "orig_pte", "pmd", "tried", "unshare", "user", "vma", "write")

    def __init__(
        self,
        vma: VmAreaStruct,
        address: int,
        pmd: PmdSlot,
        *,
        write: bool = False,
        tried: bool = False,
        user: bool = False,
        unshare: bool = False,
    ) -> None:
        self.vma = vma
        self.address = address
        self.pmd = pmd
        self.write = write
        self.tried = tried
        self.user = user
        self.unshare = unshare
        self.orig_pmd: pmd_t = PMD_NONE
        self.orig_pte: pte_t | None = None


def handle_userfault(vmf: VmFault) -> str:
    """Ask the monitor of the VMA. Nobody is one, so the access stays unanswered; the mmap lock is released. May sleep."""
    mmap_read_unlock(vmf.vma.vm_mm)
    return VM_FAULT_USERFAULT


def userfaultfd_missing(vma: VmAreaStruct) -> bool:
    """The monitor wants to fill holes itself."""
    return bool(vma.vm_flags & VM_UFFD_MISSING)


def userfaultfd_pte_wp(vma: VmAreaStruct, pte: pte_t) -> bool:
    """The monitor wants to know of a write through the entry."""
    return bool(vma.vm_flags & VM_UFFD_WP) and pte_uffd_wp(pte)


def userfaultfd_huge_pmd_wp(vma: VmAreaStruct, pmd: pmd_t) -> bool:
    """The monitor wants to know of a write through the huge entry."""
    return bool(vma.vm_flags & VM_UFFD_WP) and pmd_uffd_wp(pmd)
