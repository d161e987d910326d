"""The fault on a swap entry (mm/memory.c). The device is synchronous, and reads no page ahead."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import PLAIN
from kmm.mm import system
from kmm.mm.folio import (
    Folio,
    Page,
    PageHWPoison,
    folio_lock,
    folio_mark_uptodate,
    folio_nr_pages,
    folio_ref_add,
    folio_ref_count,
    folio_test_anon,
    folio_test_large,
    folio_test_lru,
    folio_test_mlocked,
    folio_test_swapcache,
    folio_trylock,
    folio_unlock,
)
from kmm.mm.geometry import HPAGE_PMD_MASK, HPAGE_PMD_SIZE, PAGE_SIZE
from kmm.mm.migrate import migrate_to_ram, migration_entry_wait
from kmm.mm.mm_types import MM_ANONPAGES, MM_SWAPENTS, VM_LOCKED, VM_UFFD_MISSING, VM_WRITE
from kmm.mm.page_alloc import folio_put
from kmm.mm.pgtable import (
    PtePtr,
    mk_zero_pte,
    pte_offset_map_lock,
    pte_unmap,
    pte_unmap_unlock,
    ptep_get,
    set_pte,
    set_ptes,
)
from kmm.mm.pte import (
    PTE_MARKER_UFFD_WP,
    is_device_private_entry,
    is_hwpoison_entry,
    is_migration_entry,
    non_swap_entry,
    pfn_pte,
    pte_marker_get,
    pte_mkdirty,
    pte_mksoft_dirty,
    pte_mkuffd_wp,
    pte_mkwrite,
    pte_swp_exclusive,
    pte_swp_soft_dirty,
    pte_swp_uffd_wp_any,
    pte_t,
    pte_to_swp_offset,
)
from kmm.mm.rmap import folio_add_anon_rmap_pte, folio_add_new_anon_rmap, page_number
from kmm.mm.rmap_large import folio_add_anon_rmap_ptes
from kmm.mm.swap import folio_add_lru, lru_add_drain
from kmm.mm.swap_fault_alloc import alloc_swap_folio, can_swapin_thp, pte_move_swp_offset, swap_pte_batch
from kmm.mm.swapfile import (
    __swap_count,
    add_to_swap_cache,
    filemap_get_folio,
    folio_free_swap,
    swap_cache_get_folio,
    swap_free,
    swap_is_free,
)
from kmm.mm.vm_fault import (
    VM_FAULT_DONE,
    VM_FAULT_HWPOISON,
    VM_FAULT_OOM,
    VM_FAULT_RETRY,
    VM_FAULT_SIGBUS,
    VM_FAULT_WRITE,
    VmFault,
    handle_userfault,
    release_fault_lock,
)
from kmm.mm.vmstat import add_mm_counter, count_mthp_stat, count_vm_events

_contents: Final = Page.contents


def __do_swap_page(vmf: VmFault, pte: PtePtr) -> str:
    """Handle the fault on an entry that is neither empty nor present, nor a marker. Consumes the mapping of the table.

    An entry that is alone on its slot gets a fresh folio that never enters the swap cache.

    :source: mm/memory.c, v6.18
    """
    this = system.this
    pte_unmap(pte)
    orig_pte = vmf.orig_pte
    assert orig_pte is not None
    if non_swap_entry(orig_pte):
        return _do_non_swap_entry(vmf, orig_pte)
    offset = pte_to_swp_offset(orig_pte)
    if page_number(vmf.address) in this.injected.swapin_error:
        return VM_FAULT_SIGBUS
    folio = filemap_get_folio(offset)
    cached = folio is not None
    if folio is None:
        folio = alloc_swap_folio(vmf, offset)
        if folio is None:
            return VM_FAULT_OOM
        if swap_is_free(offset):  # while the allocation slept; the entry goes under the same lock
            folio_put(folio)
            _wait_for_entry(vmf)
            return VM_FAULT_DONE
        _swap_read_folio(folio, offset & -folio_nr_pages(folio))
    elif this.hwpoison and PageHWPoison(folio.pages[_position(folio, offset, fresh=False)]):
        folio_put(folio)
        return VM_FAULT_HWPOISON
    if not _folio_lock_or_retry(vmf, folio):
        release_fault_lock(vmf)
        if not cached:
            add_to_swap_cache(folio, offset & -folio_nr_pages(folio))
        folio_put(folio)
        return VM_FAULT_RETRY
    if cached and swap_cache_get_folio(offset) is not folio:
        folio_unlock(folio)
        folio_put(folio)
        return VM_FAULT_DONE
    if vmf.write and cached and not folio_test_lru(folio):
        lru_add_drain()
    return _map_swapped(vmf, orig_pte, folio, fresh=not cached)


def _wait_for_entry(vmf: VmFault) -> None:
    """Let whoever changes the entry finish."""
    pte, ptl = pte_offset_map_lock(vmf.vma.vm_mm, vmf.pmd, vmf.address)
    if pte is not None:
        pte_unmap_unlock(pte, ptl)


def _folio_lock_or_retry(vmf: VmFault, folio: Folio) -> bool:
    """Lock the folio; false: it takes longer than the fault's lock may be held. The second time under the mmap lock has no such limit."""
    if vmf.tried:
        folio_lock(folio)
        return True
    return page_number(vmf.address) not in system.this.injected.swapin_retry and folio_trylock(folio)


