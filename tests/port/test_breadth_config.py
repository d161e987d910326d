"""Nodes, the cgroup's limit and kernel configurations. Expected values are the reference's (2.6, 5.1, 5.6, 12.5, 1.4)."""

from __future__ import annotations

from typing import Final
from unittest import mock

import attrs
import pytest

from kmm.mm.khugepaged import alloc
from kmm.mm.khugepaged.alloc import collapse_find_target_node, collapse_scan_abort
from kmm.mm.khugepaged.types import CollapseControl
from kmm.mm.pte import PTE_MARKER_GUARD, pte_marker_get
from kmm.mm.variant import Variant
from kmm.scenario.build import build
from kmm.scenario.model import Config, Driver, Event, Failure, Geometry, Scenario, Tunables, Vma
from kmm.scenario.run import Run
from refactors import reviewed, v12
from tests.helpers import KHUGEPAGED, MADVISE, direct, folio_of, go, is_huge, make, mapped, reports, running, statuses, table

pytestmark = pytest.mark.parametrize("variant", [v12.VARIANT, reviewed.VARIANT], ids=lambda variant: variant.name)

DRIVERS: Final = pytest.mark.parametrize(
    "driver", [KHUGEPAGED, MADVISE, direct(3), direct(2, 4)], ids=lambda d: f"{d.kind.value}{d.order or ''}"
)


def clean(s: Scenario, variant: Variant) -> Run:
    r = go(s, variant)
    assert reports(r) == []
    return r


def with_config(s: Scenario, config: Config) -> Scenario:
    return attrs.evolve(s, config=config)


# NUMA (2.6; nodes 0 and 1 are near each other, as are 2 and 3)


def reclaiming(s: Scenario) -> Scenario:
    return attrs.evolve(s, tunables=attrs.evolve(s.tunables, node_reclaim=True))


@pytest.mark.parametrize(("pages", "node"), [("aaaaammm", 0), ("aaammmmm", 1), ("aRRRRRRR", 3), ("aaaammmm", 0), ("mmmRRRaa", 1)])
def test_the_new_folio_is_on_the_first_node_with_the_highest_load(variant: Variant, pages: str, node: int) -> None:
    r = clean(make(pages, KHUGEPAGED), variant)
    assert is_huge(r)
    (new,) = [folio for folio in r.world.system.folios if folio.label == "new@1:0"]
    assert new.nid == node


def test_a_smaller_one_is_placed_by_the_whole_table(variant: Variant) -> None:
    r = clean(make("mmmmmaaa", KHUGEPAGED, orders=(2,)), variant)
    assert [folio_of(r, index).nid for index in (0, 4)] == [1, 1], "the second range alone has more of node 0"
    assert folio_of(clean(make("mmmmmaaa", direct(2, 4), orders=(2,)), variant), 4).nid == 1


def test_swapped_pages_have_no_load(variant: Variant) -> None:
    r = clean(make("wwwwwwwm", MADVISE), variant)
    (new,) = [folio for folio in r.world.system.folios if folio.order == 3]
    assert new.nid == 1


@pytest.mark.parametrize(
    ("load", "target", "nodes"),
    [([5, 3, 0, 0], 0, {0}), ([3, 5, 0, 0], 1, {1}), ([4, 4, 0, 0], 0, {0, 1}), ([1, 2, 0, 2], 1, {1, 3}), ([0] * 4, 0, {0, 1, 2, 3})],
)
def test_nodes_that_tie_may_serve(variant: Variant, load: list[int], target: int, nodes: set[int]) -> None:
    with running(make("aaaaaaaa"), variant):
        cc = CollapseControl(is_khugepaged=True)
        cc.node_load = load
        assert collapse_find_target_node(cc) == target
        assert cc.alloc_nmask == nodes


