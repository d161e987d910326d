"""How the schedules of a scenario with actors are searched."""

from __future__ import annotations

from typing import Final

import attrs

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
