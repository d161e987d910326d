"""What ``kmm doctor`` found, as text. Standard library only, as :mod:`kmm.live.doctor`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from kmm.live.doctor import AREAS, Row, exit_code
from kmm.live.doctor_host import State

_COLOURS: Final = {State.OK: "32", State.LIMITED: "33", State.MISSING: "31"}
_BOLD: Final = "1"
_DIM: Final = "2"
_STATE: Final = 9
_KEY: Final = 17
_INDENT: Final = 2 + _STATE + _KEY
_NARROWEST: Final = 60


def render(rows: Sequence[Row], *, width: int, colour: bool) -> str:
    """The rows by area, and what they amount to.

    :param width: columns; less than 60 counts as 60
    """
    return "".join(f"{line}\n" for line in _lines(rows, max(width, _NARROWEST), colour))


def _lines(rows: Sequence[Row], width: int, colour: bool) -> Iterator[str]:
    for area, purpose in AREAS.items():
        chosen = [row for row in rows if row.part.area == area]
        if chosen:
            yield _ink(f"{area}: {purpose}", _BOLD, colour)
            for row in chosen:
                yield from _row(row, width, colour)
            yield ""
    yield _summary(rows)


def _row(row: Row, width: int, colour: bool) -> Iterator[str]:
    first, *more = _wrap(row.finding.found, width)
    state = row.finding.state
    yield f"  {_ink(f'{state.value:{_STATE}}', _COLOURS[state], colour)}{row.part.key:{_KEY}}{first}"
    yield from (" " * _INDENT + line for line in more)
    for line in _wrap(f"gives: {row.part.gives}", width):
        yield " " * _INDENT + _ink(line, _DIM, colour)
    if row.finding.remedy:
        for line in _wrap(f"to do: {row.finding.remedy}", width):
            yield " " * _INDENT + line


def _summary(rows: Sequence[Row]) -> str:
    counts = {state: sum(row.finding.state is state for row in rows) for state in State}
    core = "The core is there" if exit_code(rows) == 0 else "A part of the core is missing"
    return f"{core}. {len(rows)} parts: {', '.join(f'{count} {state.value}' for state, count in counts.items())}"


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width - _INDENT, subsequent_indent="       " if text[:7] in ("gives: ", "to do: ") else "")


def _ink(text: str, code: str, colour: bool) -> str:
    return f"\033[{code}m{text}\033[0m" if colour else text
