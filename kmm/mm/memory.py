"""Faults and copies that collapse needs (mm/memory.c)."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import PLAIN
from kmm.mm import page_table_check, system
from kmm.mm.folio import (
    Folio,
    Page,
    PG_uptodate,
    folio_get,
    folio_set_flag,
    folio_trylock,
    folio_unlock,
)
from kmm.mm.memcontrol import mem_cgroup_charge
from kmm.mm.migrate import migrate_to_ram, migration_entry_wait
from kmm.mm.mm_types import MM_ANONPAGES, MM_SWAPENTS, VM_UFFD_MISSING, VM_WRITE, VmAreaStruct
from kmm.mm.mmap import mmap_read_unlock
from kmm.mm.page_alloc import __folio_alloc, folio_put
from kmm.mm.pgtable import (
    PmdSlot,
    PtePtr,
    mk_zero_pte,
    pmd_offset,
    pte_offset_map_lock,
    pte_unmap,
    pte_unmap_unlock,
    ptep_get,
    set_pte,
)
from kmm.mm.pte import (
    PTE_MARKER_UFFD_WP,
    ZERO_PFN,
    is_device_private_entry,
    is_migration_entry,
    non_swap_entry,
    pfn_pte,
    pgprot_t,
    pte_marker_get,
    pte_mksoft_dirty,
    pte_mkuffd_wp,
    pte_mkwrite,
    pte_pfn,
    pte_special,
    pte_swp_exclusive,
    pte_swp_soft_dirty,
    pte_swp_uffd_wp_any,
    pte_t,
    pte_to_swp_offset,
)
from kmm.mm.rmap import folio_add_anon_rmap_pte, folio_add_new_anon_rmap, page_number
from kmm.mm.swap import folio_add_lru
from kmm.mm.swapfile import add_to_swap_cache, swap_free
from kmm.mm.system import SwapSlot, page_at
from kmm.mm.vmstat import add_mm_counter, count_vm_event

_contents: Final = Page.contents


VM_FAULT_ERROR: Final = "error"
VM_FAULT_RETRY: Final = "retry"
VM_FAULT_DONE: Final = "done"


def vm_normal_page(vma: VmAreaStruct, addr: int, pte: pte_t) -> Page | None:
    """The refcounted page behind a present entry; ``None`` for the zero page and for special entries."""
    if pte_special(pte) or pte_pfn(pte) == ZERO_PFN:
        return None
    return page_at(pte_pfn(pte))


def pte_page(pte: pte_t) -> Page:
    """``struct page`` of a present entry."""
    return page_at(pte_pfn(pte))


def mk_pte(page: Page, prot: pgprot_t) -> pte_t:
    """An entry for a page."""
    return pfn_pte(page.pfn, prot)


def maybe_mkwrite(pte: pte_t, vma: VmAreaStruct) -> pte_t:
    """Writable if the VMA is."""
    return pte_mkwrite(pte) if vma.vm_flags & VM_WRITE else pte


def folio_pte_batch(folio: Folio, ptep: PtePtr, pte: pte_t, max_nr: int) -> int:
    """How many consecutive entries, at most ``max_nr``, map consecutive pages of ``folio``.

    Accessed, dirty, soft-dirty and write bits may differ.
    """
    ignored = 0x20 | 0x40 | 0x800 | 0x2
    expected = pte & ~ignored
    nr = 1
    end = min(max_nr, folio.pfn + (1 << folio.order) - pte_pfn(pte))
    while nr < end and ptep_get(ptep + nr) & ~ignored == expected + (nr << 12):
        nr += 1
    return nr


def clear_user_highpage(page: Page, vaddr: int) -> None:
    """Fill a page with zeros."""
    current.machine.write(page, _contents, 0, PLAIN)


def copy_mc_user_highpage(to: Page, source: Page, vaddr: int, vma: VmAreaStruct) -> int:
    """Copy a page; non-zero when the source turns out to be poisoned, which is then queued for memory_failure."""
    if page_number(vaddr) in system.this.injected.poison:
        system.this.poison_queued.append(source.name)
        return 1
    contents = current.machine.read(source, _contents, PLAIN)
    current.machine.write(to, _contents, contents, PLAIN)
    return 0


def do_swap_page(vma: VmAreaStruct, address: int, pte: PtePtr, orig_pte: pte_t) -> str:
    """Read fault on a swap entry, retry allowed, under the mmap read lock. Consumes the mapping of the table.

    The device is synchronous: an entry that is alone on its slot gets a fresh folio that never enters the swap cache.

    :returns: :data:`VM_FAULT_DONE`, :data:`VM_FAULT_RETRY` (the mmap lock was dropped) or :data:`VM_FAULT_ERROR`
    """
    this = system.this
    pte_unmap(pte)
    if non_swap_entry(orig_pte):
        return _do_non_swap_entry(vma, address, orig_pte)
    index = page_number(address)
    offset = pte_to_swp_offset(orig_pte)
    slot = this.swap[offset]
    if index in this.injected.swapin_error:
        return VM_FAULT_ERROR
    cached = slot.folio is not None
    folio = slot.folio if slot.folio is not None else _alloc_swap_folio(vma, offset)
    if folio is None:
        return VM_FAULT_ERROR
    if not cached:
        if offset not in this.swap:  # freed while the allocation slept, and the entry with it
            folio_put(folio)
            return VM_FAULT_DONE
        _swap_read_folio(folio, slot)
    if index in this.injected.swapin_retry or not folio_trylock(folio):
        mmap_read_unlock(vma.vm_mm)
        if not cached:
            add_to_swap_cache(folio, offset)
            folio_put(folio)
        return VM_FAULT_RETRY
    _map_swapped(vma, address, orig_pte, folio, fresh=not cached)
    return VM_FAULT_DONE


def _do_non_swap_entry(vma: VmAreaStruct, address: int, orig_pte: pte_t) -> str:
    """Read fault on an entry that names no swap slot."""
    pmd = pmd_offset(vma.vm_mm, address)
    assert pmd is not None
    if is_migration_entry(orig_pte):
        migration_entry_wait(vma.vm_mm, pmd, address)
        return VM_FAULT_DONE
    if is_device_private_entry(orig_pte):
        return VM_FAULT_DONE if migrate_to_ram(vma, pmd, address, orig_pte) else VM_FAULT_ERROR
    if pte_marker_get(orig_pte) == PTE_MARKER_UFFD_WP:
        return _do_uffd_wp_marker(vma, pmd, address, orig_pte)
    return VM_FAULT_ERROR


def _do_uffd_wp_marker(vma: VmAreaStruct, pmd: PmdSlot, address: int, orig_pte: pte_t) -> str:
    """A write-protected hole becomes a write-protected zero page, unless userfaultfd is asked for missing pages, too."""
    mm = vma.vm_mm
    if vma.vm_flags & VM_UFFD_MISSING:
        mmap_read_unlock(mm)
        return VM_FAULT_RETRY
    pte, ptl = pte_offset_map_lock(mm, pmd, address)
    if pte is not None:
        if ptep_get(pte) == orig_pte:
            set_pte(pte, pte_mkuffd_wp(mk_zero_pte(vma.vm_page_prot)))
        pte_unmap_unlock(pte, ptl)
    return VM_FAULT_DONE


def _alloc_swap_folio(vma: VmAreaStruct, offset: int) -> Folio | None:
    """A charged folio for a slot's data. May sleep."""
    folio = __folio_alloc("GFP_HIGHUSER_MOVABLE", 0, 0, frozenset())
    if folio is None:
        return None
    if not mem_cgroup_charge(folio, vma.vm_mm):
        folio_put(folio)
        return None
    folio.label = f"swap {offset}"
    return folio


