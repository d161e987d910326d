"""Which folio a swapped page comes back in (mm/memory.c): a large one where a whole aligned run of entries and slots fits together."""

from __future__ import annotations

from kmm.mm import system
from kmm.mm.folio import Folio
from kmm.mm.geometry import ALIGN_DOWN, BIT, HPAGE_PMD_MASK, HPAGE_PMD_ORDER, PAGE_SIZE, THP_ORDERS_ALL_ANON
from kmm.mm.huge_memory import TVA_PAGEFAULT, highest_order, thp_vma_allowable_orders, thp_vma_suitable_orders
from kmm.mm.memcontrol import mem_cgroup_charge
from kmm.mm.page_alloc import __folio_alloc, folio_put
from kmm.mm.pgtable import PtePtr, pte_index, pte_offset_map_lock, pte_unmap_unlock, ptep_get
from kmm.mm.pte import pte_swp_exclusive, pte_swp_soft_dirty, pte_swp_uffd_wp, pte_t, pte_to_swp_offset, swp_entry_to_pte
from kmm.mm.swapfile import __swap_count, swap_is_free
from kmm.mm.userfaultfd import userfaultfd_armed
from kmm.mm.vm_fault import VmFault
from kmm.mm.vmstat import count_mthp_stat


def pte_move_swp_offset(pte: pte_t, delta: int) -> pte_t:
    """The same swap entry for a slot ``delta`` further on."""
    exclusive, uffd_wp, soft_dirty = pte_swp_exclusive(pte), pte_swp_uffd_wp(pte), pte_swp_soft_dirty(pte)
    return swp_entry_to_pte(pte_to_swp_offset(pte) + delta, exclusive=exclusive, uffd_wp=uffd_wp, soft_dirty=soft_dirty)


def swap_pte_batch(start: PtePtr, max_nr: int, pte: pte_t) -> int:
    """How many consecutive entries, at most ``max_nr``, refer to consecutive slots.

    :param pte: the first one's value
    """
    nr = 1
    while nr < max_nr and ptep_get(start + nr) == pte_move_swp_offset(pte, nr):
        nr += 1
    return nr


def can_swapin_thp(orig_pte: pte_t, ptep: PtePtr, idx: int, nr: int) -> bool:
    """``nr`` entries from ``ptep`` on refer to consecutive slots, none of which has its page in the swap cache.

    :param orig_pte: the entry ``idx`` pages further on
    """
    pte = ptep_get(ptep)
    if pte != pte_move_swp_offset(orig_pte, -idx) or swap_pte_batch(ptep, nr, pte) != nr:
        return False
    offset = pte_to_swp_offset(pte)
    slots = [system.this.swap.get(offset + i) for i in range(nr)]
    if not all(slot is not None and not swap_is_free(slot.offset) and slot.cached is None for slot in slots):
        return False
    return len({slot.zeromap for slot in slots if slot}) == 1


def thp_swap_suitable_orders(swp_offset: int, addr: int, orders: int) -> int:
    """``orders`` from the highest one on for which slot and page have the same place in their aligned blocks."""
    while orders:
        nr = BIT(highest_order(orders))
        if addr // PAGE_SIZE() % nr == swp_offset % nr:
            break
        orders &= ~nr
    return orders


def alloc_swap_folio(vmf: VmFault, offset: int) -> Folio | None:
    """A charged folio for a slot's data, or for those of a run of slots around it. May sleep.

    :source: mm/memory.c, v6.18, with zswap never enabled
    """
    orders = _swapin_orders(vmf, offset)
    while orders:
        order = highest_order(orders)
        folio = _charged(vmf, order)
        if folio is not None:
            folio.label = f"swap {ALIGN_DOWN(offset, BIT(order))}"
            return folio
        count_mthp_stat(order, "swpin_fallback")
        orders &= ~BIT(order)
    folio = __folio_alloc("GFP_HIGHUSER_MOVABLE", 0, 0, frozenset())
    if folio is None:
        return None
    if not mem_cgroup_charge(folio, vmf.vma.vm_mm):
        folio_put(folio)
        return None
    folio.label = f"swap {offset}"
    return folio


def _charged(vmf: VmFault, order: int) -> Folio | None:
    folio = __folio_alloc("GFP_TRANSHUGE_LIGHT", order, 0, frozenset())
    if folio is None or mem_cgroup_charge(folio, vmf.vma.vm_mm):
        return folio
    count_mthp_stat(order, "swpin_fallback_charge")
    folio_put(folio)
    return None


def _swapin_orders(vmf: VmFault, offset: int) -> int:
    """Large orders in which the page may come back. Slots that lie askew, as most do, are told by arithmetic alone."""
    below = THP_ORDERS_ALL_ANON() & ~BIT(HPAGE_PMD_ORDER())
    orders = thp_swap_suitable_orders(offset, vmf.address, below)
    vma = vmf.vma
    if not orders or userfaultfd_armed(vma) or __swap_count(offset) != 1:
        return 0
    orders &= thp_vma_allowable_orders(vma, vma.vm_flags, TVA_PAGEFAULT, below)
    orders = thp_vma_suitable_orders(vma, vmf.address, orders)
    pte, ptl = pte_offset_map_lock(vma.vm_mm, vmf.pmd, vmf.address & HPAGE_PMD_MASK()) if orders else (None, None)
    if pte is None or ptl is None or vmf.orig_pte is None:
        return 0
    while orders:
        nr = BIT(highest_order(orders))
        start = ALIGN_DOWN(vmf.address, nr * PAGE_SIZE())
        if can_swapin_thp(vmf.orig_pte, pte + pte_index(start), (vmf.address - start) // PAGE_SIZE(), nr):
            break
        orders &= ~nr
    pte_unmap_unlock(pte, ptl)
    return orders
