"""Reclaim of anonymous folios (mm/vmscan.c). One list: what the active list would keep, is kept here, too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs

from kmm.kernel import current
from kmm.kernel.locks import spin_lock, spin_unlock
from kmm.mm import system
from kmm.mm.folio import (
    Folio,
    PageHWPoison,
    PG_dirty,
    PG_lru,
    PG_referenced,
    folio_clear_flag,
    folio_expected_ref_count,
    folio_mapped,
    folio_nr_pages,
    folio_order,
    folio_ref_count,
    folio_ref_freeze,
    folio_ref_unfreeze,
    folio_set_flag,
    folio_test_dirty,
    folio_test_large,
    folio_test_mlocked,
    folio_test_partially_mapped,
    folio_test_swapbacked,
    folio_test_swapcache,
    folio_test_unevictable,
    folio_try_get,
    folio_trylock,
    folio_unlock,
)
from kmm.mm.geometry import HPAGE_PMD_NR
from kmm.mm.memcontrol import count_memcg_folio_events
from kmm.mm.mlock import folio_evictable
from kmm.mm.mm_types import VM_LOCKED
from kmm.mm.page_alloc import folio_put
from kmm.mm.poisoned import unmap_poisoned_folio
from kmm.mm.referenced import Referenced, folio_referenced
from kmm.mm.rmap_large import folio_maybe_dma_pinned
from kmm.mm.split import split_folio_to_list
from kmm.mm.swap import folio_putback_lru
from kmm.mm.swap_alloc import folio_alloc_swap, swap_writeout
from kmm.mm.swapfile import folio_free_swap, forget_slots
from kmm.mm.unmap import try_to_unmap
from kmm.mm.vmstat import count_mthp_stat, count_vm_event, count_vm_events

__all__ = [
    "Referenced",
    "Shrunk",
    "age_folio",
    "folio_referenced",
    "isolate_for_reclaim",
    "reclaim_pages",
    "shrink_folio_list",
    "swap_out_folio",
]


@attrs.define
class Shrunk:
    """What came of a list of folios.

    :param nr_reclaimed: pages
    :param kept: folios that stay, and why; with the reference that isolation took, off the LRU
    """

    nr_reclaimed: int = 0
    kept: list[tuple[Folio, str]] = attrs.field(factory=list)


def swap_out_folio(folio: Folio, *, force: bool = False) -> str:
    """Reclaim one folio, of which the caller needs no reference. May sleep.

    :param force: whether it is used or not, as MADV_PAGEOUT does
    :returns: empty when all of it is gone; else why some of it stays: ``off the LRU``, ``mlocked``, ``locked``, ``referenced``,
        ``pinned``, ``in use`` (somebody else has a reference), ``no swap slot``, ``mapped`` (a page could not be unmapped)
    """
    if why := _isolate(folio):
        return why
    shrunk = shrink_folio_list([folio], ignore_references=force)
    stays = [why for kept, why in shrunk.kept if folio_mapped(kept) or folio_test_swapcache(kept)]
    _putback(shrunk)
    return stays[0] if stays else ""


def reclaim_pages(folios: Iterable[Folio]) -> int:
    """Reclaim isolated folios in their order, whether they are used or not; those that stay go back to the LRU. May sleep.

    :returns: number of pages reclaimed
    """
    shrunk = shrink_folio_list(list(folios)[::-1], ignore_references=True)
    _putback(shrunk)
    return shrunk.nr_reclaimed


def isolate_for_reclaim(folio: Folio) -> bool:
    """Take a folio off the LRU, with a reference; false when it is on none, or must not be reclaimed."""
    return not _isolate(folio)


def _isolate(folio: Folio) -> str:
    """One that somebody is freeing is as good as off the LRU."""
    if not folio_try_get(folio):
        return "off the LRU"
    lru, unevictable = folio_clear_flag(folio, PG_lru), folio_test_unevictable(folio)
    if lru and not unevictable:
        return ""
    if lru:
        folio_putback_lru(folio)
    else:
        folio_put(folio)
    return "mlocked" if unevictable else "off the LRU"


def age_folio(folio: Folio) -> str:
    """``shrink_active_list`` for one folio, of which the caller has no reference: forget that it was used. May sleep.

    :returns: empty; ``EAGAIN``: it is gone, or somebody else has taken it off the LRU
    """
    if not folio_try_get(folio):
        return "EAGAIN"
    lru = folio_clear_flag(folio, PG_lru)
    if not lru and current.machine.scheduler is not None:
        folio_put(folio)
        return "EAGAIN"
    if folio_evictable(folio):
        folio_referenced(folio, is_locked=False)
    if lru:
        folio_set_flag(folio, PG_lru)
    folio_put(folio)
    return ""


def _putback(shrunk: Shrunk) -> None:
    for folio, _ in shrunk.kept:
        folio_putback_lru(folio)


def shrink_folio_list(folios: list[Folio], *, ignore_references: bool) -> Shrunk:
    """Reclaim isolated folios, always the last one of the list; the pages of a folio that must be split are put there. May sleep.

    :param folios: empty at the end
    :source: mm/vmscan.c, v6.18
    """
    out = Shrunk()
    while folios:
        folio = folios.pop()
        if not folio_trylock(folio):
            out.kept.append((folio, "locked"))
            continue
        if system.this.hwpoison and any(PageHWPoison(page) for page in folio.pages):
            if folio_test_large(folio):
                folio_unlock(folio)
                out.kept.append((folio, "poisoned"))
                continue
            unmap_poisoned_folio(folio)
            folio_unlock(folio)
            folio_put(folio)
            continue
        why = _reclaim(folio, folios, ignore_references)
        if not why:
            out.nr_reclaimed += folio_nr_pages(folio)
            _free(folio)
            continue
        if why in _ACTIVATED and folio_test_swapcache(folio) and folio_test_mlocked(folio):
            folio_free_swap(folio)
        folio_unlock(folio)
        out.kept.append((folio, why))
    return out


_ACTIVATED: Final = ("mlocked", "mapped")
"""Reasons for which a folio would move to the active list, and is no candidate for swapping any more."""


def _free(folio: Folio) -> None:
    """Its reference count is frozen: nobody has a reference any more."""
    folio_ref_unfreeze(folio, 1)
    folio_unlock(folio)
    folio_put(folio)


def _reclaim(folio: Folio, folios: list[Folio], ignore_references: bool) -> str:
    """One locked folio; empty: nobody uses it any more, and its reference count is frozen.

    :param folios: takes the other pages when the folio is split
    """
    if not folio_evictable(folio):
        return "mlocked"
    if not ignore_references and (why := _check_references(folio)):
        return why
    if folio_test_swapbacked(folio) and not folio_test_swapcache(folio) and (why := _add_to_swap(folio, folios)):
        return why
    if folio_mapped(folio):
        try_to_unmap(folio)
        if folio_mapped(folio):
            return "mlocked" if folio_test_mlocked(folio) else "mapped"
    if folio_maybe_dma_pinned(folio):
        return "pinned"
    if folio_test_dirty(folio) and folio_test_swapcache(folio) and not _pageout(folio):
        return "in use"
    return _remove_mapping(folio)


def _check_references(folio: Folio) -> str:
    """``folio_check_references``: used since the last look?"""
    found = folio_referenced(folio, is_locked=True)
    if found.seen & VM_LOCKED:
        return "mlocked"
    if found.mappings < 0:
        return "referenced"
    folio_clear_flag(folio, PG_referenced)
    if found.mappings:
        folio_set_flag(folio, PG_referenced)
        return "referenced"
    return ""


def _add_to_swap(folio: Folio, folios: list[Folio]) -> str:
    """Slots for a folio; where there are not enough in a row, for its first page, and the others go to the list."""
    if folio_maybe_dma_pinned(folio):
        return "pinned"
    if folio_test_large(folio):
        if folio_expected_ref_count(folio) != folio_ref_count(folio) - 1:
            return "in use"
        if folio_test_partially_mapped(folio) and split_folio_to_list(folio, folios):
            return "in use"
    if not folio_alloc_swap(folio):
        if not folio_test_large(folio):
            return "no swap slot"
        order, nr = folio_order(folio), folio_nr_pages(folio)
        if split_folio_to_list(folio, folios):
            return "in use"
        if nr >= HPAGE_PMD_NR():
            count_memcg_folio_events(folio, "thp_swpout_fallback", 1)
            count_vm_event("thp_swpout_fallback")
        count_mthp_stat(order, "swpout_fallback")
        if not folio_alloc_swap(folio):
            return "no swap slot"
    folio_set_flag(folio, PG_dirty)
    return ""


def _pageout(folio: Folio) -> bool:
    """Write a folio that only the swap cache and reclaim know; false when somebody else does."""
    if folio_ref_count(folio) != 1 + folio_nr_pages(folio):
        return False
    swap_writeout(folio)
    return not folio_test_dirty(folio)


def _remove_mapping(folio: Folio) -> str:
    """Freeze the reference count of an unmapped folio and take it out of the swap cache."""
    if not folio_test_swapbacked(folio):
        if not folio_ref_freeze(folio, 1):
            return "in use"
        count_vm_events("pglazyfreed", folio_nr_pages(folio))
        count_memcg_folio_events(folio, "pglazyfreed", folio_nr_pages(folio))
        return ""
    lock = system.this.swap_cache_lock
    spin_lock(lock)
    why = _leave_swap_cache(folio)
    spin_unlock(lock)
    return why


def _leave_swap_cache(folio: Folio) -> str:
    """The same under the lock of the swap cache."""
    if not folio_test_swapcache(folio) or not folio_ref_freeze(folio, 1 + folio_nr_pages(folio)):
        return "in use"
    if folio_test_dirty(folio):
        folio_ref_unfreeze(folio, 1 + folio_nr_pages(folio))
        return "in use"
    forget_slots(folio)
    return ""
