"""What an exploration found."""

from __future__ import annotations

import attrs


@attrs.frozen
class Found:
    """One outcome.

    :param executions: that gave it
    :param path: the tasks of the first that did, in the order of their steps
    """

    executions: int
    path: tuple[str, ...]


@attrs.frozen
class Exploration:
    """The outcomes of a program.

    :param outcomes: canonical bytes of each, sorted
    :param complete: every trace was run: nothing else can happen under this memory model
    :param executions: that were made; those that were given up, and those that only taught what is shared, included
    :param traces: different ones among those that count
    :param given_up: executions that ended because the rest had been tried elsewhere
    :param restarts: how often the search began again because something turned out to be shared
    :param memory: ``sc`` or ``pso``
    :param shared: names of the places that tasks fight over
    :param interrupted: by the user; the rest is what was found by then
    """

    outcomes: dict[bytes, Found]
    complete: bool
    executions: int
    traces: int
    given_up: int
    restarts: int
    memory: str
    shared: tuple[str, ...]
    interrupted: bool = False


class Tally:
    """Outcomes as they come in.

    :param distinct: count traces by their canonical form; otherwise every execution is one
    """

    def __init__(self, *, distinct: bool) -> None:
        self.distinct = distinct
        self.clear()

    def clear(self) -> None:
        """Begin again."""
        self.outcomes: dict[bytes, Found] = {}
        self.forms: set[bytes] = set()
        self.counted = 0

    def add(self, outcome: bytes, path: tuple[str, ...], form: bytes = b"") -> None:
        """One execution that counts."""
        self.counted += 1
        if self.distinct:
            self.forms.add(form)
        self._found(outcome, 1, path)

    def merge(self, other: Tally) -> None:
        """Everything that another one has, after all that this one has."""
        self.counted += other.counted
        self.forms |= other.forms
        for outcome, found in other.outcomes.items():
            self._found(outcome, found.executions, found.path)

    def _found(self, outcome: bytes, executions: int, path: tuple[str, ...]) -> None:
        before = self.outcomes.get(outcome)
        self.outcomes[outcome] = Found(executions, path) if before is None else Found(before.executions + executions, before.path)

    def traces(self) -> int:
        """How many different ones."""
        return len(self.forms) if self.distinct else self.counted
