"""Every schedule, or every one with few preemptions: no reduction."""

from __future__ import annotations

from kmm.explore.proc import Proc
from kmm.explore.run import Run


class Choice:
    """One point of the current schedule.

    :param options: tasks that can go on and have not been tried, the one being tried first
    :param running: the task that ran last,
    :param can_run: and whether it can go on
    :param preemptions: made before
    """

    __slots__ = ("can_run", "options", "preemptions", "running")

    def __init__(self, options: list[str], running: str, can_run: bool, preemptions: int) -> None:
        self.options = options
        self.running = running
        self.can_run = can_run
        self.preemptions = preemptions


class Dfs:
    """The search; also who goes on in its current execution.

    :param bound: preemptions allowed in a schedule: switches away from a task that could have gone on. ``None``: any number
    """

    def __init__(self, bound: int | None) -> None:
        self.bound = bound
        self.choices: list[Choice] = []
        self.known = 0
        self.blocked = 0

    def choose(self, run: Run) -> Proc | None:
        """The next task of the schedule that is being tried."""
        i = len(run.trace.before)
        if i < len(self.choices):
            return run.procs[self.choices[i].options[0]]
        enabled = [proc.name for proc in run.enabled()]
        if not enabled:
            return None
        running, preemptions = self._before(run, i)
        can_run = running in enabled
        if can_run:
            enabled.remove(running)
            enabled.insert(0, running)
            if self.bound is not None and preemptions >= self.bound:
                enabled = [running, *(name for name in enabled if run.procs[name].act is not None and name != running)]
        self.choices.append(Choice(enabled, running, can_run, preemptions))
        return run.procs[enabled[0]]

    def _before(self, run: Run, i: int) -> tuple[str, int]:
        """Who ran last (a store that is written back is nobody's turn), and how many preemptions there were."""
        if not i:
            return "", 0
        last = self.choices[i - 1]
        who = run.procs[last.options[0]]
        if who.act is not None:
            return last.running, last.preemptions
        return who.name, last.preemptions + (last.can_run and who.name != last.running)

    def next(self, run: Run) -> bool:
        """Whether there is another schedule to try."""
        choices = self.choices
        while choices:
            options = choices[-1].options
            options.pop(0)
            if options:
                return True
            choices.pop()
        return False

    def reset(self) -> None:
        """Begin again."""
        self.choices = []
