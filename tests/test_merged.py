"""``merged``, reference section 10: the walk over orders, limits, refusals, counters, and the install."""

from __future__ import annotations

from unittest import mock

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmm.kernel import current
from kmm.kernel.ref import Ref
from kmm.mm.khugepaged import scan
from kmm.mm.khugepaged.types import SCAN_STATUS, CollapseControl, ScanResult
from kmm.mm.mm_types import MmStruct
from kmm.mm.pgtable import PtePtr, pmd_offset, pmdp_get, set_ptes
from kmm.mm.pte import pmd_present, pte_t
from kmm.mm.variant import Variant
from kmm.scenario.model import Config, Driver, DriverKind, Event, Failure, Scenario
from kmm.scenario.run import Run
from refactors import merged, v12
from tests.helpers import KHUGEPAGED, MADVISE, Script, direct, folio_of, go, is_huge, make, mapped, reports, running, table

S = ScanResult
MERGED = merged.VARIANT
ALL = tuple(range(2, 10))
SMALLER = {
    S.SCAN_ALLOC_HUGE_PAGE_FAIL,
    S.SCAN_LACK_REFERENCED_PAGE,
    S.SCAN_EXCEED_NONE_PTE,
    S.SCAN_EXCEED_SWAP_PTE,
    S.SCAN_EXCEED_SHARED_PTE,
    S.SCAN_PAGE_LOCK,
    S.SCAN_PAGE_COUNT,
    S.SCAN_PAGE_NULL,
    S.SCAN_DEL_PAGE_LRU,
    S.SCAN_PTE_NON_PRESENT,
    S.SCAN_PTE_UFFD_WP,
    S.SCAN_PAGE_LAZYFREE,
}


def walked(script: Script) -> Variant:
    """``merged``, with attempts that are only noted."""
    return attrs.evolve(MERGED, collapse_huge_page=script.collapse_huge_page)


# The walk over orders.


def test_strings_and_numbers() -> None:
    assert S.SCAN_PAGE_LAZYFREE.value == 31, "behind those of v12, whose numbers stay"
    assert SCAN_STATUS[S.SCAN_PAGE_LAZYFREE] == "page_lazyfree"


