"""Swap slots and the swap cache (mm/swapfile.c, mm/swap_state.c)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import PLAIN
from kmm.mm import system
from kmm.mm.folio import (
    Folio,
    PG_swapcache,
    folio_clear_flag,
    folio_get,
    folio_mapcount,
    folio_set_flag,
    folio_test_swapcache,
    folio_trylock,
    folio_unlock,
)
from kmm.mm.page_alloc import folio_put


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


def delete_from_swap_cache(folio: Folio) -> None:
    """Take a locked folio out of the swap cache, with the cache's reference."""
    offset = current.machine.read(folio, Folio.swap, PLAIN)
    folio_clear_flag(folio, PG_swapcache)
    system.this.swap[offset].folio = None
    _release(offset)
    folio_put(folio)


def add_to_swap_cache(folio: Folio, offset: int) -> None:
    """Put a folio into the swap cache, which takes a reference."""
    folio_get(folio)
    current.machine.write(folio, Folio.swap, offset, PLAIN)
    folio_set_flag(folio, PG_swapcache)
    system.this.swap[offset].folio = folio


def free_swap_cache(folio: Folio) -> None:
    """Free the swap slot of a folio that nothing maps any more, if its lock can be had."""
    if folio_test_swapcache(folio) and folio_mapcount(folio) == 0 and folio_trylock(folio):
        _folio_free_swap(folio)
        folio_unlock(folio)


def _folio_free_swap(folio: Folio) -> None:
    """Leave the swap cache unless an entry still refers to the slot."""
    if folio_test_swapcache(folio):
        offset = current.machine.read(folio, Folio.swap, PLAIN)
        if system.this.swap[offset].count == 0:
            delete_from_swap_cache(folio)
