"""khugepaged: its passes, its sleep, its start and its end (reference, section 3)."""

from __future__ import annotations

from typing import Final
from unittest import mock

import attrs

from kmm.kernel.ref import Ref
from kmm.kernel.task import Task
from kmm.mm.khugepaged.daemon import khugepaged_pass, khugepaged_sleep_changed
from kmm.mm.khugepaged.scan import collapse_single_pmd
from kmm.mm.khugepaged.scan_mm_slot import collapse_scan_mm_slot
from kmm.mm.khugepaged.types import CollapseControl, ScanResult
from kmm.mm.mm_types import VmAreaStruct
from kmm.mm.mmap import mmap_read_unlock
from kmm.mm.swap import lru_add_drain_all
from kmm.scenario.build import World
from kmm.scenario.model import Failure
from kmm.scenario.place import OWNER_CPU
from refactors import v12
from tests.areas import (
    FULL,
    HOLES,
    NR,
    PINNED,
    areas,
    cursor,
    exits,
    full_scans,
    huge,
    khugepaged,
    khugepaged_enter,
    listed,
    passes,
    said,
    scanned,
    set_orders,
    with_single,
)


def test_two_pmds_as_recorded() -> None:
    """The recording kh_two_pmds of the oracle: the first one has a pinned page."""
    with khugepaged(areas(f"{PINNED}|{FULL}")) as world:
        assert passes(world, 3) == [
            ["mm1 PAGE_COUNT", "mm1 SUCCEED"],
            ["mm1 PAGE_COUNT", "mm1 PMD_MAPPED"],
            ["mm1 PAGE_COUNT", "mm1 PMD_MAPPED"],
        ]
        assert (huge(world.mm), full_scans(world)) == ([False, True], 3)
    assert said(world) == []


def test_a_pass_visits_each_address_space_once() -> None:
    with khugepaged(areas(FULL, HOLES, FULL), pages=1000) as world:
        assert passes(world, 2) == [
            ["mm1 SUCCEED", "mm2 EXCEED_NONE_PTE", "mm3 SUCCEED"],
            ["mm1 PMD_MAPPED", "mm2 EXCEED_NONE_PTE", "mm3 PMD_MAPPED"],
        ]
        assert (cursor(world)[0], full_scans(world)) == ("", 2)
    assert said(world) == []


def test_a_pass_that_begins_in_the_middle_goes_over_the_head_once() -> None:
    with khugepaged(areas(f"{HOLES}|{HOLES}", f"{HOLES}|{HOLES}"), pages=1) as world:
        passes(world, 3)
        assert cursor(world) == ("mm2", 0)
        world.system.sysctl._khugepaged_pages_to_scan = 1000
        seen = passes(world, 1)[0]
        assert seen == ["mm2 EXCEED_NONE_PTE"] * 2 + ["mm1 EXCEED_NONE_PTE"] * 2 + ["mm2 EXCEED_NONE_PTE"] * 2
        assert full_scans(world) == 2
    assert said(world) == []


def test_pages_to_scan_spreads_a_full_scan_over_passes() -> None:
    """One PMD a pass, and a last pass that finds no VMA any more."""
    with khugepaged(areas(f"{HOLES}|{HOLES}|{HOLES}"), pages=1) as world:
        seen = [(len(each), full_scans(world)) for each in (passes(world, 1)[0] for _ in range(5))]
        assert seen == [(1, 0), (1, 0), (1, 0), (0, 1), (1, 1)]


def test_pages_to_scan_counts_over_the_address_spaces() -> None:
    """Two visits of 1 + NR: the budget is what the ones before left."""
    with khugepaged(areas(HOLES, HOLES, HOLES), pages=2 * NR + 2) as world:
        assert passes(world, 2) == [["mm1 EXCEED_NONE_PTE", "mm2 EXCEED_NONE_PTE"], ["mm3 EXCEED_NONE_PTE", "mm1 EXCEED_NONE_PTE"]]
    with khugepaged(areas(HOLES, HOLES, HOLES), pages=2 * NR + 3) as world:
        assert len(passes(world, 1)[0]) == 3


def test_what_is_left_of_the_budget_limits_the_next_visit() -> None:
    with khugepaged(areas(f"{HOLES}|{HOLES}", f"{HOLES}|{HOLES}"), pages=2 * NR + 1 + 1) as world:
        assert passes(world, 1) == [["mm1 EXCEED_NONE_PTE", "mm1 EXCEED_NONE_PTE", "mm2 EXCEED_NONE_PTE"]]


