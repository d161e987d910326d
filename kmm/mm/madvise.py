"""madvise (mm/madvise.c)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from kmm.kernel import current
from kmm.kernel.ref import Ref
from kmm.mm import system
from kmm.mm.khugepaged.enter import khugepaged_enter_vma
from kmm.mm.khugepaged.madvise_collapse import madvise_collapse
from kmm.mm.madvise_reclaim import madvise_cold_range, madvise_free_single_vma, madvise_pageout_range
from kmm.mm.mm_types import (
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_DROPPABLE,
    VM_HUGEPAGE,
    VM_HUGETLB,
    VM_IO,
    VM_LOCKED,
    VM_NOHUGEPAGE,
    VM_PFNMAP,
    VM_SPECIAL,
    MmStruct,
    VmAreaStruct,
)
from kmm.mm.mmap import find_vma, mmap_read_lock, mmap_read_unlock, mmap_write_lock, mmap_write_unlock
from kmm.mm.mmu_gather import MmuGather, tlb_finish_mmu
from kmm.mm.userfaultfd import userfaultfd_armed
from kmm.mm.vma import vma_modify_flags
from kmm.mm.vma_lock import lock_vma_under_rcu, vma_end_read
from kmm.mm.zap import zap_page_range

Visit: TypeAlias = Callable[[VmAreaStruct, int, int, Ref[bool]], str]
"""vma, start, end (bytes), lock_dropped; gives the errno."""
Unmap: TypeAlias = Callable[[MmuGather, VmAreaStruct, int, int], str]
"""What takes what it removes; vma, start, end (bytes); gives the errno."""


def do_madvise(mm: MmStruct, start: int, length: int, behavior: str) -> str:
    """Give advice about [start, start + length) bytes. May sleep.

    :param mm: ``struct mm_struct *``
    :param length: bytes, whole pages
    :param behavior: ``MADV_`` in lower case
    :returns: name of the errno; ``ENOMEM`` also where only some of the range is not mapped, and then the rest is done
    :source: mm/madvise.c, v6.18
    """
    if behavior in _UNMAPS:
        return _unmap(mm, start, start + length, _UNMAPS[behavior])
    visit = _VISITS.get(behavior)
    if visit is not None:
        mmap_read_lock(mm)
        error = madvise_walk_vmas(mm, start, start + length, visit)
        mmap_read_unlock(mm)
        return error
    if behavior not in _FLAGS:
        return "EINVAL"
    mmap_write_lock(mm)
    error = madvise_walk_vmas(mm, start, start + length, lambda vma, first, end, _: _new_flags(vma, first, end, behavior))
    mmap_write_unlock(mm)
    return error


def _unmap(mm: MmStruct, start: int, end: int, visit: Unmap) -> str:
    """Advice that the lock of one VMA is enough for. What is gathered is given up after that lock is, but before the mmap lock is."""
    tlb = MmuGather(mm)
    vma = try_vma_read_lock(mm, start, end)
    if vma is not None:
        error = visit(tlb, vma, start, end)
        vma_end_read(vma)
        tlb_finish_mmu(tlb)
        return error
    mmap_read_lock(mm)
    error = madvise_walk_vmas(mm, start, end, lambda vma, first, upto, _: visit(tlb, vma, first, upto))
    tlb_finish_mmu(tlb)
    mmap_read_unlock(mm)
    return error


def try_vma_read_lock(mm: MmStruct, start: int, end: int) -> VmAreaStruct | None:
    """Lock the VMA that has all of [start, end) bytes; ``None``: there is none, it cannot be had, or userfaultfd has to be told.

    :source: mm/madvise.c, v6.18
    """
    vma = lock_vma_under_rcu(mm, start)
    if vma is None:
        return None
    if end <= vma.vm_end and not userfaultfd_armed(vma):
        return vma
    vma_end_read(vma)
    return None


def madvise_walk_vmas(mm: MmStruct, start: int, end: int, visit: Visit) -> str:
    """Visit each VMA of the range; the first error ends the walk, a hole does not."""
    unmapped_error = ""
    while True:
        vma = find_vma(mm, start)
        if vma is None:
            return "ENOMEM"
        if start < vma.vm_start:
            unmapped_error = "ENOMEM"
            start = vma.vm_start
            if start >= end:
                return unmapped_error
        upto = min(vma.vm_end, end)
        error = visit(vma, start, upto, Ref(False))
        if error:
            return error
        start = upto
        if start >= end:
            return unmapped_error


def _collapse(vma: VmAreaStruct, start: int, end: int, lock_dropped: Ref[bool]) -> str:
    link = system.this.variant.madvise_collapse or madvise_collapse
    return link(vma, start, end, lock_dropped)


def _dontneed(tlb: MmuGather, vma: VmAreaStruct, start: int, end: int) -> str:
    if vma.vm_flags & (VM_PFNMAP | VM_LOCKED | VM_HUGETLB):
        return "EINVAL"
    zap_page_range(tlb, vma, start, end, reclaim_tables=current.machine.pt_reclaim)
    return ""


def _cold(vma: VmAreaStruct, start: int, end: int, _: Ref[bool]) -> str:
    return madvise_cold_range(vma, start, end)


def _pageout(vma: VmAreaStruct, start: int, end: int, _: Ref[bool]) -> str:
    return madvise_pageout_range(vma, start, end)


_VISITS: Final[dict[str, Visit]] = {"cold": _cold, "collapse": _collapse, "pageout": _pageout}
_UNMAPS: Final[dict[str, Unmap]] = {"dontneed": _dontneed, "free": madvise_free_single_vma}
_FLAGS: Final = ("dodump", "dofork", "dontdump", "dontfork", "hugepage", "nohugepage")


def _new_flags(vma: VmAreaStruct, start: int, end: int, behavior: str) -> str:
    """Advice that the flags of the VMA keep."""
    flags = vma.vm_flags
    match behavior:
        case "dontfork":
            new_flags = flags | VM_DONTCOPY
        case "dofork":
            if flags & VM_IO:
                return "EINVAL"
            new_flags = flags & ~VM_DONTCOPY
        case "dontdump":
            new_flags = flags | VM_DONTDUMP
        case "dodump":
            if flags & VM_DROPPABLE or (flags & VM_SPECIAL and not flags & VM_HUGETLB):
                return "EINVAL"
            new_flags = flags & ~VM_DONTDUMP
        case _:
            new_flags = hugepage_madvise(vma, behavior)
    if new_flags != flags:
        vma_modify_flags(vma.vm_mm, vma, start, end, new_flags)
    return ""


def hugepage_madvise(vma: VmAreaStruct, behavior: str) -> int:
    """The flags that MADV_HUGEPAGE or MADV_NOHUGEPAGE gives; the first lets khugepaged know of the address space.

    :param vma: ``struct vm_area_struct *``
    :source: mm/khugepaged.c
    """
    if behavior == "nohugepage":
        return vma.vm_flags & ~VM_HUGEPAGE | VM_NOHUGEPAGE
    new_flags = vma.vm_flags & ~VM_NOHUGEPAGE | VM_HUGEPAGE
    khugepaged_enter_vma(vma, new_flags)
    return new_flags
