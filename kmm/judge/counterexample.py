"""From the first difference to a counterexample: minimised, run again, explained. The variants' code runs in workers only."""

from __future__ import annotations

from kmm.judge.chunk import Contest, is_different
from kmm.judge.pair import Pair, judge_pair
from kmm.judge.pool import Beat, Skip, guarded
from kmm.judge.verdict import Counterexample
from kmm.scenario.model import Scenario
from kmm.scenario.recorded import Recorded

KEEPS_STATE = (
    "The difference does not show when the scenario is run on its own: it takes the runs that came before it. "
    "Some state outlives a run in one of the variants."
)


def counterexample(contest: Contest, s: Scenario, stall_s: float, *, refines: bool = False) -> Counterexample:
    """Minimise and explain a scenario in which the variants differ.

    :param stall_s: seconds after which a run that makes no step is given up
    :param refines: the candidate can only do less than the baseline, and that is to be shown
    """
    if not _differing_alone(contest, s, stall_s, refines):
        return Counterexample(scenario=s, differs=(), explanation=KEEPS_STATE)
    small = _minimised(contest, s, stall_s, refines)
    differs = _differing_alone(contest, small, stall_s, refines)
    if not differs:
        return Counterexample(scenario=s, differs=_differing_alone(contest, s, stall_s, refines), explanation=KEEPS_STATE)
    explanation, schedule = _explained(contest, small, stall_s)
    return Counterexample(scenario=small, differs=differs, explanation=explanation, schedule=schedule)


def _pair(contest: Contest, s: Scenario) -> Pair:
    return judge_pair(s, contest.baseline.variant, contest.candidate.variant)


def _differing_alone(contest: Contest, s: Scenario, stall_s: float, refines: bool) -> tuple[str, ...]:
    """The observables that differ in a fresh process; none if the difference is excused, or the run gives no answer."""

    def work(_task: None, skip: Skip, beat: Beat) -> tuple[str, ...]:
        if 0 in skip:
            return ()
        beat(0)
        pair = _pair(contest, s)
        return pair.differs if is_different(pair, contest.intended, refines=refines) else ()

    return guarded(work, stall_s=stall_s).value


def _minimised(contest: Contest, s: Scenario, stall_s: float, refines: bool) -> Scenario:
    """A candidate that gives no answer counts as not differing."""
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
                return is_different(_pair(contest, smaller), contest.intended, refines=refines)
            except BaseException:
                return False

        return minimise(s, differs)

    return guarded(work, stall_s=stall_s).value


def _explained(contest: Contest, s: Scenario, stall_s: float) -> tuple[str, Recorded | None]:
    from kmm.judge.explanation import explained

    def work(_task: None, skip: Skip, beat: Beat) -> tuple[str, Recorded | None]:
        if 0 in skip:
            return "", None
        beat(0)
        return explained(s, contest.baseline, contest.candidate)

    done = guarded(work, stall_s=stall_s)
    return done.value if not done.lost else (f"The run cannot be explained: the worker {done.lost[0].reason}.", None)