def test_collapsed_pmds_are_counted_once() -> None:
    """Two PMDs, one of them by two smaller folios."""
    with khugepaged(areas(f"{FULL}|{HOLES}", "aaaaaaa.|........", orders=(2, 3), none=0)) as world:
        passes(world, 3)
        assert huge(world.system.mms[0]) == [True, False]
        assert world.system.node_stat["pages_collapsed"] == 2
    assert said(world) == []


def test_a_pass_drains_the_batches_once_and_first() -> None:
    with khugepaged(areas("baaaaaaa", "baaaaaaa")) as world:
        with mock.patch("kmm.mm.khugepaged.daemon.lru_add_drain_all", wraps=lru_add_drain_all) as drain:
            assert passes(world, 1) == [["mm1 SUCCEED", "mm2 SUCCEED"]]
        assert drain.call_count == 1
    assert said(world) == []


def test_an_address_space_that_comes_during_a_full_scan_is_its_last() -> None:
    with khugepaged(areas(HOLES, HOLES, HOLES), pages=1, enter=False) as world:
        first, second, third = world.system.mms
        khugepaged_enter(first)
        khugepaged_enter(second)
        passes(world, 1)
        khugepaged_enter(third)
        seen = [each for turn in passes(world, 6) for each in turn]
        assert seen == ["mm2 EXCEED_NONE_PTE", "mm3 EXCEED_NONE_PTE", "mm1 EXCEED_NONE_PTE"]


def test_the_links_are_the_variants() -> None:
    calls: list[str] = []

    def single(addr: int, vma: VmAreaStruct, mmap_locked: Ref[bool], cc: CollapseControl) -> ScanResult:
        calls.append("collapse_single_pmd")
        return collapse_single_pmd(addr, vma, mmap_locked, cc)

    def scan(pages: int, result: Ref[ScanResult], cc: CollapseControl) -> int:
        calls.append(f"collapse_scan_mm_slot {pages}")
        return collapse_scan_mm_slot(pages, result, cc)

    variant = attrs.evolve(v12.VARIANT, collapse_single_pmd=single, collapse_scan_mm_slot=scan)
    with khugepaged(areas(HOLES, HOLES), variant, pages=100) as world:
        passes(world, 1)
    left = 100 - (1 + NR)
    assert calls == ["collapse_scan_mm_slot 100", "collapse_single_pmd", f"collapse_scan_mm_slot {left}", "collapse_single_pmd"]


# Sleep


def failing(addr: int, vma: VmAreaStruct, mmap_locked: Ref[bool], cc: CollapseControl) -> ScanResult:
    """As a kernel behaves that passes the result on: the allocation fails, with the mmap lock released."""
    mmap_read_unlock(vma._vm_mm)
    mmap_locked.value = False
    return ScanResult.SCAN_ALLOC_HUGE_PAGE_FAIL


FIVE: Final = "|".join([FULL] * 5)


def test_the_first_failed_allocation_is_slept_over_the_second_ends_the_pass() -> None:
    with khugepaged(areas(FIVE), with_single(failing)) as world:
        khugepaged_pass()
        assert (world.system.clock_ms, cursor(world)) == (60_000, ("mm1", 2))
        khugepaged_pass()
        assert (world.system.clock_ms, cursor(world)) == (60_000 + 10_000 + 60_000, ("mm1", 4))
    assert said(world) == []


def test_a_wake_up_ends_the_sleep_after_a_failed_allocation() -> None:
    with khugepaged(areas(FIVE), with_single(failing)) as world:
        world.system.machine.at_point = lambda point: khugepaged_sleep_changed() if point == "khugepaged_alloc_sleep" else None
        khugepaged_pass()
        assert (world.system.clock_ms, cursor(world)) == (0, ("mm1", 2))


def test_the_last_budget_goes_before_the_sleep() -> None:
    with khugepaged(areas(FIVE), with_single(failing), pages=1) as world:
        khugepaged_pass()
        assert (world.system.clock_ms, cursor(world)) == (0, ("mm1", 1))


def test_v12_does_not_pass_a_failed_allocation_on() -> None:
    """Reference, section 4.4: it never takes that sleep."""
    failures = tuple(Failure(kind="alloc", nth=n) for n in range(1, 6))
    with khugepaged(areas(FIVE, failures=failures)) as world:
        assert passes(world, 1) == [["mm1 FAIL"] * 5]
        assert world.system.clock_ms == 0
    assert said(world) == []


