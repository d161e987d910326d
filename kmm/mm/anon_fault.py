"""The fault on an entry that maps nothing (mm/memory.c): the zero page for a read, else a folio of the highest order that fits."""

from __future__ import annotations

from kmm.mm.cow import folio_prealloc
from kmm.mm.folio import Folio, __folio_mark_uptodate, folio_nr_pages, folio_order, folio_ref_add
from kmm.mm.geometry import ALIGN_DOWN, BIT, HPAGE_PMD_MASK, HPAGE_PMD_ORDER, PAGE_SIZE
from kmm.mm.huge_fault import folio_zero_user
from kmm.mm.huge_memory import TVA_PAGEFAULT, highest_order, thp_vma_allowable_orders, thp_vma_suitable_orders
from kmm.mm.memcontrol import mem_cgroup_charge
from kmm.mm.memory import maybe_mkwrite, mk_pte
from kmm.mm.mm_types import MM_ANONPAGES, VM_WRITE, VmAreaStruct
from kmm.mm.page_alloc import __folio_alloc, folio_put
from kmm.mm.pgalloc import pte_alloc
from kmm.mm.pgtable import (
    PtePtr,
    __pte_offset_map,
    mk_zero_pte,
    pte_index,
    pte_offset_map_lock,
    pte_unmap,
    pte_unmap_unlock,
    ptep_get,
    ptep_get_lockless,
    set_ptes,
    update_mmu_cache_range,
)
from kmm.mm.pte import PTE_MARKER_UFFD_WP, PTE_NONE, is_swap_pte, pte_marker_get, pte_mkdirty, pte_mkuffd_wp, pte_none, pte_t
from kmm.mm.rmap import folio_add_new_anon_rmap
from kmm.mm.swap import folio_add_lru_vma
from kmm.mm.userfaultfd import userfaultfd_armed
from kmm.mm.vm_fault import (
    VM_FAULT_DONE,
    VM_FAULT_OOM,
    VM_FAULT_RETRY,
    VmFault,
    handle_userfault,
    userfaultfd_missing,
    vmf_anon_prepare,
)
from kmm.mm.vmstat import add_mm_counter, count_mthp_stat


def do_anonymous_page(vmf: VmFault) -> str:
    """Map zeros where nothing is mapped. May sleep.

    :source: mm/memory.c, v6.18
    """
    vma = vmf.vma
    pte_alloc(vma.vm_mm, vmf.pmd, vmf.address)
    if not vmf.write:
        return _map(vmf, None, mk_zero_pte(vma.vm_page_prot))
    if not vmf_anon_prepare(vmf):
        return VM_FAULT_RETRY
    orders = _orders(vmf)
    if orders is None:
        return VM_FAULT_DONE
    folio = alloc_anon_folio(vmf, orders)
    if folio is None:
        return VM_FAULT_OOM
    __folio_mark_uptodate(folio)
    entry = mk_pte(folio.pages[0], vma.vm_page_prot)
    if vma.vm_flags & VM_WRITE:
        entry = maybe_mkwrite(pte_mkdirty(entry), vma)
    return _map(vmf, folio, entry)


def alloc_anon_folio(vmf: VmFault, orders: int) -> Folio | None:
    """A charged folio full of zeros: large, if there is memory for one, else small. May sleep.

    :param orders: large orders of which the block around the address is empty
    """
    vma = vmf.vma
    while orders:
        order = highest_order(orders)
        folio = _charged(vma, order)
        if folio is not None:
            folio_zero_user(folio, ALIGN_DOWN(vmf.address, PAGE_SIZE() << order))
            return folio
        count_mthp_stat(order, "anon_fault_fallback")
        orders &= ~BIT(order)
    return folio_prealloc(vma, vmf.address, need_zero=True)


def _charged(vma: VmAreaStruct, order: int) -> Folio | None:
    folio = __folio_alloc("GFP_TRANSHUGE_LIGHT", order, 0, frozenset())
    if folio is None or mem_cgroup_charge(folio, vma.vm_mm):
        return folio
    count_mthp_stat(order, "anon_fault_fallback_charge")
    folio_put(folio)
    return None


def _orders(vmf: VmFault) -> int | None:
    """Large orders that are enabled, and whose block lies in the VMA and is empty. ``None``: the table went; fault again."""
    vma = vmf.vma
    if userfaultfd_armed(vma):
        return 0
    orders = thp_vma_allowable_orders(vma, vma.vm_flags, TVA_PAGEFAULT, BIT(HPAGE_PMD_ORDER()) - 1)
    orders = thp_vma_suitable_orders(vma, vmf.address, orders)
    if not orders:
        return 0
    pte, _ = __pte_offset_map(vmf.pmd, vmf.address & HPAGE_PMD_MASK())
    if pte is None:
        return None
    while orders:
        order = highest_order(orders)
        start = ALIGN_DOWN(vmf.address, PAGE_SIZE() << order)
        if pte_range_none(pte + pte_index(start), BIT(order)):
            break
        orders &= ~BIT(order)
    pte_unmap(pte)
    return orders


def pte_range_none(pte: PtePtr, nr_pages: int) -> bool:
    """``nr_pages`` entries are empty."""
    return all(pte_none(ptep_get_lockless(pte + i)) for i in range(nr_pages))


def _map(vmf: VmFault, folio: Folio | None, entry: pte_t) -> str:
    """Set the entries, if there is still nothing and no monitor has to be asked.

    :param folio: its reference becomes the mapping's; ``None``: the zero page
    """
    vma, mm = vmf.vma, vmf.vma.vm_mm
    nr_pages = 1 if folio is None else folio_nr_pages(folio)
    addr = ALIGN_DOWN(vmf.address, nr_pages * PAGE_SIZE())
    pte, ptl = pte_offset_map_lock(mm, vmf.pmd, addr)
    unchanged = pte is not None and _unchanged(vmf, pte, nr_pages)
    if pte is None or not unchanged or userfaultfd_missing(vma):
        if pte is not None:
            pte_unmap_unlock(pte, ptl)
        if folio is not None:
            folio_put(folio)
        return handle_userfault(vmf) if unchanged else VM_FAULT_DONE
    if folio is not None:
        _account(folio, vma, addr)
    if vmf.orig_pte is not None and is_swap_pte(vmf.orig_pte) and pte_marker_get(vmf.orig_pte) & PTE_MARKER_UFFD_WP:
        entry = pte_mkuffd_wp(entry)
    set_ptes(mm, addr, pte, entry, nr_pages)
    update_mmu_cache_range(None, vma, addr, pte, nr_pages)
    pte_unmap_unlock(pte, ptl)
    return VM_FAULT_DONE


def _unchanged(vmf: VmFault, pte: PtePtr, nr_pages: int) -> bool:
    """What the fault found is still there: nothing in the whole block, or the one marker."""
    if nr_pages > 1:
        return pte_range_none(pte, nr_pages)
    return ptep_get(pte) == (PTE_NONE if vmf.orig_pte is None else vmf.orig_pte)


def _account(folio: Folio, vma: VmAreaStruct, addr: int) -> None:
    """References, counters, reverse mapping and LRU of a folio that is about to be mapped."""
    nr_pages = folio_nr_pages(folio)
    folio_ref_add(folio, nr_pages - 1)
    add_mm_counter(vma.vm_mm, MM_ANONPAGES, nr_pages)
    count_mthp_stat(folio_order(folio), "anon_fault_alloc")
    folio_add_new_anon_rmap(folio, vma, addr, exclusive=True)
    folio_add_lru_vma(folio, vma)
