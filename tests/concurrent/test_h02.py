"""GUP-fast inside a table that a collapse has deposited and a later zap frees (H-02): what the interrupt after the flush is for."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs
import pytest

from kmm.explore.budget import Budget
from kmm.explore.explore import Explorer, once
from kmm.explore.proc import Proc
from kmm.explore.run import Run as Execution
from kmm.judge.outcomes import Outcomes
from kmm.mm.variant import Variant
from kmm.scenario.concurrent import Concurrent
from kmm.scenario.model import Config, Scenario
from kmm.scenario.search import Search
from refactors import reviewed, v12
from tests.concurrent.making import beside, violations
from tests.seeded import load, replace_line

BOUNDED: Final = Search(strategy="dfs", preemption_bound=1, budget=20_000)
"""Ends by itself: every schedule in which one task is interrupted once."""
FREED: Final = "KASAN: ptep_get touches entries of table1, which zap_deposited_table freed"
LATER: Final = ("madvise:0-7:dontneed", "munmap:0-7")


def without_the_interrupt(module: Path) -> Variant:
    """A variant without one line."""
    return load(replace_line(module.read_text(encoding="utf-8"), "tlb_remove_table_sync_one()", "pass"), "no_sync")


V12: Final = Path(v12.__file__)
REVIEWED: Final = Path(reviewed.__file__)


class Inside:
    """GUP-fast makes its first steps, then all others go on as far as they can.

    :param steps: how many
    """

    def __init__(self, steps: int) -> None:
        self.left = steps

    def choose(self, run: Execution) -> Proc | None:
        """Who is next."""
        able = run.enabled()
        gup = [proc for proc in able if proc.name == "gup_fast"]
        if gup and self.left:
            self.left -= 1
            return gup[0]
        return next((proc for proc in able if proc not in gup), gup[0] if gup else None)


def inside(s: Scenario, variant: Variant) -> set[str]:
    """What the sanitizers say wherever GUP-fast is interrupted by everything else."""
    said: set[str] = set()
    program = Concurrent(s, variant, lambda run: b"")
    explorer = Explorer(program, "sc", Budget(None, None), 1)
    for steps in range(8):
        for _ in range(4):
            once(program, Inside(steps), explorer.sharing, memory="sc")
        said |= {f"{report.check}: {report.text}" for report in program.run.world.system.machine.reports}
    return said


@pytest.mark.parametrize("other", LATER)
def test_the_table_is_freed_under_the_walker(other: str) -> None:
    s = beside("gup_fast:0", other)
    assert inside(s, v12.VARIANT) == inside(s, reviewed.VARIANT) == set()
    assert inside(s, without_the_interrupt(V12)) == inside(s, without_the_interrupt(REVIEWED)) == {FREED}


@pytest.mark.parametrize("other", LATER)
def test_where_a_flush_is_an_interrupt_it_is_masked(other: str) -> None:
    s = attrs.evolve(beside("gup_fast:0", other), config=Config(tlb="ipi"))
    assert inside(s, without_the_interrupt(V12)) == set()


@pytest.mark.parametrize("other", LATER)
def test_a_table_that_stays_in_use_is_freed_after_a_grace_period(other: str) -> None:
    """A smaller collapse puts the table back; a zap that frees it waits for sections with interrupts disabled."""
    assert inside(beside("gup_fast:0", other, orders=(2,)), without_the_interrupt(V12)) == set()


@pytest.mark.full
@pytest.mark.parametrize("other", LATER)
def test_a_search_finds_it(other: str) -> None:
    s = beside("gup_fast:0", other)
    assert violations(Outcomes(s, v12.VARIANT, BOUNDED)) == set()
    assert FREED in violations(Outcomes(s, without_the_interrupt(V12), BOUNDED))
