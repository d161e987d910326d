"""One scenario, both variants."""

from __future__ import annotations

from typing import Final

import attrs

from kmm.judge.observe import OBSERVABLES, Observation, observe
from kmm.mm.variant import Variant
from kmm.scenario.model import Scenario
from kmm.scenario.run import IMPOSSIBLE, run

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
    """

    scenario: Scenario
    baseline: Observation | None
    candidate: Observation | None
    applicable: bool
    differs: tuple[str, ...]


def judge_pair(s: Scenario, baseline: Variant, candidate: Variant) -> Pair:
    """Run both variants and compare. A one-sided overrun of the budget is run again at ten times the budget."""
    a = _observation(s, baseline)
    b = _observation(s, candidate)
    if a is None or b is None:
        return Pair(s, a, b, False, ())
    if a.outcome == b.outcome and a.outcome.startswith(IMPOSSIBLE):
        return Pair(s, a, b, False, ())
    if hangs(a) != hangs(b):
        if hangs(a):
            a = _observation(s, baseline, SECOND_CHANCE) or a
        else:
            b = _observation(s, candidate, SECOND_CHANCE) or b
    return Pair(s, a, b, True, differing(a, b))


def _observation(s: Scenario, variant: Variant, budget_factor: int = 1) -> Observation | None:
    finished = run(s, variant, budget_factor=budget_factor)
    return observe(finished) if finished.applicable else None


def hangs(o: Observation) -> bool:
    """The task used up its budget."""
    return o.outcome.startswith("HANG")


def differing(a: Observation, b: Observation) -> tuple[str, ...]:
    """Names of the observables that differ. Two runs that both hang are alike: where a budget cuts a run shows nothing."""
    if a.canonical() == b.canonical() or (hangs(a) and hangs(b)):
        return ()
    return tuple(name for name in OBSERVABLES if repr(getattr(a, name)) != repr(getattr(b, name)))
