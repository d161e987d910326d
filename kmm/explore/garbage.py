"""Worlds are garbage as a whole, between executions: looking for it in the middle of them only costs time."""

from __future__ import annotations

import gc
from types import TracebackType
from typing import Final, Self

_YOUNG: Final = 64
"""Executions after which what they left behind is collected."""
_ALL: Final = 64 * _YOUNG
"""Executions after which everything is looked at: of each collection, the last world is still in use."""


class Garbage:
    """No automatic collection within a ``with`` block."""

    __slots__ = ("executions", "was_enabled")

    def __init__(self) -> None:
        self.executions = 0
        self.was_enabled = False

    def __enter__(self) -> Self:
        self.was_enabled = gc.isenabled()
        gc.disable()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        gc.collect(1)
        if self.was_enabled:
            gc.enable()

    def executed(self) -> None:
        """An execution is over."""
        self.executions += 1
        if not self.executions % _ALL:
            gc.collect()
        elif not self.executions % _YOUNG:
            gc.collect(1)
