"""When a search stops: executions, seconds, an interrupt."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeAlias

Progress: TypeAlias = Callable[[int, int], None]
"""Called now and then with the number of executions and of traces so far."""


class Budget:
    """How much may be done.

    :param executions: after so many; ``None``: no limit
    :param seconds: from now
    :param progress: called as the search goes on
    """

    def __init__(self, executions: int | None, seconds: float | None, progress: Progress | None = None) -> None:
        self.executions = executions
        self.until = None if seconds is None else time.monotonic() + seconds
        self.progress = progress
        self.interrupted = False

    def left(self, executions: int) -> bool:
        """Whether another execution may be made after so many."""
        if self.executions is not None and executions >= self.executions:
            return False
        return self.in_time()

    def in_time(self) -> bool:
        """Whether the search may go on as far as time and the user are concerned."""
        return not self.interrupted and (self.until is None or time.monotonic() < self.until)

    def allows(self, executions: int, wanted: int) -> int:
        """How many of ``wanted`` more."""
        return wanted if self.executions is None else max(0, min(wanted, self.executions - executions))

    def tell(self, executions: int, traces: int) -> None:
        """Say how far the search has come."""
        if self.progress is not None:
            self.progress(executions, traces)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """An interrupt ends what is searched in the block, after the execution in progress; a second one ends that, too."""

        def ask(_signal: int, _frame: FrameType | None) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True

        is_main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGINT, ask) if is_main else None
        try:
            yield
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            if is_main:
                signal.signal(signal.SIGINT, before)