def _swap_read_folio(folio: Folio, offset: int) -> None:
    """Fill a folio from its slots; the page of a slot that was all zeros is not read."""
    slots = system.this.swap
    for i, page in enumerate(folio.pages):
        current.machine.write(page, _contents, slots[offset + i].contents, PLAIN)
    if slots[offset].zeromap:
        count_vm_events("swpin_zero", folio_nr_pages(folio))
    else:
        count_mthp_stat(folio.order, "swpin")
        count_vm_events("pswpin", folio_nr_pages(folio))
    folio_mark_uptodate(folio)
    folio_add_lru(folio)


def _do_non_swap_entry(vmf: VmFault, orig_pte: pte_t) -> str:
    """A fault on an entry that names no swap slot."""
    vma, address = vmf.vma, vmf.address
    if is_migration_entry(orig_pte):
        migration_entry_wait(vma.vm_mm, vmf.pmd, address)
        return VM_FAULT_DONE
    if is_device_private_entry(orig_pte):
        if vmf.vma_lock:
            release_fault_lock(vmf)
            return VM_FAULT_RETRY
        return VM_FAULT_DONE if migrate_to_ram(vma, vmf.pmd, address, orig_pte) else VM_FAULT_SIGBUS
    if is_hwpoison_entry(orig_pte):
        return VM_FAULT_HWPOISON
    if pte_marker_get(orig_pte) == PTE_MARKER_UFFD_WP:
        return _do_uffd_wp_marker(vmf, orig_pte)
    return VM_FAULT_SIGBUS


def _do_uffd_wp_marker(vmf: VmFault, orig_pte: pte_t) -> str:
    """A write-protected hole becomes a write-protected zero page, unless userfaultfd is asked for missing pages, too."""
    vma = vmf.vma
    if vma.vm_flags & VM_UFFD_MISSING:
        return handle_userfault(vmf)
    pte, ptl = pte_offset_map_lock(vma.vm_mm, vmf.pmd, vmf.address)
    if pte is not None:
        if ptep_get(pte) == orig_pte:
            set_pte(pte, pte_mkuffd_wp(mk_zero_pte(vma.vm_page_prot)))
        pte_unmap_unlock(pte, ptl)
    return VM_FAULT_DONE


