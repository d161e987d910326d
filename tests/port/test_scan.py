"""Reference 4.1: ``collapse_scan_pmd``, row by row, and facts 3, 4, 5, 13 and 14 of the recorded kernels."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import attrs
import pytest

from kmm.mm.khugepaged import scan
from kmm.mm.khugepaged.types import ScanResult
from kmm.mm.pte import pte_mkspecial
from kmm.scenario.build import World
from kmm.scenario.model import Driver, Geometry, Scenario
from kmm.scenario.run import Run
from tests.helpers import KHUGEPAGED, MADVISE, Script, folio_of, go, is_huge, make, table, traces

UFFD = ("read", "uffd_wp", "write")
MISSING = ("read", "uffd_missing", "write")
EVENTS = ("thp_scan_exceed_none_pte", "thp_scan_exceed_share_pte", "thp_scan_exceed_swap_pte")


def scanned(s: Scenario, poke: Callable[[World], None] | None = None) -> tuple[Run, Script]:
    """One scan whose attempts all succeed without doing anything."""
    script = Script(lambda order, offset: ScanResult.SCAN_SUCCEED)
    return go(s, script.variant, poke), script


def event(r: Run) -> tuple[object, ...]:
    """The scan event: mm, folio, referenced, none_or_zero, status, unmapped."""
    (fields,) = traces(r, "mm_khugepaged_scan_pmd")
    return (*fields[1:4], fields[4].name.removeprefix("SCAN_") if isinstance(fields[4], ScanResult) else "", fields[5])


def scan_events(r: Run) -> list[str]:
    """Vm events of refusals."""
    return [name for name in EVENTS for _ in range(r.world.system.vm_events.get(name, 0))]


ROWS = [
    ("a: swap over the limit", make("aawwaaaa", swap=1), ("page 1", 2, 0, "EXCEED_SWAP_PTE", 2), ["thp_scan_exceed_swap_pte"]),
    ("a: MADV_COLLAPSE has no swap limit", make("wwwwwwwa", MADVISE, swap=0), ("page 7", 0, 0, "SUCCEED", 7), []),
    ("a: limit before uffd-wp", make("q.......", swap=0, flags=UFFD), (None, 0, 0, "EXCEED_SWAP_PTE", 1), ["thp_scan_exceed_swap_pte"]),
    ("a: uffd-wp swap entry", make("aqaaaaaa", swap=1, flags=UFFD), ("page 0", 1, 0, "PTE_UFFD_WP", 1), []),
    ("a: uffd-wp swap entry, MADV_COLLAPSE", make("aqaaaaaa", MADVISE, flags=UFFD), ("page 0", 0, 0, "PTE_UFFD_WP", 1), []),
    ("b: holes within the limit", make("aaaaaa..", none=2), ("page 5", 6, 2, "SUCCEED", 0), []),
    ("b: holes over the limit", make("aaa.a.aa", none=1), ("page 4", 4, 2, "EXCEED_NONE_PTE", 0), ["thp_scan_exceed_none_pte"]),
    ("b: zero pages count as holes", make("aaaz.aaa", none=1), ("page 2", 3, 2, "EXCEED_NONE_PTE", 0), ["thp_scan_exceed_none_pte"]),
    ("b: armed, one hole", make("aaa.aaaa", flags=UFFD), ("page 2", 3, 1, "EXCEED_NONE_PTE", 0), ["thp_scan_exceed_none_pte"]),
    ("b: armed for missing", make("aaazaaaa", flags=MISSING), ("page 2", 3, 1, "EXCEED_NONE_PTE", 0), ["thp_scan_exceed_none_pte"]),
    ("b: armed, MADV_COLLAPSE", make(".aaaaaaa", MADVISE, flags=UFFD), (None, 0, 1, "EXCEED_NONE_PTE", 0), ["thp_scan_exceed_none_pte"]),
    ("b: armed and full", make("aaaaaaaa", flags=UFFD), ("page 7", 8, 0, "SUCCEED", 0), []),
    ("c: uffd-wp", make("aauaaaaa", flags=UFFD), ("page 1", 2, 0, "PTE_UFFD_WP", 0), []),
    ("f: shared within the limit", make("ssaaaaaa", shared=2), ("page 7", 8, 0, "SUCCEED", 0), []),
    ("f: shared over the limit", make("asastaaa", shared=2), ("page 4", 4, 0, "EXCEED_SHARED_PTE", 0), ["thp_scan_exceed_share_pte"]),
    ("f: MADV_COLLAPSE has no shared limit", make("ssssssss", MADVISE, shared=0), ("page 7", 0, 0, "SUCCEED", 0), []),
    ("f: per PTE, not per folio", make("SSSSaaaa", shared=3), ("page 0", 3, 0, "EXCEED_SHARED_PTE", 0), ["thp_scan_exceed_share_pte"]),
    ("f: a large folio of one mm is not shared", make("2222aaaa", shared=0), ("page 7", 8, 0, "SUCCEED", 0), []),
    ("f: limit before the LRU", make("saaaaaaa", shared=0), ("page 0", 0, 0, "EXCEED_SHARED_PTE", 0), ["thp_scan_exceed_share_pte"]),
    ("i: not on the LRU", make("aaxaaaaa"), ("page 2", 2, 0, "PAGE_LRU", 0), []),
    ("i: in a batch", make("aabaaaaa"), ("page 2", 2, 0, "PAGE_LRU", 0), []),
    ("j: locked", make("aakaaaaa"), ("page 2", 2, 0, "PAGE_LOCK", 0), []),
    ("k: pinned", make("aaaaaaap"), ("page 7", 7, 0, "PAGE_COUNT", 0), []),
    ("k: the swap cache is expected", make("hhaaaaaa"), ("page 7", 8, 0, "SUCCEED", 0), []),
    ("k: a shared page is expected", make("sttaaaaa"), ("page 7", 8, 0, "SUCCEED", 0), []),
    ("l: old pages do not count", make("oooaoooo"), ("page 7", 1, 0, "SUCCEED", 0), []),
    ("l: a referenced folio counts", make("oofooooo"), ("page 7", 1, 0, "SUCCEED", 0), []),
    ("l: only khugepaged counts", make("aaaaaaaa", MADVISE), ("page 7", 0, 0, "SUCCEED", 0), []),
    ("6: none referenced", make("oooooooo"), ("page 7", 0, 0, "LACK_REFERENCED_PAGE", 0), []),
    ("6: all holes", make("z......."), (None, 0, 8, "EXCEED_NONE_PTE", 0), ["thp_scan_exceed_none_pte"]),
    ("6: swap needs half referenced", make("waaaoooo"), ("page 7", 3, 0, "LACK_REFERENCED_PAGE", 1), []),
    ("6: swap and half referenced", make("waaaaooo"), ("page 7", 4, 0, "SUCCEED", 1), []),
    ("6: MADV_COLLAPSE does not mind", make("wooooooo", MADVISE), ("page 7", 0, 0, "SUCCEED", 1), []),
]


@pytest.mark.parametrize(("s", "expected", "events"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_rows(s: Scenario, expected: tuple[object, ...], events: list[str]) -> None:
    r, script = scanned(s)
    assert event(r) == expected
    assert scan_events(r) == events
    assert bool(script.attempts) == (expected[3] == "SUCCEED")
    assert not [key for key in r.world.system.mthp_stats if "exceed" in key[1]], "no per-order statistic is touched during the scan"


def test_d_no_normal_page() -> None:
    def special(world: World) -> None:
        entries = table(world)._entries
        entries[2] = pte_mkspecial(entries[2])

    assert event(scanned(make("aaaaaaaa"), special)[0]) == ("page 1", 2, 0, "PAGE_NULL", 0)


def test_e_not_anonymous() -> None:
    def file(world: World) -> None:
        folio_of(world, 2)._mapping = None

    assert event(scanned(make("aaaaaaaa"), file)[0]) == ("page 2", 2, 0, "PAGE_ANON", 0)


def test_h_nodes_too_far_apart() -> None:
    with mock.patch.object(scan, "collapse_scan_abort", lambda nid, cc: nid == 1):
        assert event(scanned(make("aamaaaaa"))[0]) == ("page 2", 2, 0, "SCAN_ABORT", 0)


def test_l_secondary_mmu() -> None:
    def young(world: World) -> None:
        world.mm._secondary_young = frozenset({world.system.base + 3 * 4096})
        world.mm.has_notifiers = True

    assert event(scanned(make("oooooooo"), young)[0]) == ("page 7", 1, 0, "SUCCEED", 0)


def test_4_table_gone_after_the_lookup() -> None:
    with mock.patch.object(scan, "pte_offset_map_lock", lambda mm, pmd, addr: (None, mm.page_table_lock)):
        assert event(scanned(make("aaaaaaaa"))[0]) == (None, 0, 0, "PMD_NULL", 0)


@pytest.mark.parametrize(("pmd", "status"), [("absent", "PMD_NULL"), ("none", "PMD_NONE"), ("huge", "PMD_MAPPED")])
@pytest.mark.parametrize("driver", [KHUGEPAGED, MADVISE], ids=["khugepaged", "madvise"])
def test_1_no_table(pmd: str, status: str, driver: Driver) -> None:
    r, script = scanned(make("........", driver, pmd=pmd))
    assert event(r) == (None, 0, 0, status, 0)
    assert not script.attempts
    assert r.mmap_locked is True
    assert r.errno == ("EINVAL" if driver is MADVISE and pmd != "huge" else "")


@pytest.mark.parametrize(
    ("orders", "driver", "limit"),
    [((4,), KHUGEPAGED, 3), ((2, 4), KHUGEPAGED, 15), ((2,), KHUGEPAGED, 15), ((4,), MADVISE, 15), ((2,), MADVISE, 15)],
)
def test_3_which_limit(orders: tuple[int, ...], driver: Driver, limit: int) -> None:
    fits, refused = "." * limit + "a" * (16 - limit), "." * (limit + 1) + "a" * (15 - limit)
    assert event(scanned(make(fits, driver, orders=orders, none=3))[0])[3] in ("SUCCEED", "FAIL"), "FAIL: no range was eligible"
    assert event(scanned(make(refused, driver, orders=orders, none=3))[0])[3] == "EXCEED_NONE_PTE"


def test_3_no_order_left() -> None:
    """Sysfs raced: the walk then attempts nothing, and the lock is still held."""
    with mock.patch.object(scan, "collapse_allowable_orders", return_value=0):
        r, script = scanned(make("a.......", none=0))
    assert event(r) == ("page 0", 1, 7, "FAIL", 0)
    assert (script.attempts, r.mmap_locked) == ([], True)


@pytest.mark.parametrize(
    ("pages", "status"),
    [
        ("." * 255 + "a" * 257, "SUCCEED"),
        ("." * 256 + "a" * 256, "EXCEED_NONE_PTE"),
        ("s" * 256 + "a" * 256, "SUCCEED"),
        ("s" * 257 + "a" * 255, "EXCEED_SHARED_PTE"),
        ("w" * 64 + "a" * 448, "SUCCEED"),
        ("w" * 65 + "a" * 447, "EXCEED_SWAP_PTE"),
        ("w" * 10 + "a" * 256 + "o" * 246, "SUCCEED"),
        ("w" * 10 + "a" * 255 + "o" * 247, "LACK_REFERENCED_PAGE"),
    ],
)
def test_fact_14_thresholds(pages: str, status: str) -> None:
    assert event(scanned(make(pages, none=255))[0])[3] == status


def test_one_refusing_entry_refuses_every_order() -> None:
    r, script = scanned(make("aaaaaaaaaaaaaaap", orders=(2, 3, 4)))
    assert event(r)[3] == "PAGE_COUNT"
    assert not script.attempts


def test_the_shared_limit_is_that_of_the_table_for_smaller_orders_too() -> None:
    s = make("ssssssssaaaaaaaa", orders=(2,))
    assert event(scanned(s)[0])[3] == "SUCCEED"
    tighter = attrs.evolve(s, tunables=attrs.evolve(s.tunables, max_ptes_shared=7))
    assert event(scanned(tighter)[0])[3] == "EXCEED_SHARED_PTE"


def test_the_walk_gets_the_counts_of_the_whole_table() -> None:
    _, script = scanned(make("aaaaaaaaaaaawwzo", orders=(2, 3), swap=2))
    assert set(script.arguments) == {(12, 2)}


@pytest.mark.parametrize("driver", [KHUGEPAGED, MADVISE], ids=["khugepaged", "madvise"])
def test_fact_3_armed_and_full_collapses(driver: Driver) -> None:
    assert is_huge(go(make("aaaaaaaa", driver, flags=UFFD)))


@pytest.mark.parametrize(
    ("s", "errno"),
    [
        (make("aaazaaaa", MADVISE, flags=UFFD), "EBUSY"),
        (make("aaa.aaaa", MADVISE, flags=MISSING), "EBUSY"),
        (make("aauaaaaa", MADVISE, flags=UFFD), "EINVAL"),
        (make("aaqaaaaa", MADVISE, flags=UFFD), "EINVAL"),
        (make("aaapaaaa", MADVISE), "EAGAIN"),
        (make("aaakaaaa", MADVISE), "EAGAIN"),
        (make("aaaxaaaa", MADVISE), "EAGAIN"),
        (make("zzzzzzzz", MADVISE, anon_vma=False), "EINVAL"),
        (make("zzzzzzzz", MADVISE), "EBUSY"),
        (make("wwwwwwww", MADVISE), "EINVAL"),
    ],
)
def test_errno_of_madv_collapse(s: Scenario, errno: str) -> None:
    """Facts 1, 3 and 4; the last two rows are v12's own (6.3)."""
    r = go(s)
    assert r.errno == errno
    assert bool(traces(r, "mm_khugepaged_scan_pmd")) == s.vmas[0].anon_vma, "without anon_vma there is no event at all"


