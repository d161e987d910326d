"""Store buffers: a store of a CPU reaches memory later, and stores to different places in any order that barriers and releases leave.

One buffer per CPU and place, as in SPARC's PSO. A load is served by the newest store of its own CPU that still waits, else by memory; loads
are never moved. Each write-back is a step of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kmm.explore.kcsan import Kcsan
from kmm.explore.memory import Memory
from kmm.explore.place import READ, SHARE, WRITE, Place
from kmm.explore.proc import Proc, Wait
from kmm.kernel.access import RELEASE, Order
from kmm.kernel.report import kernel_function

if TYPE_CHECKING:
    from kmm.explore.run import Run


class Held:
    """One store that its CPU holds back.

    :param number: of its task's stores, in program order
    :param epoch: how many write barriers came before it
    :param release: no earlier store of its task may wait when it is written back
    :param mask: events that happen before it
    """

    __slots__ = ("epoch", "function", "mask", "number", "place", "release", "value", "write_back")

    def __init__(self, number: int, epoch: int, release: bool, mask: int, place: Place, value: object) -> None:
        self.number = number
        self.epoch = epoch
        self.release = release
        self.mask = mask
        self.place = place
        self.value = value
        self.function = ""
        """Kernel function that made it (only when steps are named)."""
        self.write_back: Callable[[Proc, int], int] = lambda proc, after: 0
        """Makes it visible and logs that; given its proc and the events it comes after. The value is its event."""


class Buffer:
    """What one task's CPU holds back.

    :param stores: the place that says how many stores it made
    """

    __slots__ = ("epoch", "flushed", "held", "number", "own", "procs")

    def __init__(self) -> None:
        self.held: list[Held] = []
        self.number = 0
        self.epoch = 0
        self.flushed: list[tuple[Held, int]] = []
        """Stores written back, each with its event."""
        self.own: dict[Place, Place] = {}
        """For each place stored to, the place that stands for "is the newest store still here?"."""
        self.procs: dict[Place, Proc] = {}

    def newest(self, place: Place) -> Held | None:
        """The store that a load of ``place`` gets."""
        for held in reversed(self.held):
            if held.place is place:
                return held
        return None

    def oldest(self, place: Place) -> Held | None:
        """The store to ``place`` that is written back next."""
        return next((held for held in self.held if held.place is place), None)

    def may_go(self, place: Place) -> bool:
        """Whether a store to ``place`` waits and nothing keeps it."""
        head = self.oldest(place)
        if head is None:
            return False
        return not any(held.number < head.number and (head.release or held.epoch < head.epoch) for held in self.held)

    def kept(self, held: Held) -> list[int]:
        """Events of write-backs that had to come before that of ``held``."""
        return [event for other, event in self.flushed if other.number < held.number and (held.release or other.epoch < held.epoch)]


class BufferedMemory(Memory):
    """Loads and stores through store buffers."""

    __slots__ = ("buffers",)

    holds_back = True

    def __init__(self, run: Run, kcsan: Kcsan | None) -> None:
        super().__init__(run, kcsan)
        self.buffers: dict[Proc, Buffer] = {}

    def load(self, place: Place, order: Order) -> object:
        run = self.run
        buffer = self.buffers.get(run.me)
        if buffer is None or place not in buffer.own:
            return super().load(place, order)
        me = run.turn(place, READ, "read")
        held = buffer.newest(place)
        own = buffer.own[place]
        lives = [] if place.life is None else [(place.life, READ)]
        if not run.closed:
            if held is None:
                family = 0
                for other, event in buffer.flushed:
                    if other.place is place:
                        family |= 1 << event
                run.trace.touch_all(me, [(place, READ), (own, READ), *lives], family=family)
            else:
                run.trace.touch_all(me, [(own, READ), *lives])
            if self.kcsan is not None:
                self.kcsan.load(me, place, order)
        return place.get() if held is None else held.value

    def store(self, place: Place, value: object, order: Order) -> None:
        run = self.run
        me = self._announce_store(place)
        if run.closed:
            place.set(value)
            return
        held = self.hold(me, place, value, release=order is RELEASE)
        sync = self.kcsan.store(me, place, order) if self.kcsan is not None else 0
        own = self.buffers[me].own[place]

        def write_back(proc: Proc, after: int) -> int:
            event = run.trace.touch_all(proc, [(place, WRITE), (own, WRITE)], after)
            place.history.append((event, place.get()))
            place.sync = sync
            place.set(value)
            return event

        held.write_back = write_back

    def _announce_store(self, place: Place) -> Proc:
        """The running task, when it may put a store into its buffer: at once, unless somebody looks at the buffer or frees the object."""
        run = self.run
        stores = run.machine.state(run.me.group, "stores", writing=True)
        seen = [(stores, SHARE)] if stores is not None else []
        if place.life is not None:
            seen.append((place.life, READ))
        if not seen:
            return run.me
        me = run.turn(place, WRITE, "write")
        if not run.closed:
            run.trace.touch_all(me, seen)
        return me

    def hold(self, me: Proc, place: Place, value: object, *, release: bool) -> Held:
        """Put a store into the running task's buffer."""
        buffer = self.buffers.setdefault(me, Buffer())
        held = Held(buffer.number, buffer.epoch, release, me.mask, place, value)
        buffer.number += 1
        buffer.held.append(held)
        if self.run.naming:
            held.function = kernel_function()
        if place not in buffer.procs:
            buffer.own[place] = Place(f"{me.name}'s {place.name}")
            proc = buffer.procs[place] = self.run.add(f"{me.name}'s store to {place.name}", me.task)
            proc.owner, proc.place, proc.kind, proc.primitive = me, place, WRITE, "write back"
            proc.function = held.function
            proc.wait = Wait(lambda: buffer.may_go(place))
            proc.act = lambda: self._write_back(buffer, proc, place)
        return held

    def _write_back(self, buffer: Buffer, proc: Proc, place: Place) -> None:
        held = buffer.oldest(place)
        assert held is not None
        buffer.held.remove(held)
        buffer.flushed.append((held, held.write_back(proc, held.mask | self._events(buffer.kept(held)))))
        following = buffer.oldest(place)
        proc.function = following.function if following is not None else ""

    def _events(self, events: list[int]) -> int:
        mask = 0
        for event in events:
            mask |= self.run.trace.before[event] | 1 << event
        return mask

    def rmw(self, place: Place, fn: Callable[[object], object], order: Order) -> object:
        run = self.run
        buffer = self.buffers.get(run.me)
        if buffer is None:
            return super().rmw(place, fn, order)
        me, release = run.me, order is RELEASE
        run.turn(place, WRITE, "rmw", Wait(lambda: self.ready(me, place, release=release)))
        old = place.get()
        if not run.closed:
            self.log_write(me, place, self.ordered(me, place, release=release))
            if self.kcsan is not None:
                self.kcsan.rmw(me, place, order)
        place.set(fn(old))
        return old

    def ready(self, me: Proc, place: Place | None, *, release: bool) -> bool:
        buffer = self.buffers.get(me)
        return buffer is None or not any(release or held.place is place for held in buffer.held)

    def ordered(self, me: Proc, place: Place | None, *, release: bool) -> int:
        buffer = self.buffers.get(me)
        if buffer is None:
            return 0
        return self._events([event for held, event in buffer.flushed if release or held.place is place])

    def hold_back(self, me: Proc, place: Place, write_back: Callable[[Proc, int], int]) -> None:
        self._announce_store(place)
        if not self.run.closed:
            self.hold(me, place, None, release=True).write_back = write_back

    def write_barrier(self) -> None:
        super().write_barrier()
        buffer = self.buffers.get(self.run.me)
        if buffer is not None:
            buffer.epoch += 1

    def barrier(self) -> None:
        self.drain("barrier")
        super().write_barrier()

    def drain(self, primitive: str) -> None:
        run, me = self.run, self.run.me
        run.turn(None, READ, primitive, Wait(lambda: self.ready(me, None, release=True)))
        if not run.closed:
            run.trace.touch_all(me, [], self.ordered(me, None, release=True))

    def made(self, proc: Proc) -> int:
        buffer = self.buffers.get(proc)
        return 0 if buffer is None else buffer.number

    def arrived(self, proc: Proc, stores: int) -> bool:
        buffer = self.buffers.get(proc)
        return buffer is None or not any(held.number < stores for held in buffer.held)

    def arrivals(self, proc: Proc, stores: int) -> int:
        buffer = self.buffers.get(proc)
        return 0 if buffer is None else self._events([event for held, event in buffer.flushed if held.number < stores])
