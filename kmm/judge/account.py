"""All that an explanation needs of one run: it can be sent from one process to another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from kmm.judge.observe import Observation, observe
from kmm.judge.words import step_text, trace_line
from kmm.kernel.record import Step
from kmm.kernel.report import Report
from kmm.mm.variant import Variant
from kmm.scenario.model import Scenario
from kmm.scenario.run import Run, run

if TYPE_CHECKING:
    from kmm.explore import Schedule


@attrs.frozen
class Account:
    """One run that was made with a log.

    :param steps: the log in kernel words
    :param reports: of the sanitizers, in order
    """

    steps: tuple[Step, ...]
    outcome: str
    observation: Observation
    reports: tuple[Report, ...]


def account(s: Scenario, variant: Variant, schedule: Schedule | None = None) -> Account:
    """Run once more, with a log.

    :param schedule: beside actors; ``None``: the usual one
    """
    if schedule is None:
        return account_of(run(s, variant, record=True))
    from kmm.explore import replay
    from kmm.scenario.concurrent import Concurrent

    program = Concurrent(s, variant, lambda _: b"", record=True)
    replay(program, schedule)
    return account_of(program.run)


def account_of(r: Run) -> Account:
    """The account of a run that was made with a log."""
    return Account(tuple(_steps(r)), r.outcome, observe(r), tuple(r.world.system.machine.reports))


def _steps(r: Run) -> list[Step]:
    """What the log only hints at is taken from what was observed, in the same order."""
    this = r.world.system
    machine = this.machine
    observed: dict[str, Iterator[str]] = {
        "trace ": (trace_line(name, fields, pfns=False) for name, fields in machine.trace_events),
        "mmu notifier start": (f"mmu notifier start, {_range(each, 0)}" for each in this.notifier_windows if each[0] >= 0),
        "flush_tlb_range": (f"flush_tlb_range, {_range(each, this.base)}" for each in machine.tlb_flushes),
    }
    steps: list[Step] = []
    for step in machine.recorder.steps if machine.recorder is not None else ():
        text = next((next(texts, step.text) for lead, texts in observed.items() if step.text.startswith(lead)), step.text)
        steps.append(attrs.evolve(step, text=step_text(text)))
    return steps


def _range(each: tuple[int, int], base: int) -> str:
    return f"bytes {each[0] - base:#x} to {each[1] - base:#x} of the table's range"
