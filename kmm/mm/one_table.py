"""Whole operations of others on the one table that a scenario without steps has: what its events do."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import ONCE, PLAIN
from kmm.kernel.locks import down_read, down_write, up_read, up_write
from kmm.mm import system
from kmm.mm.geometry import HPAGE_PMD_NR, HPAGE_PMD_SIZE, PAGE_SIZE
from kmm.mm.mm_types import MMF_DISABLE_THP_COMPLETELY, MMF_DISABLE_THP_EXCEPT_ADVISED, MmStruct, VmAreaStruct
from kmm.mm.rmap import page_number
from kmm.mm.vma import unlink_anon_vmas, vma_at, vmas_of
from kmm.mm.zap import free_pte_table, table_slot, zap_table


def _inside(vma: VmAreaStruct) -> tuple[int, int]:
    """What of a VMA lies in the table's range: its first byte there, and how many pages."""
    base = system.this.base
    start, end = max(vma.vm_start, base), min(vma.vm_end, base + HPAGE_PMD_SIZE())
    return start, (end - start) // PAGE_SIZE()


def madvise_dontneed_page(mm: MmStruct, index: int) -> bool:
    """MADV_DONTNEED of one page; false when nothing is mapped there."""
    down_read(mm.mmap_lock)
    address = system.this.base + index * PAGE_SIZE()
    vma = vma_at(mm, address)
    pmd = table_slot(mm, address)
    done = vma is not None and pmd is not None
    if vma is not None and pmd is not None:
        zap_table(vma, pmd, address, 1)
    up_read(mm.mmap_lock)
    return done


def madvise_dontneed_table(mm: MmStruct) -> bool:
    """MADV_DONTNEED of every VMA in the PMD range; false when there is no table.

    With CONFIG_PT_RECLAIM a VMA that covers the range, and leaves nothing in it, loses its table.
    """
    down_read(mm.mmap_lock)
    pmd = table_slot(mm, system.this.base)
    if pmd is not None:
        for vma in vmas_of(mm):
            start, nr = _inside(vma)
            if zap_table(vma, pmd, start, nr) and nr == HPAGE_PMD_NR() and current.machine.pt_reclaim:
                free_pte_table(vma, pmd)
    up_read(mm.mmap_lock)
    return pmd is not None


def munmap(mm: MmStruct, replacement_flags: int | None = None, first: int = 0) -> bool:
    """Unmap the PMD range, whole VMAs with it; false when no VMA is there.

    :param replacement_flags: map what was mapped anew, as one VMA with these flags, under the same lock
    :param first: page from which it is mapped anew
    """
    down_write(mm.mmap_lock)
    vmas = vmas_of(mm)
    if vmas:
        pmd = table_slot(mm, system.this.base)
        if pmd is not None:
            for vma in vmas:
                zap_table(vma, pmd, *_inside(vma), drop_markers=True)
            free_pte_table(vmas[0], pmd)
        fresh: tuple[VmAreaStruct, ...] = ()
        if replacement_flags is not None:
            start = max(vmas[0].vm_start, system.this.base + first * PAGE_SIZE())
            fresh = (VmAreaStruct(mm, start, vmas[-1].vm_end, replacement_flags, None, page_number(start)),)
            current.machine.write(fresh[0], VmAreaStruct.vm_refcnt, 1, PLAIN)
        current.machine.write(mm, MmStruct.vmas, fresh, PLAIN)
        for vma in vmas:
            unlink_anon_vmas(vma)
            current.machine.free(vma, "munmap")
        _remember(mm, fresh)
    up_write(mm.mmap_lock)
    return bool(vmas)


def _remember(mm: MmStruct, fresh: tuple[VmAreaStruct, ...]) -> None:
    """The pages of ``fresh`` read as zero; the others are not mapped any more."""
    shadow = system.this.shadow
    for index in range(HPAGE_PMD_NR()):
        shadow.pop((mm.ident, index), None)
    for vma in fresh:
        start, nr = _inside(vma)
        first = (start - system.this.base) // PAGE_SIZE()
        shadow.update(dict.fromkeys(((mm.ident, index) for index in range(first, first + nr)), 0))


def mmput(mm: MmStruct) -> None:
    """The last user goes; the address space waits for its other references."""
    current.machine.write(mm, MmStruct.mm_users, 0, ONCE)


def prctl_thp_disable(mm: MmStruct, *, except_advised: bool = False) -> None:
    """PR_SET_THP_DISABLE; ``except_advised`` is PR_THP_DISABLE_EXCEPT_ADVISED."""
    down_write(mm.mmap_lock)
    flag = MMF_DISABLE_THP_EXCEPT_ADVISED if except_advised else MMF_DISABLE_THP_COMPLETELY
    current.machine.rmw(mm, MmStruct.flags, flag.__or__, ONCE)
    up_write(mm.mmap_lock)
