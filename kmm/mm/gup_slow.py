"""Getting at a user's pages with the mmap lock, and with faults where they are not there (mm/gup.c)."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.locks import spin_unlock
from kmm.kernel.stop import Hang
from kmm.mm.fault import access_error, handle_mm_fault
from kmm.mm.folio import Folio, Page, folio_get, page_folio
from kmm.mm.gup_fast import get_user_page_fast_only, gup_must_unshare
from kmm.mm.memory import vm_normal_page
from kmm.mm.mm_types import MmStruct, VmAreaStruct
from kmm.mm.mmap import find_vma, mmap_read_lock, mmap_read_unlock
from kmm.mm.pgtable import PmdSlot, pmd_lock, pmd_offset, pmdp_get_lockless, pte_index, pte_offset_map_lock, pte_unmap_unlock, ptep_get
from kmm.mm.pte import ZERO_PFN, is_huge_zero_pmd, pmd_pfn, pmd_present, pmd_trans_huge, pmd_write, pte_pfn, pte_present, pte_write
from kmm.mm.system import page_at

_ATTEMPTS: Final = 16
ZERO: Final = "zero page"
"""Stands for the zero page, to which nobody takes references."""


def get_user_page_fast(mm: MmStruct, address: int, *, write: bool, pin: bool) -> tuple[Page | None, str]:
    """The page at an address, with a reference: without locks if that is possible. May sleep.

    :param mm: ``struct mm_struct *``, of the running task, not locked
    :param address: in bytes
    :returns: the page; else why there is none: ``EFAULT``, ``EAGAIN``: it is shared, and is not unshared here, or :data:`ZERO`
    :source: mm/gup.c, v6.18
    """
    page = get_user_page_fast_only(mm, address, write=write, pin=pin)
    return (page, "") if page is not None else get_user_page(mm, address, write=write, pin=pin)


def get_user_page(mm: MmStruct, address: int, *, write: bool, pin: bool) -> tuple[Page | None, str]:
    """:func:`get_user_page_fast` with locks only."""
    for _ in range(_ATTEMPTS):
        mmap_read_lock(mm)
        vma = find_vma(mm, address)
        if vma is None or address < vma.vm_start or access_error(vma, write=write):
            mmap_read_unlock(mm)
            return None, "EFAULT"
        page, why = follow_page(vma, address, write=write, pin=pin)
        mmap_read_unlock(mm)
        if page is not None or why:
            return page, why
        if handle_mm_fault(mm, address, write=write):
            return None, "EFAULT"
    raise Hang("HANG: the page goes away again and again before it is pinned")


def follow_page(vma: VmAreaStruct, address: int, *, write: bool, pin: bool) -> tuple[Page | None, str]:
    """The page that is mapped at an address, with a reference that was taken under the lock of its entry.

    :returns: nothing and no reason when a fault has to come first
    """
    mm = vma.vm_mm
    pmd = pmd_offset(mm, address)
    if pmd is None or not pmd_present(pmdp_get_lockless(pmd)):
        return None, ""
    if pmd_trans_huge(pmdp_get_lockless(pmd)):
        return _follow_huge(mm, pmd, address, write=write, pin=pin)
    pte, pte_ptl = pte_offset_map_lock(mm, pmd, address)
    if pte is None:
        return None, ""
    entry = ptep_get(pte)
    taken: tuple[Page | None, str] = None, ""
    if pte_present(entry) and (pte_write(entry) or not write):
        page = vm_normal_page(vma, address, entry)
        if page is not None:
            taken = _take(page, page, writable=pte_write(entry), pin=pin)
        else:
            taken = None, ZERO if pte_pfn(entry) == ZERO_PFN else "EFAULT"
    pte_unmap_unlock(pte, pte_ptl)
    return taken


def _follow_huge(mm: MmStruct, pmd: PmdSlot, address: int, *, write: bool, pin: bool) -> tuple[Page | None, str]:
    ptl = pmd_lock(mm, pmd)
    value = pmdp_get_lockless(pmd)
    taken: tuple[Page | None, str] = None, ""
    if pmd_trans_huge(value) and is_huge_zero_pmd(value):
        taken = None, "" if write else ZERO
    elif pmd_trans_huge(value) and (pmd_write(value) or not write):
        page = page_at(pmd_pfn(value) + pte_index(address))
        taken = _take(page, page_folio(page).pages[0], writable=pmd_write(value), pin=pin)
    spin_unlock(ptl)
    return taken


def _take(page: Page, marked: Page, *, writable: bool, pin: bool) -> tuple[Page | None, str]:
    """Take a reference; ``marked`` is the page that says whether it is exclusive."""
    if gup_must_unshare(marked, write=writable, pin=pin):
        return None, "EAGAIN"
    folio_get(page_folio(page))
    if pin:
        current.machine.fetch_add(page_folio(page), Folio.pincount, 1)
    return page, ""
