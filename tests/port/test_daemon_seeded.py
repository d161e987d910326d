"""One-line bugs in the daemon: each is caught, by a test or by a sanitizer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Final

import pytest

from kmm.kernel import current
from kmm.kernel.ref import Ref
from kmm.kernel.stop import Stop, WouldBlock
from kmm.kernel.task import Task
from kmm.mm import system
from kmm.mm.khugepaged import daemon, enter
from kmm.mm.khugepaged.daemon import khugepaged_alloc_sleep, khugepaged_pass, khugepaged_sleep_changed, start_stop_khugepaged
from kmm.mm.khugepaged.mm_slot import KhugepagedMmSlot
from kmm.mm.khugepaged.scan_mm_slot import collapse_scan_mm_slot, collect_mm_slot
from kmm.mm.khugepaged.types import CollapseControl, ScanResult
from kmm.mm.mm_types import VmAreaStruct
from kmm.mm.sched_mm import mmdrop
from kmm.mm.system import System
from kmm.scenario.place import OWNER_CPU
from tests.areas import (
    HOLES,
    NR,
    areas,
    khugepaged,
    khugepaged_enter,
    khugepaged_exit,
    passes,
    visit,
    with_single,
)
from tests.port import test_daemon, test_daemon_list, test_daemon_visit
from tests.seeded import replace_line
from tests.test_sanitizers import recompiled

enter_, exit_ = khugepaged_enter, khugepaged_exit
scan_vma: Final = collapse_scan_mm_slot.__globals__["_scan_vma"]
scan_vmas: Final = collapse_scan_mm_slot.__globals__["_scan_vmas"]
advance: Final = collapse_scan_mm_slot.__globals__["_advance"]
under_cursor: Final = collapse_scan_mm_slot.__globals__["_slot_under_cursor"]
ends: Final = khugepaged_pass.__globals__["_khugepaged_ends"]
wakes: Final = khugepaged_pass.__globals__["_wakes"]
do_scan: Final = daemon.khugepaged_do_scan

BUGS: Final[list[tuple[Callable[..., object], str, str, Callable[[], None]]]] = [
    (scan_vma, "visit.progress += HPAGE_PMD_NR()", "pass", test_daemon_visit.test_progress_is_that_of_the_whole_pmd_whatever_was_looked_at),
    (
        scan_vma,
        "if visit.progress >= visit.pages:",
        "if visit.progress > visit.pages:",
        partial(test_daemon_visit.test_the_budget_is_looked_at_behind_a_pmd, NR + 1, 1),
    ),
    (scan_vma, "if not mmap_locked.value:", "if False:", test_daemon_visit.test_an_attempt_loses_the_lock_and_ends_the_visit),
    (
        scan_vma,
        "goto(breakouterloop_mmap_lock)",
        "goto(breakouterloop)",
        test_daemon_visit.test_an_attempt_loses_the_lock_and_ends_the_visit,
    ),
    (scan_vma, "if scan.address > hend:", "if scan.address >= hend:", test_daemon_visit.test_the_rest_of_a_vma_counts_nothing),
    (scan_vma, "scan.address = max(scan.address, hstart)", "pass", test_daemon_visit.test_vmas_inside_one_pmd),
    (scan_vmas, "visit.vma = None", "pass", test_daemon_visit.test_progress_is_that_of_the_whole_pmd_whatever_was_looked_at),
    (scan_vmas, "visit.vma = vma", "pass", test_daemon_visit.test_thp_disabled_between_two_vmas_counts_one),
    (advance, "scan.address = 0", "pass", test_daemon_visit.test_the_end_of_the_list_is_a_full_scan),
    (advance, "machine.write(scan, KhugepagedScan.full_scans, scan.full_scans + 1, PLAIN)", "pass", test_daemon.test_two_pmds_as_recorded),
    (
        advance,
        "machine.write(scan, KhugepagedScan.mm_slot, None, PLAIN)",
        "pass",
        test_daemon_visit.test_the_end_of_the_list_is_a_full_scan,
    ),
    (under_cursor, "scan.address = 0", "pass", test_daemon.test_two_pmds_as_recorded),
    (collect_mm_slot, "mmdrop(mm)", "pass", test_daemon_list.test_exit_of_the_address_space_under_scan_leaves_the_slot_to_khugepaged),
    (collect_mm_slot, "mm_slot_del(mm, mm_slot)", "pass", test_daemon_visit.test_an_exit_during_the_visit_frees_the_slot),
    (
        collapse_scan_mm_slot,
        "if collapse_test_exit(mm) or visit.vma is None:",
        "if visit.vma is None:",
        test_daemon_visit.test_an_exit_during_the_visit_frees_the_slot,
    ),
    (
        collapse_scan_mm_slot,
        "if not mmap_read_trylock(mm):",
        "if mmap_read_trylock(mm) and False:",
        test_daemon_visit.test_who_has_the_mmap_lock_for_writing_is_passed_over,
    ),
    (
        do_scan,
        "if khugepaged_has_work() and pass_through_head < 2:",
        "if khugepaged_has_work():",
        test_daemon.test_a_pass_visits_each_address_space_once,
    ),
    (
        do_scan,
        "if khugepaged_has_work() and pass_through_head < 2:",
        "if khugepaged_has_work() and pass_through_head < 3:",
        test_daemon.test_two_pmds_as_recorded,
    ),
    (do_scan, "wait = False", "pass", test_daemon.test_the_first_failed_allocation_is_slept_over_the_second_ends_the_pass),
    (do_scan, "khugepaged_alloc_sleep()", "pass", test_daemon.test_the_first_failed_allocation_is_slept_over_the_second_ends_the_pass),
    (do_scan, "lru_add_drain_all()", "pass", test_daemon.test_a_pass_drains_the_batches_once_and_first),
    (do_scan, "while not kthread_should_stop():", "while True:", test_daemon.test_who_starts_khugepaged_waits_for_its_end),
    (
        do_scan,
        "pages = current.machine.read(this.sysctl, Sysctl.khugepaged_pages_to_scan, ONCE)",
        "pages = 4096",
        test_daemon.test_pages_to_scan_counts_over_the_address_spaces,
    ),
    (enter_, "if wakeup:", "if False:", test_daemon.test_without_work_khugepaged_sleeps_until_somebody_comes),
    (enter_, "if wakeup:", "if True:", test_daemon_list.test_registering),
    (enter_, "mmgrab(mm)", "pass", test_daemon_list.test_registering),
    (exit_, "mmdrop(mm)", "pass", test_daemon_list.test_exit_takes_an_address_space_off_the_list),
    (
        exit_,
        "free = mm_slot is not None and this.khugepaged_scan.mm_slot is not mm_slot",
        "free = True",
        test_daemon_list.test_exit_of_the_address_space_under_scan_leaves_the_slot_to_khugepaged,
    ),
    (exit_, "mmap_write_lock(mm)", "return", test_daemon_list.test_exit_of_the_address_space_under_scan_leaves_the_slot_to_khugepaged),
    (
        enter.mm_slot_insert,
        "machine.write(scan, KhugepagedScan.mm_head, (*head, mm_slot), ONCE)",
        "machine.write(scan, KhugepagedScan.mm_head, (mm_slot, *head), ONCE)",
        test_daemon.test_an_address_space_that_comes_during_a_full_scan_is_its_last,
    ),
    (
        ends,
        "machine.write(this.khugepaged_scan, KhugepagedScan.mm_slot, None, PLAIN)",
        "pass",
        test_daemon.test_khugepaged_ends_with_the_last_size_and_starts_over_the_list,
    ),
    (ends, "collect_mm_slot(mm_slot)", "pass", test_daemon.test_the_end_frees_what_exited_under_scan),
    (ends, 'machine.write(thread, KhugepagedThread.waits, "", ONCE)', "pass", test_daemon.test_a_sleep_does_not_outlive_the_thread),
    (
        wakes,
        "if waits == TIMEOUT and not (woken and khugepaged_should_wakeup()):",
        "if waits == TIMEOUT and not woken:",
        test_daemon.test_who_comes_does_not_end_the_sleep_between_two_passes,
    ),
    (khugepaged_sleep_changed, "wake_up_khugepaged()", "pass", test_daemon.test_a_new_sleep_wakes_khugepaged),
    (
        khugepaged_alloc_sleep,
        "machine.write(thread, KhugepagedThread.woken, False, ONCE)",
        "pass",
        test_daemon.test_the_first_failed_allocation_is_slept_over_the_second_ends_the_pass,
    ),
    (start_stop_khugepaged, "if _becomes_thread():", "if True:", test_daemon.test_inside_a_pass_khugepaged_ends_when_it_comes_to_look),
]


@pytest.mark.parametrize(("function", "old", "new", "story"), BUGS)
def test_a_bug_is_caught(function: Callable[..., object], old: str, new: str, story: Callable[[], None]) -> None:
    story()
    with recompiled(function, lambda source: replace_line(source, old, new)), pytest.raises((AssertionError, Stop)):
        story()


def exiting(addr: int, vma: VmAreaStruct, mmap_locked: Ref[bool], cc: CollapseControl) -> ScanResult:
    """The last user goes while khugepaged is inside the address space; it does not wait for the mmap lock."""
    mm = vma._vm_mm
    owner = Task("owner", current.machine.cpus[OWNER_CPU], mm.ident, may_block=False)
    with system.this.running(owner):
        mm._mm_users = 0
        with contextlib.suppress(WouldBlock):
            khugepaged_exit(mm)
    return ScanResult.SCAN_FAIL


def test_a_slot_that_is_freed_under_scan_is_seen_by_kasan() -> None:
    def kasan() -> list[str]:
        with khugepaged(areas(f"{HOLES}|{HOLES}", HOLES * 2), with_single(exiting)) as world:
            assert visit(world) == (1 + NR, "FAIL")
        return [report.text for report in world.system.machine.reports if report.check == "KASAN"]

    assert kasan() == []
    forgets = "free = mm_slot is not None and this.khugepaged_scan.mm_slot is not mm_slot"
    with recompiled(exit_, lambda source: replace_line(source, forgets, "free = True")):
        assert "collect_mm_slot touches mm of slot of mm1, which mm_slot_free freed" in kasan()


def test_a_slot_without_a_reference_outlives_its_address_space() -> None:
    with recompiled(enter_, lambda source: replace_line(source, "mmgrab(mm)", "pass")), khugepaged(areas(HOLES, HOLES)) as world:
        mmdrop(world.mm)
        passes(world, 1)
    texts = [report.text for report in world.system.machine.reports]
    assert "collapse_test_exit touches mm_users of mm1, which mmdrop freed" in texts
    assert "khugepaged's list has the slot of mm1, but mmdrop freed mm1" in texts


@pytest.mark.parametrize(
    ("poke", "text"),
    [
        (lambda this: setattr(this.khugepaged_scan._mm_head[0], "freed_by", "f"), "khugepaged's list has the slot of mm1, but f freed it"),
        (lambda this: setattr(this.mms[0], "_flags", 0), "mm1 is on khugepaged's list, but is not marked so"),
        (lambda this: this.khugepaged_scan._mm_slots_hash.clear(), "the hash of khugepaged's slots and its list differ"),
        (
            lambda this: setattr(this.khugepaged_scan, "_mm_slot", KhugepagedMmSlot(this.mms[0])),
            "khugepaged's cursor is at the slot of mm1, which is not on the list",
        ),
        (lambda this: setattr(this.mms[0], "_mm_count", 3), "mm1 has mm_count 3 at the end, 2 of them have a holder"),
    ],
)
def test_the_list_at_rest(poke: Callable[[System], None], text: str) -> None:
    with khugepaged(areas(HOLES)) as world:
        assert passes(world, 1) == [["mm1 EXCEED_NONE_PTE"]]
        poke(world.system)
    assert text in [report.text for report in world.system.machine.reports]
