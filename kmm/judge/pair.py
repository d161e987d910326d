"""One scenario, both variants."""

from __future__ import annotations

from typing import Final

import attrs

from kmm.judge.differing import differing, hangs
from kmm.judge.observe import Observation
from kmm.judge.side import observation
from kmm.kernel.stop import NotApplicable
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


def judge_pair(s: Scenario, baseline: Variant, candidate: Variant, search: Search = EXHAUSTIVE) -> Pair:
    """Run both variants and compare. A one-sided overrun of the budget is run again at ten times the budget.

    :param search: of the schedules, beside actors
    """
    if s.actors:
        return _judge_sets(s, baseline, candidate, search)
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


def _judge_sets(s: Scenario, baseline: Variant, candidate: Variant, search: Search) -> Pair:
    """Both sets of observations; those that are shown for a difference are two that are as alike as can be."""
    from kmm.judge.sets import EQUAL, REFINES, UNDETERMINED, judge_sets

    try:
        sets = judge_sets(s, baseline, candidate, search)
    except (NotApplicable, StepError):
        return Pair(s, None, None, False, ())
    common = sets.common()
    if not common and sets.relation == EQUAL:
        return Pair(s, None, None, True, (), lead=True)
    if sets.relation == EQUAL:
        cut = search.strategy == EXHAUSTIVE.strategy and not sets.complete
        return Pair(s, common[0], common[0], True, (), lead=cut, common=common, digest=sets.digest())
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
