"""Reference 4.2 to 4.4: the walk over orders."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmm.kernel.ref import Ref
from kmm.mm.khugepaged.scan import collapse_scan_bitmap
from kmm.mm.khugepaged.types import CollapseControl, ScanResult
from kmm.scenario.model import Event
from tests.helpers import MADVISE, Script, go, make, mapped, running, statuses, traces

S = ScanResult
SKIP = {S.SCAN_PTE_MAPPED_HUGEPAGE}
SMALLER = {
    S.SCAN_LACK_REFERENCED_PAGE,
    S.SCAN_EXCEED_NONE_PTE,
    S.SCAN_EXCEED_SWAP_PTE,
    S.SCAN_EXCEED_SHARED_PTE,
    S.SCAN_PAGE_LOCK,
    S.SCAN_PAGE_COUNT,
    S.SCAN_PAGE_LRU,
    S.SCAN_PAGE_NULL,
    S.SCAN_DEL_PAGE_LRU,
    S.SCAN_PTE_NON_PRESENT,
    S.SCAN_PTE_UFFD_WP,
    S.SCAN_ALLOC_HUGE_PAGE_FAIL,
}


@pytest.mark.parametrize("ret", list(S))
def test_what_follows_each_result(ret: ScanResult) -> None:
    """The left half gives ``ret``, the rest is finished already."""
    given_results = {(4, 0): S.SCAN_EXCEED_NONE_PTE, (3, 0): ret}
    script = Script(lambda order, offset: given_results.get((order, offset), S.SCAN_PTE_MAPPED_HUGEPAGE))
    r = go(make("a" * 16, orders=(2, 3, 4)), script.variant)
    if ret == S.SCAN_SUCCEED or ret in SKIP:
        assert script.attempts == [(4, 0), (3, 0), (3, 8)]
    elif ret in SMALLER:
        assert script.attempts == [(4, 0), (3, 0), (2, 0), (2, 4), (3, 8)]
    else:
        assert script.attempts == [(4, 0), (3, 0)]
    assert r.result == ("SCAN_SUCCEED" if ret == S.SCAN_SUCCEED else "SCAN_FAIL"), "only SUCCEED or FAIL survive the walk"


def test_a_stop_after_a_success_is_a_success() -> None:
    script = Script(lambda order, offset: S.SCAN_CGROUP_CHARGE_FAIL if offset == 4 else S.SCAN_SUCCEED)
    r = go(make("a" * 16, orders=(2,)), script.variant)
    assert script.attempts == [(2, 0), (2, 4)]
    assert r.result == "SCAN_SUCCEED"


@pytest.mark.parametrize("none", [0, 7, 15])
@pytest.mark.parametrize("present", range(5))
def test_eligible(none: int, present: int) -> None:
    """At order 2 of 16 PTEs the limits 0, 7 and 15 allow 0, 1 and 1 holes."""
    pages = "a" * present + "." * (4 - present) + "aaaa" + "." * 8
    script = Script(lambda order, offset: S.SCAN_PTE_MAPPED_HUGEPAGE)
    go(make(pages, orders=(2,), none=none), script.variant)
    expected = [(2, 0)] * (present >= 4 - (0 if none == 0 else 1)) + [(2, 4)]
    assert script.attempts == expected


def linear_walk(
    bitmap: int, pmd_order: int, enabled: int, none: int, khugepaged: bool, result: Callable[[int, int], ScanResult]
) -> list[tuple[int, int]]:
    """The same walk without a stack: from the natural alignment of an offset down, then on."""
    nr = 1 << pmd_order
    attempts = []
    order, offset = pmd_order, 0
    while offset < nr:
        if enabled >> order & 1:
            limit = nr - 1 if not khugepaged else none if order == pmd_order else min(none, nr // 2 - 1) >> (pmd_order - order)
            present = sum(bitmap >> i & 1 for i in range(offset, offset + (1 << order)))
            ret = S.SCAN_EXCEED_NONE_PTE
            if present >= (1 << order) - limit:
                attempts.append((order, offset))
                ret = result(order, offset)
                if ret != S.SCAN_SUCCEED and ret not in SKIP | SMALLER:
                    return attempts
        else:
            ret = S.SCAN_EXCEED_NONE_PTE
        if ret in SMALLER and order > 2:
            order -= 1
        else:
            offset += 1 << order
            order = min(pmd_order, (offset & -offset).bit_length() - 1)
    return attempts


class Depth(list[tuple[int, int]]):
    """A stack that remembers how deep it was."""

    deepest = pops = 0

    def append(self, item: tuple[int, int]) -> None:
        """Push."""
        super().append(item)
        self.deepest = max(self.deepest, len(self))

    def pop(self, index: int = -1) -> tuple[int, int]:  # type: ignore[override]
        """Pop."""
        self.pops += 1
        return super().pop(index)


@settings(max_examples=150, deadline=None)
@given(
    runs=st.lists(st.tuples(st.booleans(), st.sampled_from([1, 2, 3, 4, 5, 8, 16, 31, 64, 128, 300])), min_size=1, max_size=40),
    enabled=st.sampled_from(range(0, 1 << 10, 4)),
    none=st.sampled_from([0, 1, 63, 127, 200, 255, 256, 400, 511]),
    khugepaged=st.booleans(),
    outcomes=st.lists(st.sampled_from([S.SCAN_SUCCEED, *sorted(SMALLER), *SKIP, S.SCAN_SUCCEED, S.SCAN_FAIL]), min_size=1, max_size=20),
)
def test_same_attempts_as_a_linear_walk(
    runs: list[tuple[bool, int]], enabled: int, none: int, khugepaged: bool, outcomes: list[ScanResult]
) -> None:
    bits = [bit for bit, length in runs for _ in range(length)][:512]
    bitmap = sum(1 << i for i, bit in enumerate(bits) if bit)

    def result(order: int, offset: int) -> ScanResult:
        return outcomes[(offset * 11 + order) % len(outcomes)]

    script = Script(result)
    cc = CollapseControl(is_khugepaged=khugepaged)
    cc.mthp_bitmap = bitmap
    stack = cc.mthp_bitmap_stack = Depth()
    with running(make("." * 512, none=none), script.variant) as world:
        nr = collapse_scan_bitmap(world.mm, world.system.base, 1, 0, cc, Ref(False), enabled)
    assert script.attempts == linear_walk(bitmap, 9, enabled, none, khugepaged, result)
    assert nr == sum(1 << order for order, offset in script.attempts if result(order, offset) == S.SCAN_SUCCEED)
    assert stack.deepest <= 8
    assert stack.pops <= 255


def test_the_walk_descends_even_where_nothing_smaller_is_enabled() -> None:
    cc = CollapseControl(is_khugepaged=True)
    stack = cc.mthp_bitmap_stack = Depth()
    with running(make("." * 512)) as world:
        assert collapse_scan_bitmap(world.mm, world.system.base, 0, 0, cc, Ref(False), 1 << 9) == 0
    assert (stack.pops, stack.deepest) == (255, 8)


def test_madv_collapse_needs_one_present_page_and_tries_pmd_order_only() -> None:
    script = Script(lambda order, offset: S.SCAN_PAGE_COUNT)
    go(make("." * 15 + "a", MADVISE, orders=(2, 3, 4)), script.variant)
    assert script.attempts == [(4, 0)]


def test_only_the_first_attempt_finds_the_lock_held() -> None:
    script = Script(lambda order, offset: S.SCAN_PAGE_COUNT)
    r = go(make("a" * 16, orders=(2, 3, 4)), script.variant)
    assert script.locked == [True] + [False] * 6
    assert r.mmap_locked is False


def test_lock_is_still_held_when_nothing_was_attempted() -> None:
    assert go(make("a" * 8 + "." * 8, orders=(4,), none=8)).mmap_locked is False
    assert go(make("a.a.a.a.a.a.a.a.", orders=(2,), none=0)).mmap_locked is True


def test_fact_15_second_pass_over_a_finished_block() -> None:
    r = go(make("4" * 16 + "." * 16, orders=(4, 5), none=0))
    assert statuses(r, "mm_collapse_huge_page_isolate") == [S.SCAN_PTE_MAPPED_HUGEPAGE]
    assert statuses(r, "mm_collapse_huge_page") == [S.SCAN_PTE_MAPPED_HUGEPAGE]
    assert r.result == "SCAN_FAIL"


def test_fact_15_a_hole_excludes_only_its_block() -> None:
    r = go(make("a" * 9 + "z" + "a" * 54, orders=(4,), none=0))
    assert traces(r, "mm_khugepaged_scan_pmd")[0][4] == S.SCAN_SUCCEED
    assert mapped(r) == [f"page {i}" for i in range(9)] + ["zero"] + [f"page {i}" for i in range(10, 16)] + [
        f"new@1:{i}" for i in (16, 32, 48) for _ in range(16)
    ]


@pytest.mark.parametrize(("pages", "orders"), [("a" * 300 + "." * 212, [8, 5, 3, 2]), ("a" * 200 + "." * 312, [7, 6, 3])])
def test_recorded_decompositions(pages: str, orders: list[int]) -> None:
    """``mall_none0_first300`` and ``mall_none255_400`` (7.2 acts there as with the limit 0)."""
    r = go(make(pages, orders=tuple(range(2, 10)), none=0))
    assert [fields[3] for fields in traces(r, "mm_collapse_huge_page")] == orders


def test_creep_is_left_at_the_last_step_only() -> None:
    """S-12: 150 pages, limit 300: order 8 now, the PMD on the next pass."""
    r = go(make("a" * 150 + "." * 362, orders=(8, 9), none=300))
    assert mapped(r) == ["new@1:0"] * 256 + ["."] * 256
    again = go(make("8" * 256 + "." * 256, orders=(8, 9), none=300))
    assert statuses(again, "mm_collapse_huge_page") == [S.SCAN_SUCCEED]


@pytest.mark.parametrize("k", [4, 31, 32, 40, 62, 63])
def test_leftovers_of_a_refused_attempt(k: int) -> None:
    """After k small pages were isolated and released, the k mod 31 lowest stay in the batch."""
    r = go(make("a" * 64, orders=(6,), none=0, events=(Event(op="pin", before="mmap_write_lock", page=k),)))
    assert statuses(r, "mm_collapse_huge_page_isolate") == [S.SCAN_PAGE_COUNT]
    batch = [folio.label for cpu in r.world.system.per_cpu for folio in cpu._lru_add]
    assert sorted(batch) == sorted(f"page {i}" for i in range(k % 31))


def test_leftovers_refuse_the_next_smaller_attempt() -> None:
    pin = Event(op="pin", before="mmap_write_lock", page=15)
    r = go(make("a" * 16, orders=(2, 3, 4), none=0, events=(pin,)))
    results = list(zip(statuses(r, "mm_collapse_huge_page"), [f[3] for f in traces(r, "mm_collapse_huge_page")], strict=True))
    assert results == [(S.SCAN_PAGE_COUNT, 4), *[(S.SCAN_PAGE_COUNT, 3), (S.SCAN_PAGE_COUNT, 2), (S.SCAN_PAGE_COUNT, 2)] * 2]


def test_a_batch_of_one_leaves_nothing_behind() -> None:
    pin = Event(op="pin", before="mmap_write_lock", page=15)
    r = go(make("a" * 16, orders=(2, 3, 4), none=0, events=(pin,), lru_batch=1))
    assert mapped(r)[:12] == ["new@1:0"] * 8 + ["new@1:8"] * 4
