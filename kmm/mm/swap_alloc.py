"""Swap slots for a folio, and its way to the device (mm/swapfile.c, mm/page_io.c). One synchronous device, which is never full."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ONCE, PLAIN
from kmm.mm import system
from kmm.mm.folio import Folio, Page, PG_dirty, folio_clear_flag, folio_nr_pages
from kmm.mm.geometry import HPAGE_PMD_ORDER
from kmm.mm.memcontrol import count_memcg_folio_events
from kmm.mm.swapfile import add_to_swap_cache, folio_free_swap
from kmm.mm.system import SwapSlot
from kmm.mm.vmstat import count_mthp_stat, count_vm_event, count_vm_events

_contents: Final = Page.contents


def folio_alloc_swap(folio: Folio) -> bool:
    """Reserve consecutive, naturally aligned slots for a locked folio and put it into the swap cache; false: there are none.

    An injected ``swap_slots`` failure refuses the n-th such request.
    """
    this, numbers = system.this, system.numbers()
    if system.injects():
        this.swap_allocations += 1
        if this.swap_allocations in this.injected.swap_slots:
            return False
    nr = folio_nr_pages(folio)
    offset = -(-numbers.next_swap // nr) * nr
    numbers.next_swap = offset + nr
    for slot in range(offset, offset + nr):
        this.swap[slot] = SwapSlot(slot, 0, None, -1)
    add_to_swap_cache(folio, offset)
    return True


def swap_writeout(folio: Folio) -> None:
    """Write a locked folio in the swap cache to its slots, unless nobody refers to them any more. A folio of zeros is only noted."""
    folio_clear_flag(folio, PG_dirty)
    if folio_free_swap(folio):
        return
    contents = [current.machine.read(page, _contents, PLAIN) for page in folio.pages]
    zeromap = not any(contents)
    machine, offset = current.machine, current.machine.read(folio, Folio.swap, PLAIN)
    for i, token in enumerate(contents):
        slot = system.this.swap[offset + i]
        machine.write(slot, SwapSlot.contents, token, PLAIN)
        machine.write(slot, SwapSlot.zeromap, zeromap, ONCE)
    if zeromap:
        count_vm_events("swpout_zero", folio_nr_pages(folio))
    else:
        _count_swpout_vm_event(folio)


def _count_swpout_vm_event(folio: Folio) -> None:
    if folio.order == HPAGE_PMD_ORDER():
        count_memcg_folio_events(folio, "thp_swpout", 1)
        count_vm_event("thp_swpout")
    count_mthp_stat(folio.order, "swpout")
    count_memcg_folio_events(folio, "pswpout", folio_nr_pages(folio))
    count_vm_events("pswpout", folio_nr_pages(folio))
