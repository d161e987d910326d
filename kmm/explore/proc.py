"""What can be run next: the tasks of a world, RCU callbacks, and the stores that a CPU holds back."""

from __future__ import annotations

from collections.abc import Callable

from greenlet import greenlet

from kmm.explore.place import READ, Place
from kmm.kernel.task import Task


class Wait:
    """What must hold before a step is possible.

    :param ready: whether it does
    :param holders: who could make it hold, for the report of a deadlock
    :param races: called when it never did: looks for the steps before which it would have
    """

    __slots__ = ("holders", "races", "ready")

    def __init__(
        self, ready: Callable[[], bool], holders: Callable[[], list[Task]] | None = None, races: Callable[[], None] | None = None
    ) -> None:
        self.ready = ready
        self.holders = holders
        self.races = races


class Proc:
    """One thing that can make the next step.

    :param name: the same in every execution
    :param number: in the order in which they came to be; 0 is the world's first task
    :param task: as which it runs
    """

    __slots__ = (
        "act",
        "callbacks",
        "done",
        "end",
        "fence",
        "function",
        "glet",
        "group",
        "kind",
        "made",
        "mask",
        "name",
        "number",
        "owner",
        "place",
        "primitive",
        "seen",
        "task",
        "wait",
    )

    def __init__(self, name: str, number: int, task: Task) -> None:
        self.name = name
        self.number = number
        self.task = task
        self.owner: Proc = self
        """For stores held back: the task that made them."""
        self.group = name
        """Under this name others look at its interrupts, read sections and stores."""
        self.glet: greenlet | None = None
        self.act: Callable[[], None] | None = None
        """What is no task makes its step by this."""
        self.made = 0
        """Steps made."""
        self.done = False
        self.end = ""
        self.mask = 0
        """Events that happen before its next step, its own included."""
        self.seen = 0
        """KCSAN: accesses that are ordered before its next one."""
        self.fence = 0
        """KCSAN: the same at its last write barrier."""
        self.place: Place | None = None
        """Of the next step: the main place that it touches,"""
        self.kind = READ
        """how (what a trylock will do is not known before),"""
        self.function = ""
        """by which kernel function (only when steps are named),"""
        self.primitive = ""
        """which primitive it is, and"""
        self.wait: Wait | None = None
        """what it waits for."""
        self.callbacks = 0
        """RCU callbacks that it has queued."""

    def enabled(self) -> bool:
        """Whether it can make a step now."""
        return not self.done and (self.wait is None or self.wait.ready())

    def forget(self) -> None:
        """The execution is over: let go of what leads back to it, so that its memory is free at once."""
        self.glet = self.act = self.wait = None
