"""What intended differences excuse."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Final

import attrs

from kmm.judge.case import case_of
from kmm.judge.observe import OBSERVABLES
from kmm.mm.intended import Case, IntendedDifference
from kmm.mm.variant import Variant
from kmm.scenario.model import Scenario

if TYPE_CHECKING:
    from kmm.judge.pair import Pair

STATE: Final = "address_spaces"
"""Who may differ in this is in another state from then on."""
PLACE: Final = "khugepaged"
"""Who differs in this comes to other ranges from then on."""
_STEP: Final = {"errno": "steps"}
"""Where a call is a step, its errno is what became of the step."""


def excuses(pair: Pair, intended: Iterable[IntendedDifference]) -> dict[str, IntendedDifference]:
    """For each observable that differs and is excused, what excuses it."""
    return excusing(pair.scenario, intended, pair.differs, pair.cases)


def excusing(
    s: Scenario, intended: Iterable[IntendedDifference], names: Collection[str] = OBSERVABLES, cases: tuple[Case, ...] = ()
) -> dict[str, IntendedDifference]:
    """For each of some observables that may differ in a scenario, what excuses it.

    :param cases: with steps and without actors, what the visits find
    """
    steps = bool(s.steps) and not s.actors
    named = [(_STEP.get(each.observable, each.observable) if steps else each.observable, each) for each in intended]
    candidates = [(name, each) for name, each in named if name in names]
    if not candidates:
        return {}
    cases = cases if steps else (case_of(s),)
    found: dict[str, IntendedDifference] = {}
    for name, each in candidates:
        if name not in found and any(map(each.predicate, cases)):
            found[name] = each
    return found


def comparable(s: Scenario, variants: Iterable[Variant], intended: Iterable[IntendedDifference]) -> tuple[Scenario, tuple[Case, ...]]:
    """How far a scenario with steps can be compared, and the cases that it is.

    :returns: the scenario up to the first step in which a declared difference may change the state, and what its visits find, on both sides
    """
    from kmm.judge.visits import visits

    both = [visit for variant in variants for visit in visits(s, variant)]
    changes = [each.predicate for each in intended if each.observable == STATE]
    last = min((visit.step for visit in both if any(holds(visit.case) for holds in changes)), default=len(s.steps))
    cases = dict.fromkeys(visit.case for visit in both if visit.step <= last)
    return attrs.evolve(s, steps=s.steps[:last]), tuple(cases)
