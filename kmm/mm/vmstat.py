"""Counters (mm/vmstat.c, include/linux/huge_mm.h). Per-CPU in the kernel, so not shared accesses here."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.mm import system
from kmm.mm.folio import Folio, folio_nr_pages
from kmm.mm.mm_types import MmStruct

_rss_stat: Final = MmStruct.rss_stat


def count_vm_event(name: str) -> None:
    """Add one to a vm event."""
    count_vm_events(name, 1)


def count_vm_events(name: str, delta: int) -> None:
    """Add ``delta`` to a vm event."""
    events = system.this.vm_events
    events[name] = events.get(name, 0) + delta


def count_mthp_stat(order: int, name: str) -> None:
    """Add one to a statistic of an order (orders below 2 and above PMD order have none)."""
    mod_mthp_stat(order, name, 1)


def mod_mthp_stat(order: int, name: str, delta: int) -> None:
    """Add ``delta`` to a statistic of an order."""
    if 2 <= order <= current.machine.pmd_order:
        stats = system.this.mthp_stats
        stats[order, name] = stats.get((order, name), 0) + delta


def node_stat_mod(name: str, delta: int) -> None:
    """Add ``delta`` to a node counter."""
    stat = system.this.node_stat
    stat[name] = stat.get(name, 0) + delta


def node_stat_mod_folio(folio: Folio, name: str, delta: int) -> None:
    """Add ``delta`` to a counter of the folio's node."""
    node_stat_mod(name, delta)


def node_stat_add_folio(folio: Folio, name: str) -> None:
    """Add the folio's pages to a counter of its node."""
    node_stat_mod(name, folio_nr_pages(folio))


def node_stat_sub_folio(folio: Folio, name: str) -> None:
    """Take the folio's pages off a counter of its node."""
    node_stat_mod(name, -folio_nr_pages(folio))


def add_mm_counter(mm: MmStruct, member: int, value: int) -> None:
    """Add pages to a counter of the address space."""
    current.machine.rmw_item(mm, _rss_stat, member, value.__add__, ONCE)
