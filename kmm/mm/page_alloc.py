"""Allocating and freeing folios (mm/page_alloc.c, mm/swap.c)."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ONCE, RELEASE
from kmm.kernel.locks import might_sleep
from kmm.kernel.report import kernel_function
from kmm.mm import page_table_check, system
from kmm.mm.deferred_split import folio_unqueue_deferred_split
from kmm.mm.folio import (
    Folio,
    PG_lru,
    PG_mlocked,
    folio_clear_flag,
    folio_nr_pages,
    folio_test_anon,
    folio_test_lru,
    folio_test_mlocked,
)
from kmm.mm.memcontrol import mem_cgroup_uncharge
from kmm.mm.vmstat import count_vm_events, mod_mthp_stat, node_stat_mod_folio

_mapcount: Final = Folio.mapcount
_refcount: Final = Folio.refcount


def __folio_alloc(gfp: str, order: int, preferred_nid: int, nodemask: frozenset[int]) -> Folio | None:
    """A folio of ``order``, or ``None``. May sleep.

    :param gfp: name of the allocation flags
    :param nodemask: nodes that may serve; empty: any
    """
    current.machine.sleeping_point("alloc")
    might_sleep()
    this = system.this
    if system.injects():
        this.allocations += 1
        if this.allocations in this.injected.alloc:
            return None
    return new_folio(f"new order-{order} folio", order, preferred_nid)


def new_folio(label: str, order: int, nid: int) -> Folio:
    """A folio with frames of its own, one reference and unspecified contents."""
    this, numbers = system.this, system.numbers()
    size = 1 << order
    pfn = -(-numbers.next_pfn // size) * size
    numbers.next_pfn = pfn + size
    folio = Folio(label, pfn, order, nid)
    if current.machine.scheduler is not None:
        folio.maker = f" of CPU {current.cpu.number}"
    for page in folio.pages:
        this.mem_map[page.pfn] = page
    this.folios.append(folio)
    return folio


def folio_put(folio: Folio) -> None:
    """Drop a reference; the last one frees the folio."""
    folio_put_refs(folio, 1)


def folio_put_refs(folio: Folio, refs: int) -> None:
    """Drop ``refs`` references; the last one frees the folio. As with ``atomic_sub_and_test``, what was done before stays before."""
    left = current.machine.fetch_add(folio, _refcount, -refs, RELEASE) - refs
    if left == 0:
        __folio_put(folio)
    elif left < 0:
        current.machine.report("REFCOUNT", f"{kernel_function()} drops the reference count of {folio.name} below zero")


def __folio_put(folio: Folio) -> None:
    """Free a folio whose last reference is gone."""
    if folio_test_lru(folio):
        folio_clear_flag(folio, PG_lru)
    folio_unqueue_deferred_split(folio)
    _clear_mlocked(folio)
    if folio_test_anon(folio):
        mod_mthp_stat(folio.order, "nr_anon", -1)
    mem_cgroup_uncharge(folio)
    page_table_check.folio_freed(folio)
    if current.machine.read(folio, _mapcount, ONCE):
        current.machine.report("DEBUG_VM", f"bad page: {folio.name} is freed while it is mapped")
    _free(folio)


def _clear_mlocked(folio: Folio) -> None:
    """A folio that is mlocked to the last is freed."""
    if folio_test_mlocked(folio):
        folio_clear_flag(folio, PG_mlocked)
        node_stat_mod_folio(folio, "nr_mlock", -folio_nr_pages(folio))
        count_vm_events("unevictable_pgs_cleared", folio_nr_pages(folio))


def _free(folio: Folio) -> None:
    """Who touches one of its pages without a reference is not told from one who touches the folio: freeing each would be a step each."""
    current.machine.free(folio, "folio_put")
    for page in folio.pages:
        page.freed_by = "folio_put"