@pytest.mark.parametrize("ret", list(S))
def test_what_follows_each_result(ret: ScanResult) -> None:
    """The left half gives ``ret``, the rest is finished already."""
    results = {(4, 0): S.SCAN_EXCEED_NONE_PTE, (3, 0): ret}
    script = Script(lambda order, offset: results.get((order, offset), S.SCAN_PTE_MAPPED_HUGEPAGE))
    r = go(make("a" * 16, orders=(2, 3, 4)), walked(script))
    if ret in (S.SCAN_SUCCEED, S.SCAN_PTE_MAPPED_HUGEPAGE):
        assert script.attempts == [(4, 0), (3, 0), (3, 8)]
    elif ret in SMALLER:
        assert script.attempts == [(4, 0), (3, 0), (2, 0), (2, 4), (3, 8)]
    else:
        assert script.attempts == [(4, 0), (3, 0)], "PAGE_LRU and PMD_MAPPED among them"
    remembered = S.SCAN_EXCEED_NONE_PTE if ret == S.SCAN_PTE_MAPPED_HUGEPAGE else ret
    assert r.result == remembered.name


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([S.SCAN_PTE_MAPPED_HUGEPAGE] * 4, "SCAN_FAIL"),
        ([S.SCAN_ALLOC_HUGE_PAGE_FAIL, S.SCAN_PAGE_COUNT, S.SCAN_PAGE_COUNT, S.SCAN_PAGE_LOCK], "SCAN_ALLOC_HUGE_PAGE_FAIL"),
        ([S.SCAN_PAGE_COUNT, S.SCAN_PAGE_LOCK, S.SCAN_PTE_MAPPED_HUGEPAGE, S.SCAN_PTE_MAPPED_HUGEPAGE], "SCAN_PAGE_LOCK"),
        ([S.SCAN_ALLOC_HUGE_PAGE_FAIL, S.SCAN_SUCCEED, S.SCAN_PAGE_LOCK, S.SCAN_CGROUP_CHARGE_FAIL], "SCAN_SUCCEED"),
    ],
)
def test_the_result_of_a_walk(results: list[ScanResult], expected: str) -> None:
    """SUCCEED if anything was collapsed, else a failed allocation, else the last refusal; a finished block is none."""
    script = Script(lambda order, offset: results[offset // 4])
    assert go(make("a" * 16, orders=(2,)), walked(script)).result == expected
    assert len(script.attempts) == 4


def test_swap_entries_count_as_occupied_at_pmd_order_only() -> None:
    script = Script(lambda order, offset: S.SCAN_EXCEED_SWAP_PTE)
    go(make("aaaaaaaw", orders=(2, 3), none=0, swap=1), walked(script))
    assert script.attempts == [(3, 0), (2, 0)]


Attempts = list[tuple[int, int]]
RESULTS: st.SearchStrategy[ScanResult] = st.sampled_from([each for each in S if each not in (S.SCAN_PAGE_LRU, S.SCAN_PAGE_LAZYFREE)])
GOES_ON: st.SearchStrategy[ScanResult] = st.sampled_from(
    sorted(SMALLER - {S.SCAN_PAGE_LAZYFREE} | {S.SCAN_SUCCEED, S.SCAN_PTE_MAPPED_HUGEPAGE})
)


@st.composite
def walks(draw: st.DrawFn) -> tuple[int, int, int, list[ScanResult], list[int]]:
    """Entries of the table, the bitmap, the enabled orders, what attempts give, and the limit of each order."""
    pmd_order = draw(st.sampled_from([3, 4, 6, 9]))
    nr = 1 << pmd_order
    bitmap = draw(st.one_of(st.just((1 << nr) - 1), st.integers(0, (1 << nr) - 1)))
    enabled = draw(st.integers(0, (1 << (pmd_order + 1)) - 1)) & ~0b11
    results = draw(st.lists(draw(st.sampled_from([RESULTS, GOES_ON])), min_size=1, max_size=20))
    limits = [draw(st.integers(0, 1 << order)) for order in range(pmd_order + 1)]
    return nr, bitmap, enabled, results, limits


def attempts_of(walk: tuple[int, int, int, list[ScanResult], list[int]]) -> tuple[Attempts, Attempts]:
    """The attempts of v12's walk and of merged's, for the same outcomes, bitmap, orders and limits."""
    nr, bitmap, enabled, results, limits = walk
    made: list[Attempts] = []
    for linear in (False, True):
        script = Script(lambda order, offset: results[(offset * 13 + order) % len(results)])
        with running(make("a" * nr), script.variant) as world:
            cc = CollapseControl(is_khugepaged=True)
            cc.mthp_bitmap = bitmap
            if linear:
                with mock.patch.object(merged, "collapse_max_ptes_none", lambda _cc, _vma, order: limits[order]):
                    merged.mthp_collapse(world.mm, world.system.base, 1, 0, cc, enabled)
            else:
                with mock.patch.object(scan, "collapse_max_ptes_none", lambda order, _full: limits[order]):
                    scan.collapse_scan_bitmap(world.mm, world.system.base, 1, 0, cc, Ref(False), enabled)
        made.append(script.attempts)
    return made[0], made[1]


@settings(max_examples=300, deadline=None)
@given(walks())
def test_both_walks_make_the_same_attempts(walk: tuple[int, int, int, list[ScanResult], list[int]]) -> None:
    of_v12, of_merged = attempts_of(walk)
    assert of_v12 == of_merged


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("max_order_from_offset", lambda offset: 2),
        ("_nr_occupied", lambda cc, offset, order, unmapped: 1 << order),
        ("KHUGEPAGED_MIN_MTHP_ORDER", 3),
    ],
)
def test_a_wrong_walk_makes_other_attempts(name: str, wrong: object) -> None:
    walk = 16, 0b1111_1111_0001_0110, 0b11100, [S.SCAN_PAGE_COUNT], [0] * 5
    of_v12, of_merged = attempts_of(walk)
    assert of_v12 == of_merged == [(3, 8), (2, 8), (2, 12)]
    with mock.patch.object(merged, name, wrong):
        assert attempts_of(walk)[1] != of_v12


# Limits, refusals and counters.


@pytest.mark.parametrize(
    ("sysctl", "expected"),
    [(0, [0] * 7 + [0]), (1, [0] * 7 + [1]), (255, [0] * 7 + [255]), (510, [0] * 7 + [510]), (511, [3, 7, 15, 31, 63, 127, 255, 511])],
)
def test_max_ptes_none(sysctl: int, expected: list[int]) -> None:
    """For the orders 2 to 9 at 512 PTEs."""
    with running(make("a" * 512, none=sysctl)) as world:
        cc = CollapseControl(is_khugepaged=True)
        assert [merged.collapse_max_ptes_none(cc, None, order) for order in ALL] == expected
        assert [merged.collapse_max_ptes_none(cc, world.mm.vmas[0], order) for order in ALL] == expected
        assert {merged.collapse_max_ptes_none(CollapseControl(is_khugepaged=False), None, order) for order in ALL} == {512}


