"""Reference 5.1: ``alloc_charge_folio``."""

from __future__ import annotations

from unittest import mock

import attrs
import pytest

from kmm.mm.khugepaged import alloc
from kmm.mm.khugepaged.types import ScanResult
from kmm.scenario.model import Failure
from kmm.scenario.run import Run
from tests.helpers import KHUGEPAGED, MADVISE, direct, folio_of, go, make, reports, traces


def counted(r: Run) -> set[tuple[str, int]]:
    """Allocation counters: vm events, per-order statistics as order:name, cgroup events as memcg:name."""
    this = r.world.system
    stats = {(f"{order}:{name}", n) for (order, name), n in this.mthp_stats.items() if name.startswith("collapse_alloc")}
    memcg = {(f"memcg:{name}", n) for name, n in r.world.mm.memcg.events.items()}
    return {(name, n) for name, n in this.vm_events.items() if name.startswith("thp_collapse_alloc")} | stats | memcg


FAILED, DONE = "collapse_alloc_failed", "collapse_alloc"


@pytest.mark.parametrize(
    ("order", "failure", "result", "counters"),
    [
        (3, None, "SCAN_SUCCEED", {("thp_collapse_alloc", 1), ("3:collapse_alloc", 1), ("memcg:thp_collapse_alloc", 1)}),
        (2, None, "SCAN_SUCCEED", {("2:collapse_alloc", 1), ("memcg:thp_collapse_alloc", 1)}),
        (3, "alloc", "SCAN_ALLOC_HUGE_PAGE_FAIL", {("thp_collapse_alloc_failed", 1), ("3:collapse_alloc_failed", 1)}),
        (2, "alloc", "SCAN_ALLOC_HUGE_PAGE_FAIL", {("2:collapse_alloc_failed", 1)}),
        (3, "charge", "SCAN_CGROUP_CHARGE_FAIL", {("thp_collapse_alloc", 1), ("3:collapse_alloc", 1)}),
        (2, "charge", "SCAN_CGROUP_CHARGE_FAIL", {("2:collapse_alloc", 1)}),
    ],
)
def test_rows(order: int, failure: str | None, result: str, counters: set[tuple[str, int]]) -> None:
    r = go(make("aaaaaaaa", direct(order), orders=(2, 3), failures=() if failure is None else (Failure(kind=failure),)))
    assert r.result == result
    assert counted(r) == counters
    assert r.mmap_locked is False
    assert reports(r) == []
    assert traces(r, "mm_collapse_huge_page")[0][1:] == (failure is None, ScanResult[result], order)


@pytest.mark.parametrize(
    ("is_khugepaged", "defrag", "gfp"),
    [(True, True, "GFP_TRANSHUGE"), (True, False, "GFP_TRANSHUGE_LIGHT"), (False, True, "GFP_TRANSHUGE"), (False, False, "GFP_TRANSHUGE")],
)
def test_gfp(is_khugepaged: bool, defrag: bool, gfp: str) -> None:
    s = make("aaaaaaaa", direct(3, is_khugepaged=is_khugepaged))
    s = attrs.evolve(s, tunables=attrs.evolve(s.tunables, defrag=defrag))
    with mock.patch.object(alloc, "__folio_alloc", wraps=getattr(alloc, "__folio_alloc")) as allocator:
        go(s)
    assert [call.args[0] for call in allocator.call_args_list] == [gfp]


@pytest.mark.parametrize(("pages", "target", "mask"), [("aaaaammm", 0, {0}), ("mmmmmaaa", 1, {1}), ("mmmmaaaa", 0, {0, 1})])
def test_the_allocation_may_use_only_the_nodes_with_the_highest_load(pages: str, target: int, mask: set[int]) -> None:
    with mock.patch.object(alloc, "__folio_alloc", wraps=getattr(alloc, "__folio_alloc")) as allocator:
        go(make(pages, KHUGEPAGED))
    assert [call.args[2:] for call in allocator.call_args_list] == [(target, mask)]


def test_a_small_range_is_placed_by_the_majority_of_the_table() -> None:
    r = go(make("aaaammmm" + "mmmmmmmm", orders=(2,), none=0))
    assert [folio_of(r, i).nid for i in (0, 4, 8, 12)] == [1, 1, 1, 1]


def test_a_refused_allocation_lets_the_walk_go_on_and_a_refused_charge_ends_it() -> None:
    orders = (2, 3)
    tried = [f[3] for f in traces(go(make("aaaaaaaa", orders=orders, failures=(Failure(kind="alloc"),))), "mm_collapse_huge_page")]
    assert tried == [3, 2, 2]
    tried = [f[3] for f in traces(go(make("aaaaaaaa", orders=orders, failures=(Failure(kind="charge"),))), "mm_collapse_huge_page")]
    assert tried == [3]


@pytest.mark.parametrize("kind", ["alloc", "charge"])
def test_madv_collapse_says_einval(kind: str) -> None:
    """Reference 6.3: every failure after the scan is FAIL, so ENOMEM and EBUSY are lost."""
    r = go(make("aaaaaaaa", MADVISE, failures=(Failure(kind=kind),)))
    assert (r.result, r.errno) == ("SCAN_FAIL", "EINVAL")


def test_a_refused_folio_is_uncharged() -> None:
    r = go(make("aaaaaaap", direct(3)))
    assert r.result == "SCAN_PAGE_COUNT"
    assert r.world.mm.memcg._usage == 8
    assert r.world.system.folios[-1].freed_by
