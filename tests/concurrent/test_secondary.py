"""A guest beside a collapse and beside others: what the window that is announced to its MMU is for, and the fault's second look."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs
import pytest

from kmm.judge.outcomes import Outcomes
from kmm.judge.sets import EQUAL, judge_sets
from kmm.mm import secondary_fault, secondary_mmu
from kmm.mm.secondary_mmu import SecondaryMmu
from kmm.scenario.model import Scenario
from kmm.scenario.search import EXHAUSTIVE
from refactors import reviewed, v12
from tests.concurrent.making import alone, beside, outcomes, results, violations
from tests.seeded import load, replace_line

START: Final = "mmu_notifier_invalidate_range_start(window)"
END: Final = "mmu_notifier_invalidate_range_end(window)"
HALF: Final = beside("secondary_fault:0", pages="aaaa....", orders=(2,))
SCENARIOS: Final = (
    HALF,
    beside("secondary_fault:0:write", pages="aaaa....", orders=(2,)),
    beside("secondary_fault:0"),
    beside("secondary_fault:0:write"),
)
FREED: Final = "TLB: the secondary MMU of mm1 still translates page 0 to page 0[0], which folio_put freed: no invalidation reached it"
TOUCHED: Final = "KASAN: guest_access touches contents of page 0[0], which folio_put freed"
LOST: Final = "TRANSPARENCY: page 0 of mm1 reads contents 1, but contents 1099511627777 was last written there"


def changed(*lines: tuple[str, str]) -> str:
    """The reviewed form's text with lines replaced."""
    assert reviewed.__file__ is not None
    source = Path(reviewed.__file__).read_text(encoding="utf-8")
    for old, new in lines:
        source = replace_line(source, old, new)
    return source


def clean(s: Scenario) -> None:
    sets = judge_sets(s, v12.VARIANT, reviewed.VARIANT, EXHAUSTIVE)
    assert (sets.relation, sets.complete) == (EQUAL, True)
    found = sets.baseline
    assert violations(found) == set()
    assert {"SCAN_SUCCEED", "SCAN_PAGE_COUNT"} <= results(found), "the fault comes before, after, and holds its reference"
    assert {found.observation(each).actors for each in found.all} == {("done",)}


def test_the_window_is_enough() -> None:
    clean(HALF)


@pytest.mark.full
@pytest.mark.parametrize("s", SCENARIOS[1:], ids=lambda s: f"{s.actors[0].value or 'read'} {s.vmas[0].pages}")
def test_the_window_is_enough_everywhere(s: Scenario) -> None:
    clean(s)


@pytest.mark.parametrize("s", SCENARIOS, ids=lambda s: f"{s.actors[0].value or 'read'} {s.vmas[0].pages}")
def test_without_a_window_the_guest_goes_on_with_the_old_page(s: Scenario) -> None:
    candidate = load(changed((START, "pass"), (END, "pass")), "no_window")
    lost = {LOST} if s.actors[0].value == "write" else set()
    assert violations(outcomes(s, candidate)) == {FREED, TOUCHED} | lost


@pytest.mark.full
def test_a_window_that_closes_before_the_tables_change_is_none() -> None:
    candidate = load(changed((START, f"{START}; {END}"), (END, "pass")), "early_end")
    sets = judge_sets(HALF, reviewed.VARIANT, candidate, EXHAUSTIVE)
    assert sets.relation == "different"
    assert violations(Outcomes(HALF, candidate, EXHAUSTIVE)) == {FREED, TOUCHED}


def test_a_window_that_is_too_small_misses_the_last_page() -> None:
    whole = "window: Final = MmuNotifierRange(mm, mthp_address, mthp_address + (PAGE_SIZE() << order))"
    candidate = load(changed((whole, whole.replace("<< order))", "<< order) - PAGE_SIZE())"))), "small_window")
    s = beside("secondary_fault:3", pages="aaaa....", orders=(2,))
    assert {each.replace("0[0]", "3[0]") for each in (FREED.replace("page 0 ", "page 3 "), TOUCHED)} <= violations(outcomes(s, candidate))


def only_in_progress(kvm: SecondaryMmu, _address: int, _seq: int) -> bool:
    return kvm.in_progress > 0


def only_the_number(kvm: SecondaryMmu, _address: int, seq: int) -> bool:
    return kvm.invalidate_seq != seq


@pytest.mark.parametrize("forgetful", [only_in_progress, only_the_number], ids=lambda each: each.__name__)
def test_the_fault_needs_both_looks(forgetful: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """An invalidation that is over since the look at the primary tables, and one that is under way: each makes it stale."""
    monkeypatch.setattr(secondary_fault, "mmu_invalidate_retry_gfn", forgetful)
    assert FREED in violations(outcomes(HALF))
    stale = violations(outcomes(alone("secondary_fault:0", "madvise:0-3:dontneed")))
    assert {FREED, "TRANSPARENCY: a guest reads contents 1 from page 0 of mm1, which held 0"} <= stale


def test_a_guest_that_runs_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a collapse the flush of the primary tables waits for it, too; elsewhere it comes later than the zap."""
    s = alone("secondary_fault:0:write", "madvise:0-3:dontneed")
    assert violations(outcomes(s)) == set()
    monkeypatch.setattr(secondary_mmu, "wait_for_instructions", lambda: None)
    assert {each.partition(":")[0] for each in violations(outcomes(s))} == {"TRANSPARENCY"}


PAIRS: Final = (
    ("secondary_fault:0", "madvise:0-3:dontneed"),
    ("secondary_fault:0", "madvise:0-3:free"),
    ("secondary_fault:0", "munmap:0-7"),
    ("secondary_fault:0:write", "fork"),
    ("secondary_fault:0:write", "mprotect:0-7:read"),
    ("secondary_fault:0", "secondary_fault:0:write"),
    ("secondary_fault:0", "exit"),
    ("secondary_fault:0:write", "store:0"),
    ("secondary_fault:0:write", "age:0"),
)
LONG: Final = (
    ("secondary_fault:0:write", "swapout:0"),
    ("secondary_fault:0:write", "madvise:0-7:dontneed"),
    ("secondary_fault:0", "mremap:0-1>4"),
    ("mlock:0-7", "swapout:0"),
)
"""Too many schedules for all of them."""


@pytest.mark.parametrize("pair", PAIRS, ids=" ".join)
def test_beside_others(pair: tuple[str, str]) -> None:
    assert violations(outcomes(alone(*pair))) == set()


@pytest.mark.full
@pytest.mark.parametrize("pair", LONG, ids=" ".join)
def test_beside_others_as_far_as_it_goes(pair: tuple[str, str]) -> None:
    assert violations(Outcomes(alone(*pair), v12.VARIANT, attrs.evolve(EXHAUSTIVE, budget=3_000))) == set()


@pytest.mark.full
def test_mlock_beside_swap_out() -> None:
    assert violations(outcomes(alone("mlock:0", "swapout:0", pages="a......."), search=attrs.evolve(EXHAUSTIVE, budget=40_000))) == set()
