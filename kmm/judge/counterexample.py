"""From the first difference to a counterexample: minimised, run again, explained. The variants' code runs in workers only."""

from __future__ import annotations

from kmm.judge.chunk import Contest, is_different
from kmm.judge.pair import Pair, judge_pair
from kmm.judge.pool import Beat, Skip, guarded
from kmm.judge.verdict import Counterexample
from kmm.scenario.model import Scenario

KEEPS_STATE = (
    "The difference does not show when the scenario is run on its own: it takes the runs that came before it. "
    "Some state outlives a run in one of the variants."
)


def counterexample(contest: Contest, s: Scenario, stall_s: float) -> Counterexample:
    """Minimise and explain a scenario in which the variants differ.

    :param stall_s: seconds after which a run that makes no step is given up
    """
    if not _differing_alone(contest, s, stall_s):
        return Counterexample(scenario=s, differs=(), explanation=KEEPS_STATE)
    small = _minimised(contest, s, stall_s)
    differs = _differing_alone(contest, small, stall_s)
    if not differs:
        return Counterexample(scenario=s, differs=_differing_alone(contest, s, stall_s), explanation=KEEPS_STATE)
    return Counterexample(scenario=small, differs=differs, explanation=_explained(contest, small, stall_s))


def _pair(contest: Contest, s: Scenario) -> Pair:
    return judge_pair(s, contest.baseline.variant, contest.candidate.variant)


def _differing_alone(contest: Contest, s: Scenario, stall_s: float) -> tuple[str, ...]:
    """The observables that differ in a fresh process; none if the difference is excused, or the run gives no answer."""

    def work(_task: None, skip: Skip, beat: Beat) -> tuple[str, ...]:
        if 0 in skip:
            return ()
        beat(0)
        pair = _pair(contest, s)
        return pair.differs if is_different(pair, contest.intended) else ()

    return guarded(work, stall_s=stall_s).value


def _minimised(contest: Contest, s: Scenario, stall_s: float) -> Scenario:
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
                return is_different(_pair(contest, smaller), contest.intended)
            except BaseException:
                return False

        return minimise(s, differs)

    return guarded(work, stall_s=stall_s).value


def _explained(contest: Contest, s: Scenario, stall_s: float) -> str:
    from kmm.judge.explain import explain

    def work(_task: None, skip: Skip, beat: Beat) -> str:
        if 0 in skip:
            return ""
        beat(0)
        return explain(s, contest.baseline, contest.candidate).text

    done = guarded(work, stall_s=stall_s)
    return done.value if not done.lost else f"The run cannot be explained: the worker {done.lost[0].reason}."
