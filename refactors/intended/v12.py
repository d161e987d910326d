"""How v12 departs from the tree that it was posted against (docs/base.md)."""

from __future__ import annotations

from kmm.mm.geometry import BIT
from kmm.mm.intended import Case, Intended, differs


def holes(c: Case) -> int:
    """Entries that are none or the zero page."""
    return c.none + c.zero


def zapped(c: Case) -> int:
    """Pages that may be gone when a later pass scans the table."""
    return c.events.count("zap") if c.passes > 1 else 0


def scans(c: Case, driver: str) -> bool:
    """The driver comes to a table, and may collapse the whole of it."""
    return c.driver == driver and c.pmd == "table" and bool(c.enabled_orders & BIT(c.pmd_order))


def madvise_of_holes(c: Case) -> bool:
    """MADV_COLLAPSE of a table that may be all none or zero page."""
    return scans(c, "madvise") and not c.armed and c.present <= zapped(c) and not c.unmapped


def madvise_of_swap(c: Case) -> bool:
    """MADV_COLLAPSE of a table with swap entries in which perhaps no page is present."""
    return scans(c, "madvise") and c.present <= zapped(c) and bool(c.unmapped) and (not c.armed or not holes(c))


def swap_fills(c: Case) -> bool:
    """khugepaged: the table has too few present pages, and few enough holes."""
    if not scans(c, "khugepaged") or not 0 < c.unmapped <= c.max_ptes_swap:
        return False
    if c.passes > 1 and "sysfs" in c.events:
        return True
    return holes(c) <= c.max_ptes_none < c.ptes - c.present + zapped(c)


def nothing_attempted(c: Case) -> bool:
    """v12 makes no attempt where the base makes one."""
    return madvise_of_holes(c) or madvise_of_swap(c) or swap_fills(c)


def attempted(c: Case) -> bool:
    """An attempt at PMD order may be made: directly, or because the scan may find nothing to refuse."""
    if c.order is not None or c.passes > 1:
        return True
    limit = c.max_ptes_none if c.is_khugepaged else c.ptes - 1
    return (scans(c, "khugepaged") or scans(c, "madvise")) and c.present >= c.ptes - limit


def refused(c: Case) -> bool:
    """Something may refuse an attempt behind a scan: a page that comes back from a migration is in an LRU batch."""
    refuses = c.failures or c.events or c.actors or c.memcg_limited or c.merged or c.migrating
    return c.order is None and attempted(c) and bool(refuses)


def another_is_refused(c: Case) -> bool:
    """Likewise of MADV_COLLAPSE, which somebody calls meanwhile."""
    return refused(c) and "madvise" in c.actors


def goes_on(c: Case) -> bool:
    """MADV_COLLAPSE of several ranges: a refusal that the base goes on behind may come, and v12 ends the call there."""
    return c.driver == "madvise" and c.more and attempted(c) and bool(c.merged or c.migrating)


def throttled(c: Case) -> bool:
    """khugepaged: the allocation of an attempt may fail, and the pass goes on."""
    return c.driver == "khugepaged" and c.more and attempted(c) and "alloc" in c.failures


def limit_is_written(c: Case) -> bool:
    """Somebody writes a limit beside the driver."""
    return "sysfs" in c.actors


INTENDED: Intended = {
    "base": (
        *differs(
            "result errno mmap_locked trace vm_events mthp_stats node_stat notifier tlb_flushes address_spaces folios",
            madvise_of_holes,
            "MADV_COLLAPSE has a limit of all holes but one; in the base it has none (S-25)",
            "v12 06/15 and 12/15",
        ),
        *differs(
            "result errno mmap_locked trace vm_events mthp_stats node_stat notifier tlb_flushes address_spaces folios swap",
            madvise_of_swap,
            "MADV_COLLAPSE attempts nothing without a present page; the base swaps the pages in and collapses (S-26)",
            "v12 12/15",
        ),
        *differs(
            "result mmap_locked trace vm_events mthp_stats node_stat notifier tlb_flushes address_spaces folios swap",
            swap_fills,
            "swap entries do not count as occupied, so khugepaged attempts nothing (S-14)",
            "v12 12/15; found in v19 11/14, 6 June 2026",
        ),
        *differs(
            "events violations",
            nothing_attempted,
            "no attempt passes no sleeping point, and ends the life of no folio that an event names",
            "follows from the differences above",
        ),
        *differs(
            "result errno trace",
            refused,
            "the result of the attempt is lost: every failure behind the scan is FAIL, and the errno EINVAL (S-15)",
            "v12 12/15; found in v18",
        ),
        *differs(
            "actors",
            another_is_refused,
            "a MADV_COLLAPSE that is called meanwhile loses the result of its attempt likewise: the errno is EINVAL (S-15)",
            "v12 12/15; found in v18",
        ),
        *differs(
            "vm_events node_stat notifier tlb_flushes address_spaces folios swap",
            goes_on,
            "MADV_COLLAPSE ends at a range that it cannot collapse just now; the base goes on to the next one (S-15)",
            "v12 12/15; found in v18",
        ),
        *differs(
            "khugepaged vm_events node_stat notifier tlb_flushes address_spaces folios swap",
            throttled,
            "khugepaged does not sleep over an allocation that failed, nor end its pass over the second one (S-15)",
            "v12 12/15; found in v18",
        ),
        *differs(
            "mthp_stats",
            attempted,
            "an attempt counts in the statistics of PMD order, which the base does not have",
            "v12 04/15 and 09/15",
        ),
        *differs(
            "violations vm_events",
            limit_is_written,
            "the limit of holes is read in a function, which a data race names, and again behind the scan, which may end there",
            "v12 06/15 and 12/15",
        ),
    )
}
