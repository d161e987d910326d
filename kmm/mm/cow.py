"""The write fault on an entry that is read-only: the page is used as it is, or copied (mm/memory.c)."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ONCE, PLAIN
from kmm.kernel.bug import VM_BUG_ON, VM_WARN_ON_ONCE
from kmm.kernel.locks import SpinLock
from kmm.mm.folio import (
    Folio,
    Page,
    PageAnonExclusive,
    SetPageAnonExclusive,
    __folio_mark_uptodate,
    folio_get,
    folio_mapcount,
    folio_maybe_mapped_shared,
    folio_ref_count,
    folio_test_anon,
    folio_test_large,
    folio_test_lru,
    folio_test_swapcache,
    folio_trylock,
    folio_unlock,
    page_folio,
)
from kmm.mm.geometry import PAGE_SIZE
from kmm.mm.ksm import ksm_might_unmap_zero_page
from kmm.mm.memcontrol import mem_cgroup_charge
from kmm.mm.memory import clear_user_highpage, copy_mc_user_highpage, maybe_mkwrite, mk_pte, vm_normal_page
from kmm.mm.mm_types import MM_ANONPAGES, VM_UFFD_WP, VmAreaStruct
from kmm.mm.mmu_gather import mm_tlb_flush_pending
from kmm.mm.mmu_notifier import MmuNotifierRange, mmu_notifier_invalidate_range_end, mmu_notifier_invalidate_range_start
from kmm.mm.page_alloc import __folio_alloc, folio_put
from kmm.mm.pgtable import (
    PtePage,
    PtePtr,
    flush_tlb_range,
    pte_offset_map_lock,
    pte_unmap_unlock,
    ptep_get,
    set_pte_at,
    update_mmu_cache_range,
)
from kmm.mm.pgtable_generic import ptep_clear_flush
from kmm.mm.pte import (
    is_zero_pfn,
    pte_mkdirty,
    pte_mksoft_dirty,
    pte_mkuffd_wp,
    pte_mkyoung,
    pte_pfn,
    pte_soft_dirty,
    pte_t,
    pte_uffd_wp,
)
from kmm.mm.rmap import folio_add_new_anon_rmap, folio_remove_rmap_ptes
from kmm.mm.rmap_walk import folio_test_ksm
from kmm.mm.swap import folio_add_lru_vma, lru_add_drain
from kmm.mm.swapfile import folio_free_swap, free_swap_cache
from kmm.mm.vm_fault import (
    VM_FAULT_DONE,
    VM_FAULT_HWPOISON,
    VM_FAULT_OOM,
    VM_FAULT_RETRY,
    VmFault,
    handle_userfault,
    userfaultfd_pte_wp,
    vmf_anon_prepare,
)
from kmm.mm.vmstat import add_mm_counter, count_vm_event

_contents: Final = Page.contents


def do_wp_page(vmf: VmFault, pte: PtePtr, ptl: SpinLock) -> str:
    """Allow a write to a present page. Entered with the table locked, and left with it unlocked and unmapped. May sleep.

    :source: mm/memory.c, v6.18
    """
    vma, orig_pte = vmf.vma, vmf.orig_pte
    assert orig_pte is not None
    if not vmf.unshare and userfaultfd_pte_wp(vma, ptep_get(pte)):
        pte_unmap_unlock(pte, ptl)
        return handle_userfault(vmf)
    if vma.vm_flags & VM_UFFD_WP and mm_tlb_flush_pending(vma.vm_mm):
        flush_tlb_range(vma, vmf.address, vmf.address + PAGE_SIZE())
    page = vm_normal_page(vma, vmf.address, orig_pte)
    if page is not None and _may_reuse(page, vma):
        if not PageAnonExclusive(page):
            SetPageAnonExclusive(page)
        if vmf.unshare:
            pte_unmap_unlock(pte, ptl)
            return VM_FAULT_DONE
        return wp_page_reuse(vmf, page, pte, ptl)
    if page is not None:
        folio_get(page_folio(page))
    pte_unmap_unlock(pte, ptl)
    if page is not None and folio_test_ksm(page_folio(page)):
        count_vm_event("cow_ksm")
    return wp_page_copy(vmf, page)


def _may_reuse(page: Page, vma: VmAreaStruct) -> bool:
    return folio_test_anon(page_folio(page)) and (PageAnonExclusive(page) or wp_can_reuse_anon_folio(page_folio(page), vma))


def wp_can_reuse_anon_folio(folio: Folio, vma: VmAreaStruct) -> bool:
    """Nobody but this entry has a reference to the folio, or for a large one, nobody but entries of this process.

    The early tests only spare the lock; what counts is found under it.
    """
    if folio_test_large(folio):
        return __wp_can_reuse_large_anon_folio(folio)
    if folio_test_ksm(folio) or folio_ref_count(folio) > 3:
        return False
    if not folio_test_lru(folio):
        lru_add_drain()
    if folio_ref_count(folio) > 1 + folio_test_swapcache(folio) or not folio_trylock(folio):
        return False
    if folio_test_swapcache(folio):
        folio_free_swap(folio)
    if folio_test_ksm(folio) or folio_ref_count(folio) != 1:
        folio_unlock(folio)
        return False
    folio_move_anon_rmap(folio, vma)
    folio_unlock(folio)
    return True


def __wp_can_reuse_large_anon_folio(folio: Folio) -> bool:
    """All references come from mappings, and all mappings from one process. A folio with one page left is rather given up."""
    if folio_mapcount(folio) <= 1 or folio_maybe_mapped_shared(folio):
        return False
    VM_WARN_ON_ONCE(folio_test_ksm(folio), "folio_test_ksm(folio)")
    if folio_test_swapcache(folio):
        if not folio_trylock(folio):
            return False
        folio_free_swap(folio)
        folio_unlock(folio)
    VM_WARN_ON_ONCE(folio_mapcount(folio) > folio_ref_count(folio), "folio_large_mapcount(folio) > folio_ref_count(folio)")
    return folio_mapcount(folio) == folio_ref_count(folio)


def folio_move_anon_rmap(folio: Folio, vma: VmAreaStruct) -> None:
    """A locked folio belongs to one process alone: the reverse mapping need not look at its relatives any more."""
    anon_vma = vma.anon_vma
    VM_BUG_ON(anon_vma is None, "!anon_vma")
    current.machine.write(folio, Folio.mapping, anon_vma, ONCE)


def wp_page_reuse(vmf: VmFault, page: Page, pte: PtePtr, ptl: SpinLock) -> str:
    """Let the entry allow writes. What CPUs have cached allows less, so nothing is flushed. Unlocks the table."""
    assert vmf.orig_pte is not None
    VM_BUG_ON(not PageAnonExclusive(page), "folio_test_anon(folio) && !PageAnonExclusive(vmf->page)")
    entry = maybe_mkwrite(pte_mkdirty(pte_mkyoung(vmf.orig_pte)), vmf.vma)
    if ptep_set_access_flags(pte, entry, dirty=True):
        update_mmu_cache_range(None, vmf.vma, vmf.address, pte, 1)
    pte_unmap_unlock(pte, ptl)
    count_vm_event("pgreuse")
    return VM_FAULT_DONE


def ptep_set_access_flags(ptep: PtePtr, entry: pte_t, *, dirty: bool) -> bool:
    """Let an entry allow more than it does; x86 leaves it to the hardware unless a write is wanted.

    :returns: it differs from what is there
    """
    changed = ptep_get(ptep) != entry
    if changed and dirty:
        current.machine.rmw_item(ptep.table, PtePage.entries, ptep.index, lambda _: entry, ONCE)
    return changed


def folio_prealloc(vma: VmAreaStruct, address: int, *, need_zero: bool) -> Folio | None:
    """A charged small folio. May sleep.

    :param need_zero: filled with zeros
    """
    folio = __folio_alloc("GFP_HIGHUSER_MOVABLE", 0, 0, frozenset())
    if folio is None:
        return None
    if need_zero:
        clear_user_highpage(folio.pages[0], address)
    if not mem_cgroup_charge(folio, vma.vm_mm):
        folio_put(folio)
        return None
    return folio


def wp_page_copy(vmf: VmFault, page: Page | None) -> str:
    """Map a copy in place of a page, of which the caller has a reference. May sleep.

    :param page: ``None``: the zero page, or a frame without folio
    :source: mm/memory.c, v6.18
    """
    vma, address, orig_pte = vmf.vma, vmf.address, vmf.orig_pte
    assert orig_pte is not None
    old_folio = None if page is None else page_folio(page)
    if not vmf_anon_prepare(vmf):
        return _give_up(old_folio, VM_FAULT_RETRY)
    zero = is_zero_pfn(pte_pfn(orig_pte))
    new_folio = folio_prealloc(vma, address, need_zero=zero)
    if new_folio is None:
        return _give_up(old_folio, VM_FAULT_OOM)
    if not zero and _copy(new_folio.pages[0], page, orig_pte, vmf):
        folio_put(new_folio)
        return _give_up(old_folio, VM_FAULT_HWPOISON)
    __folio_mark_uptodate(new_folio)
    window = MmuNotifierRange(vma.vm_mm, address, address + PAGE_SIZE())
    mmu_notifier_invalidate_range_start(window)
    pte, ptl = pte_offset_map_lock(vma.vm_mm, vmf.pmd, address)
    copied = pte is not None and ptep_get(pte) == orig_pte
    if pte is not None:
        if copied:
            _replace(vmf, orig_pte, pte, page, new_folio)
        pte_unmap_unlock(pte, ptl)
    mmu_notifier_invalidate_range_end(window)
    if not copied:
        folio_put(new_folio)
    elif old_folio is not None:
        free_swap_cache(old_folio)
        folio_put(old_folio)
    return _give_up(old_folio, VM_FAULT_DONE)


def _give_up(old_folio: Folio | None, answer: str) -> str:
    """Drop a reference of the copy's source."""
    if old_folio is not None:
        folio_put(old_folio)
    return answer


