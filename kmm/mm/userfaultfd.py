"""userfaultfd: is a VMA registered? (linux/userfaultfd_k.h)."""

from __future__ import annotations

from kmm.mm.mm_types import VM_UFFD_MISSING, VM_UFFD_WP, VmAreaStruct


def userfaultfd_armed(vma: VmAreaStruct) -> bool:
    """The VMA is registered for missing pages or for write protection."""
    return bool(vma.vm_flags & (VM_UFFD_MISSING | VM_UFFD_WP))
