"""Swap slots and the swap cache (mm/swapfile.c, mm/swap_state.c)."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ONCE, PLAIN
from kmm.kernel.locks import lockdep_assert_held, spin_lock, spin_unlock
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
from kmm.mm.system import SwapSlot

_count: Final = SwapSlot.count
_cached: Final = SwapSlot.cached


def swap_cache_get_folio(offset: int) -> Folio | None:
    """The folio that the swap cache has for a slot; no reference is taken."""
    return current.machine.read(system.this.swap[offset], _cached, ONCE)


def __swap_count(offset: int) -> int:
    """How many entries refer to a slot."""
    return current.machine.read(system.this.swap[offset], _count, ONCE)


def swap_is_free(offset: int) -> bool:
    """No entry refers to the slot, and the swap cache has nothing for it."""
    return __swap_count(offset) <= 0 and swap_cache_get_folio(offset) is None


def swap_free(offset: int) -> None:
    """One entry less refers to the slot."""
    if current.machine.fetch_add(system.this.swap[offset], _count, -1) <= 0:
        current.machine.report("CONSERVATION", f"swap slot {offset} has lost more entries than it had")


def swap_duplicate(offset: int) -> None:
    """One entry more refers to the slot."""
    current.machine.fetch_add(system.this.swap[offset], _count, 1)


def free_swap_and_cache(offset: int) -> None:
    """One entry less refers to the slot; a folio that only the swap cache still has a use for leaves it, if its lock can be had."""
    swap_free(offset)
    folio = filemap_get_folio(offset)
    if folio is not None:
        free_swap_cache(folio)
        folio_put(folio)


def filemap_get_folio(offset: int) -> Folio | None:
    """The folio that the swap cache has for a slot, with a reference.

    The kernel looks without lock, and again where the reference count is zero or frozen; here a lock keeps those who freeze it out.
    """
    lock = system.this.swap_cache_lock
    spin_lock(lock)
    folio = swap_cache_get_folio(offset)
    if folio is not None:
        folio_get(folio)
    spin_unlock(lock)
    return folio


def forget_slots(folio: Folio) -> None:
    """The slots of a folio in the swap cache know it no more; those that no entry refers to are free. References are the caller's.

    Under the lock of the swap cache.
    """
    lockdep_assert_held(system.this.swap_cache_lock)
    offset = current.machine.read(folio, Folio.swap, PLAIN)
    for i in range(1 << folio.order):
        current.machine.write(system.this.swap[offset + i], _cached, None, ONCE)
    folio_clear_flag(folio, PG_swapcache)


def delete_from_swap_cache(folio: Folio) -> None:
    """Take a locked folio out of the swap cache, with the cache's references, one a page."""
    lock = system.this.swap_cache_lock
    spin_lock(lock)
    forget_slots(folio)
    spin_unlock(lock)
    folio_put_refs(folio, 1 << folio.order)


def add_to_swap_cache(folio: Folio, offset: int) -> None:
    """Put a folio into the swap cache, which takes a reference for each page.

    :param offset: slot of the first page; the others follow
    """
    lock = system.this.swap_cache_lock
    spin_lock(lock)
    folio_ref_add(folio, 1 << folio.order)
    current.machine.write(folio, Folio.swap, offset, PLAIN)
    folio_set_flag(folio, PG_swapcache)
    for i in range(1 << folio.order):
        current.machine.write(system.this.swap[offset + i], _cached, folio, ONCE)
    spin_unlock(lock)


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
    return any(__swap_count(offset + i) for i in range(1 << folio.order))


def free_swap_cache(folio: Folio) -> None:
    """Free the swap slot of a folio that nothing maps any more, if its lock can be had."""
    if folio_test_swapcache(folio) and folio_mapcount(folio) == 0 and folio_trylock(folio):
        _folio_free_swap(folio)
        folio_unlock(folio)


def _folio_free_swap(folio: Folio) -> None:
    """Leave the swap cache unless an entry still refers to the slot."""
    if folio_test_swapcache(folio) and not folio_swapped(folio):
        delete_from_swap_cache(folio)