def _copy(to: Page, source: Page | None, orig_pte: pte_t, vmf: VmFault) -> int:
    """Fill the copy; non-zero when its source turns out to be poisoned. A frame without folio has its number for contents."""
    if source is not None:
        return copy_mc_user_highpage(to, source, vmf.address, vmf.vma)
    current.machine.write(to, _contents, pte_pfn(orig_pte), PLAIN)
    return 0


def _replace(vmf: VmFault, orig_pte: pte_t, pte: PtePtr, page: Page | None, new_folio: Folio) -> None:
    """Exchange one entry. It is none, and flushed, in between: no two CPUs may use different pages at once."""
    vma, mm = vmf.vma, vmf.vma.vm_mm
    if page is None:
        ksm_might_unmap_zero_page(mm, orig_pte)
        add_mm_counter(mm, MM_ANONPAGES, 1)
    entry = mk_pte(new_folio.pages[0], vma.vm_page_prot)
    entry = _kept_marks(entry, orig_pte) if vmf.unshare else maybe_mkwrite(pte_mkdirty(entry), vma)
    ptep_clear_flush(vma, vmf.address, pte)
    folio_add_new_anon_rmap(new_folio, vma, vmf.address, exclusive=True)
    folio_add_lru_vma(new_folio, vma)
    set_pte_at(mm, vmf.address, pte, entry)
    update_mmu_cache_range(None, vma, vmf.address, pte, 1)
    if page is not None:
        folio_remove_rmap_ptes(page_folio(page), page, 1, vma)


def _kept_marks(entry: pte_t, orig_pte: pte_t) -> pte_t:
    """What an entry is still marked with when its page is unshared: nobody has written."""
    if pte_soft_dirty(orig_pte):
        entry = pte_mksoft_dirty(entry)
    return pte_mkuffd_wp(entry) if pte_uffd_wp(orig_pte) else entry
