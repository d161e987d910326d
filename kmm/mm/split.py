"""Splitting a large anonymous folio into its pages (mm/huge_memory.c)."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ONCE, PLAIN
from kmm.kernel.barrier import smp_wmb
from kmm.kernel.bug import VM_WARN_ON_ONCE
from kmm.kernel.locks import spin_lock, spin_unlock
from kmm.mm import system
from kmm.mm.deferred_split import unqueue_locked
from kmm.mm.folio import (
    Folio,
    Page,
    PG_anon_exclusive,
    PG_dirty,
    PG_locked,
    PG_lru,
    PG_mlocked,
    PG_referenced,
    PG_swapbacked,
    PG_swapcache,
    PG_unevictable,
    PG_uptodate,
    folio_expected_ref_count,
    folio_get,
    folio_mapped,
    folio_nr_pages,
    folio_order,
    folio_ref_count,
    folio_ref_freeze,
    folio_ref_unfreeze,
    folio_set_flag,
    folio_test_large,
    folio_test_locked,
    folio_test_lru,
    folio_test_swapcache,
    folio_test_unevictable,
    folio_try_get,
    folio_trylock,
    folio_unlock,
)
from kmm.mm.geometry import HPAGE_PMD_ORDER
from kmm.mm.migration_ptes import remove_migration_ptes, try_to_migrate
from kmm.mm.mm_types import AnonVma
from kmm.mm.mmap import anon_vma_lock_write, anon_vma_unlock_write
from kmm.mm.page_alloc import folio_put
from kmm.mm.split_pmd import split_huge_pmd, split_huge_pmd_address, split_huge_pmd_locked
from kmm.mm.swapfile import free_swap_cache
from kmm.mm.system import SwapSlot
from kmm.mm.vmstat import count_mthp_stat, count_vm_event, mod_mthp_stat

__all__ = [
    "folio_get_anon_vma",
    "split_folio",
    "split_folio_to_list",
    "split_huge_pmd",
    "split_huge_pmd_address",
    "split_huge_pmd_locked",
    "split_large_folio",
]

_COPIED: Final = PG_referenced | PG_swapbacked | PG_swapcache | PG_mlocked | PG_uptodate | PG_locked | PG_unevictable | PG_dirty
"""Flags that every page of the folio takes over."""


def split_large_folio(folio: Folio) -> str:
    """``split_huge_pages`` of debugfs, for a folio of which the caller has no reference. May sleep.

    :returns: as :func:`split_folio`; ``EAGAIN``, too, when it is gone, locked, or not large any more
    :source: mm/huge_memory.c, v6.18
    """
    if not folio_try_get(folio):
        return "EAGAIN"
    outcome = "EAGAIN"
    if folio_test_large(folio) and folio_trylock(folio):
        outcome = split_folio(folio)
        folio_unlock(folio)
    folio_put(folio)
    return outcome


def split_folio(folio: Folio) -> str:
    """Split a locked large folio, of which the caller has a reference, into its pages. May sleep.

    The first page stays this folio, locked and with the caller's reference; the others are unlocked, on the LRU, and freed if
    nothing maps them. Pages that are all zeros become the zero page where they are mapped.

    :returns: ``EAGAIN`` when somebody else has a reference, ``EBUSY`` when nothing maps the folio; empty: it is split
    :source: mm/huge_memory.c, v6.18
    """
    return split_folio_to_list(folio, None)


def split_folio_to_list(folio: Folio, others: list[Folio] | None) -> str:
    """:func:`split_folio` of a folio that reclaim has taken off the LRU: the others get a reference and go to the list, not to the LRU.

    :param others: ``None``: the folio is on the LRU
    """
    old_order = folio_order(folio)
    VM_WARN_ON_ONCE(not folio_test_locked(folio), "!folio_test_locked(folio)")
    VM_WARN_ON_ONCE(not folio_test_large(folio), "!folio_test_large(folio)")
    errno = _split_mapped(folio, others)
    if old_order == HPAGE_PMD_ORDER():
        count_vm_event("thp_split_page_failed" if errno else "thp_split_page")
    count_mthp_stat(old_order, "split_failed" if errno else "split")
    return errno


def folio_get_anon_vma(folio: Folio) -> AnonVma | None:
    """The anon_vma of a folio; ``None`` when nothing maps the folio."""
    anon_vma = current.machine.read(folio, Folio.mapping, ONCE)
    return anon_vma if anon_vma is not None and folio_mapped(folio) else None


def _split_mapped(folio: Folio, others: list[Folio] | None) -> str:
    anon_vma = folio_get_anon_vma(folio)
    if anon_vma is None:
        return "EBUSY"
    anon_vma_lock_write(anon_vma)
    errno = "EAGAIN"
    if folio_expected_ref_count(folio) == folio_ref_count(folio) - 1:
        errno = _unmap_and_split(folio, anon_vma, others)
    anon_vma_unlock_write(anon_vma)
    return errno


def _unmap_and_split(folio: Folio, anon_vma: AnonVma, others: list[Folio] | None) -> str:
    try_to_migrate(folio, anon_vma, split_huge=True)
    if not _freeze(folio):
        remove_migration_ptes(folio, folio, anon_vma)
        return "EAGAIN"
    tails = _split_frozen(folio, others)
    spin_unlock(system.this.swap_cache_lock)
    for each in (folio, *tails):
        remove_migration_ptes(each, each, anon_vma, use_shared_zeropage=True)
    for tail in tails:
        folio_unlock(tail)
        free_swap_cache(tail)
        folio_put(tail)
    return ""


def _cache_refs(folio: Folio) -> int:
    """References that the swap cache has."""
    return folio_nr_pages(folio) if folio_test_swapcache(folio) else 0


def _freeze(folio: Folio) -> bool:
    """Take it off the deferred-split queue, with nobody else having a reference; the swap cache stays locked then."""
    queue, cache = system.this.deferred_split.split_queue_lock, system.this.swap_cache_lock
    spin_lock(queue)
    spin_lock(cache)
    frozen = folio_ref_freeze(folio, _cache_refs(folio) + 1)
    if frozen:
        unqueue_locked(folio)
    else:
        spin_unlock(cache)
    spin_unlock(queue)
    return frozen


def _split_frozen(folio: Folio, others: list[Folio] | None) -> list[Folio]:
    """Make a folio of every page but the first, which stays ``folio``; the reference counts of all are given back last."""
    old_order, nr = folio_order(folio), folio_nr_pages(folio)
    flags = current.machine.read(folio, Folio.flags, ONCE)
    pages = folio.pages
    tails = [_tail(folio, pages[i], i, flags) for i in range(1, nr)]
    folio.pages = pages[:1]
    folio.order = 0
    current.machine.write(folio, Folio.mm_ids, [0, 0, 0, 0], PLAIN)
    mod_mthp_stat(old_order, "nr_anon", -1)
    for tail in tails:
        folio_ref_unfreeze(tail, _cache_refs(tail) + 1)
        _lru_add_split_folio(folio, tail, others)
        if flags & PG_swapcache:
            current.machine.write(system.this.swap[tail.swap], SwapSlot.cached, tail, ONCE)
    folio_ref_unfreeze(folio, _cache_refs(folio) + 1)
    return tails


def _tail(folio: Folio, page: Page, i: int, flags: int) -> Folio:
    """A folio of page ``i``, without references."""
    machine = current.machine
    tail = Folio(f"{folio.label}[{i}]", page.pfn, 0, folio.nid)
    own = tail.pages[0]
    own.ptc_count = page.ptc_count
    tail.maker = folio.maker if current.machine.scheduler is None else f"{folio.maker} when split"
    machine.write(own, Page.contents, machine.read(page, Page.contents, PLAIN), PLAIN)
    machine.write(own, Page.flags, machine.read(page, Page.flags, PLAIN) & ~PG_anon_exclusive, PLAIN)
    tail.lock_owner = folio.lock_owner
    machine.write(tail, Folio.refcount, 0, ONCE)
    machine.write(tail, Folio.flags, flags & _COPIED, PLAIN)
    machine.write(tail, Folio.mapping, folio.mapping, PLAIN)
    machine.write(tail, Folio.index, folio.index + i, PLAIN)
    if flags & PG_swapcache:
        machine.write(tail, Folio.swap, folio.swap + i, PLAIN)
    machine.write(tail, Folio.memcg, folio.memcg, PLAIN)
    smp_wmb()
    system.this.mem_map[page.pfn] = own
    system.this.folios.append(tail)
    return tail


def _lru_add_split_folio(folio: Folio, tail: Folio, others: list[Folio] | None) -> None:
    if others is not None:
        VM_WARN_ON_ONCE(folio_test_lru(folio), "folio_test_lru(folio)")
        folio_get(tail)
        others.append(tail)
        return
    VM_WARN_ON_ONCE(not folio_test_lru(folio), "!folio_test_lru(folio)")
    if folio_test_unevictable(folio):
        current.machine.write(tail, Folio.mlock_count, 0, PLAIN)
    folio_set_flag(tail, PG_lru)