def _map_swapped(vmf: VmFault, orig_pte: pte_t, folio: Folio, *, fresh: bool) -> str:
    """Replace the entry by a mapping of the locked ``folio``, unless the entry or its table changed meanwhile.

    :param fresh: the folio is not in the swap cache
    """
    mm, vma = vmf.vma.vm_mm, vmf.vma
    pte, ptl = pte_offset_map_lock(mm, vmf.pmd, vmf.address)
    run = None if pte is None or ptep_get(pte) != orig_pte else _run(vmf, pte, orig_pte, folio, fresh)
    if pte is None or run is None:
        if pte is not None:
            pte_unmap_unlock(pte, ptl)
        folio_unlock(folio)
        folio_put(folio)
        return VM_FAULT_DONE
    first, nr = run
    at = _position(folio, pte_to_swp_offset(orig_pte), fresh)
    idx, page = at - first, folio.pages[first]
    offset, ptep, address = pte_to_swp_offset(orig_pte) - idx, pte - idx, vmf.address - idx * PAGE_SIZE()
    exclusive = _give_up_slots(vmf, orig_pte, folio, offset, nr, fresh)
    add_mm_counter(mm, MM_ANONPAGES, nr)
    add_mm_counter(mm, MM_SWAPENTS, -nr)
    entry = _entry(vmf, orig_pte, page, exclusive)
    if nr > 1:
        folio_ref_add(folio, nr - 1)
    if not folio_test_anon(folio):
        folio_add_new_anon_rmap(folio, vma, address, exclusive=exclusive)
    elif folio_test_large(folio):
        folio_add_anon_rmap_ptes(folio, page, nr, vma, address, exclusive=exclusive)
    else:
        folio_add_anon_rmap_pte(folio, page, vma, address, exclusive=exclusive)
    set_ptes(mm, address, ptep, entry, nr)
    vmf.orig_pte = ptep_get(pte)
    folio_unlock(folio)
    pte_unmap_unlock(pte, ptl)
    return VM_FAULT_WRITE if vmf.write else VM_FAULT_DONE


def _position(folio: Folio, offset: int, fresh: bool) -> int:
    """Which page of the folio a slot has."""
    return offset % folio_nr_pages(folio) if fresh else offset - current.machine.read(folio, Folio.swap, PLAIN)


def _run(vmf: VmFault, pte: PtePtr, orig_pte: pte_t, folio: Folio, fresh: bool) -> tuple[int, int] | None:
    """What of the folio is mapped: the first page, and how many. ``None``: not what a fresh large folio was made for."""
    nr = folio_nr_pages(folio)
    at = _position(folio, pte_to_swp_offset(orig_pte), fresh)
    if fresh and nr > 1:
        return (0, nr) if can_swapin_thp(orig_pte, pte - at, at, nr) else None
    start = vmf.address - at * PAGE_SIZE()
    pmd = vmf.address & HPAGE_PMD_MASK()
    inside = start >= max(pmd, vmf.vma.vm_start) and start + nr * PAGE_SIZE() <= min(pmd + HPAGE_PMD_SIZE(), vmf.vma.vm_end)
    if nr > 1 and inside:
        first = ptep_get(pte - at)
        if first == pte_move_swp_offset(orig_pte, -at) and swap_pte_batch(pte - at, nr, first) == nr:
            return 0, nr
    return at, 1


def _give_up_slots(vmf: VmFault, orig_pte: pte_t, folio: Folio, offset: int, nr: int, fresh: bool) -> bool:
    """Entries refer to the slots no more; the swap cache may lose its use with that. The caller's reference becomes the mapping's.

    :returns: nobody else has the page
    """
    shared_slot = __swap_count(offset) > 1
    exclusive = pte_swp_exclusive(orig_pte) or (fresh and not shared_slot)
    if fresh and shared_slot:
        add_to_swap_cache(folio, offset)
    for i in range(nr):
        swap_free(offset + i)
    if _should_try_to_free_swap(vmf, folio) and folio_free_swap(folio):
        return exclusive or folio_ref_count(folio) == 1
    return exclusive


def _should_try_to_free_swap(vmf: VmFault, folio: Folio) -> bool:
    """The swap cache has no use for a page that stays, and is in the way of a write that might not have to copy it."""
    if not vmf.user or not folio_test_swapcache(folio):
        return False
    if vmf.vma.vm_flags & VM_LOCKED or folio_test_mlocked(folio):
        return True
    return vmf.write and folio_ref_count(folio) == 1 + folio_nr_pages(folio)


def _entry(vmf: VmFault, orig_pte: pte_t, page: Page, exclusive: bool) -> pte_t:
    """The entry that maps ``page``; an exclusive page may be written at once."""
    entry = pfn_pte(page.pfn, vmf.vma.vm_page_prot)
    if pte_swp_soft_dirty(orig_pte):
        entry = pte_mksoft_dirty(entry)
    uffd_wp = pte_swp_uffd_wp_any(orig_pte)
    if uffd_wp:
        entry = pte_mkuffd_wp(entry)
    if exclusive and vmf.vma.vm_flags & VM_WRITE and not uffd_wp:
        entry = pte_mkwrite(entry)
        if vmf.write:
            entry, vmf.write = pte_mkdirty(entry), False
    return entry
