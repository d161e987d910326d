"""Schedules between the explorer and a file."""

from __future__ import annotations

from kmm.explore import Deviation, Schedule, Step
from kmm.scenario import recorded
from kmm.scenario.recorded import Recorded


def to_record(schedule: Schedule, *, side: str, others: int) -> Recorded:
    """A schedule as a file says it.

    :param side: the variant that it leads where the other one never comes
    :param others: executions of the other one
    """
    deviations = [
        recorded.Deviation(
            task=each.before.task,
            function=each.before.function,
            primitive=each.before.primitive,
            place=each.before.place,
            nth=each.before.nth,
            to=each.to,
        )
        for each in schedule.deviations
    ]
    return Recorded(side=side, others=others, memory=schedule.memory, shared=schedule.shared, deviations=tuple(deviations))


def from_record(record: Recorded) -> Schedule:
    """A schedule that can be replayed."""
    deviations = [Deviation(Step(each.task, each.function, each.primitive, each.place, each.nth), each.to) for each in record.deviations]
    return Schedule(record.memory, record.shared, tuple(deviations))


def deviation_text(each: Deviation) -> str:
    """A deviation in words."""
    step = each.before
    nth = f", time {step.nth}" if step.nth > 1 else ""
    return f"{each.to} goes on before {step.task}: {step.primitive} {step.place} in {step.function}{nth}".replace("  ", " ")