@pytest.mark.parametrize(
    ("pages", "stop"),
    [("aaaaaaaR", 7), ("RaRRRRRR", 1), ("mmmmmmmR", 7), ("aaaaaaam", None), ("RRRRRRRR", None), ("aRaaaaaa", 1)],
)
@pytest.mark.parametrize("driver", [KHUGEPAGED, MADVISE], ids=lambda d: d.kind.value)
def test_with_node_reclaim_a_table_on_far_nodes_is_refused(variant: Variant, driver: Driver, pages: str, stop: int | None) -> None:
    r = clean(reclaiming(make(pages, driver)), variant)
    if stop is None:
        assert (r.result, is_huge(r)) == ("SCAN_SUCCEED", True)
    else:
        assert (r.result, r.errno) == ("SCAN_SCAN_ABORT", "EINVAL" if driver is MADVISE else "")
        (fields,) = [fields for name, fields in r.world.system.machine.trace_events if name == "mm_khugepaged_scan_pmd"]
        assert fields[1] is folio_of(r, stop)
    assert clean(make(pages, driver), variant).result == "SCAN_SUCCEED", "without node reclaim nothing is"


@pytest.mark.parametrize(
    ("load", "nid", "expected"),
    [([0, 0, 0, 0], 3, False), ([1, 0, 0, 0], 3, True), ([1, 0, 0, 1], 3, False), ([1, 0, 0, 0], 1, False), ([0, 0, 1, 0], 3, False)],
)
def test_scan_abort(variant: Variant, load: list[int], nid: int, expected: bool) -> None:
    for on in (True, False):
        s = make("aaaaaaaa")
        with running(reclaiming(s) if on else s, variant):
            cc = CollapseControl(is_khugepaged=True)
            cc.node_load = load
            assert collapse_scan_abort(nid, cc) == (on and expected)


@pytest.mark.parametrize(("distance", "expected"), [(30, False), (31, True)])
def test_a_node_is_far_beyond_the_reclaim_distance(variant: Variant, distance: int, expected: bool) -> None:
    with running(reclaiming(make("aaaaaaaa")), variant), mock.patch.object(alloc, "node_distance", return_value=distance):
        cc = CollapseControl(is_khugepaged=True)
        cc.node_load = [1, 0, 0, 0]
        assert collapse_scan_abort(1, cc) == expected


# The cgroup's limit (5.1)


@pytest.mark.parametrize(
    ("order", "room", "result"), [(3, 7, "CGROUP_CHARGE_FAIL"), (3, 8, "SUCCEED"), (2, 3, "CGROUP_CHARGE_FAIL"), (2, 4, "SUCCEED")]
)
def test_a_new_folio_needs_room_for_all_its_pages(variant: Variant, order: int, room: int, result: str) -> None:
    s = attrs.evolve(make("aaaaaaaa", direct(order), orders=(order,)), memcg_room=room)
    r = clean(s, variant)
    assert r.result == f"SCAN_{result}"
    memcg = r.world.mm.memcg
    assert memcg._usage == build(s, variant).mm.memcg._usage == 8
    assert (memcg.events.get("max", 0), memcg.events.get("thp_collapse_alloc", 0)) == ((0, 1) if result == "SUCCEED" else (1, 0))
    assert r.world.system.mthp_stats[order, "collapse_alloc"] == 1, "the allocation itself is counted"


def test_holes_are_charged(variant: Variant) -> None:
    r = clean(attrs.evolve(make("aaaa....", direct(3)), memcg_room=8), variant)
    assert r.world.mm.memcg._usage == 8


def test_the_walk_ends_at_the_limit(variant: Variant) -> None:
    """4.2: CGROUP_CHARGE_FAIL is none of the results after which smaller orders are tried, though one would have room."""
    r = clean(attrs.evolve(make("aaaaaaaa", orders=(2, 3)), memcg_room=4), variant)
    assert [status.name for status in statuses(r, "mm_collapse_huge_page")] == ["SCAN_CGROUP_CHARGE_FAIL"]
    assert (r.result, clean(attrs.evolve(make("aaaaaaaa", orders=(2,)), memcg_room=4), variant).result) == ("SCAN_FAIL", "SCAN_SUCCEED")


