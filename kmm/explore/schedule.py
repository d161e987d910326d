"""Schedules by name: the usual order, and where it is left."""

from __future__ import annotations

from collections import Counter

import attrs

from kmm.explore.proc import Proc
from kmm.explore.run import Run


@attrs.frozen
class Step:
    """One step in kernel words.

    :param task: whose; for a store that a CPU held back, the name says so
    :param function: the kernel function that makes it
    :param primitive: ``read``, ``write``, ``rmw``, ``wait``, ``lock``, ``trylock``, ``unlock``, ``write back``, ``IPI`` ...
    :param place: what it touches first
    :param nth: how often the task has come to such a step, from 1
    """

    task: str
    function: str
    primitive: str
    place: str
    nth: int


@attrs.frozen
class Deviation:
    """The usual order is left.

    :param before: the step that would come next
    :param to: the task that makes its step instead
    """

    before: Step
    to: str


@attrs.frozen
class Schedule:
    """Which task goes on when: the usual order but for the deviations.

    The usual order: a store reaches memory at once; a task goes on for as long as it can; then the first that can.

    :param memory: ``sc`` or ``pso``
    :param shared: names of the places that tasks fight over
    :param deviations: in the order in which they happen
    """

    memory: str
    shared: tuple[str, ...]
    deviations: tuple[Deviation, ...]


class Usual:
    """The usual order.

    A store that was once held back is held back until its task's other steps, and everybody else's, are over.
    """

    def __init__(self) -> None:
        self.held: set[str] = set()

    def of(self, run: Run) -> Proc | None:
        """Who goes on."""
        enabled = run.enabled()
        late = [proc for proc in enabled if proc.name in self.held]
        now = [proc for proc in enabled if proc.name not in self.held]
        for proc in now:
            if proc.act is not None:
                return proc
        if run.me in now:
            return run.me
        return next(iter([*now, *late]), None)

    def went(self, run: Run, proc: Proc) -> None:
        """``proc`` goes on: stores that could have reached memory and did not are held back from now on."""
        self.held.discard(proc.name)
        if proc.act is None:
            self.held |= {each.name for each in run.enabled() if each.act is not None}


class First:
    """The usual order, but one task goes on whenever it can.

    :param number: of the task
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.usual = Usual()

    def choose(self, run: Run) -> Proc | None:
        """The task, else as usual."""
        proc = next(each for each in run.procs.values() if each.number == self.number)
        return proc if proc.enabled() else self.usual.of(run)


class Names:
    """Names the step that a task has announced."""

    def __init__(self) -> None:
        self.times: Counter[tuple[str, str, str, str]] = Counter()
        self.announced: dict[str, int] = {}

    def of(self, proc: Proc, announcement: int) -> Step:
        """The step in kernel words.

        :param announcement: different for each step of the task
        """
        place = proc.place.name if proc.place is not None else ""
        key = (proc.name, proc.function, proc.primitive, place)
        if self.announced.get(proc.name) != announcement:
            self.announced[proc.name] = announcement
            self.times[key] += 1
        return Step(*key, self.times[key])


class Follow:
    """Follows a path, and notes where it leaves the usual order.

    :param path: the task of each step
    """

    def __init__(self, path: tuple[str, ...]) -> None:
        self.path = path
        self.usual = Usual()
        self.names = Names()
        self.deviations: list[Deviation] = []
        self.steps: list[Step] = []

    def choose(self, run: Run) -> Proc | None:
        """The next one of the path."""
        i = len(run.trace.before)
        usual = self.usual.of(run)
        if usual is None or i >= len(self.path):
            return None
        for proc in run.enabled():
            self.names.of(proc, proc.made)
        proc = run.procs[self.path[i]]
        if proc is not usual:
            self.deviations.append(Deviation(self.names.of(usual, usual.made), proc.name))
        self.steps.append(self.names.of(proc, proc.made))
        self.usual.went(run, proc)
        return proc


class Replay:
    """The usual order with deviations. One whose time does not come, or whose task cannot go on, is left out.

    :param deviations: in order
    """

    def __init__(self, deviations: tuple[Deviation, ...]) -> None:
        self.left = list(deviations)
        self.usual = Usual()
        self.names = Names()
        self.steps: list[Step] = []

    def choose(self, run: Run) -> Proc | None:
        """Who goes on."""
        proc = self.usual.of(run)
        if proc is None:
            return None
        for each in run.enabled():
            self.names.of(each, each.made)
        step = self.names.of(proc, proc.made)
        for deviation in self.left:
            if deviation.before == step:
                to = run.procs.get(deviation.to)
                if to is not None and to is not proc and to.enabled():
                    self.left.remove(deviation)
                    proc = to
                break
        self.steps.append(self.names.of(proc, proc.made))
        self.usual.went(run, proc)
        return proc
