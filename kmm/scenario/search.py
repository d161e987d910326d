"""How the schedules of a scenario with actors are searched."""

from __future__ import annotations

from typing import Final

import attrs

from kmm.scenario.model import DriverKind, Scenario

DPOR: Final = "dpor"


@attrs.frozen(kw_only=True)
class Search:
    """How schedules are searched.

    :param strategy: out of :data:`kmm.explore.STRATEGIES`
    :param memory: ``sc`` or ``pso``
    :param preemption_bound: of ``dfs``
    :param budget: executions; ``None``: no limit
    :param seconds: of time; ``None``: no limit
    :param jobs: processes
    """

    strategy: str = DPOR
    memory: str = "sc"
    preemption_bound: int | None = None
    budget: int | None = None
    seconds: float | None = None
    seed: int = 0
    jobs: int = 1


EXHAUSTIVE: Final = Search(budget=20_000)
"""Every trace once."""
SAMPLED: Final = Search(strategy="pos", budget=100)
"""Where there are too many."""


def tasks(s: Scenario) -> int:
    """How many of a scenario run at the same time."""
    return len(s.actors) + (s.driver.kind is not DriverKind.STEPS)


def can_settle(s: Scenario, search: Search) -> bool:
    """Schedules were only drawn, and of two tasks all may be run where that would tell more."""
    return search.strategy != DPOR and tasks(s) <= 2
