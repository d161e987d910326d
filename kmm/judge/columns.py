"""What several tasks did, one column a task, fit to be pasted into a mail."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final

import attrs

WIDTH: Final = 100
"""Columns of text, at most."""
EDGE: Final = 2
"""Events that are shown at the begin and at the end of what a task does without a break."""
WHOLE: Final = 10
"""Up to so many events are shown all."""
REPORTS: Final = 2
"""Of a sanitizer, shown wherever they stand in it."""
_GAP: Final = " | "


@attrs.frozen
class Event:
    """One thing that a task did.

    :param text: in kernel words
    :param where: function, file and line
    :param is_report: a sanitizer said it
    """

    task: str
    text: str
    where: str
    is_report: bool = False


def columns(events: Sequence[Event], tasks: Sequence[str], width: int = WIDTH) -> list[str]:
    """The events from top to bottom, each in the column of its task. Of what a task does without a break the middle is left out.

    :param tasks: in the order of the columns
    :param width: at most so many characters a line
    """
    own = (width - len(_GAP) * (len(tasks) - 1)) // len(tasks)
    out = [_row([name[:own] for name in tasks], own), _row(["-" * min(own, len(name)) for name in tasks], own)]
    for task, run in groupby(events, attrgetter("task")):
        column = tasks.index(task)
        out += [_row([cell if at == column else "" for at in range(len(tasks))], own) for cell in _condensed(list(run), own)]
    return out


def _condensed(run: list[Event], width: int) -> Iterator[str]:
    shown = _shown(run)
    for number, event in enumerate(run):
        if number in shown:
            yield from _cell(event, width)
        elif number - 1 in shown:
            yield f"... {next(at for at in range(number, len(run)) if at in shown) - number} more"


def _shown(run: list[Event]) -> set[int]:
    """Numbers of the events that are shown."""
    if len(run) <= WHOLE:
        return set(range(len(run)))
    reports = [number for number, event in enumerate(run) if event.is_report]
    return {*range(EDGE), *reports[:REPORTS], *range(len(run) - EDGE, len(run))}


def _cell(event: Event, width: int) -> Iterator[str]:
    yield from textwrap.wrap(event.text, width, subsequent_indent="  ", break_on_hyphens=False)
    yield from textwrap.wrap(event.where, width, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)


def _row(cells: Sequence[str], width: int) -> str:
    return _GAP.join(f"{cell:<{width}}" for cell in cells).rstrip()
