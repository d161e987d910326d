"""What locks, barriers, interrupts and RCU do when several tasks run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from kmm.explore.grace import Grace
from kmm.explore.memory import Memory
from kmm.explore.place import READ, SHARE, WRITE, Place
from kmm.explore.proc import Proc, Wait
from kmm.kernel.access import Field, Order, Shared
from kmm.kernel.locks import Lock, is_busy
from kmm.kernel.report import kernel_function
from kmm.kernel.stop import Deadlock, WouldBlock
from kmm.kernel.task import Task

if TYPE_CHECKING:
    from kmm.explore.run import Run

T = TypeVar("T")


class Locking:
    """The :class:`kmm.kernel.schedule.Scheduler` of one execution."""

    __slots__ = ("grace", "memory", "run", "taken")

    def __init__(self, run: Run, memory: Memory, grace: Grace) -> None:
        self.run = run
        self.memory = memory
        self.grace = grace
        self.taken: dict[tuple[Lock, Task], list[int]] = {}
        """Events by which a task took a lock that it still has."""

    def acquire(self, lock: Lock, mode: str) -> None:
        """Wait until ``lock`` can be had for ``mode``, and take it."""
        run = self.run
        me, exclusive = run.me, mode == "write"
        place = run.machine.lock_place(lock)
        if not me.task.may_block and is_busy(lock, mode):
            raise WouldBlock(f"{lock.label} is held")
        if place is None:
            self._acquire_own(lock, mode)
            return
        trace = run.trace
        wait = Wait(
            lambda: not is_busy(lock, mode),
            lambda: ([] if lock.writer is None else [lock.writer]) + lock.readers,
            lambda: trace.lock_races(me, place, exclusive),
        )
        run.turn(place, WRITE if exclusive else SHARE, "lock", wait)
        if not run.closed:
            self._remember(lock, trace.take(me, place, exclusive))
            me.seen |= place.sync | (place.reader_sync if exclusive else 0)
        _take(lock, exclusive, me.task)

    def _acquire_own(self, lock: Lock, mode: str) -> None:
        """Take a lock over which no other task is known to fight. If one does after all, this execution teaches it."""
        me = self.run.me
        if lock.writer is me.task or me.task in lock.readers:
            raise Deadlock(f"DEADLOCK: {kernel_function()} waits for {lock.label}, which its task holds")
        if is_busy(lock, mode):
            self.run.pause(f"lock of {lock.label}", lambda: not is_busy(lock, mode))
        _take(lock, mode == "write", me.task)

    def trylock(self, lock: Lock, mode: str) -> bool:
        """Take ``lock`` for ``mode`` if it can be had now."""
        run = self.run
        me, exclusive = run.me, mode == "write"
        place = run.machine.lock_place(lock)
        if place is not None:
            run.turn(place, WRITE, "trylock", Wait(lambda: self.memory.ready(me, place, release=False)))
        if is_busy(lock, mode):
            if place is not None and not run.closed:
                run.trace.attempt(me, place, READ, exclusive, self.memory.ordered(me, place, release=False))
            return False
        if place is not None and not run.closed:
            self._remember(
                lock, run.trace.attempt(me, place, WRITE if exclusive else SHARE, exclusive, self.memory.ordered(me, place, release=False))
            )
            me.seen |= place.sync | (place.reader_sync if exclusive else 0)
        _take(lock, exclusive, me.task)
        return True

    def release(self, lock: Lock, mode: str) -> None:
        """Give ``lock`` up. A spinlock's release is a store, which may wait in the store buffer."""
        run = self.run
        me, exclusive = run.me, mode == "write"
        place = run.machine.lock_place(lock)
        if place is None or run.closed:
            if not lock.spins:
                self.memory.drain("unlock")
            _drop(lock, exclusive, me.task)
        elif lock.spins and self.memory.holds_back:
            self._release_later(lock, place)
        else:
            run.turn(place, WRITE if exclusive else SHARE, "unlock", Wait(lambda: self.memory.ready(me, None, release=True)))
            if not run.closed:
                take = self.taken[lock, me.task].pop() if self.taken.get((lock, me.task)) else -1
                after = self.memory.ordered(me, None, release=True)
                run.trace.drop(me, place, WRITE if exclusive else SHARE, take, after)
                _publish(place, me, exclusive)
            _drop(lock, exclusive, me.task)

    def _release_later(self, lock: Lock, place: Place) -> None:
        run, me = self.run, self.run.me
        sync = me.seen
        take = self.taken[lock, me.task].pop() if self.taken.get((lock, me.task)) else -1

        def write_back(proc: Proc, after: int) -> int:
            event = run.trace.drop(proc, place, WRITE, take, after)
            place.sync |= sync
            _drop(lock, True, me.task)
            return event

        self.memory.hold_back(me, place, write_back)

    def downgrade(self, lock: Lock) -> None:
        """Hold ``lock`` for reading that was held for writing."""
        run, me = self.run, self.run.me
        place = run.machine.lock_place(lock)
        if place is None:
            self.memory.drain("downgrade")
        else:
            run.turn(place, WRITE, "downgrade", Wait(lambda: self.memory.ready(me, None, release=True)))
            if not run.closed:
                take = self.taken[lock, me.task].pop() if self.taken.get((lock, me.task)) else -1
                event = run.trace.drop(me, place, WRITE, take, self.memory.ordered(me, None, release=True))
                place.takes.append((event, False))
                self._remember(lock, event)
                _publish(place, me, True)
        lock.writer = None
        lock.readers.append(me.task)

    def wait(self, obj: Shared, field: Field[T], condition: Callable[[T], bool], fn: Callable[[T], T] | None, order: Order) -> T:
        """Wait until ``condition`` holds of one field, and in the same step replace it by ``fn`` of it; the value is the old one."""
        return self.run.machine.wait(obj, field, condition, fn, order)

    def write_barrier(self) -> None:
        """Keep earlier stores before later ones."""
        self.memory.write_barrier()

    def barrier(self) -> None:
        """Keep earlier accesses before later ones."""
        self.memory.barrier()

    def irqs_toggled(self) -> None:
        """The running task is about to disable or enable its CPU's interrupts."""
        self.grace.toggle_irqs()

    def rcu_toggled(self) -> None:
        """The running task is about to enter or leave its outermost RCU read section."""
        self.grace.toggle_rcu()

    def interrupt_others(self) -> None:
        """Interrupt every other CPU and wait until each has answered."""
        self.grace.interrupt()

    def call_rcu(self, callback: Callable[[], None]) -> None:
        """Run ``callback`` as a task of its own after a grace period."""
        self.grace.call(callback)

    def synchronize_rcu(self) -> None:
        """Wait for a grace period."""
        self.grace.synchronize()

    def _remember(self, lock: Lock, event: int) -> None:
        self.taken.setdefault((lock, self.run.me.task), []).append(event)


def _take(lock: Lock, exclusive: bool, task: Task) -> None:
    if exclusive:
        lock.writer = task
    else:
        lock.readers.append(task)


def _drop(lock: Lock, exclusive: bool, task: Task) -> None:
    if exclusive:
        lock.writer = None
    elif task in lock.readers:
        lock.readers.remove(task)


def _publish(place: Place, me: Proc, exclusive: bool) -> None:
    if exclusive:
        place.sync |= me.seen
    else:
        place.reader_sync |= me.seen
