"""Sequentially consistent memory: every access takes effect at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kmm.explore.kcsan import Kcsan
from kmm.explore.place import READ, WRITE, Place
from kmm.explore.proc import Proc, Wait
from kmm.kernel.access import RELEASE, Order

if TYPE_CHECKING:
    from kmm.explore.run import Run


class Memory:
    """Loads and stores of places.

    :param kcsan: ``None``: nobody looks
    """

    __slots__ = ("kcsan", "run")

    holds_back = False
    """Whether stores wait in buffers."""

    def __init__(self, run: Run, kcsan: Kcsan | None) -> None:
        self.run = run
        self.kcsan = kcsan

    def load(self, place: Place, order: Order) -> object:
        """Read the place."""
        run = self.run
        me = run.turn(place, READ, "read")
        if not run.closed:
            run.trace.touch(me, place, READ)
            if self.kcsan is not None:
                self.kcsan.load(me, place, order)
        return place.get()

    def store(self, place: Place, value: object, order: Order) -> None:
        """Write the place."""
        run = self.run
        me = run.turn(place, WRITE, "write")
        if not run.closed:
            self.log_write(me, place, 0)
            if self.kcsan is not None:
                place.sync = self.kcsan.store(me, place, order)
        place.set(value)

    def rmw(self, place: Place, fn: Callable[[object], object], order: Order) -> object:
        """Replace the value by ``fn`` of it; the value is the old one."""
        run = self.run
        me = run.turn(place, WRITE, "rmw")
        old = place.get()
        if not run.closed:
            self.log_write(me, place, 0)
            if self.kcsan is not None:
                self.kcsan.rmw(me, place, order)
        place.set(fn(old))
        return old

    def wait(self, place: Place, condition: Callable[[object], bool], fn: Callable[[object], object] | None, order: Order) -> object:
        """Go on when ``condition`` holds of the value, and replace it by ``fn`` of it."""
        run, me, trace = self.run, self.run.me, self.run.trace
        kind, release = READ if fn is None else WRITE, order is RELEASE
        wait = Wait(
            lambda: self.ready(me, place, release=release) and condition(place.get()),
            races=lambda: trace.wait_races(me, place, condition, kind, self.ordered(me, place, release=release)),
        )
        run.turn(place, kind, "wait", wait)
        old = place.get()
        if not run.closed:
            event = trace.waited(me, place, condition, kind, self.ordered(me, place, release=release))
            if kind == WRITE:
                place.history.append((event, old))
            if self.kcsan is not None:
                if kind == WRITE:
                    self.kcsan.rmw(me, place, order)
                else:
                    self.kcsan.load(me, place, order)
        if fn is not None:
            place.set(fn(old))
        return old

    def log_write(self, me: Proc, place: Place, after: int) -> None:
        """Log a step that changes the place in memory."""
        trace = self.run.trace
        if not after:
            event = trace.touch(me, place, WRITE)
        else:
            event = trace.touch_all(me, [(place, WRITE)] if place.life is None else [(place, WRITE), (place.life, READ)], after)
        place.history.append((event, place.get()))

    def ready(self, me: Proc, place: Place | None, *, release: bool) -> bool:
        """Whether no store of ``me`` that is still on its way (to ``place``; any, for a release) keeps it from an atomic operation."""
        return True

    def ordered(self, me: Proc, place: Place | None, *, release: bool) -> int:
        """Events that wrote such stores back."""
        return 0

    def hold_back(self, me: Proc, place: Place, write_back: Callable[[Proc, int], int]) -> None:
        """Do a releasing store later.

        :param write_back: does it, given its proc and the events that it comes after; the value is its event
        """
        raise NotImplementedError

    def drain(self, primitive: str) -> None:
        """Wait until every store of the running task has reached memory."""

    def write_barrier(self) -> None:
        """Keep earlier stores before later ones."""
        me = self.run.me
        me.fence = me.seen

    def barrier(self) -> None:
        """Keep earlier accesses before later ones."""
        self.write_barrier()

    def made(self, proc: Proc) -> int:
        """How many stores ``proc`` has made."""
        return 0

    def arrived(self, proc: Proc, stores: int) -> bool:
        """Whether the first ``stores`` of them have reached memory."""
        return True

    def arrivals(self, proc: Proc, stores: int) -> int:
        """Events that brought them there."""
        return 0
