"""Progress of a check or a search: a running line on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.markup import escape
from rich.status import Status

_EVERY_S: Final = 10.0
_LOOK_S: Final = 0.1


class Progress:
    """Shown for the time of a ``with`` block.

    :param console: where
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = Status("starting", console=console) if console.is_terminal else None
        self._started = self._said = time.monotonic()
        self._next = _LOOK_S

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._status is not None:
            self._status.stop()

    def update(self, family: str, judged: int) -> None:
        """Say how far it has come.

        :param family: that is being judged
        :param judged: pairs so far
        """
        self._say(f"{family}: {judged:,} pairs judged, {self._passed():.0f} s")

    def searched(self, executions: int, traces: int) -> None:
        """Say how far a search of schedules has come."""
        passed = self._passed()
        if passed < self._next:
            return
        self._next = passed + _LOOK_S
        self._say(f"{executions:,} executions, {traces:,} traces, {executions / passed:,.0f} executions/s, {passed:.0f} s")

    def _passed(self) -> float:
        return time.monotonic() - self._started

    def _say(self, text: str) -> None:
        now = time.monotonic()
        if self._status is not None:
            self._status.update(escape(text))
        elif now - self._said >= _EVERY_S:
            self._said = now
            self._console.print(escape(text), soft_wrap=True)
