"""Reference 7 (counters) and 5 (state effect on success)."""

from __future__ import annotations

import pytest

from kmm.kernel.locks import down_write
from kmm.mm.folio import PG_lru
from kmm.mm.pte import pte_dirty, pte_present, pte_uffd_wp, pte_write, pte_young
from kmm.scenario.model import Failure, Scenario
from kmm.scenario.run import Run
from tests.helpers import KHUGEPAGED, MADVISE, direct, folio_of, go, is_huge, make, reports, table

NONE, SWAP, SHARE = "thp_scan_exceed_none_pte", "thp_scan_exceed_swap_pte", "thp_scan_exceed_share_pte"


def counters(r: Run) -> set[str]:
    """Collapse counters that are not zero: vm events by name, statistics as order:name, cgroup events as memcg:name."""
    this = r.world.system
    stats = {f"{order}:{name}" for (order, name), n in this.mthp_stats.items() if n and name.startswith("collapse_")}
    events = {name for name in this.vm_events if name.startswith(("thp_scan", "thp_collapse"))}
    return events | stats | {f"memcg:{name}" for name in this.mms[0].memcg.events}


ALLOC3 = {"thp_collapse_alloc", "3:collapse_alloc", "memcg:thp_collapse_alloc"}
ALLOC2 = {"2:collapse_alloc", "memcg:thp_collapse_alloc"}
ROWS = [
    ("alloc, PMD", make("aaaaaaaa"), ALLOC3),
    ("alloc, mTHP", make("aaaa....", orders=(2,), none=0), ALLOC2),
    ("alloc failed, PMD", make("aaaaaaaa", failures=(Failure(kind="alloc"),)), {"thp_collapse_alloc_failed", "3:collapse_alloc_failed"}),
    ("alloc failed, mTHP", make("aaaa....", orders=(2,), none=0, failures=(Failure(kind="alloc"),)), {"2:collapse_alloc_failed"}),
    ("none, PMD, scan", make("aaaaaa..", none=1), {NONE}),
    ("none, PMD, isolate", make("aaaaaa..", direct(3), none=1), {NONE, "3:collapse_exceed_none_pte"} | ALLOC3),
    ("none, mTHP, scan: the whole table's limit", make("........", orders=(2,), none=0), {NONE}),
    ("none, mTHP, isolate", make("aaa.aaaa", direct(2), orders=(2,), none=0), {"2:collapse_exceed_none_pte"} | ALLOC2),
    ("none, mTHP, a range that the walk skips", make("aaa.aaa.", orders=(2,), none=0), set()),
    ("swap, PMD, scan", make("wwaaaaaa", swap=1), {SWAP}),
    ("swap, PMD, swap-in", make("wwaaaaaa", direct(3), swap=1), ALLOC3),
    ("swap, mTHP, scan", make("wwaaaaaa", orders=(2,), swap=1), {SWAP}),
    ("swap, mTHP, swap-in", make("wwaaaaaa", direct(2), orders=(2,)), {"2:collapse_exceed_swap_pte"} | ALLOC2),
    ("shared, PMD, scan", make("ssaaaaaa", shared=1), {SHARE}),
    ("shared, PMD, isolate", make("ssaaaaaa", direct(3), shared=1), {SHARE, "3:collapse_exceed_shared_pte"} | ALLOC3),
    ("shared, mTHP, scan", make("ssaaaaaa", orders=(2,), shared=1), {SHARE}),
    ("shared, mTHP, isolate", make("ssaaaaaa", direct(2), orders=(2,)), {"2:collapse_exceed_shared_pte"} | ALLOC2),
]


@pytest.mark.parametrize(("s", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_counters(s: Scenario, expected: set[str]) -> None:
    assert counters(go(s)) == expected


def test_state_after_pmd_order() -> None:
    r = go(make("aaz.22222222aa..", KHUGEPAGED))
    assert is_huge(r)
    this = r.world.system
    (folio,) = [f for f in this.folios if not f.freed_by]
    assert (folio._refcount, folio._mapcount, folio._entire_mapcount) == (1, 1, 1)
    assert folio._flags & PG_lru
    assert (r.world.mm._rss_stat, r.world.mm._pgtables_bytes) == ([16, 0], 4096)
    assert (this.node_stat["nr_anon_mapped"], this.node_stat["nr_anon_thps"], this.node_stat["nr_isolated_anon"]) == (16, 1, 0)
    assert this.mthp_stats[4, "nr_anon"] == 1
    assert this.mthp_stats[2, "nr_anon"] == 0
    page = r.world.mm._pmds[0]
    assert page is not None
    assert [deposited.label for deposited in page._deposited] == ["table1"]
    assert not any(page._deposited[0]._entries), "a deposited table holds only none"


@pytest.mark.parametrize("flags", [("read", "write"), ("read",)])
def test_state_after_a_smaller_order(flags: tuple[str, ...]) -> None:
    letter = "a" if "write" in flags else "r"
    r = go(make(letter * 4 + "." * 4, KHUGEPAGED, orders=(2,), none=0, flags=flags))
    folio = folio_of(r, 0)
    assert (folio._refcount, folio._mapcount, folio._entire_mapcount) == (4, 4, 0)
    assert [page._mapcount for page in folio.pages] == [1] * 4
    assert [page._flags & 1 for page in folio.pages] == [1] * 4, "PageAnonExclusive"
    assert folio._flags & PG_lru
    assert (r.world.mm._rss_stat, r.world.mm._pgtables_bytes) == ([4, 0], 4096)
    assert list(r.world.system.deferred_split._split_queue) == [], "not queued at collapse"
    for pte in table(r.world)._entries[:4]:
        assert (pte_present(pte), pte_young(pte), pte_dirty(pte)) == (True, True, True), "dirty even in a read-only VMA"
        assert (pte_write(pte), pte_uffd_wp(pte)) == ("write" in flags, False)


def test_anonymous_pages_grow_by_the_holes_that_were_filled() -> None:
    r = go(make("aaa.aaazaaaa....", KHUGEPAGED, orders=(2,), none=15))
    assert r.world.mm._rss_stat == [12, 0]
    assert reports(r) == []


def test_a_leaked_write_lock_does_not_stop_the_observation() -> None:
    with_lock = go(make("aaaaaaaa", MADVISE), poke=lambda world: down_write(world.mm.mmap_lock))
    assert with_lock.outcome == "DEADLOCK: _visit_table waits for mmap_lock"