def test_a_page_that_comes_from_swap_needs_room_too(variant: Variant) -> None:
    full = clean(attrs.evolve(make("waaaaaaa", direct(3)), memcg_room=8), variant)
    assert (full.result, mapped(full)[0]) == ("SCAN_FAIL", "swap")
    assert clean(attrs.evolve(make("waaaaaaa", direct(3)), memcg_room=9), variant).result == "SCAN_SUCCEED"


# CONFIG_HIGHPTE (5.6: pte_unmap pairs exactly once)


@DRIVERS
@pytest.mark.parametrize(
    "pages", ["aaaaaaaa", "aaaaaaap", "waaaaaaa", "gaaaaaaa", "Maaaaaaa", "2222aaaa", "zKZaaaaa", "oooooooo", "........"]
)
@pytest.mark.parametrize("failure", [(), (Failure(kind="poison", page=5),)], ids=["", "poison"])
def test_every_mapping_of_a_table_is_taken_back(variant: Variant, driver: Driver, pages: str, failure: tuple[Failure, ...]) -> None:
    s = make(pages, driver, orders=(2, 3), flags=("mergeable", "read", "write"), failures=failure)
    high = clean(with_config(s, Config(highpte=True)), variant)
    assert (high.world.task.kmaps, high.world.task.rcu_depth) == ([], 0)
    plain = clean(s, variant)
    assert (high.result, high.errno, statuses(high, "mm_collapse_huge_page")) == (
        plain.result,
        plain.errno,
        statuses(plain, "mm_collapse_huge_page"),
    )


# CONFIG_PT_RECLAIM (12.5)


@pytest.mark.parametrize(("reclaim", "result", "tables"), [(True, "SCAN_PMD_NONE", 0), (False, "SCAN_EXCEED_NONE_PTE", 1)])
def test_dontneed_frees_the_table(variant: Variant, reclaim: bool, result: str, tables: int) -> None:
    s = make("aaaaaaaa", direct(3), events=(Event(op="free_table", before="mmap_read_lock"),))
    r = clean(with_config(s, Config(pt_reclaim=reclaim)), variant)
    assert (r.result, r.world.mm._pgtables_bytes) == (result, 4096 * tables)
    assert r.world.mm._rss_stat == [0, 0]
    fault = clean(with_config(attrs.evolve(s, driver=direct(3, is_khugepaged=False)), Config(pt_reclaim=reclaim)), variant)
    assert fault.result == ("SCAN_PMD_NONE" if reclaim else "SCAN_SUCCEED"), "MADV_COLLAPSE has no limit in isolate"


def test_a_guard_marker_keeps_the_table(variant: Variant) -> None:
    s = make("aaagaaaa", direct(3), events=(Event(op="free_table", before="mmap_read_lock"),))
    r = clean(s, variant)
    assert (r.result, r.world.mm._pgtables_bytes, mapped(r)) == ("SCAN_FAIL", 4096, [*"...", "swap", *"...."])
    assert pte_marker_get(table(r.world)._entries[3]) == PTE_MARKER_GUARD
    gone = make("aaagaaaa", direct(3), events=(Event(op="munmap", before="mmap_read_lock"),))
    assert clean(gone, variant).world.mm._pgtables_bytes == 0, "munmap drops the marker"


@pytest.mark.parametrize("letter", "PUH")
def test_dontneed_drops_the_other_markers_and_poison(variant: Variant, letter: str) -> None:
    s = make(
        "aaa" + letter + "aaaa", direct(3), flags=("read", "uffd_wp", "write"), events=(Event(op="free_table", before="mmap_read_lock"),)
    )
    assert clean(s, variant).result == "SCAN_PMD_NONE"


