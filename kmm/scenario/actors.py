"""Who runs at the same time."""

from __future__ import annotations

from collections import Counter

from kmm.scenario.model import DriverKind, Scenario


def driver_name(scenario: Scenario) -> tuple[str, ...]:
    """The name of the task that makes the driver's call; none when it did the steps before the actors begin."""
    d = scenario.driver
    if d.kind is DriverKind.STEPS:
        return ()
    khugepaged = d.kind is DriverKind.KHUGEPAGED or (d.kind is DriverKind.DIRECT and d.is_khugepaged)
    return ("khugepaged" if khugepaged else "madvise",)


def task_names(scenario: Scenario) -> tuple[str, ...]:
    """The name of each actor's task: its operation, with a number from the second of its kind on."""
    times = Counter(driver_name(scenario))
    names = []
    for actor in scenario.actors:
        times[actor.op] += 1
        names.append(actor.op if times[actor.op] == 1 else f"{actor.op} {times[actor.op]}")
    return tuple(names)
