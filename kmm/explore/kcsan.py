"""KCSAN: two accesses of one place, one of them a plain write, with nothing that orders them.

Ordering comes from locks, from releases and the acquires that read from them, from a marked store after ``smp_wmb`` and the marked load
that reads it (no model moves a load), from RCU, from IPIs and their answers, and from a task's own order. Sets of accesses are integers:
bit n is access n of the execution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kmm.explore.place import Place, Touch
from kmm.explore.proc import Proc
from kmm.kernel.access import PLAIN, RELEASE, Order
from kmm.kernel.report import kernel_function

if TYPE_CHECKING:
    from kmm.kernel.machine import Machine


_INSIDE: Final = 3
"""Frames that are never the kernel's: here, who makes the access, and the machine."""


class Kcsan:
    """One execution's accesses and their order."""

    __slots__ = ("accesses", "machine")

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.accesses = 0

    def load(self, proc: Proc, place: Place, order: Order) -> None:
        """A load that is served by memory, or by the CPU's own buffer."""
        if order is not PLAIN:
            proc.seen |= place.sync
        self._other(proc, place, (proc.name, kernel_function(_INSIDE), order is PLAIN, False))

    def store(self, proc: Proc, place: Place, order: Order) -> int:
        """A store; the value is what it publishes when it reaches memory."""
        mine = (proc.name, kernel_function(_INSIDE), order is PLAIN, True)
        if order is PLAIN:
            self._plain_write(proc, place, mine)
            return 0
        self._other(proc, place, mine)
        return proc.seen if order is RELEASE else proc.fence

    def rmw(self, proc: Proc, place: Place, order: Order) -> None:
        """An atomic operation: it goes on with what the place publishes already."""
        proc.seen |= place.sync
        self._other(proc, place, (proc.name, kernel_function(_INSIDE), False, True))
        place.sync |= proc.seen if order is RELEASE else proc.fence

    def _plain_write(self, proc: Proc, place: Place, mine: Touch) -> None:
        self._race(place, mine, place.touches, proc.seen)
        self._race(place, mine, place.plain_writes, proc.seen)
        place.plain_writes[mine] = self.accesses
        proc.seen |= 1 << self.accesses
        self.accesses += 1

    def _other(self, proc: Proc, place: Place, mine: Touch) -> None:
        """What races with plain writes only."""
        if place.plain_writes:
            self._race(place, mine, place.plain_writes, proc.seen)
        place.touches[mine] = self.accesses
        proc.seen |= 1 << self.accesses
        self.accesses += 1

    def _race(self, place: Place, mine: Touch, others: dict[Touch, int], seen: int) -> None:
        for theirs, access in others.items():
            if theirs[0] != mine[0] and not seen >> access & 1:
                both = " and ".join(sorted([_says(mine), _says(theirs)]))
                self.machine.report("KCSAN", f"nothing orders {both} of {place.name}")


def _says(touch: Touch) -> str:
    who, function, plain, writing = touch
    return f"the {'plain' if plain else 'marked'} {'write' if writing else 'read'} by {who} in {function}"
