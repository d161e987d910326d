"""Wakeup trees: what must still be tried from one point of the search, so that no trace is tried twice.

After Abdulla, Aronsson, Jonsson and Sagonas, "Source Sets: A Foundation for Optimal Dynamic Partial Order Reduction" (JACM 2017).
"""

from __future__ import annotations

from typing import TypeAlias

from kmm.explore.place import Footprint, dependent


class Branch:
    """One step of a wakeup tree, and what comes after it."""

    __slots__ = ("children", "footprint", "who")

    def __init__(self, who: str, footprint: Footprint) -> None:
        self.who = who
        self.footprint = footprint
        self.children: list[Branch] = []

    def __reduce__(self) -> tuple[object, ...]:
        """As a list: a branch can be longer than a pickler can follow."""
        flat: list[tuple[str, Footprint, int]] = []
        todo = [self]
        while todo:
            branch = todo.pop()
            flat.append((branch.who, branch.footprint, len(branch.children)))
            todo += reversed(branch.children)
        return _from_list, (flat,)


def _from_list(flat: list[tuple[str, Footprint, int]]) -> Branch:
    made: list[Branch] = []
    for who, footprint, children in reversed(flat):
        branch = Branch(who, footprint)
        branch.children = [made.pop() for _ in range(children)]
        made.append(branch)
    return made[0]


Step: TypeAlias = tuple[int, str, Footprint, int]
"""One step to be made: its bit, its task, what it touches, the bits of those that happen before it."""


class Sequence:
    """Steps to be made in this order, or in any other that leaves dependent ones where they are."""

    __slots__ = ("left", "steps")

    def __init__(self, steps: list[Step]) -> None:
        self.steps = steps
        self.left = 0
        for step in steps:
            self.left |= step[0]

    def first_of(self, who: str) -> Step | None:
        """The first step of a task."""
        for step in self.steps:
            if step[1] == who:
                return step
        return None

    def may_start_with(self, who: str, footprint: Footprint) -> bool:
        """Whether the next step of ``who`` could come first: in the sequence, or beside all of it."""
        step = self.first_of(who)
        if step is not None:
            return not step[3] & self.left
        return not any(dependent(footprint, other[2]) for other in self.steps)

    def without(self, who: str) -> Sequence:
        """The rest after the first step of a task, if it makes one."""
        step = self.first_of(who)
        return self if step is None else Sequence([each for each in self.steps if each is not step])


def insert(branches: list[Branch], sequence: Sequence, first: int = 0) -> bool:
    """Add a sequence to the tree unless some leaf leads to it anyway; whether it was added.

    :param first: so many first branches are not looked at
    """
    while True:
        for branch in branches[first:]:
            if sequence.may_start_with(branch.who, branch.footprint):
                break
        else:
            _append(branches, sequence)
            return True
        if not branch.children:
            return False
        sequence = sequence.without(branch.who)
        branches, first = branch.children, 0


def _append(branches: list[Branch], sequence: Sequence) -> None:
    for _, who, footprint, _ in sequence.steps:
        branch = Branch(who, footprint)
        branches.append(branch)
        branches = branch.children