def test_a_vma_that_does_not_cover_the_range_keeps_the_table(variant: Variant) -> None:
    s = make("aaaaaaaa", direct(3), events=(Event(op="free_table", before="mmap_read_lock"),))
    halves = attrs.evolve(s, vmas=(Vma(pages="aaaa", start=0), Vma(pages="aaaa", start=4, flags=("dontdump", "read", "write"))))
    assert clean(halves, variant).world.mm._pgtables_bytes == 4096


# Sparse memory (1.4, H-31)


@pytest.mark.parametrize("pages", ["aaaaaaaa", "aaaaaa..", "33333333"])
def test_with_classic_sparse_memory_the_scan_event_reads_a_freed_folio(variant: Variant, pages: str) -> None:
    r = go(with_config(make(pages), Config(sparsemem_vmemmap=False)), variant)
    assert r.result == "SCAN_SUCCEED"
    last = {"aaaaaaaa": "page 7", "aaaaaa..": "page 5", "33333333": "page 0"}[pages]
    assert reports(r) == [("KASAN", f"folio_pfn touches flags of {last}, which folio_put freed")]
    assert reports(go(make(pages), variant)) == []


def test_it_does_not_where_the_last_folio_lives_on(variant: Variant) -> None:
    classic = with_config(make("aaaaaaaa"), Config(sparsemem_vmemmap=False))
    assert reports(go(attrs.evolve(classic, driver=direct(3)), variant)) == [], "no scan, and isolate reports before it releases"
    assert reports(go(with_config(make("aaaaaaap"), Config(sparsemem_vmemmap=False)), variant)) == [], "refused"
    locked = make("llllllll", flags=("locked", "read", "write"))
    assert reports(go(with_config(locked, Config(sparsemem_vmemmap=False)), variant)) == [], "the LRU batch still has it"


# Geometry and locks


@pytest.mark.parametrize("split", [True, False])
@DRIVERS
def test_one_lock_for_all_tables(variant: Variant, driver: Driver, split: bool) -> None:
    s = with_config(make("wzaaaaaa", driver, orders=(2, 3), none=1), Config(split_ptlocks=split))
    assert clean(s, variant).result == clean(attrs.evolve(s, config=Config()), variant).result


@pytest.mark.parametrize("size", [16384, 65536])
def test_larger_pages(variant: Variant, size: int) -> None:
    base = make("aa..aaaaaaaaaaaa", direct(2, 4), orders=(2, 4))
    s = attrs.evolve(base, geometry=Geometry(page_size=size, ptes=16))
    r = clean(s, variant)
    assert r.result == "SCAN_SUCCEED"
    assert r.world.system.notifier_windows[0] == (4 * size, 8 * size)
    start, end = r.world.system.machine.tlb_flushes[0]
    assert (start - r.world.system.base, end - start) == (0, 16 * size)
    r = clean(attrs.evolve(s, driver=direct(4)), variant)
    assert (r.result, r.world.mm._pgtables_bytes, r.world.mm._rss_stat[0]) == ("SCAN_SUCCEED", size, 16)


def test_64k_pages_with_8192_entries(variant: Variant) -> None:
    geometry = Geometry(page_size=65536, ptes=8192)
    tunables = Tunables.default(geometry)
    assert (tunables.max_ptes_none, tunables.max_ptes_swap, tunables.max_ptes_shared) == (8191, 1024, 4096)
    s = Scenario(geometry=geometry, tunables=tunables, vmas=(Vma(pages="a" + "." * 8190 + "a"),), driver=KHUGEPAGED)
    r = clean(s, variant)
    assert (r.result, is_huge(r), r.world.mm._rss_stat[0]) == ("SCAN_SUCCEED", True, 8192)
    (new,) = [folio for folio in r.world.system.folios if folio.order == 13]
    assert [page._contents for page in new.pages if page._contents] == [1, 8192]
