"""Bringing pages in before they are used (mm/gup.c, mm/swap.c)."""

from __future__ import annotations

from typing import Final

from kmm.kernel.locks import spin_unlock
from kmm.kernel.stop import Hang
from kmm.mm.fault import __handle_mm_fault
from kmm.mm.folio import Folio, Page, PG_dirty, PG_referenced, folio_set_flag, folio_test_dirty, folio_test_referenced, page_folio
from kmm.mm.geometry import PAGE_SIZE
from kmm.mm.memory import vm_normal_page
from kmm.mm.mm_types import VM_EXEC, VM_IO, VM_LOCKONFAULT, VM_PFNMAP, VM_READ, VM_WRITE, MmStruct, VmAreaStruct
from kmm.mm.mmap import mmap_read_lock, mmap_read_unlock
from kmm.mm.pgtable import PmdSlot, pmd_lock, pmd_offset, pmdp_get, pte_offset_map_lock, pte_unmap_unlock, ptep_get
from kmm.mm.pte import is_huge_zero_pmd, pmd_dirty, pmd_pfn, pmd_present, pmd_trans_huge, pmd_write, pte_dirty, pte_present, pte_write
from kmm.mm.rmap import page_number
from kmm.mm.system import page_at
from kmm.mm.vm_fault import VM_FAULT_DONE, VM_FAULT_OOM, VM_FAULT_USERFAULT
from kmm.mm.vma import vmas_in

_ATTEMPTS: Final = 16


def __mm_populate(mm: MmStruct, start: int, end: int) -> str:
    """Fault in the pages of [start, end) bytes. May sleep.

    :param mm: ``struct mm_struct *``, not locked
    :returns: empty, ``EFAULT``, ``ENOMEM``, or ``userfault``: a monitor was asked, and there is none
    :source: mm/gup.c, v6.18
    """
    mmap_read_lock(mm)
    error = ""
    for vma in vmas_in(mm, start, end):
        if not vma.vm_flags & (VM_IO | VM_PFNMAP) and not error:
            error = populate_vma_page_range(vma, max(start, vma.vm_start), min(end, vma.vm_end))
    if error != VM_FAULT_USERFAULT:
        mmap_read_unlock(mm)
    return error


def populate_vma_page_range(vma: VmAreaStruct, start: int, end: int) -> str:
    """Fault in pages of one VMA, up to the first that cannot be had: for a write if it may be written. Under the mmap lock. May sleep.

    :returns: empty, ``EFAULT``, ``ENOMEM`` or ``userfault``, which has released the mmap read lock
    """
    if vma.vm_flags & VM_LOCKONFAULT:
        return ""
    if not vma.vm_flags & (VM_READ | VM_WRITE | VM_EXEC):
        return "EFAULT"
    write = bool(vma.vm_flags & VM_WRITE)
    for address in range(start, end, PAGE_SIZE()):
        if error := _populate_page(vma, address, write=write):
            return error
    return ""


def _populate_page(vma: VmAreaStruct, address: int, *, write: bool) -> str:
    for _ in range(_ATTEMPTS):
        if follow_page_mask(vma, address, write=write):
            return ""
        ret = __handle_mm_fault(vma, address, write=write, tried=True)
        if ret != VM_FAULT_DONE:
            return {VM_FAULT_OOM: "ENOMEM", VM_FAULT_USERFAULT: VM_FAULT_USERFAULT}.get(ret, "EFAULT")
    raise Hang(f"HANG: the fault at page {page_number(address)} of {vma.vm_mm.name} comes again and again")


def follow_page_mask(vma: VmAreaStruct, address: int, *, write: bool) -> bool:
    """Touch the page that is mapped at an address; false: nothing is, or nothing that may be written.

    :param write: FOLL_WRITE
    """
    pmd = pmd_offset(vma.vm_mm, address)
    if pmd is None:
        return False
    if pmd_trans_huge(pmdp_get(pmd)):
        return _follow_huge_pmd(vma, pmd, write=write)
    pte, ptl = pte_offset_map_lock(vma.vm_mm, pmd, address)
    if pte is None:
        return False
    entry = ptep_get(pte)
    found = pte_present(entry) and (not write or pte_write(entry))
    page = vm_normal_page(vma, address, entry) if found else None
    if page is not None:
        _touch(page, dirties=write and not pte_dirty(entry))
    pte_unmap_unlock(pte, ptl)
    return found


def _follow_huge_pmd(vma: VmAreaStruct, pmd: PmdSlot, *, write: bool) -> bool:
    ptl = pmd_lock(vma.vm_mm, pmd)
    value = pmdp_get(pmd)
    found = pmd_trans_huge(value) and pmd_present(value) and (not write or pmd_write(value))
    if found and not is_huge_zero_pmd(value):
        _touch(page_at(pmd_pfn(value)), dirties=write and not pmd_dirty(value))
    spin_unlock(ptl)
    return found


def _touch(page: Page, *, dirties: bool) -> None:
    """FOLL_TOUCH."""
    folio = page_folio(page)
    if dirties and not folio_test_dirty(folio):
        folio_set_flag(folio, PG_dirty)
    folio_mark_accessed(folio)


def folio_mark_accessed(folio: Folio) -> None:
    """The folio was used. The model has no active list: a folio that was used twice stays referenced."""
    if not folio_test_referenced(folio):
        folio_set_flag(folio, PG_referenced)