@pytest.mark.parametrize("result", list(ScanResult))
def test_errno_map(result: ScanResult) -> None:
    """Reference 6.2."""
    table_6_2 = {"ALLOC_HUGE_PAGE_FAIL": "ENOMEM", "CGROUP_CHARGE_FAIL": "EBUSY", "EXCEED_NONE_PTE": "EBUSY"}
    table_6_2 |= dict.fromkeys(("PAGE_COUNT", "PAGE_LOCK", "PAGE_LRU", "DEL_PAGE_LRU", "PAGE_FILLED"), "EAGAIN")
    assert scan.madvise_collapse_errno(result) == table_6_2.get(result.name.removeprefix("SCAN_"), "EINVAL")


def test_pages_collapsed_counts_tables_of_khugepaged_only() -> None:
    def collapsed(s: Scenario) -> int:
        return go(s).world.system.node_stat.get("pages_collapsed", 0)

    assert collapsed(make("aaaa....aaaa....", orders=(2,), none=0)) == 1
    assert collapsed(make("aaaaaaaa")) == 1
    assert collapsed(make("aaaaaaaa", MADVISE)) == 0
    assert collapsed(make("aaaaaaap")) == 0


def test_default_tunables() -> None:
    """Reference 1.1."""
    tunables = make("." * Geometry().ptes).tunables
    assert (tunables.max_ptes_none, tunables.max_ptes_swap, tunables.max_ptes_shared) == (511, 64, 256)
