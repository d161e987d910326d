"""The page of what was searched, and samples when something turns out to be shared late."""

from __future__ import annotations

import re

import pytest

from docs._ext.searches import PAGE, Row, line, lines, rows
from kmm.judge.outcomes import Outcomes
from kmm.scenario.search import Search
from refactors import v12
from tests.concurrent.making import beside

LONG = 1_000
"""Executions."""


def test_the_page_names_every_row() -> None:
    shown = [each.split(" | ")[0] for each in PAGE.read_text(encoding="utf-8").splitlines() if each.startswith("| `")]
    assert shown == ["| " + " and ".join(f"`{actor}`" for actor in row.actors) for row in rows()]


def executions(row: Row) -> int:
    start = f"| {' and '.join(f'`{actor}`' for actor in row.actors)} | `{row.pages}` | {row.order} | "
    found = re.search(re.escape(start) + r"([\d,]+) ", PAGE.read_text(encoding="utf-8"))
    assert found is not None
    return int(found[1].replace(",", ""))


@pytest.mark.parametrize("row", [row for row in rows() if len(row.actors) == 1], ids=lambda row: f"{row.actors[0]} {row.order}")
def test_two_tasks_are_searched_completely_and_both_variants_do_the_same(row: Row) -> None:
    start = f"| `{row.actors[0]}` | `{row.pages}` | {row.order} "
    shown = next(each for each in PAGE.read_text(encoding="utf-8").splitlines() if each.startswith(start))
    assert shown.endswith("| yes | equal |")
    if executions(row) <= 100:
        assert line(row) == shown + "\n"


@pytest.mark.full
def test_the_page_is_true() -> None:
    short = [row for row in rows() if executions(row) <= LONG]
    shown = PAGE.read_text(encoding="utf-8")
    for each in lines(short):
        assert each in shown


@pytest.mark.parametrize("budget", [30, 100])
def test_samples_from_before_something_was_shared_do_not_count(budget: int) -> None:
    s = beside("munmap:0-3", "fork", pages="aaa.aaaa", orders=(2,))
    drawn = Outcomes(s, v12.VARIANT, Search(strategy="pos", budget=budget)).exploration
    assert drawn.restarts > 0
    assert sum(each.executions for each in drawn.outcomes.values()) == budget
