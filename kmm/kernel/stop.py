"""What ends a task before it returns. All derive from BaseException: kernel code cannot catch them by accident."""

from __future__ import annotations

from typing import NoReturn, Self


class Stop(BaseException):
    """A task ends here; the text is its outcome in the observation."""


class Bug(Stop):
    """BUG: the task ends with its locks held."""


class Deadlock(Stop):
    """No task can go on."""


class Hang(Stop):
    """The task has used up its budget of accesses."""


class WouldBlock(Stop):
    """An operation that may not block met a lock that is held."""


class NotApplicable(Stop):
    """The variant does not do what the scenario asks for: outside its scope."""


class Abandoned(BaseException):
    """The whole run is given up: thrown into each task that has not returned."""


class Label(BaseException):
    """A C label: a block that :func:`goto` leaves.

    ``with Label("out") as out:`` is the code before ``out:``; what follows the block is the code after it.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, value: BaseException | None, trace: object) -> bool:
        return value is self


def goto(label: Label) -> NoReturn:
    """Leave the block of ``label`` and go on behind it."""
    raise label