@pytest.mark.parametrize("is_khugepaged", [True, False])
def test_an_armed_vma_may_have_no_hole(is_khugepaged: bool) -> None:
    with running(make("a" * 16, flags=("read", "uffd_missing", "write"))) as world:
        cc = CollapseControl(is_khugepaged=is_khugepaged)
        assert {merged.collapse_max_ptes_none(cc, world.mm.vmas[0], order) for order in (2, 3, 4)} == {0}
        assert merged.collapse_max_ptes_none(cc, None, 4) != 0, "without a VMA nobody looks"


def test_max_ptes_shared_and_swap() -> None:
    with running(make("a" * 16, swap=3, shared=5)):
        khugepaged, madvise = CollapseControl(is_khugepaged=True), CollapseControl(is_khugepaged=False)
        assert [merged.collapse_max_ptes_swap(khugepaged, order) for order in (2, 3, 4)] == [0, 0, 3]
        assert [merged.collapse_max_ptes_shared(khugepaged, order) for order in (2, 3, 4)] == [0, 0, 5]
        for limit in (merged.collapse_max_ptes_swap, merged.collapse_max_ptes_shared):
            assert [limit(madvise, order) for order in (2, 3, 4)] == [16] * 3


def counters(r: Run) -> dict[str, int]:
    """vm events, and statistics as ``name@order``."""
    system = r.world.system
    return {**system.vm_events, **{f"{name}@{order}": n for (order, name), n in system.mthp_stats.items()}}


@pytest.mark.parametrize(
    ("s", "vm_event", "statistic"),
    [
        (make("aaaaaa..", none=1), "thp_scan_exceed_none_pte", "collapse_exceed_none_pte@3"),
        (make("aaaaawww", swap=2), "thp_scan_exceed_swap_pte", "collapse_exceed_swap_pte@3"),
        (make("aaaaasss", shared=2), "thp_scan_exceed_share_pte", "collapse_exceed_shared_pte@3"),
        (make("aaaaaaa.", MADVISE, flags=("read", "uffd_wp", "write")), "thp_scan_exceed_none_pte", "collapse_exceed_none_pte@3"),
    ],
)
def test_a_refusal_in_the_scan_counts_for_pmd_order(s: Scenario, vm_event: str, statistic: str) -> None:
    seen = counters(go(s, MERGED))
    assert (seen[vm_event], seen[statistic]) == (1, 1)
    before = counters(go(s, v12.VARIANT))
    assert (before[vm_event], before.get(statistic, 0)) == (1, 0), "v12 counts the vm event only"


@pytest.mark.parametrize(
    ("s", "statistic"),
    [
        (make("aaa.aaaa", direct(2), orders=(2,), none=0), "collapse_exceed_none_pte@2"),
        (make("aaasaaaa", direct(2), orders=(2,)), "collapse_exceed_shared_pte@2"),
        (make("aaawaaaa", direct(2), orders=(2,)), "collapse_exceed_swap_pte@2"),
    ],
)
def test_a_refusal_of_an_attempt_below_pmd_order_is_no_vm_event(s: Scenario, statistic: str) -> None:
    seen = counters(go(s, MERGED))
    assert seen[statistic] == 1
    assert not [name for name in seen if name.startswith("thp_scan_exceed")]


@pytest.mark.parametrize(("order", "events"), [(2, 0), (3, 1)])
def test_the_memcg_event_counts_pmd_order_only(order: int, events: int) -> None:
    def counted(variant: Variant) -> int:
        return go(make("a" * 8, direct(order), orders=(2, 3)), variant).world.mm.memcg.events.get("thp_collapse_alloc", 0)

    assert counted(MERGED) == events
    assert counted(v12.VARIANT) == 1


@pytest.mark.parametrize(
    ("pages", "driver", "flags", "refused"),
    [
        ("aaaaFaaa", KHUGEPAGED, (), True),
        ("aaaaFaaa", direct(3), (), True),
        ("aaaaLaaa", KHUGEPAGED, (), False),
        ("aaaaFaaa", MADVISE, (), False),
        ("aaaaFaaa", direct(3, is_khugepaged=False), (), False),
        ("FFFFFFFF", KHUGEPAGED, (), True),
        ("FFFFFFFF", KHUGEPAGED, ("droppable",), False),
    ],
)
def test_lazyfree(pages: str, driver: Driver, flags: tuple[str, ...], refused: bool) -> None:
    """Only khugepaged refuses, only what nobody wrote again, and not where the new folio stays lazyfree."""
    r = go(make(pages, driver, flags=("read", "write", *flags)), MERGED)
    assert r.result == ("SCAN_PAGE_LAZYFREE" if refused else "SCAN_SUCCEED")
    assert reports(r) == []


