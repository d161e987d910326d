"""Scenarios that the user gives to a check; captured ones are judged in further forms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from kmm.live.capture import as_captured_drivers
from kmm.scenario.families import Family
from kmm.scenario.model import Scenario
from kmm.scenario.search import EXHAUSTIVE, SAMPLED, tasks

SCHEDULES: Final = 500
"""That are drawn for each scenario with more than two tasks."""


def given(scenarios: Sequence[Scenario], name: str, memory: str = "sc") -> tuple[Family, ...]:
    """Everything given: one family, and another one of the scenarios that have too many schedules to run them all.

    :param name: of the family
    :param memory: the memory model of those with actors, ``sc`` or ``pso``
    """
    under = "" if memory == "sc" else ", under store buffers"
    drawn = tuple(s for s in scenarios if tasks(s) > 2)
    rest = [s for s in scenarios if tasks(s) <= 2]
    captured = sum(bool(s.assumed) for s in rest)
    judged = [form for s in rest for form in (as_captured_drivers(s) if s.assumed else (s,))]
    forms = f", of which {captured} captured, each in four forms" if captured else ""
    families = (
        Family(
            name, "exhaustive", f"{_number(rest)} given{forms}{under}", lambda: iter(judged), search=attrs.evolve(EXHAUSTIVE, memory=memory)
        ),
        Family(
            f"{name}, three tasks",
            "sampled",
            f"{SCHEDULES} schedules of {_number(drawn)} given that {'has' if len(drawn) == 1 else 'have'} three tasks or more{under}",
            lambda: iter(drawn),
            steps=True,
            search=attrs.evolve(SAMPLED, budget=SCHEDULES, memory=memory),
        ),
    )
    return tuple(family for family, has in zip(families, (rest, drawn), strict=True) if has)


def _number(scenarios: Sequence[Scenario]) -> str:
    return "the one scenario" if len(scenarios) == 1 else f"the {len(scenarios)} scenarios"
