"""From the first difference to a counterexample: minimised, run again, explained. The variants' code runs in workers only."""

from __future__ import annotations

from typing import Final

import attrs

from kmm.judge.chunk import Contest, is_different
from kmm.judge.pair import Pair, judge_pair
from kmm.judge.pool import Beat, Skip, guarded
from kmm.judge.sets import REPORTS
from kmm.judge.verdict import Counterexample
from kmm.scenario.model import Scenario
from kmm.scenario.recorded import Recorded
from kmm.scenario.search import Search, can_settle

MOST_EXECUTIONS: Final = 5_000
"""At least so many, of each side, are made to show a difference that was found with fewer, if not all can be."""
KEEPS_STATE = (
    "The difference does not show when the scenario is run on its own: it takes the runs that came before it. "
    "Some state outlives a run in one of the variants."
)


def counterexample(contest: Contest, s: Scenario, search: Search, stall_s: float, *, refines: bool = False) -> Counterexample:
    """Minimise and explain a scenario in which the variants differ.

    :param search: of the schedules, beside actors
    :param stall_s: seconds after which a run that makes no step is given up
    :param refines: the candidate can only do less than the baseline, and that is to be shown
    """
    if not can_settle(s, search):
        search = attrs.evolve(search, budget=max(search.budget or 0, MOST_EXECUTIONS))
    asked = _Asked(contest, search, stall_s, refines)
    alone = _differing_alone(asked, s)
    if not alone:
        return Counterexample(scenario=s, differs=(), explanation=KEEPS_STATE)
    # A harmless difference is often the smaller one: a report stays one.
    small = _minimised(asked, s, keep=REPORTS if s.actors and REPORTS in alone else "")
    differs = _differing_alone(asked, small)
    if not differs:
        return Counterexample(scenario=s, differs=_differing_alone(asked, s), explanation=KEEPS_STATE)
    explanation, schedule = _explained(asked, small)
    return Counterexample(scenario=small, differs=differs, explanation=explanation, schedule=schedule)


@attrs.frozen
class _Asked:
    contest: Contest
    search: Search
    stall_s: float
    refines: bool

    def pair(self, s: Scenario) -> Pair:
        return judge_pair(s, self.contest.baseline.variant, self.contest.candidate.variant, self.search, self.contest.intended)

    def shown(self, pair: Pair) -> bool:
        return is_different(pair, self.contest.intended, refines=self.refines)


def _differing_alone(asked: _Asked, s: Scenario) -> tuple[str, ...]:
    """The observables that differ in a fresh process; none if the difference is excused, or the run gives no answer."""

    def work(_task: None, skip: Skip, beat: Beat) -> tuple[str, ...]:
        if 0 in skip:
            return ()
        beat(0)
        pair = asked.pair(s)
        return pair.differs if asked.shown(pair) else ()

    return guarded(work, stall_s=asked.stall_s).value


def _minimised(asked: _Asked, s: Scenario, keep: str) -> Scenario:
    """A candidate that gives no answer counts as not differing.

    :param keep: the observable that has to differ all along; empty: any
    """
    from kmm.judge.minimise import minimise

    def work(_task: None, skip: Skip, beat: Beat) -> Scenario:
        calls = 0

        def differs(smaller: Scenario) -> bool:
            nonlocal calls
            calls += 1
            if calls in skip:
                return False
            beat(calls)
            try:
                pair = asked.pair(smaller)
                return asked.shown(pair) and (not keep or keep in pair.differs)
            except BaseException:
                return False

        return minimise(s, differs)

    return guarded(work, stall_s=asked.stall_s).value


def _explained(asked: _Asked, s: Scenario) -> tuple[str, Recorded | None]:
    from kmm.judge.explanation import explained

    def work(_task: None, skip: Skip, beat: Beat) -> tuple[str, Recorded | None]:
        if 0 in skip:
            return "", None
        beat(0)
        return explained(s, asked.contest.baseline, asked.contest.candidate, asked.search)

    done = guarded(work, stall_s=asked.stall_s)
    return done.value if not done.lost else (f"The run cannot be explained: the worker {done.lost[0].reason}.", None)
