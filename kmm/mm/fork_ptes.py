"""fork: one entry of a table (mm/memory.c)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.kernel.ref import Ref
from kmm.mm import system
from kmm.mm.folio import ClearPageAnonExclusive, Folio, Page, PageAnonExclusive, __folio_mark_uptodate, folio_get, page_folio
from kmm.mm.memory import copy_mc_user_highpage, maybe_mkwrite, mk_pte, vm_normal_page
from kmm.mm.mm_types import MM_ANONPAGES, MM_SWAPENTS, MmStruct, VmAreaStruct
from kmm.mm.page_alloc import folio_put
from kmm.mm.pgtable import PtePage, PtePtr, ptep_get, set_pte, set_pte_at
from kmm.mm.pgtable_bits import pte_clear_uffd_wp, pte_wrprotect
from kmm.mm.pte import (
    PTE_MARKER_GUARD,
    PTE_MARKER_POISONED,
    SWP_DEVICE_READ,
    SWP_DEVICE_WRITE,
    SWP_MIGRATION_READ,
    is_device_private_entry,
    is_migration_entry,
    is_migration_entry_dirty,
    is_migration_entry_young,
    is_zero_pfn,
    make_migration_entry,
    make_pte_marker,
    make_special_entry,
    non_swap_entry,
    pte_dirty,
    pte_marker_get,
    pte_mkdirty,
    pte_mkold,
    pte_none,
    pte_pfn,
    pte_present,
    pte_swp_exclusive,
    pte_swp_soft_dirty,
    pte_swp_type,
    pte_swp_uffd_wp,
    pte_t,
    pte_to_swp_offset,
    pte_write,
    swp_entry_pfn,
    swp_entry_to_pte,
)
from kmm.mm.rmap import folio_add_new_anon_rmap, page_number
from kmm.mm.rmap_large import folio_add_anon_rmap_ptes, folio_maybe_dma_pinned
from kmm.mm.swap import folio_add_lru_vma
from kmm.mm.swapfile import swap_duplicate
from kmm.mm.system import page_at
from kmm.mm.vmstat import add_mm_counter, node_stat_mod


def copy_one(new: VmAreaStruct, vma: VmAreaStruct, dst: PtePtr, src: PtePtr, address: int, prealloc: Ref[Folio | None]) -> str:
    """Copy one entry; both tables are locked.

    :param prealloc: takes the copy of a pinned page, and is empty then
    :returns: empty; ``EAGAIN``: the page may be pinned, and there is no folio for its copy; ``EHWPOISON``: the copy meets poison
    """
    pte = ptep_get(src)
    if pte_none(pte):
        return ""
    if not pte_present(pte):
        _copy_nonpresent(new, vma, dst, src, pte)
        return ""
    page = vm_normal_page(vma, address, pte)
    if page is None:
        _count_ksm_zero(new.vm_mm, pte)
    elif not _share(new, page, address):
        return copy_present_page(new, vma, dst, address, page, prealloc)
    if pte_write(pte):
        ptep_set_wrprotect(src)
        pte = pte_wrprotect(pte)
    set_pte_at(new.vm_mm, address, dst, pte_clear_uffd_wp(pte_mkold(pte)))
    return ""


def ptep_set_wrprotect(ptep: PtePtr) -> None:
    """Make an entry read-only in one step: the hardware may mark it meanwhile."""
    current.machine.rmw_item(ptep.table, PtePage.entries, ptep.index, pte_wrprotect, ONCE)


def _share(new: VmAreaStruct, page: Page, address: int) -> bool:
    """One more mapping, and the page is nobody's alone from now on; false: it may be pinned, and stays exclusive.

    The reference comes first: who pins the page after that sees that a fork is under way.
    """
    folio = page_folio(page)
    folio_get(folio)
    if PageAnonExclusive(page):
        if folio_maybe_dma_pinned(folio):
            folio_put(folio)
            return False
        ClearPageAnonExclusive(page)
    folio_add_anon_rmap_ptes(folio, page, 1, new, address, exclusive=False)
    add_mm_counter(new.vm_mm, MM_ANONPAGES, 1)
    return True


def _count_ksm_zero(mm: MmStruct, pte: pte_t) -> None:
    if is_zero_pfn(pte_pfn(pte)) and pte_dirty(pte):
        current.machine.fetch_add(mm, MmStruct.ksm_zero_pages, 1)
        node_stat_mod("ksm_zero_pages", 1)


def copy_present_page(new: VmAreaStruct, vma: VmAreaStruct, dst: PtePtr, address: int, page: Page, prealloc: Ref[Folio | None]) -> str:
    """Let the child map a copy: the page stays the parent's, whatever somebody who pinned it writes there."""
    fresh = prealloc.value
    if fresh is None:
        return "EAGAIN"
    if copy_mc_user_highpage(fresh.pages[0], page, address, vma):
        return "EHWPOISON"
    prealloc.value = None
    same_contents(new.vm_mm.ident, vma.vm_mm.ident, page_number(address))
    __folio_mark_uptodate(fresh)
    folio_add_new_anon_rmap(fresh, new, address, exclusive=True)
    folio_add_lru_vma(fresh, new)
    add_mm_counter(new.vm_mm, MM_ANONPAGES, 1)
    set_pte_at(new.vm_mm, address, dst, maybe_mkwrite(pte_mkdirty(mk_pte(fresh.pages[0], new.vm_page_prot)), new))
    return ""


