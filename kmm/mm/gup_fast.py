"""Getting at a user's pages without a lock, with interrupts disabled (mm/gup.c)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import ACQUIRE, ONCE
from kmm.kernel.barrier import smp_mb, smp_rmb
from kmm.kernel.irq import local_irq_restore, local_irq_save
from kmm.mm.folio import Folio, Page, PageAnonExclusive, PG_referenced, folio_set_flag, folio_try_get, page_folio
from kmm.mm.mm_types import MmStruct
from kmm.mm.page_alloc import folio_put
from kmm.mm.pgtable import PmdSlot, PtePtr, pmd_offset, pmd_pgtable, pmdp_get_lockless, pte_index, ptep_get_lockless
from kmm.mm.pte import (
    is_huge_zero_pmd,
    pmd_pfn,
    pmd_present,
    pmd_t,
    pmd_trans_huge,
    pmd_write,
    pte_pfn,
    pte_present,
    pte_protnone,
    pte_special,
    pte_write,
)
from kmm.mm.system import page_at

_ODD = 1


def get_user_page_fast_only(mm: MmStruct, address: int, *, write: bool, pin: bool) -> Page | None:
    """The page at an address, with a reference; ``None`` where it cannot be had without locks.

    :param mm: ``struct mm_struct *``, of the running task
    :param address: in bytes
    :param write: FOLL_WRITE
    :param pin: FOLL_PIN; else FOLL_GET
    :source: mm/gup.c, v6.18
    """
    seq = 0
    if pin:
        seq = current.machine.read(mm, MmStruct.write_protect_seq, ACQUIRE)
        if seq & _ODD:
            return None
    flags = local_irq_save()
    page = gup_fast_pmd(mm, address, write=write, pin=pin)
    local_irq_restore(flags)
    if page is not None and pin:
        smp_rmb()
        if current.machine.read(mm, MmStruct.write_protect_seq, ONCE) != seq:
            gup_put_folio(page_folio(page), pin=True)
            return None
    return page


def gup_fast_pmd(mm: MmStruct, address: int, *, write: bool, pin: bool) -> Page | None:
    """Read the PMD entry once, and go on with that value."""
    pmdp = pmd_offset(mm, address)
    if pmdp is None:
        return None
    pmd = pmdp_get_lockless(pmdp)
    if not pmd_present(pmd):
        return None
    if pmd_trans_huge(pmd):
        return gup_fast_huge(pmd, pmdp, address, write=write, pin=pin)
    return gup_fast_pte(pmd, pmdp, address, write=write, pin=pin)


def gup_fast_pte(pmd: pmd_t, pmdp: PmdSlot, address: int, *, write: bool, pin: bool) -> Page | None:
    """The page of one entry. The entries of the table are found by the value of the PMD entry, which may be an old one by now."""
    ptep = PtePtr(pmd_pgtable(pmd), pte_index(address))
    pte = ptep_get_lockless(ptep)
    if not pte_present(pte) or pte_protnone(pte) or pte_special(pte) or (write and not pte_write(pte)):
        return None
    page = page_at(pte_pfn(pte))
    folio = try_grab_folio_fast(page, pin=pin)
    if folio is None:
        return None
    if _changed(pmd, pmdp) or ptep_get_lockless(ptep) != pte or gup_must_unshare(page, write=bool(pte_write(pte)), pin=pin):
        gup_put_folio(folio, pin=pin)
        return None
    folio_set_flag(folio, PG_referenced)
    return page


def gup_fast_huge(pmd: pmd_t, pmdp: PmdSlot, address: int, *, write: bool, pin: bool) -> Page | None:
    """One page of a huge entry."""
    if is_huge_zero_pmd(pmd) or (write and not pmd_write(pmd)):
        return None
    page = page_at(pmd_pfn(pmd) + pte_index(address))
    folio = try_grab_folio_fast(page, pin=pin)
    if folio is None:
        return None
    if _changed(pmd, pmdp) or gup_must_unshare(folio.pages[0], write=bool(pmd_write(pmd)), pin=pin):
        gup_put_folio(folio, pin=pin)
        return None
    folio_set_flag(folio, PG_referenced)
    return page


def _changed(pmd: pmd_t, pmdp: PmdSlot) -> bool:
    return pmdp_get_lockless(pmdp) != pmd


def try_grab_folio_fast(page: Page, *, pin: bool) -> Folio | None:
    """Take a reference to whatever the page belongs to, unless that is being freed.

    The kernel counts the long-lived references to a small folio in the reference count, so that both appear at once; here the mark comes
    next, as it does for a large one.
    """
    folio = page_folio(page)
    if not folio_try_get(folio):
        return None
    if pin:
        current.machine.fetch_add(folio, Folio.pincount, 1)
    smp_mb()
    if page_folio(page) is not folio:
        gup_put_folio(folio, pin=pin)
        return None
    return folio


def gup_must_unshare(page: Page, *, write: bool, pin: bool) -> bool:
    """A long-lived reference needs a page that fork and copy-on-write leave to its owner."""
    if not pin or write:
        return False
    smp_rmb()
    return not PageAnonExclusive(page)


def gup_put_folio(folio: Folio, *, pin: bool) -> None:
    """Give a reference back."""
    if pin:
        current.machine.fetch_add(folio, Folio.pincount, -1)
    folio_put(folio)
