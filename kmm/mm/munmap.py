"""munmap (mm/vma.c, mm/memory.c)."""

from __future__ import annotations

from kmm.mm import system
from kmm.mm.geometry import HPAGE_PMD_MASK, HPAGE_PMD_SIZE
from kmm.mm.mm_types import MmStruct, VmAreaStruct
from kmm.mm.mmap import mmap_read_unlock, mmap_write_downgrade, mmap_write_lock
from kmm.mm.mmu_gather import MmuGather, tlb_finish_mmu
from kmm.mm.rmap import page_number
from kmm.mm.vma import split_around, unlink_anon_vmas, vm_area_free, vma_unlink, vmas_in, vmas_of
from kmm.mm.zap import free_pte_range, zap_page_range


def do_munmap(mm: MmStruct, start: int, length: int) -> str:
    """Unmap [start, start + length) bytes; VMAs that go on outside are split. May sleep.

    :param mm: ``struct mm_struct *``
    :param length: bytes
    :returns: empty: there is no error, not even where nothing is mapped
    :source: mm/vma.c, v6.18
    """
    mmap_write_lock(mm)
    do_vmi_munmap(mm, start, start + length, downgrade=True)
    mmap_read_unlock(mm)
    return ""


def do_vmi_munmap(mm: MmStruct, start: int, end: int, *, downgrade: bool = False) -> None:
    """Unmap [start, end) bytes. The mmap lock is held for writing. May sleep.

    :param downgrade: once nobody finds the VMAs any more, hold the lock for reading
    :source: mm/vma.c, v6.18
    """
    gone = [split_around(mm, vma, start, end) for vma in vmas_in(mm, start, end)]
    for vma in gone:
        vma_unlink(mm, vma)
    if downgrade:
        mmap_write_downgrade(mm)
    unmap_region(mm, gone, start, end)
    for vma in gone:
        vm_area_free(vma, "munmap")
    forget_pages(mm, start, end)


def unmap_region(mm: MmStruct, gone: list[VmAreaStruct], start: int, end: int) -> None:
    """Unmap the VMAs that have left the tree, which were what there was in [start, end) bytes. The mmap lock is held. May sleep.

    :source: mm/vma.c, v6.18
    """
    tlb = MmuGather(mm)
    for vma in gone:
        zap_page_range(tlb, vma, vma.vm_start, vma.vm_end, drop_markers=True)
    for vma in gone:
        unlink_anon_vmas(vma)
    if gone:
        free_pgtables(tlb, start, end)
    tlb_finish_mmu(tlb)


def free_pgtables(tlb: MmuGather, start: int, end: int) -> None:
    """Give up the tables around [start, end) bytes that no VMA needs any more: neither lock is taken, since nobody can come there.

    :source: mm/memory.c, v6.18
    """
    mm = tlb.mm
    floor = max((vma.vm_end for vma in vmas_of(mm) if vma.vm_end <= start), default=0)
    ceiling = min((vma.vm_start for vma in vmas_of(mm) if vma.vm_start >= end), default=1 << 62)
    address = start & HPAGE_PMD_MASK()
    while address < end:
        if floor <= address and address + HPAGE_PMD_SIZE() <= ceiling:
            free_pte_range(tlb, address)
        address += HPAGE_PMD_SIZE()


def forget_pages(mm: MmStruct, start: int, end: int) -> None:
    """Nothing can be read there any more."""
    this = system.this
    for index in range(page_number(start), page_number(end)):
        this.shadow.pop((mm.ident, index), None)
        this.lazyfree.pop((mm.ident, index), None)