def test_an_armed_vma_is_scanned_over_its_holes() -> None:
    armed = ("read", "uffd_missing", "write")
    r = go(make("aaa.aaaa", orders=(2, 3), flags=armed), MERGED)
    assert r.result == "SCAN_SUCCEED"
    assert mapped(r) == ["page 0", "page 1", "page 2", ".", *["new@1:4"] * 4]
    only_pmd = go(make("aaa.aaaa", flags=armed), MERGED)
    assert (only_pmd.result, only_pmd.mmap_locked) == ("SCAN_EXCEED_NONE_PTE", True)


def test_madvise_has_no_limit() -> None:
    for pages in ("........", "zzzzzzzz", "wwwwwwww", "......ww"):
        r = go(make(pages, MADVISE), MERGED)
        assert (r.result, r.errno, is_huge(r)) == ("SCAN_SUCCEED", "", True), pages


def test_madvise_gives_the_errno_of_the_refusal() -> None:
    """S-15: v12 gives EINVAL for each of them."""
    late_pin = (Event(op="pin", before="alloc", page=3),)
    full = attrs.evolve(make("a" * 8, MADVISE), memcg_room=0)
    cases = [(make("a" * 8, MADVISE, failures=(Failure(kind="alloc"),)), "ENOMEM"), (full, "EBUSY")]
    for s, errno in [*cases, (make("a" * 8, MADVISE, events=late_pin), "EAGAIN")]:
        assert go(s, MERGED).errno == errno
        assert go(s, v12.VARIANT).errno == "EINVAL"


def test_the_mmap_lock_is_dropped_behind_the_scan() -> None:
    nothing_eligible = make("aaa.aaa.", orders=(2,), none=0)
    assert go(nothing_eligible, MERGED).mmap_locked is False
    assert go(nothing_eligible, v12.VARIANT).mmap_locked is True
    assert go(make("aaaapaaa"), MERGED).mmap_locked is True, "the scan refused"


@pytest.mark.parametrize(("none", "present"), [(300, 150), (382, 129), (256, 255), (511, 3), (0, 300)])
def test_passes_come_to_rest(none: int, present: int) -> None:
    """S-12: at the first three v12 fills half of the table and then all of it."""
    driver = Driver(kind=DriverKind.KHUGEPAGED, passes=3)
    s = make("a" * present + "." * (512 - present), driver, none=none, orders=(8, 9))
    assert reports(go(s, MERGED)) == []


# The install.


@pytest.mark.parametrize(("flags", "page", "dirty"), [(("read",), "r", False), (("read", "write"), "a", True)])
def test_the_new_entries_are_dirty_only_where_the_vma_is_writable(flags: tuple[str, ...], page: str, dirty: bool) -> None:
    r = go(make(page * 8, direct(2), orders=(2,), flags=flags), MERGED)
    entries = table(r.world)._entries[:4]
    assert folio_of(r, 0).order == 2
    assert {bool(pte & 1 << 6) for pte in entries} == {dirty}, "_PAGE_DIRTY"
    assert {bool(pte & 1 << 1) for pte in entries} == {dirty}, "_PAGE_RW"
    assert {bool(pte & 1 << 5) for pte in entries} == {True}, "_PAGE_ACCESSED"


@pytest.mark.parametrize(("split_ptlocks", "held"), [(True, ["pmd_lock", "pte_lock"]), (False, ["pmd_lock"])])
def test_the_table_is_back_before_its_entries_are_set(split_ptlocks: bool, held: list[str]) -> None:
    """A-01: a hook that walks finds them. Both locks are held, or the one that there is."""
    s = make("a" * 8, direct(2, is_khugepaged=False), config=Config(arch="walking", split_ptlocks=split_ptlocks))
    seen: list[tuple[bool, list[str]]] = []

    def noting(mm: MmStruct, addr: int, pte: PtePtr, entry: pte_t, nr: int) -> None:
        pmd = pmd_offset(mm, addr)
        seen.append((pmd is not None and pmd_present(pmdp_get(pmd)), [lock.kind for lock, _ in current.task.held if lock.spins]))
        set_ptes(mm, addr, pte, entry, nr)

    with mock.patch.object(merged, "set_ptes", noting):
        r = go(s, MERGED)
    assert seen == [(True, held)]
    assert reports(r) == []
    assert [check for check, _ in reports(go(s, v12.VARIANT))] == ["DEBUG_VM"], "v12 sets them in the detached table"


@pytest.mark.parametrize("driver", [KHUGEPAGED, MADVISE, direct(3), direct(3, mmap_locked=False)])
def test_the_code_that_runs_is_that_of_merged(driver: Driver) -> None:
    with mock.patch.object(merged, "collapse_huge_page", wraps=merged.collapse_huge_page) as attempt:
        r = go(make("a" * 8, driver), MERGED)
    assert (attempt.call_count, r.result, r.mmap_locked) == (1, "SCAN_SUCCEED", False)
    assert reports(r) == []