def same_contents(ident: int, parent: int, index: int) -> None:
    """A child reads at a page what its parent does now.

    :param ident: the child's number
    :param parent: the parent's
    """
    this = system.this
    for memory in (this.shadow, this.lazyfree):
        if (parent, index) in memory:
            memory[ident, index] = memory[parent, index]


def _copy_nonpresent(new: VmAreaStruct, vma: VmAreaStruct, dst: PtePtr, src: PtePtr, pte: pte_t) -> None:
    """An entry of swap, of a migration, of a device, a poisoned page, or a marker."""
    mm = new.vm_mm
    if not non_swap_entry(pte):
        offset = pte_to_swp_offset(pte)
        swap_duplicate(offset)
        add_mm_counter(mm, MM_SWAPENTS, 1)
        soft_dirty = pte_swp_soft_dirty(pte)
        if pte_swp_exclusive(pte):
            set_pte(src, swp_entry_to_pte(offset, exclusive=False, uffd_wp=pte_swp_uffd_wp(pte), soft_dirty=soft_dirty))
        set_pte(dst, swp_entry_to_pte(offset, exclusive=False, uffd_wp=False, soft_dirty=soft_dirty))
    elif is_migration_entry(pte):
        add_mm_counter(mm, MM_ANONPAGES, 1)
        if pte_swp_type(pte) != SWP_MIGRATION_READ:
            set_pte(src, _read_migration(pte, uffd_wp=pte_swp_uffd_wp(pte)))
        set_pte(dst, _read_migration(pte, uffd_wp=False))
    elif is_device_private_entry(pte):
        page = page_at(swp_entry_pfn(pte))
        _share(new, page, 0)
        soft_dirty = pte_swp_soft_dirty(pte)
        if pte_swp_type(pte) == SWP_DEVICE_WRITE:
            set_pte(src, make_special_entry(SWP_DEVICE_READ, page.pfn, uffd_wp=pte_swp_uffd_wp(pte), soft_dirty=soft_dirty))
        set_pte(dst, make_special_entry(SWP_DEVICE_READ, page.pfn, soft_dirty=soft_dirty))
    elif marker := pte_marker_get(pte) & (PTE_MARKER_GUARD | PTE_MARKER_POISONED):
        set_pte(dst, make_pte_marker(marker))
    elif not pte_marker_get(pte):
        set_pte(dst, pte)


def _read_migration(pte: pte_t, *, uffd_wp: bool) -> pte_t:
    return make_migration_entry(
        swp_entry_pfn(pte),
        SWP_MIGRATION_READ,
        young=is_migration_entry_young(pte),
        dirty=is_migration_entry_dirty(pte),
        uffd_wp=uffd_wp,
        soft_dirty=pte_swp_soft_dirty(pte),
    )
