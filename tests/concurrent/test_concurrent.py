"""A collapse beside others: what it can come to."""

from __future__ import annotations

import pytest

from kmm.judge.outcomes import Outcomes
from kmm.scenario.actors import task_names
from kmm.scenario.errors import ScenarioError
from kmm.scenario.model import DriverKind
from kmm.scenario.run import run
from kmm.scenario.toml import parse, render
from refactors import base, reviewed, v12
from tests.concurrent.making import alone, beside, outcomes, results, violations


def test_fork_comes_before_between_or_behind() -> None:
    """Shared pages are too many for the scan, or for the attempt; or fork copies the huge page."""
    found = outcomes(beside("fork"))
    assert results(found) == {"SCAN_EXCEED_SHARED_PTE", "SCAN_FAIL", "SCAN_SUCCEED"}
    assert violations(found) == set()


def test_unmapping_comes_before_between_or_behind() -> None:
    """khugepaged finds no VMA, no longer one, or has done its work."""
    found = outcomes(beside("munmap:0-7"))
    assert results(found) == {"not scanned", "SCAN_FAIL", "SCAN_SUCCEED"}
    assert violations(found) == set()


def test_a_limit_that_is_lowered_meanwhile_holds_from_the_next_look_on() -> None:
    found = outcomes(beside("sysfs:khugepaged/max_ptes_none=0", pages="aaa.aaaa"))
    assert results(found) == {"SCAN_EXCEED_NONE_PTE", "SCAN_FAIL", "SCAN_SUCCEED"}


def test_a_user_sees_nothing_of_it() -> None:
    for actor in ("load:0", "store:0", "store:3"):
        found = outcomes(beside(actor, pages="aaa.aaaa"))
        assert violations(found) == set()
        assert {found.observation(each).actors for each in found.all} == {("done",)}


def test_a_process_that_ends_beside_its_own_thread_ends_when_the_last_of_them_goes() -> None:
    found = outcomes(alone("exit", "store:0"))
    assert violations(found) == set()
    assert {found.observation(each).actors for each in found.all} == {("done", "done")}
    for each in found.all:
        assert found.run(each).world.system.mms[0].freed_by == "mmdrop"


def test_khugepaged_beside_the_end_of_the_process_touches_nothing_freed() -> None:
    found = outcomes(beside("exit"))
    assert violations(found) == set()
    assert "not scanned" in results(found)


def test_two_collapses_of_one_table() -> None:
    """One of them does it. Before the series the other one says so, too; in v12 it loses its result on the way (finding F-01)."""
    s = beside("madvise:0-7:collapse")
    before, since = outcomes(s, base.VARIANT), outcomes(s)
    assert violations(before) == violations(since) == set()
    assert answers(before) == {("SCAN_SUCCEED", "done"), ("SCAN_PMD_MAPPED", "done")}
    assert answers(since) == answers(before) | {("SCAN_SUCCEED", "EINVAL"), ("SCAN_FAIL", "done")}


def answers(found: Outcomes) -> set[tuple[str, str]]:
    """What the driver and the first actor say."""
    return {(found.observation(each).result, found.observation(each).actors[0]) for each in found.all}


def test_both_variants_come_to_the_same() -> None:
    for actor in ("fork", "munmap:0-3", "madvise:0-7:dontneed", "mlock:0-7", "exit"):
        for orders in ((3,), (2, 3)):
            s = beside(actor, pages="aaa.aaaa", orders=orders)
            assert outcomes(s, v12.VARIANT).all == outcomes(s, reviewed.VARIANT).all


def test_one_run_is_that_of_the_usual_order() -> None:
    """The driver goes first; the table that the actor unmaps is a huge page by then."""
    finished = run(beside("munmap:0-7"), v12.VARIANT)
    assert (finished.result, finished.actors) == ("SCAN_SUCCEED", ("done",))


def test_tasks_are_named_by_what_they_do() -> None:
    assert task_names(alone("store:0", "store:1", "fork")) == ("store", "store 2", "fork")


def test_actors_are_part_of_the_file() -> None:
    s = beside("store@1:3", "madvise:0-7:dontneed", "sysfs:enabled=never", "mremap:0-1>4")
    assert parse(render(s)) == s
    assert render(s).count("[[actor]]") == 4


@pytest.mark.parametrize(
    ("actors", "problem"),
    [
        (("munmap:4-9",), "actor 1 leads out of the range"),
        (("store:0",) * 7, "7 actors are too many"),
    ],
)
def test_what_cannot_be(actors: tuple[str, ...], problem: str) -> None:
    with pytest.raises(ScenarioError, match=problem):
        beside(*actors)


def test_steps_come_before_the_actors() -> None:
    import attrs

    from kmm.scenario.step import Step

    s = attrs.evolve(alone("load:0"), steps=(Step(op="munmap", page=0, length=8),))
    found = outcomes(s)
    assert {found.observation(each).actors for each in found.all} == {("SIGSEGV",)}
    assert s.driver.kind is DriverKind.STEPS
