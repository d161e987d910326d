"""A schedule as a file says it: where the usual order of the tasks is left."""

from __future__ import annotations

from typing import Final

import attrs

from kmm.scenario.errors import require

SIDES = ("baseline", "candidate")
MEMORIES: Final = ("sc", "pso")


@attrs.frozen(kw_only=True)
class Deviation:
    """The usual order is left before one step.

    :param task: that would come next
    :param function: the kernel function that makes its step
    :param primitive: what the step does
    :param place: what it touches; empty: nothing that has a name
    :param nth: which time the task comes to such a step, from 1
    :param to: the task that goes on instead
    """

    task: str
    function: str
    primitive: str
    to: str
    place: str = ""
    nth: int = 1

    def __attrs_post_init__(self) -> None:
        require(self.nth >= 1, f"nth = {self.nth} is out of range", "use 1 or more")


@attrs.frozen(kw_only=True)
class Recorded:
    """A schedule that leads one variant where the other never comes.

    :param side: whose it is: ``baseline`` or ``candidate``
    :param others: executions in which the other one never came there
    :param memory: the memory model, ``sc`` or ``pso``
    :param shared: names of the places that tasks fight over
    :param deviations: in the order in which they happen
    """

    side: str
    others: int
    memory: str = "sc"
    shared: tuple[str, ...] = ()
    deviations: tuple[Deviation, ...] = ()

    def __attrs_post_init__(self) -> None:
        require(self.side in SIDES, f'side = "{self.side}" is not known', 'use "baseline" or "candidate"')
        require(self.memory in MEMORIES, f'memory = "{self.memory}" is not known', 'use "sc" or "pso"')
        require(self.others >= 0, f"others = {self.others} is negative", "use 0 or more executions")
