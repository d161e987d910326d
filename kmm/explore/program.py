"""What is explored: a program makes a fresh world, whose tasks are plain functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import attrs

from kmm.explore.machine import ExploringMachine
from kmm.kernel.task import Task

Outcome: TypeAlias = Callable[[tuple[str, ...]], bytes]
"""Canonical bytes of the final state. The argument says for each body how it ended: ``""`` when it returned."""


@attrs.frozen
class Body:
    """One task of a world and what it does.

    :param task: its name must be unique in the world, and its CPU its own
    """

    task: Task
    run: Callable[[], object]


@attrs.frozen
class World:
    """One fresh start.

    :param bodies: the tasks
    :param outcome: asked once, after the last step
    """

    machine: ExploringMachine
    bodies: tuple[Body, ...]
    outcome: Outcome


Program: TypeAlias = Callable[[], World]
"""Makes a world. Each call makes the same one: same objects, same names, nothing left over from the call before."""


class NotDeterministic(RuntimeError):
    """The same schedule did not lead to the same steps: the program depends on something that the explorer does not see."""
