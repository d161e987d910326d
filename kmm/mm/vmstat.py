"""Counters (mm/vmstat.c, include/linux/huge_mm.h). Per-CPU in the kernel, so not shared accesses here."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.mm import system
from kmm.mm.folio import Folio, folio_nr_pages
from kmm.mm.mm_types import MmStruct
from kmm.mm.system import SwapSlot

_rss_stat: Final = MmStruct.rss_stat

VM_EVENTS: Final = (
    "pswpin",
    "pswpout",
    "pglazyfree",
    "pglazyfreed",
    "pgreuse",
    "pgmigrate_success",
    "pgmigrate_fail",
    "thp_migration_success",
    "thp_migration_fail",
    "thp_migration_split",
    "unevictable_pgs_culled",
    "unevictable_pgs_rescued",
    "unevictable_pgs_mlocked",
    "unevictable_pgs_munlocked",
    "unevictable_pgs_cleared",
    "unevictable_pgs_stranded",
    "thp_fault_alloc",
    "thp_fault_fallback",
    "thp_fault_fallback_charge",
    "thp_collapse_alloc",
    "thp_collapse_alloc_failed",
    "thp_file_alloc",
    "thp_file_fallback",
    "thp_file_fallback_charge",
    "thp_file_mapped",
    "thp_split_page",
    "thp_split_page_failed",
    "thp_deferred_split_page",
    "thp_underused_split_page",
    "thp_split_pmd",
    "thp_scan_exceed_none_pte",
    "thp_scan_exceed_swap_pte",
    "thp_scan_exceed_share_pte",
    "thp_split_pud",
    "thp_zero_page_alloc",
    "thp_zero_page_alloc_failed",
    "thp_swpout",
    "thp_swpout_fallback",
    "swpin_zero",
    "swpout_zero",
    "cow_ksm",
)
"""The events of ``/proc/vmstat``, in its order: all of transparent huge pages, and the others that the model counts."""

MTHP_STATS: Final = (
    "anon_fault_alloc",
    "anon_fault_fallback",
    "anon_fault_fallback_charge",
    "collapse_alloc",
    "collapse_alloc_failed",
    "collapse_exceed_none_pte",
    "collapse_exceed_shared_pte",
    "collapse_exceed_swap_pte",
    "nr_anon",
    "nr_anon_partially_mapped",
    "split",
    "split_deferred",
    "split_failed",
    "swpin",
    "swpin_fallback",
    "swpin_fallback_charge",
    "swpout",
    "swpout_fallback",
    "zswpout",
)
"""The statistics of an order: ``enum mthp_stat_item`` of 6.18 without shmem, and the ``collapse_*`` of the series (v12 04/15 and 09/15)."""


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


def vmstat_show() -> str:
    """``/proc/vmstat``, as far as the model counts: one line a counter, in the kernel's order."""
    values = {**_node_counters(), **{name: system.this.vm_events.get(name, 0) for name in VM_EVENTS}}
    return "".join(f"{name} {value}\n" for name, value in values.items())


def _node_counters() -> dict[str, int]:
    """Those in pages, but for the huge pages, which count as one each."""
    stat = system.this.node_stat
    return {
        "nr_mlock": stat.get("nr_mlock", 0),
        "nr_isolated_anon": stat.get("nr_isolated_anon", 0),
        "nr_anon_pages": stat.get("nr_anon_mapped", 0),
        "nr_anon_transparent_hugepages": stat.get("nr_anon_thps", 0),
        "nr_page_table_pages": nr_page_table_pages(),
        "nr_swapcached": nr_swapcached(),
    }


def nr_page_table_pages() -> int:
    """PTE tables of every address space; those of the upper levels are not counted."""
    return sum(mm.pgtables_bytes for mm in system.this.mms if not mm.freed_by) // current.machine.page_size


def nr_swapcached() -> int:
    """Pages in the swap cache."""
    return sum(current.machine.read(slot, SwapSlot.cached, ONCE) is not None for slot in system.this.swap.values())
