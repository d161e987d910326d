"""The log of a run, kept only when a divergence is to be explained."""

from __future__ import annotations

import sys
from typing import Final

import attrs

from kmm.kernel import current

READ: Final = "reads "


@attrs.frozen
class Step:
    """One logged step.

    :param text: in kernel words
    :param stack: (file, line, function) of each kernel frame, innermost first; not part of what is compared
    :param task: whose
    """

    text: str
    stack: tuple[tuple[str, int, str], ...] = attrs.field(eq=False)
    task: str = ""


class Recorder:
    """Collects the writes, lock operations, trace events and reports of a run, in order; and the reads of what several tasks use."""

    __slots__ = ("steps",)

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def write(self, obj: str, field: str, value: object) -> None:
        """A store."""
        self.note(f"{obj}.{field} = {_shown(value)}")

    def read(self, obj: str, field: str, value: object) -> None:
        """A load of what another task may write."""
        self.note(f"{READ}{obj}.{field}: {_shown(value)}")

    def note(self, text: str) -> None:
        """Anything else."""
        stack = []
        frame = sys._getframe(1)
        while frame.f_back is not None:
            name = frame.f_globals.get("__name__", "")
            if not name.startswith(("kmm.kernel", "kmm.explore", "kmm.scenario", "contextlib")):
                stack.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
            if name.startswith("kmm.scenario"):
                break
            frame = frame.f_back
        self.steps.append(Step(text, tuple(stack), current.task.name))


def _shown(value: object) -> object:
    return hex(value) if type(value) is int and value > 9999 else value
