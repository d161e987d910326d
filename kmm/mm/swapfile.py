"""Swap slots and the swap cache (mm/swapfile.c, mm/swap_state.c)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import PLAIN
from kmm.mm import system
from kmm.mm.folio import (
    Folio,
    PG_dirty,
    PG_swapcache,
    folio_clear_flag,
    folio_get,
    folio_mapcount,
    folio_ref_add,
    folio_set_flag,
    folio_test_swapcache,
    folio_trylock,
    folio_unlock,
)
from kmm.mm.page_alloc import folio_put, folio_put_refs


def swap_free(offset: int) -> None:
    """One entry less refers to the slot."""
    slot = system.this.swap[offset]
    slot.count -= 1
    if slot.count < 0:
        current.machine.report("CONSERVATION", f"swap slot {offset} has lost more entries than it had")
    _release(offset)


def _release(offset: int) -> None:
    slot = system.this.swap[offset]
    if slot.count <= 0 and slot.folio is None:
        del system.this.swap[offset]


def swap_duplicate(offset: int) -> None:
    """One entry more refers to the slot."""
    system.this.swap[offset].count += 1


def free_swap_and_cache(offset: int) -> None:
    """One entry less refers to the slot; a folio that only the swap cache still has a use for leaves it, if its lock can be had."""
    folio = system.this.swap[offset].folio
    swap_free(offset)
    if folio is not None:
        folio_get(folio)
        free_swap_cache(folio)
        folio_put(folio)


def forget_slots(folio: Folio) -> None:
    """The slots of a folio in the swap cache know it no more; those that no entry refers to are free. References are the caller's."""
    offset = current.machine.read(folio, Folio.swap, PLAIN)
    folio_clear_flag(folio, PG_swapcache)
    for i in range(1 << folio.order):
        system.this.swap[offset + i].folio = None
        _release(offset + i)


def delete_from_swap_cache(folio: Folio) -> None:
    """Take a locked folio out of the swap cache, with the cache's references, one a page."""
    forget_slots(folio)
    folio_put_refs(folio, 1 << folio.order)


def add_to_swap_cache(folio: Folio, offset: int) -> None:
    """Put a folio into the swap cache, which takes a reference for each page.

    :param offset: slot of the first page; the others follow
    """
    folio_ref_add(folio, 1 << folio.order)
    current.machine.write(folio, Folio.swap, offset, PLAIN)
    folio_set_flag(folio, PG_swapcache)
    for i in range(1 << folio.order):
        system.this.swap[offset + i].folio = folio


def folio_free_swap(folio: Folio) -> bool:
    """Let a locked folio leave the swap cache, unless an entry refers to one of its slots; it is dirty then: no slot has its contents."""
    if not folio_test_swapcache(folio) or folio_swapped(folio):
        return False
    delete_from_swap_cache(folio)
    folio_set_flag(folio, PG_dirty)
    return True


def folio_swapped(folio: Folio) -> bool:
    """An entry refers to one of the slots of a folio in the swap cache."""
    offset = current.machine.read(folio, Folio.swap, PLAIN)
    return any(system.this.swap[offset + i].count for i in range(1 << folio.order))


def free_swap_cache(folio: Folio) -> None:
    """Free the swap slot of a folio that nothing maps any more, if its lock can be had."""
    if folio_test_swapcache(folio) and folio_mapcount(folio) == 0 and folio_trylock(folio):
        _folio_free_swap(folio)
        folio_unlock(folio)


def _folio_free_swap(folio: Folio) -> None:
    """Leave the swap cache unless an entry still refers to the slot."""
    if folio_test_swapcache(folio) and not folio_swapped(folio):
        delete_from_swap_cache(folio)
