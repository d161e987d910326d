"""Run a scenario against a variant."""

from __future__ import annotations

import sys

from kmm.kernel.locks import at_quiescence
from kmm.kernel.record import Recorder
from kmm.mm.variant import Variant
from kmm.scenario.build import build
from kmm.scenario.drive import Run, drive
from kmm.scenario.ended import IMPOSSIBLE, guarded
from kmm.scenario.events import Events
from kmm.scenario.model import Scenario
from kmm.scenario.quiescence import check_quiescence

__all__ = ["IMPOSSIBLE", "Run", "run"]


def run(scenario: Scenario, variant: Variant, *, record: bool = False, budget_factor: int = 1) -> Run:
    """Run ``scenario`` once. Everything the variant does, crashes included, is part of the value.

    Actors do what they do when the driver has returned, or is blocked: the first of all schedules.

    :param record: keep the log of steps, for an explanation
    :param budget_factor: how many times the usual budget of accesses the task has
    """
    if scenario.actors:
        from kmm.scenario.concurrent import run_usual

        return run_usual(scenario, variant, record=record)
    world = build(scenario, variant)
    machine = world.system.machine
    machine.budget *= budget_factor
    if record:
        machine.recorder = Recorder()
    out = Run(scenario, world)
    events = Events(world, scenario.events) if scenario.events else None
    if events is not None:
        machine.at_point = events.at_point
    with world.system.running(world.task):
        out.outcome = guarded(lambda: drive(out, scenario.driver), out) or "returned"
        machine.at_point = None
        machine.budget = sys.maxsize
        if events is not None:
            out.events = tuple(events.outcomes)
        if out.outcome == "returned":
            at_quiescence(world.task)
            check_quiescence(world)
    return out
