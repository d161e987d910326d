"""mremap: a mapping moves (mm/mremap.c, mm/vma.c)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import PLAIN
from kmm.mm import system
from kmm.mm.interval_tree import anon_vma_interval_tree_insert
from kmm.mm.mm_types import VM_UFFD_MISSING, VM_UFFD_WP, MmStruct, VmAreaStruct
from kmm.mm.mmap import mmap_write_lock, mmap_write_unlock, vma_start_write
from kmm.mm.mmu_gather import MmuGather, tlb_finish_mmu
from kmm.mm.move_tables import PagetableMove, move_page_tables
from kmm.mm.munmap import do_vmi_munmap, free_pgtables
from kmm.mm.rmap import linear_page_index, page_number
from kmm.mm.userfaultfd import userfaultfd_armed
from kmm.mm.vma import rmap_locked, vma_at, vma_link, vma_merge, vmas_in


def do_mremap(mm: MmStruct, old: int, length: int, new: int) -> str:
    """Move [old, old + length) bytes to ``new``, as MREMAP_FIXED does; what was there is unmapped. May sleep.

    Nothing grows or shrinks. Merged pages of KSM are moved as they are; the kernel copies them before. The gaps between several VMAs stay.

    :param mm: ``struct mm_struct *``
    :param length: bytes
    :param new: address; no byte of the old range may become one of the new range
    :returns: empty; ``EINVAL`` where the ranges overlap; ``EFAULT`` where the first page is not mapped, and at a VMA that userfaultfd
        watches when it is not the only one: what lies before it has moved then
    :source: mm/mremap.c, v6.18
    """
    if old < new + length and new < old + length:
        return "EINVAL"
    mmap_write_lock(mm)
    error = remap_move(mm, old, old + length, new)
    mmap_write_unlock(mm)
    return error


def remap_move(mm: MmStruct, start: int, end: int, new: int) -> str:
    """Move every VMA that has a part of [start, end) bytes, one after the other."""
    areas = vmas_in(mm, start, end)
    if not areas or start < areas[0].vm_start:
        return "EFAULT"
    pieces = [(max(vma.vm_start, start), min(vma.vm_end, end)) for vma in areas]
    for address, upto in pieces:
        vma = vma_at(mm, address)
        assert vma is not None
        if userfaultfd_armed(vma) and (address > start or vma.vm_end < end):
            return "EFAULT"
        mremap_to(mm, address, upto - address, new + address - start)
    return ""


def mremap_to(mm: MmStruct, old: int, length: int, new: int) -> None:
    """Make room, then move one VMA, or a part of one."""
    do_vmi_munmap(mm, new, new + length)
    tlb = MmuGather(mm)
    free_pgtables(tlb, new, new + length)
    tlb_finish_mmu(tlb)
    vma = vma_at(mm, old)
    assert vma is not None
    vma_start_write(vma)
    new_vma, vma, need_rmap_locks = copy_vma(vma, old, new, length)
    move_page_tables(PagetableMove(vma, new_vma, old, new, length, need_rmap_locks=need_rmap_locks))
    if userfaultfd_armed(new_vma):
        vma_start_write(new_vma)
        current.machine.write(new_vma, VmAreaStruct.vm_flags, new_vma.vm_flags & ~(VM_UFFD_MISSING | VM_UFFD_WP), PLAIN)
    _remember_move(mm, old, new, length)
    do_vmi_munmap(mm, old, old + length)


def copy_vma(vma: VmAreaStruct, address: int, new: int, length: int) -> tuple[VmAreaStruct, VmAreaStruct, bool]:
    """A VMA at ``new`` like the part of ``vma`` at ``address``; one without anon_vma is a fresh one for the reverse mapping.

    :returns: the new VMA, the old one (the same when both were merged), and whether walks of the reverse mapping have to be shut out
    """
    mm = vma.vm_mm
    pgoff = page_number(new) if vma.anon_vma is None else linear_page_index(vma, address)
    fresh = VmAreaStruct(mm, new, new + length, vma.vm_flags, vma.anon_vma, pgoff)
    vma_start_write(fresh)
    with rmap_locked(fresh.anon_vma):
        anon_vma_interval_tree_insert(fresh)
    vma_link(mm, fresh)
    new_vma = vma_merge(mm, fresh)
    source = vma_at(mm, address)
    assert source is not None
    merged = new_vma is not fresh or new_vma.vm_end != new + length
    return new_vma, source, merged and new_vma.vm_pgoff <= source.vm_pgoff


def _remember_move(mm: MmStruct, old: int, new: int, length: int) -> None:
    """What was read at the old place is read at the new one."""
    this, by = system.this, page_number(new) - page_number(old)
    for index in range(page_number(old), page_number(old + length)):
        for memory in (this.shadow, this.lazyfree):
            if (mm.ident, index) in memory:
                memory[mm.ident, index + by] = memory[mm.ident, index]