def _swap_read_folio(folio: Folio, slot: SwapSlot) -> None:
    count_vm_event("pswpin")
    current.machine.write(folio.pages[0], _contents, slot.contents, PLAIN)
    folio_set_flag(folio, PG_uptodate)
    folio_add_lru(folio)


def _map_swapped(vma: VmAreaStruct, address: int, orig_pte: pte_t, folio: Folio, *, fresh: bool) -> None:
    """Replace the entry by a mapping of the locked ``folio``, unless the entry or its table changed meanwhile."""
    mm = vma.vm_mm
    pmd = pmd_offset(mm, address)
    assert pmd is not None
    pte, ptl = pte_offset_map_lock(mm, pmd, address)
    if pte is None or ptep_get(pte) != orig_pte:
        if pte is not None:
            pte_unmap_unlock(pte, ptl)
        folio_unlock(folio)
        if fresh:
            folio_put(folio)
        return
    offset = pte_to_swp_offset(orig_pte)
    shared_slot = system.this.swap[offset].count > 1
    exclusive = pte_swp_exclusive(orig_pte) or (fresh and not shared_slot)
    if fresh and shared_slot:
        add_to_swap_cache(folio, offset)
    add_mm_counter(mm, MM_ANONPAGES, 1)
    add_mm_counter(mm, MM_SWAPENTS, -1)
    entry = pfn_pte(folio.pfn, vma.vm_page_prot)
    if pte_swp_soft_dirty(orig_pte):
        entry = pte_mksoft_dirty(entry)
    uffd_wp = pte_swp_uffd_wp_any(orig_pte)
    if uffd_wp:
        entry = pte_mkuffd_wp(entry)
    if exclusive and vma.vm_flags & VM_WRITE and not uffd_wp:
        entry = pte_mkwrite(entry)
    if fresh:
        folio_add_new_anon_rmap(folio, vma, address, exclusive=exclusive)
    else:
        folio_get(folio)
        folio_add_anon_rmap_pte(folio, folio.pages[0], vma, address, exclusive=exclusive)
    swap_free(offset)
    page_table_check.pte_set(entry)
    set_pte(pte, entry)
    folio_unlock(folio)
    pte_unmap_unlock(pte, ptl)
