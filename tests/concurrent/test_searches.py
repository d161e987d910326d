"""The page of what was searched, and samples when something turns out to be shared late."""

from __future__ import annotations

from typing import Final

import attrs
import pytest

from docs._ext.searches import PAGE, Row, line, lines, rows
from kmm.judge.outcomes import Outcomes
from kmm.scenario.model import Driver, DriverKind
from kmm.scenario.run import run
from kmm.scenario.search import Search
from kmm.scenario.step import Step
from refactors import v12
from tests.concurrent.making import beside

SHORT: Final = 100
LONG: Final = 1_000
"""Executions."""
DONE: Final = ("done", "recovered")


SHOWN: Final = PAGE.read_text(encoding="utf-8").splitlines(keepends=True)


def test_the_page_names_every_row() -> None:
    shown = [each for each in SHOWN if each.startswith("| `")]
    assert len(shown) == len(rows())
    assert all(each.startswith(row.head()) for each, row in zip(shown, rows(), strict=True))


def shown(row: Row) -> str:
    return next(each for each in SHOWN if each.startswith(row.head()))


def executions(row: Row) -> int:
    return int(shown(row).removeprefix(row.head()).partition(" ")[0].replace(",", ""))


@pytest.mark.parametrize("row", [row for row in rows() if len(row.actors) == 1], ids=Row.head)
def test_two_tasks_are_searched_completely_and_both_variants_do_the_same(row: Row) -> None:
    assert shown(row).endswith("| yes | equal |\n")
    if executions(row) <= SHORT:
        assert line(row) == shown(row)


@pytest.mark.parametrize("row", [row for row in rows() if len(row.actors) == 1], ids=Row.head)
def test_every_actor_does_something(row: Row) -> None:
    """In the usual order, or in that where the actor comes first."""
    collapse = Step(op="khugepaged")
    actor = row.scenario().actors[0]
    for steps in ((collapse, actor), (actor, collapse)):
        s = attrs.evolve(row.scenario(), driver=Driver(kind=DriverKind.STEPS), steps=steps, actors=())
        said = run(s, v12.VARIANT).steps
        if len(said) == 2 and said[steps.index(actor)].startswith(DONE):
            return
    raise AssertionError(f"{row.head()}: {actor} does nothing")


@pytest.mark.full
def test_the_page_is_true() -> None:
    assert lines([row for row in rows() if SHORT < executions(row) <= LONG]) == [
        shown(row) for row in rows() if SHORT < executions(row) <= LONG
    ]


@pytest.mark.soak
def test_all_of_the_page_is_true() -> None:
    assert lines(rows()) == [shown(row) for row in rows()]


@pytest.mark.parametrize("budget", [30, 100])
def test_samples_from_before_something_was_shared_do_not_count(budget: int) -> None:
    s = beside("munmap:0-3", "fork", pages="aaa.aaaa", orders=(2,))
    drawn = Outcomes(s, v12.VARIANT, Search(strategy="pos", budget=budget)).exploration
    assert drawn.restarts > 0
    assert sum(each.executions for each in drawn.outcomes.values()) == budget
