"""One scenario, both variants."""

from __future__ import annotations

from typing import Final

import attrs

from kmm.judge.differing import differing, hangs
from kmm.judge.intended import PLACE, comparable
from kmm.judge.observe import Observation
from kmm.judge.side import observation
from kmm.kernel.stop import NotApplicable
from kmm.mm.intended import Case, IntendedDifference
from kmm.mm.variant import Variant
from kmm.scenario.errors import StepError
from kmm.scenario.model import Scenario
from kmm.scenario.run import IMPOSSIBLE
from kmm.scenario.search import EXHAUSTIVE, Search

SECOND_CHANCE: Final = 10
"""How many times the budget a one-sided overrun gets before it counts as HANG."""


@attrs.frozen
class Pair:
    """Both observations of one scenario.

    :param baseline: ``None`` when the baseline is not applicable
    :param candidate: ``None`` when the candidate is not applicable
    :param applicable: both variants do what the scenario asks for, and a step of it is not impossible with both; otherwise it lies
        outside the pair's scope
    :param differs: names of the observables that differ
    :param refines: beside actors: the candidate's observations are a part of the baseline's, and not all of them
    :param lead: beside actors: the search ended before it could tell
    :param common: beside actors: what both sides show
    :param digest: beside actors: a hash over all that both sides show
    :param cases: with steps, where differences are declared: what the visits find
    """

    scenario: Scenario
    baseline: Observation | None
    candidate: Observation | None
    applicable: bool
    differs: tuple[str, ...]
    refines: bool = False
    lead: bool = False
    common: tuple[Observation, ...] = ()
    digest: bytes = b""
    cases: tuple[Case, ...] = ()


def judge_pair(
    s: Scenario,
    baseline: Variant,
    candidate: Variant,
    search: Search = EXHAUSTIVE,
    intended: tuple[IntendedDifference, ...] = (),
) -> Pair:
    """Run both variants and compare. A one-sided overrun of the budget is run again at ten times the budget.

    :param search: of the schedules, beside actors
    :param intended: what the candidate declares: steps behind one in which that changes the state are not compared
    """
    if s.actors:
        return _judge_sets(s, baseline, candidate, search, intended)
    pair = _judge_one(s, baseline, candidate)
    if not (intended and s.steps and pair.differs):
        return pair
    shorter, cases = comparable(s, (baseline, candidate), intended)
    if shorter != s:
        pair = _judge_one(shorter, baseline, candidate)
    if PLACE in pair.differs:
        prefixes = (attrs.evolve(s, steps=s.steps[:n]) for n in range(1, len(shorter.steps)))
        pairs = (_judge_one(each, baseline, candidate) for each in prefixes)
        pair = next((each for each in pairs if PLACE in each.differs), pair)
    return attrs.evolve(pair, cases=cases)


def _judge_one(s: Scenario, baseline: Variant, candidate: Variant) -> Pair:
    a = observation(s, baseline)
    b = observation(s, candidate, like=a)
    if a is None or b is None:
        return Pair(s, a, b, False, ())
    if a.outcome == b.outcome and a.outcome.startswith(IMPOSSIBLE):
        return Pair(s, a, b, False, ())
    if hangs(a) != hangs(b):
        if hangs(a):
            a = observation(s, baseline, SECOND_CHANCE) or a
        else:
            b = observation(s, candidate, SECOND_CHANCE) or b
    return Pair(s, a, b, True, differing(a, b))


def _judge_sets(s: Scenario, baseline: Variant, candidate: Variant, search: Search, intended: tuple[IntendedDifference, ...]) -> Pair:
    """Both sets of observations; those that are shown for a difference are two that are as alike as can be."""
    from kmm.judge.sets import EQUAL, REFINES, UNDETERMINED, judge_sets

    try:
        sets = judge_sets(s, baseline, candidate, search, intended=intended)
    except (NotApplicable, StepError):
        return Pair(s, None, None, False, ())
    common = sets.common()
    if sets.relation == EQUAL:
        if not sets.baseline.all:
            return Pair(s, None, None, True, (), lead=True)
        cut = search.strategy == EXHAUSTIVE.strategy and not sets.complete
        a, b = (side.observation(side.all[0]) for side in (sets.baseline, sets.candidate))
        return Pair(s, a, b, True, () if cut else sets.excused(), lead=cut, common=common, digest=sets.digest())
    a, b, differs = sets.nearest()
    return Pair(
        s,
        a,
        b,
        True,
        differs if sets.relation != UNDETERMINED else (),
        refines=sets.relation == REFINES,
        lead=sets.relation == UNDETERMINED,
        common=common,
        digest=sets.digest(),
    )
