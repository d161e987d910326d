"""mlock and munlock of address ranges (mm/mlock.c)."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.kernel.locks import spin_unlock
from kmm.mm.folio import Folio, folio_is_zone_device, folio_nr_pages, folio_test_large, page_folio
from kmm.mm.geometry import HPAGE_PMD_MASK, HPAGE_PMD_SIZE, PAGE_SIZE
from kmm.mm.memory import folio_pte_batch, vm_normal_page
from kmm.mm.mlock import mlock_folio, munlock_folio
from kmm.mm.mm_types import VM_DROPPABLE, VM_HUGETLB, VM_IO, VM_LOCKED, VM_LOCKONFAULT, VM_SPECIAL, MmStruct, VmAreaStruct
from kmm.mm.mmap import mmap_write_lock, mmap_write_unlock, vma_start_write
from kmm.mm.pgtable import PmdSlot, PtePtr, pmd_lock, pmd_offset, pmdp_get, pte_offset_map_lock, pte_unmap_unlock, ptep_get
from kmm.mm.populate import __mm_populate
from kmm.mm.pte import is_huge_zero_pmd, is_pmd_migration_entry, pmd_pfn, pmd_present, pmd_trans_huge, pte_present
from kmm.mm.rmap import linear_page_index
from kmm.mm.swap import lru_add_drain
from kmm.mm.system import page_at
from kmm.mm.vma import vma_at, vma_modify_flags

VM_LOCKED_MASK: Final = VM_LOCKED | VM_LOCKONFAULT
_POSIX: Final = {"EFAULT": "ENOMEM", "ENOMEM": "EAGAIN"}


def do_mlock(mm: MmStruct, start: int, length: int) -> str:
    """Keep [start, start + length) bytes in memory: mark VMAs and pages, then fault in what is missing. There is no limit. May sleep.

    :param mm: ``struct mm_struct *``
    :param length: bytes
    :returns: empty; ``ENOMEM`` at a hole or where a page cannot be accessed; ``EAGAIN`` without memory for one; ``userfault``: a
        monitor was asked for one, and there is none
    :source: mm/mlock.c, v6.18
    """
    error = _apply_vma_lock_flags(mm, start, start + length, VM_LOCKED)
    if not error:
        error = __mm_populate(mm, start, start + length)
        error = _POSIX.get(error, error)
    return error


def do_munlock(mm: MmStruct, start: int, length: int) -> str:
    """Let reclaim have [start, start + length) bytes again. May sleep.

    :param mm: ``struct mm_struct *``
    :param length: bytes
    :returns: empty, or ``ENOMEM`` at a hole; what lies before it is unlocked then
    :source: mm/mlock.c, v6.18
    """
    return _apply_vma_lock_flags(mm, start, start + length, 0)


def _apply_vma_lock_flags(mm: MmStruct, start: int, end: int, flags: int) -> str:
    mmap_write_lock(mm)
    error = ""
    while start < end and not error:
        vma = vma_at(mm, start)
        if vma is None:
            error = "ENOMEM"
        else:
            upto = min(vma.vm_end, end)
            mlock_fixup(vma, start, upto, vma.vm_flags & ~VM_LOCKED_MASK | flags)
            start = upto
    mmap_write_unlock(mm)
    return error


def mlock_fixup(vma: VmAreaStruct, start: int, end: int, newflags: int) -> None:
    """Lock or unlock a part of one VMA. Special ones and those whose memory may be dropped are passed over."""
    oldflags = vma.vm_flags
    if newflags == oldflags or oldflags & (VM_SPECIAL | VM_HUGETLB | VM_DROPPABLE):
        return
    vma = vma_modify_flags(vma.vm_mm, vma, start, end, newflags)
    if not (newflags & VM_LOCKED and oldflags & VM_LOCKED):
        mlock_vma_pages_range(vma, start, end, newflags)


def mlock_vma_pages_range(vma: VmAreaStruct, start: int, end: int, newflags: int) -> None:
    """Mlock or munlock the pages that are mapped. VM_IO keeps walkers of the reverse map from counting a page twice meanwhile."""
    vma_start_write(vma)
    marked = newflags | VM_IO if newflags & VM_LOCKED else newflags
    current.machine.write(vma, VmAreaStruct.vm_flags, marked, ONCE)
    lru_add_drain()
    while start < end:
        upto = min((start & HPAGE_PMD_MASK()) + HPAGE_PMD_SIZE(), end)
        pmd = pmd_offset(vma.vm_mm, start)
        if pmd is not None:
            mlock_pte_range(vma, pmd, start, upto)
        start = upto
    lru_add_drain()
    if marked != newflags:
        current.machine.write(vma, VmAreaStruct.vm_flags, newflags, ONCE)


def mlock_pte_range(vma: VmAreaStruct, pmd: PmdSlot, start: int, end: int) -> None:
    """Mlock or munlock what is mapped in one PMD range. A huge entry lies in the range as a whole: the VMA was split before."""
    mm = vma.vm_mm
    if pmd_trans_huge(pmdp_get(pmd)) or is_pmd_migration_entry(pmdp_get(pmd)):
        ptl = pmd_lock(mm, pmd)
        value = pmdp_get(pmd)
        if pmd_present(value) and not is_huge_zero_pmd(value):
            _mlock_or_munlock(vma, page_folio(page_at(pmd_pfn(value))))
        spin_unlock(ptl)
        return
    pte, ptl = pte_offset_map_lock(mm, pmd, start)
    if pte is None:
        return
    nr, i = (end - start) // PAGE_SIZE(), 0
    while i < nr:
        i += _mlock_entry(vma, pte + i, start + i * PAGE_SIZE(), start, end)
    pte_unmap_unlock(pte, ptl)


def _mlock_entry(vma: VmAreaStruct, ptep: PtePtr, address: int, start: int, end: int) -> int:
    """Mlock or munlock the folio behind one entry; how many entries that settles."""
    entry = ptep_get(ptep)
    page = vm_normal_page(vma, address, entry) if pte_present(entry) else None
    if page is None or folio_is_zone_device(page_folio(page)):
        return 1
    folio = page_folio(page)
    step = folio_pte_batch(folio, ptep, entry, (end - address) // PAGE_SIZE()) if folio_test_large(folio) else 1
    if allow_mlock_munlock(folio, vma, start, end, step):
        _mlock_or_munlock(vma, folio)
    return step


def allow_mlock_munlock(folio: Folio, vma: VmAreaStruct, start: int, end: int, step: int) -> bool:
    """A large folio is mlocked only where the range maps all of it; it is munlocked anywhere.

    :param step: how many entries in a row map it
    """
    if not vma.vm_flags & VM_LOCKED or not folio_test_large(folio):
        return True
    return folio_within_range(folio, vma, start, end) and step == folio_nr_pages(folio)


def folio_within_range(folio: Folio, vma: VmAreaStruct, start: int, end: int) -> bool:
    """All pages of a folio belong into [start, end) bytes of a VMA."""
    first = current.machine.read(folio, Folio.index, ONCE)
    upto = linear_page_index(vma, start) + (end - start) // PAGE_SIZE()
    return linear_page_index(vma, start) <= first and first + folio_nr_pages(folio) <= upto


def _mlock_or_munlock(vma: VmAreaStruct, folio: Folio) -> None:
    if vma.vm_flags & VM_LOCKED:
        mlock_folio(folio)
    else:
        munlock_folio(folio)
