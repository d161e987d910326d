"""The end of an address space (kernel/fork.c, mm/mmap.c)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.locks import might_sleep
from kmm.mm.khugepaged.enter import khugepaged_exit
from kmm.mm.mm_types import MmStruct
from kmm.mm.mmap import mmap_read_lock, mmap_read_unlock, mmap_write_lock, mmap_write_unlock, vma_start_write
from kmm.mm.mmu_gather import MmuGather, tlb_finish_mmu
from kmm.mm.mmu_notifier import mmu_notifier_release
from kmm.mm.munmap import forget_pages, free_pgtables
from kmm.mm.sched_mm import mmdrop
from kmm.mm.vma import unlink_anon_vmas, vm_area_free, vma_unlink, vmas_of
from kmm.mm.zap import zap_page_range


def mmput(mm: MmStruct) -> None:
    """A user of an address space goes. With the last one khugepaged lets go, everything is unmapped, tables are freed. May sleep.

    :param mm: ``struct mm_struct *``
    :source: kernel/fork.c, v6.18
    """
    might_sleep()
    if current.machine.fetch_add(mm, MmStruct.mm_users, -1) == 1:
        khugepaged_exit(mm)
        exit_mmap(mm)
        mmdrop(mm)


def exit_mmap(mm: MmStruct) -> None:
    """Tear an address space down. Nobody can use it any more, but khugepaged may look at it."""
    mmu_notifier_release(mm)
    mmap_read_lock(mm)
    vmas = vmas_of(mm)
    start, end = (vmas[0].vm_start, vmas[-1].vm_end) if vmas else (0, 0)
    tlb = MmuGather(mm)
    for vma in vmas:
        zap_page_range(tlb, vma, vma.vm_start, vma.vm_end, drop_markers=True)
    mmap_read_unlock(mm)
    mmap_write_lock(mm)
    for vma in vmas:
        vma_start_write(vma)
        unlink_anon_vmas(vma)
        vma_unlink(mm, vma)
    if vmas:
        free_pgtables(tlb, start, end)
        forget_pages(mm, start, end)
    tlb_finish_mmu(tlb)
    for vma in vmas:
        vm_area_free(vma, "exit_mmap")
    mmap_write_unlock(mm)
