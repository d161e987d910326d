"""What a scenario with actors can come to, on a terminal and as JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

import attrs
from rich.console import Console
from rich.text import Text

from kmm.explore import Deviation
from kmm.judge.differing import differing
from kmm.judge.observe import Observation
from kmm.judge.outcomes import Outcomes
from kmm.judge.witness import deviation_text
from kmm.report.pagemap import after
from kmm.scenario.actors import task_names
from kmm.scenario.checks import GAP
from kmm.scenario.model import DriverKind, Scenario
from kmm.scenario.run import Run
from kmm.scenario.spec import actor_text

SCHEMA: Final = 1
MAX_DEVIATIONS: Final = 12
"""Deviations of a schedule that are spelled out on a terminal."""
_NAMES: Final = {"sc": "sequential consistency", "pso": "store buffers"}


def print_outcomes(console: Console, found: Outcomes) -> None:
    """Show every outcome with one schedule."""
    s, exploration = found.program.scenario, found.exploration
    console.print(Text(_heading(found), style="bold"), soft_wrap=True)
    console.print(Text(_searched(found)), soft_wrap=True)
    first: Observation | None = None
    width = max(12, *(len(name) + 2 for name in task_names(s)))
    for number, outcome in enumerate(_often_first(found), 1):
        run, observation = found.run(outcome), found.observation(outcome)
        console.print()
        console.print(Text(f"outcome {number}: {_count(exploration.outcomes[outcome].executions, 'execution')}", style="bold"))
        for title, text in _lines(s, run, observation):
            console.print(Text(f"  {title:<{width}}{text}"), soft_wrap=True)
        if first is None:
            first = observation
        else:
            console.print(Text(f"  {'other':<{width}}{', '.join(differing(first, observation))} than in outcome 1"), soft_wrap=True)
        for title, text in _schedule(found.schedule(outcome).deviations):
            console.print(Text(f"  {title:<{width}}{text}", style="dim"), soft_wrap=True)


def to_json(found: Outcomes) -> dict[str, object]:
    """Everything that :func:`print_outcomes` shows, for programs."""
    s, exploration, search = found.program.scenario, found.exploration, found.search
    return {
        "schema": SCHEMA,
        "variant": found.program.variant.name,
        "actors": [actor_text(actor) for actor in s.actors],
        "strategy": search.strategy,
        "memory": search.memory,
        "seed": search.seed,
        "complete": exploration.complete,
        "interrupted": exploration.interrupted,
        "executions": exploration.executions,
        "traces": exploration.traces,
        "outcomes": [_outcome_json(found, outcome) for outcome in _often_first(found)],
    }


def _outcome_json(found: Outcomes, outcome: bytes) -> dict[str, object]:
    run, observation, schedule = found.run(outcome), found.observation(outcome), found.schedule(outcome)
    return {
        "sha256": hashlib.sha256(outcome).hexdigest(),
        "executions": found.exploration.outcomes[outcome].executions,
        "driver": observation.outcome if observation.outcome != "returned" else observation.result,
        "errno": observation.errno,
        "actors": list(observation.actors),
        "maps": [text for title, text in _maps(found.program.scenario, run)],
        "violations": [list(each) for each in run_violations(observation)],
        "schedule": [attrs.asdict(each) for each in schedule.deviations],
    }


def run_violations(observation: Observation) -> list[tuple[str, str]]:
    """(sanitizer, sentence) of each violation."""
    return [(str(each[0]), str(each[1])) for each in observation.violations if isinstance(each, tuple)]


def _heading(found: Outcomes) -> str:
    s = found.program.scenario
    beside = ", ".join(actor_text(actor) for actor in s.actors)
    driver = "" if s.driver.kind is DriverKind.STEPS else f"{s.driver.kind.value} beside "
    return f"{found.program.variant.name}: {driver}{beside}"


def _searched(found: Outcomes) -> str:
    exploration = found.exploration
    how = "every trace" if exploration.complete else "not every trace"
    return (
        f"{_count(exploration.executions, 'execution')}, {_count(exploration.traces, 'trace')} ({how} under {_NAMES[exploration.memory]}), "
        f"{_count(len(exploration.outcomes), 'outcome')}"
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' if number != 1 else ''}"


def _often_first(found: Outcomes) -> list[bytes]:
    """The outcomes, those of most executions first."""
    outcomes = found.exploration.outcomes
    return sorted(outcomes, key=lambda each: (-outcomes[each].executions, each))


def _lines(s: Scenario, run: Run, observation: Observation) -> Iterator[tuple[str, str]]:
    if s.driver.kind is not DriverKind.STEPS:
        result = observation.result if observation.outcome == "returned" else observation.outcome
        yield run.world.task.name, f"{result} {observation.errno}".rstrip()
    yield from zip(task_names(s), observation.actors, strict=True)
    yield from _maps(s, run)
    for check, sentence in run_violations(observation):
        yield "violation", f"{check}: {sentence}"


def _maps(s: Scenario, run: Run) -> Iterator[tuple[str, str]]:
    """What each process has in each range at the end."""
    for mm in run.world.system.mms:
        for number in range(s.geometry.ranges):
            drawn = after(run.world, s, mm, number)
            if mm._vmas and drawn.pages.strip(GAP):
                yield f"process {mm.ident}", f"{drawn.title}: {drawn.pages}"
            elif mm._vmas:
                yield f"process {mm.ident}", drawn.title


def _schedule(deviations: tuple[Deviation, ...]) -> Iterator[tuple[str, str]]:
    title = "schedule"
    if not deviations:
        yield title, "the usual order: each task for as long as it can"
    for each in deviations[:MAX_DEVIATIONS]:
        yield title, deviation_text(each)
        title = ""
    if len(deviations) > MAX_DEVIATIONS:
        yield title, f"and {len(deviations) - MAX_DEVIATIONS} more"
