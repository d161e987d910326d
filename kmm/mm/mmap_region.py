"""mmap of anonymous private memory at a fixed place (mm/mmap.c, mm/vma.c)."""

from __future__ import annotations

from kmm.mm import system
from kmm.mm.khugepaged.enter import khugepaged_enter_vma
from kmm.mm.mm_types import MmStruct, VmAreaStruct
from kmm.mm.mmap import mmap_write_lock, mmap_write_unlock, vma_start_write
from kmm.mm.rmap import page_number
from kmm.mm.vma import vma_link, vma_merge, vmas_in


def do_mmap(mm: MmStruct, start: int, length: int, vm_flags: int) -> str:
    """Map [start, start + length) bytes, as MAP_FIXED_NOREPLACE does; a neighbour that is alike grows. May sleep.

    :param mm: ``struct mm_struct *``
    :param length: bytes
    :param vm_flags: ``vm_flags_t``
    :returns: empty, or ``EEXIST``
    :source: mm/vma.c, v6.18
    """
    mmap_write_lock(mm)
    if vmas_in(mm, start, start + length):
        mmap_write_unlock(mm)
        return "EEXIST"
    new = VmAreaStruct(mm, start, start + length, vm_flags, None, page_number(start))
    vma_start_write(new)
    vma_link(mm, new)
    khugepaged_enter_vma(vma_merge(mm, new), vm_flags)
    for index in range(page_number(start), page_number(start + length)):
        system.this.shadow[mm.ident, index] = 0
    mmap_write_unlock(mm)
    return ""
