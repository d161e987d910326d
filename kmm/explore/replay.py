"""Running one schedule again, by name."""

from __future__ import annotations

import attrs

from kmm.explore.explore import once
from kmm.explore.program import NotDeterministic, Program
from kmm.explore.result import Exploration
from kmm.explore.schedule import Deviation, Follow, Replay, Schedule, Step
from kmm.explore.sharing import Sharing


@attrs.frozen
class Replayed:
    """What a schedule led to.

    :param outcome: canonical bytes
    :param steps: every step, in order
    :param left_out: deviations whose time did not come, or whose task could not go on
    """

    outcome: bytes
    steps: tuple[Step, ...]
    left_out: tuple[Deviation, ...]


def schedule_of(program: Program, exploration: Exploration, outcome: bytes) -> Schedule:
    """The schedule of the first execution that gave ``outcome``, by name.

    :raises NotDeterministic: when it does not give it again
    """
    follow = Follow(exploration.outcomes[outcome].path)
    _, again = once(program, follow, Sharing(exploration.shared), memory=exploration.memory, naming=True)
    if again != outcome:
        raise NotDeterministic("the schedule of an outcome does not lead to it again")
    return Schedule(exploration.memory, exploration.shared, tuple(follow.deviations))


def replay(program: Program, schedule: Schedule) -> Replayed:
    """Run ``program``, or another version of it, under ``schedule``."""
    sharing = Sharing(schedule.shared)
    while True:
        strategy = Replay(schedule.deviations)
        _, outcome = once(program, strategy, sharing, memory=schedule.memory, naming=True)
        if not sharing.grown:
            return Replayed(outcome, tuple(strategy.steps), tuple(strategy.left))
        sharing.grown = False
