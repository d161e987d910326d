"""KCSAN: two accesses of one place, one of them a plain write, with nothing that orders them.

Ordering comes from locks, from releases and the acquires that read from them, from a marked store after ``smp_wmb`` and the marked load
that reads it (no model moves a load), from RCU, from IPIs and their answers, and from a task's own order. Sets of accesses are integers:
bit n is access n of the execution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmm.explore.place import Place, Touch
from kmm.explore.proc import Proc
from kmm.kernel.access import PLAIN, RELEASE, Order
from kmm.kernel.report import kernel_function

if TYPE_CHECKING:
    from kmm.kernel.machine import Machine


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
        self._access(proc, place, plain=order is PLAIN, writing=False)

    def store(self, proc: Proc, place: Place, order: Order) -> int:
        """A store; the value is what it publishes when it reaches memory."""
        self._access(proc, place, plain=order is PLAIN, writing=True)
        if order is RELEASE:
            return proc.seen
        return 0 if order is PLAIN else proc.fence

    def rmw(self, proc: Proc, place: Place, order: Order) -> None:
        """An atomic operation: it goes on with what the place publishes already."""
        proc.seen |= place.sync
        self._access(proc, place, plain=False, writing=True)
        place.sync |= proc.seen if order is RELEASE else proc.fence

    def _access(self, proc: Proc, place: Place, *, plain: bool, writing: bool) -> None:
        access, seen = self.accesses, proc.seen
        self.accesses = access + 1
        proc.seen = seen | 1 << access
        mine: Touch = (proc.name, kernel_function(), plain, writing)
        if plain and writing:
            self._race(place, mine, place.touches, seen)
            self._race(place, mine, place.plain_writes, seen)
            place.plain_writes[mine] = access
        else:
            if place.plain_writes:
                self._race(place, mine, place.plain_writes, seen)
            place.touches[mine] = access

    def _race(self, place: Place, mine: Touch, others: dict[Touch, int], seen: int) -> None:
        for theirs, access in others.items():
            if theirs[0] != mine[0] and not seen >> access & 1:
                both = " and ".join(sorted([_says(mine), _says(theirs)]))
                self.machine.report("KCSAN", f"nothing orders {both} of {place.name}")


def _says(touch: Touch) -> str:
    who, function, plain, writing = touch
    return f"the {'plain' if plain else 'marked'} {'write' if writing else 'read'} by {who} in {function}"
