"""Who maps a page that has failed, and how it is unmapped (mm/memory-failure.c, mm/rmap.c)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.kernel.bug import WARN_ON_ONCE
from kmm.kernel.locks import up_read
from kmm.mm import system
from kmm.mm.folio import (
    Folio,
    Page,
    PageAnonExclusive,
    PG_dirty,
    folio_set_flag,
    folio_test_large,
    folio_test_swapcache,
)
from kmm.mm.geometry import PAGE_SIZE
from kmm.mm.interval_tree import anon_vma_interval_tree_foreach
from kmm.mm.mlock import mlock_drain_local
from kmm.mm.mm_types import MM_ANONPAGES, VM_LOCKED, VmAreaStruct
from kmm.mm.mmu_notifier import MmuNotifierRange, mmu_notifier_invalidate_range_end, mmu_notifier_invalidate_range_start
from kmm.mm.page_alloc import folio_put
from kmm.mm.page_vma_mapped import PVMW_SYNC, PageVmaMappedWalk, page_vma_mapped_walk
from kmm.mm.pgtable import PtePtr, set_pte_at
from kmm.mm.pgtable_generic import ptep_clear_flush
from kmm.mm.pte import SWP_HWPOISON, make_special_entry, pte_dirty
from kmm.mm.rmap import folio_remove_rmap_ptes, page_number
from kmm.mm.rmap_walk import folio_lock_anon_vma_read, folio_test_ksm, folio_vma_walk, rmap_walk, vma_address
from kmm.mm.unmap import _leave_swap_entry
from kmm.mm.vmstat import add_mm_counter


def collect_procs(folio: Folio, page: Page) -> tuple[int, ...]:
    """The address spaces that map a page, by their numbers. Under the lock of the reverse map. May sleep."""
    found: list[int] = []

    def one(folio: Folio, vma: VmAreaStruct, address: int) -> bool:
        pvmw = PageVmaMappedWalk(folio, vma, address, address + PAGE_SIZE(), PVMW_SYNC)
        pvmw.pfn, pvmw.nr_pages = page.pfn, 1
        for _ in page_vma_mapped_walk(pvmw):
            found.append(vma.vm_mm.ident)
            pvmw.done()
            break
        return True

    if folio_test_ksm(folio):
        rmap_walk(folio, one)
        return tuple(dict.fromkeys(found))
    anon_vma = folio_lock_anon_vma_read(folio)
    if isinstance(anon_vma, str):
        return ()
    pgoff = current.machine.read(folio, Folio.index, ONCE) + page.index
    for vma in anon_vma_interval_tree_foreach(anon_vma):
        address = vma_address(vma, pgoff, 1)
        if address is not None:
            one(folio, vma, address)
    up_read(anon_vma.rwsem)
    return tuple(dict.fromkeys(found))


def unmap_poisoned_folio(folio: Folio) -> None:
    """Unmap a small, locked folio wherever it is mapped, mlocked or not, up to an entry that must stay. May sleep.

    An entry of a bad page takes the place of each of its own; one of a swap slot where the folio is in the swap cache.
    """
    if WARN_ON_ONCE(folio_test_large(folio), "folio_test_large(folio)"):
        return
    rmap_walk(folio, try_to_unmap_poisoned_one)


def try_to_unmap_poisoned_one(folio: Folio, vma: VmAreaStruct, address: int) -> bool:
    """``try_to_unmap_one`` with ``TTU_IGNORE_MLOCK | TTU_SYNC | TTU_HWPOISON``; false: a page stays mapped there.

    :source: mm/rmap.c, v6.18
    """
    good = True
    pvmw = folio_vma_walk(folio, vma, address, PVMW_SYNC)
    window = MmuNotifierRange(vma.vm_mm, address, pvmw.end)
    mmu_notifier_invalidate_range_start(window)
    for _ in page_vma_mapped_walk(pvmw):
        if pvmw.pte is None or not _unmap(folio, vma, pvmw.address, pvmw.pte):
            good = False
            pvmw.done()
            break
    mmu_notifier_invalidate_range_end(window)
    return good


def _unmap(folio: Folio, vma: VmAreaStruct, address: int, ptep: PtePtr) -> bool:
    mm, page = vma.vm_mm, folio.pages[0]
    exclusive = PageAnonExclusive(page)
    pte = ptep_clear_flush(vma, address, ptep)
    if pte_dirty(pte):
        folio_set_flag(folio, PG_dirty)
    if not folio_test_swapcache(folio):
        add_mm_counter(mm, MM_ANONPAGES, -1)
        set_pte_at(mm, address, ptep, make_special_entry(SWP_HWPOISON, page.pfn))
        system.this.shadow[mm.ident, page_number(address)] = system.SIGBUS
    elif not _leave_swap_entry(folio, vma, address, ptep, pte, page, exclusive):
        set_pte_at(mm, address, ptep, pte)
        return False
    folio_remove_rmap_ptes(folio, page, 1, vma)
    if vma.vm_flags & VM_LOCKED:
        mlock_drain_local()
    folio_put(folio)
    return True