def test_the_sleep_between_two_passes() -> None:
    with khugepaged(areas(HOLES)) as world:
        times = []
        for sleep in (10_000, 250, 0, 0, 7):
            world.system.sysctl._khugepaged_scan_sleep_millisecs = sleep
            khugepaged_pass()
            times.append(world.system.clock_ms)
        assert times == [0, 10_000, 10_250, 10_250, 10_250]
        khugepaged_pass()
        assert world.system.clock_ms == 10_257


def test_a_new_sleep_wakes_khugepaged() -> None:
    with khugepaged(areas(HOLES)) as world:
        khugepaged_pass()
        khugepaged_sleep_changed()
        khugepaged_pass()
        assert (world.system.clock_ms, len(scanned(world))) == (0, 2)


def test_who_comes_does_not_end_the_sleep_between_two_passes() -> None:
    with khugepaged(areas(HOLES, HOLES), enter=False) as world:
        first, second = world.system.mms
        khugepaged_enter(first)
        khugepaged_pass()
        exits(world, first)
        khugepaged_enter(second)
        assert passes(world, 1) == [["mm2 EXCEED_NONE_PTE"]]
        assert world.system.clock_ms == 10_000


def test_without_work_khugepaged_sleeps_until_somebody_comes() -> None:
    with khugepaged(areas(HOLES), enter=False) as world:
        assert khugepaged_pass(), "it looks for work before it sleeps"
        assert not khugepaged_pass()
        assert not khugepaged_pass()
        khugepaged_enter(world.mm)
        assert passes(world, 1) == [["mm1 EXCEED_NONE_PTE"]]
        assert world.system.clock_ms == 0
    assert said(world) == []


# Start and end


def test_khugepaged_ends_with_the_last_size_and_starts_over_the_list() -> None:
    with khugepaged(areas(f"{HOLES}|{HOLES}", f"{HOLES}|{HOLES}"), pages=1) as world:
        passes(world, 3)
        assert (cursor(world), full_scans(world)) == (("mm2", 0), 0)
        set_orders(world, 0)
        assert not khugepaged_pass()
        assert (cursor(world)[0], listed(world), full_scans(world)) == ("", ["mm1", "mm2"], 0)
        set_orders(world, 1 << 3)
        assert passes(world, 1) == [["mm1 EXCEED_NONE_PTE"]]
        assert cursor(world) == ("mm1", 1)
    assert said(world) == []


def test_a_sleep_does_not_outlive_the_thread() -> None:
    with khugepaged(areas(HOLES)) as world:
        khugepaged_pass()
        set_orders(world, 0)
        set_orders(world, 1 << 3)
        khugepaged_pass()
        assert world.system.clock_ms == 0


def test_before_the_switch_there_is_no_thread() -> None:
    with khugepaged(areas(HOLES)) as world:
        set_orders(world, 0)
        set_orders(world, 0)
        assert not khugepaged_pass()
        assert scanned(world) == []


def ending(world: World, masks: tuple[int, ...]) -> None:
    """Somebody sets the switches while khugepaged allocates."""
    left = list(masks)
    event = Task("administrator", world.system.machine.cpus[OWNER_CPU], 0)

    def at_point(point: str) -> None:
        while point == "alloc" and left:
            with world.system.running(event):
                set_orders(world, left.pop(0))

    world.system.machine.at_point = at_point


def test_inside_a_pass_khugepaged_ends_when_it_comes_to_look() -> None:
    with khugepaged(areas(f"{FULL}|{FULL}", FULL * 2)) as world:
        ending(world, (0,))
        assert passes(world, 1) == [["mm1 FAIL"]], "the size is not enabled any more"
        assert (cursor(world)[0], world.system.khugepaged_thread._running) == ("", False)
        assert not khugepaged_pass()
    assert said(world) == []


def test_who_starts_khugepaged_waits_for_its_end() -> None:
    with khugepaged(areas(f"{FULL}|{FULL}", FULL * 2)) as world:
        ending(world, (0, 1 << 3))
        assert passes(world, 1) == [["mm1 SUCCEED"]]
        assert cursor(world)[0] == ""
        assert world.system.khugepaged_thread._running
        assert passes(world, 1) == [["mm1 PMD_MAPPED", "mm1 SUCCEED", "mm2 SUCCEED", "mm2 SUCCEED"]]
        assert world.system.clock_ms == 0, "the new thread has not slept yet"
    assert said(world) == []


def test_the_end_frees_what_exited_under_scan() -> None:
    with khugepaged(areas(f"{HOLES}|{HOLES}"), pages=1) as world:
        passes(world, 1)
        exits(world, world.mm)
        assert listed(world) == ["mm1"]
        set_orders(world, 0)
        assert (listed(world), world.mm.freed_by) == ([], "mmdrop")
    assert said(world) == []
