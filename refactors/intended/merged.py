"""How the merged form departs from v12 (docs/merged.md)."""

from __future__ import annotations

from kmm.mm.geometry import BIT, KHUGEPAGED_MIN_MTHP_ORDER
from kmm.mm.intended import Case, Intended, differs


def orders_below(c: Case) -> int:
    """Orders below PMD order that may be attempted, as a mask."""
    orders = c.enabled_orders if c.order is None else BIT(c.order)
    return orders & (BIT(c.pmd_order) - 1)


def holes(c: Case) -> int:
    """Entries that are none or the zero page."""
    return c.none + c.zero


def hole_limits(c: Case, order: int) -> tuple[int, int]:
    """Holes that khugepaged allows a range below PMD order, the smaller limit of v12 and merged first."""
    v12 = min(c.max_ptes_none, c.ptes // 2 - 1) >> (c.pmd_order - order)
    merged = BIT(order) - 1 if c.max_ptes_none == c.ptes - 1 else 0
    return min(v12, merged), max(v12, merged)


def between_limits(c: Case, order: int) -> bool:
    """A range of the order may have as many holes as only one of the two allows."""
    low, high = hole_limits(c, order)
    enough = c.order is not None or c.present >= BIT(order) - high
    return low < high and enough and holes(c) + c.unmapped + ("zap" in c.events) > low


def has_lazyfree(c: Case) -> bool:
    """khugepaged meets lazyfree pages that a collapse would make swap-backed."""
    return c.is_khugepaged and c.lazyfree > 0 and not c.droppable


def madvise_without_present(c: Case) -> bool:
    """MADV_COLLAPSE of a table that maps no page."""
    return c.driver == "madvise" and c.pmd == "table" and c.enabled_orders != 0 and c.present == 0


def madvise_below_pmd_order(c: Case) -> bool:
    """A direct attempt without khugepaged's limits, below PMD order, with shared pages; MADV_COLLAPSE makes none such."""
    return not c.is_khugepaged and orders_below(c) != 0 and c.shared > 0


def armed_with_holes(c: Case) -> bool:
    """khugepaged, with orders below PMD order, meets a hole in a VMA that is armed for userfaultfd."""
    return c.driver == "khugepaged" and c.armed and orders_below(c) != 0 and holes(c) > 0


def swap_fills(c: Case) -> bool:
    """khugepaged: the table is full enough for PMD order only if its swap entries count."""
    enabled = c.driver == "khugepaged" and bool(c.enabled_orders & BIT(c.pmd_order))
    return enabled and c.present < c.ptes - c.max_ptes_none <= c.present + c.unmapped


def limits_differ(c: Case) -> bool:
    """khugepaged: max_ptes_none, as it is or as somebody writes it, means something else below PMD order."""
    if not c.is_khugepaged or not orders_below(c):
        return False
    if "sysfs" in c.events:
        return holes(c) + c.unmapped > 0
    return any(between_limits(c, order) for order in range(KHUGEPAGED_MIN_MTHP_ORDER, c.pmd_order) if orders_below(c) & BIT(order))


def attempts_differ(c: Case) -> bool:
    """Other ranges may be attempted."""
    return has_lazyfree(c) or madvise_without_present(c) or armed_with_holes(c) or swap_fills(c) or limits_differ(c)


def refusable(c: Case) -> bool:
    """The same attempts are made, and something in the scenario may refuse all of them."""
    reasons = holes(c) or c.unmapped or c.shared or c.failures or c.events or c.actors or c.memcg_limited
    return c.order is None and not attempts_differ(c) and bool(reasons)


def another_is_refused(c: Case) -> bool:
    """Likewise, or others come to other pages: somebody calls MADV_COLLAPSE meanwhile, or anything where other ranges may be attempted."""
    return "madvise" in c.actors or (bool(c.actors) and attempts_differ(c))


def exceeds_in_scan(c: Case) -> bool:
    """The scan of the table may count more holes, swap entries or shared pages than it allows."""
    none = c.ptes - 1 if orders_below(c) or not c.is_khugepaged else c.max_ptes_none
    swap_or_shared = c.unmapped > c.max_ptes_swap or (c.shared > 0 and c.present > c.max_ptes_shared)
    changed = bool({"fork", "sysfs", "uffd_register"} & set(c.actors))
    return c.order is None and (holes(c) > none or (c.armed and holes(c) > 0) or (c.is_khugepaged and (swap_or_shared or changed)))


def pmd_order_not_tried(c: Case) -> bool:
    """v12 makes no attempt at PMD order, and so perhaps none at all: too few pages, or somebody writes the limit beside it."""
    none = c.max_ptes_none if c.is_khugepaged else c.ptes - 1
    tried = c.enabled_orders & BIT(c.pmd_order) and c.present >= c.ptes - none and "sysfs" not in c.actors
    return c.order is None and not tried


def visit_ends(c: Case) -> bool:
    """khugepaged: perhaps nothing is attempted, and v12 goes on under the same lock."""
    return c.driver == "khugepaged" and c.more and c.present < c.ptes


def goes_on(c: Case) -> bool:
    """MADV_COLLAPSE of several ranges: a refusal behind which the call goes on may come, and v12 ends it there."""
    return refusable(c) and c.driver == "madvise" and c.more and bool(c.merged or c.migrating)


def throttled(c: Case) -> bool:
    """khugepaged: an allocation may fail, and v12's pass goes on."""
    return c.driver == "khugepaged" and c.more and c.enabled_orders != 0 and "alloc" in c.failures


def read_only(c: Case) -> bool:
    """An order below PMD order may be attempted in a VMA that is not writable, or not any more."""
    return orders_below(c) != 0 and (not c.writable or "mprotect" in c.actors)


def walking_hook(c: Case) -> bool:
    """An order below PMD order may be attempted where the cache hook walks the live tables."""
    return orders_below(c) != 0 and c.arch == "walking"


def below_pmd_order(c: Case) -> bool:
    """An order below PMD order may be attempted."""
    return orders_below(c) != 0


INTENDED: Intended = {
    "v12": (
        *differs(
            "address_spaces",
            read_only,
            "the entries of the new folio are dirty only where the VMA is writable",
            "v15, map_anon_folio_pte_nopf",
        ),
        *differs(
            "violations",
            walking_hook,
            "the table is back in place before its entries are set, so a hook that walks finds them",
            "v19 06/14",
        ),
        *differs(
            "result trace mmap_locked vm_events mthp_stats node_stat notifier tlb_flushes address_spaces folios",
            has_lazyfree,
            "khugepaged refuses a table with a clean lazyfree page",
            "SCAN_PAGE_LAZYFREE, 2026, in the tree that the series was merged into",
        ),
        *differs(
            "result errno trace vm_events mthp_stats node_stat notifier tlb_flushes address_spaces folios",
            madvise_without_present,
            "MADV_COLLAPSE has no limit again: all holes, or swap entries alone, collapse",
            "v16, collapse_max_ptes_none",
        ),
        *differs(
            "result trace vm_events mthp_stats address_spaces folios swap",
            madvise_below_pmd_order,
            "only khugepaged refuses shared pages below PMD order",
            "v16, collapse_max_ptes_shared",
        ),
        *differs(
            "result trace mmap_locked vm_events notifier tlb_flushes address_spaces folios",
            armed_with_holes,
            "the scan passes over holes of an armed VMA and leaves them to the attempts",
            "v16, collapse_max_ptes_none",
        ),
        *differs(
            "result trace vm_events mthp_stats node_stat notifier tlb_flushes address_spaces folios",
            swap_fills,
            "swap entries count as occupied at PMD order",
            "fix on top of v19 11/14, 6 June 2026",
        ),
        *differs(
            "result trace vm_events mthp_stats notifier tlb_flushes address_spaces folios",
            limits_differ,
            "max_ptes_none below PMD order is all or nothing: its largest value allows all holes but one page, any other none",
            "v13, and since v18 other values act as 0; collapse_max_ptes_none",
        ),
        *differs(
            "events violations swap",
            attempts_differ,
            "other attempts pass other sleeping points, free other swap slots and end the life of other folios that an event names",
            "follows from the differences above",
        ),
        *differs(
            "result errno trace",
            refusable,
            "what refused the last attempt, or that an allocation failed, is the result; v12 makes it FAIL",
            "v19 11/14, mthp_collapse",
        ),
        *differs(
            "actors",
            another_is_refused,
            "a MADV_COLLAPSE that is called meanwhile gives its reason too, and who runs beside other attempts finds other pages in use",
            "v19 11/14, mthp_collapse; v18, collapse_max_ptes_none",
        ),
        *differs(
            "vm_events mthp_stats node_stat notifier tlb_flushes address_spaces folios swap",
            goes_on,
            "MADV_COLLAPSE goes on to the next range behind one that it cannot collapse just now; v12 ends there",
            "v19 11/14, mthp_collapse",
        ),
        *differs(
            "khugepaged vm_events mthp_stats node_stat notifier tlb_flushes address_spaces folios swap",
            throttled,
            "khugepaged sleeps over an allocation that failed, and ends its pass over the second one",
            "v19 11/14, mthp_collapse",
        ),
        *differs(
            "mthp_stats",
            exceeds_in_scan,
            "refusals during the scan count in the statistics of PMD order too",
            "review of v12 09/15; v19 08/14",
        ),
        *differs(
            "mmap_locked",
            pmd_order_not_tried,
            "the mmap lock is dropped behind the scan, even when no range is attempted",
            "v16, no mmap_locked parameter; v19 05/14",
        ),
        *differs(
            "khugepaged",
            visit_ends,
            "each scan drops the mmap lock, so that each range is a visit of its own, which counts one more towards the pass",
            "v16, no mmap_locked parameter; v19 05/14",
        ),
        *differs(
            "node_stat",
            below_pmd_order,
            "the memcg event counts PMD order only",
            "v18 02/14",
        ),
    )
}
