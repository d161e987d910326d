"""Long-lived references to a user's pages (mm/gup.c)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.kernel.locks import rcu_read_lock, rcu_read_unlock
from kmm.mm.folio import Folio, folio_try_get, page_folio
from kmm.mm.memory import pte_page, vm_normal_page
from kmm.mm.mm_types import MmStruct
from kmm.mm.mmap import mmap_read_lock, mmap_read_unlock
from kmm.mm.page_alloc import folio_put
from kmm.mm.pgtable import PtePtr, pmd_offset, pmd_pgtable, pmdp_get, pte_index, ptep_get
from kmm.mm.pte import HUGE_ZERO_PFN, PMD_NONE, pmd_none, pmd_pfn, pmd_present, pmd_trans_huge, pte_present
from kmm.mm.system import page_at
from kmm.mm.vma import vma_at


def mapped_folio(mm: MmStruct, address: int) -> Folio | None:
    """The folio that is mapped at an address; ``None`` where none is. Under RCU, so that no table goes meanwhile."""
    vma = vma_at(mm, address)
    pmd = pmd_offset(mm, address)
    value = PMD_NONE if pmd is None else pmdp_get(pmd)
    if vma is None or pmd_none(value) or not pmd_present(value):
        return None
    if pmd_trans_huge(value):
        return None if pmd_pfn(value) == HUGE_ZERO_PFN else page_folio(page_at(pmd_pfn(value)))
    pte = ptep_get(PtePtr(pmd_pgtable(value), pte_index(address)))
    if not pte_present(pte) or vm_normal_page(vma, address, pte) is None:
        return None
    return page_folio(pte_page(pte))


def pin_user_page(mm: MmStruct, address: int) -> bool:
    """Take a long-lived reference to the folio that is mapped at an address; false when none is. May sleep."""
    mmap_read_lock(mm)
    pinned = try_pin(mm, address)
    mmap_read_unlock(mm)
    return pinned


def try_pin(mm: MmStruct, address: int) -> bool:
    """:func:`pin_user_page` for a caller that the address space stays still for."""
    rcu_read_lock()
    pinned = _try_pin(mm, address)
    rcu_read_unlock()
    return pinned


def _try_pin(mm: MmStruct, address: int) -> bool:
    folio = mapped_folio(mm, address)
    if folio is None or not folio_try_get(folio):
        return False
    current.machine.fetch_add(folio, Folio.pincount, 1)
    if mapped_folio(mm, address) is folio:
        return True
    current.machine.fetch_add(folio, Folio.pincount, -1)
    folio_put(folio)
    return False


def unpin_user_page(mm: MmStruct, address: int) -> bool:
    """Give such a reference back; false when nobody has one to the folio that is mapped at the address."""
    mmap_read_lock(mm)
    rcu_read_lock()
    folio = mapped_folio(mm, address)
    rcu_read_unlock()
    pinned = folio is not None and current.machine.rmw(folio, Folio.pincount, _one_less, ONCE) > 0
    mmap_read_unlock(mm)
    if pinned and folio is not None:
        folio_put(folio)
    return pinned


def _one_less(count: int) -> int:
    return max(count - 1, 0)
