"""Run a scenario against a variant."""

from __future__ import annotations

import re
import sys
import traceback
from types import TracebackType
from typing import Final

from kmm.kernel.locks import at_quiescence
from kmm.kernel.record import Recorder
from kmm.kernel.stop import Label, NotApplicable, Stop
from kmm.mm.variant import Variant
from kmm.scenario.build import build
from kmm.scenario.drive import Run, drive
from kmm.scenario.errors import StepError
from kmm.scenario.events import Events
from kmm.scenario.model import Scenario
from kmm.scenario.quiescence import check_quiescence

__all__ = ["IMPOSSIBLE", "Run", "run"]

IMPOSSIBLE: Final = "impossible: "
"""Begins the outcome of a run with a step that cannot happen."""


def run(scenario: Scenario, variant: Variant, *, record: bool = False, budget_factor: int = 1) -> Run:
    """Run ``scenario`` once. Everything the variant does, crashes included, is part of the value.

    :param record: keep the log of steps, for an explanation
    :param budget_factor: how many times the usual budget of accesses the task has
    """
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
        try:
            drive(out, scenario.driver)
        except KeyboardInterrupt:
            raise
        except NotApplicable:
            out.applicable = False
        except StepError as error:
            out.impossible = error
            out.outcome = f"{IMPOSSIBLE}{error.problem}"
        except Stop as stop:
            out.outcome = str(stop)
        except BaseException as error:
            out.outcome = _crash(error)
        machine.at_point = None
        machine.budget = sys.maxsize
        if events is not None:
            out.events = tuple(events.outcomes)
        if out.outcome == "returned" and out.applicable:
            at_quiescence(world.task)
            check_quiescence(world)
    return out


def _crash(error: BaseException) -> str:
    """What an exception of the variant's code is, in the observation's words."""
    where = _innermost(error.__traceback__)
    if isinstance(error, Label):
        return f"goto out of its block in {where}"
    if isinstance(error, UnboundLocalError):
        return f"uninitialised use in {where}: {error}"
    text = re.sub(r" at 0x[0-9a-f]+", "", str(error))
    return f"{type(error).__name__} in {where}: {text}"


def _innermost(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)
    return f"{frames[-1].name}:{frames[-1].lineno}" if frames else "?"
