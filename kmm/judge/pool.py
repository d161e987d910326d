"""Worker processes: forked for one task, watched while they work, done with when it ends.

A worker starts from the parent as it is, so what a variant leaves behind in one task cannot reach another, and results do not
depend on the number of workers.
"""

from __future__ import annotations

import faulthandler
import gc
import mmap
import os
import pickle
import signal
import struct
import sys
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable
from multiprocessing.connection import Connection, Pipe, wait
from typing import Final, Generic, NoReturn, TypeAlias, TypeVar

import attrs

from kmm.kernel import current

T = TypeVar("T")
R = TypeVar("R")

STALL_S: Final = 10.0
"""Seconds without a step after which a worker is killed."""
MAX_LOST: Final = 10
"""Positions of one task at which workers may be lost before the rest of the task is given up."""
LOOKAHEAD: Final = 32
"""A task begins only when all but so many before it have been handed back."""
_LOOK_S: Final = 0.5
_TICK_S: Final = 0.25
_BEAT: Final = struct.Struct("=qQ")
_elsewhere = 0

Beat: TypeAlias = Callable[[int], None]
"""A worker calls it with each position of its task, just before it works on it."""


class WorkerError(RuntimeError):
    """A worker failed for a reason that is not the variant's; the text has its traceback."""


class GoneError(RuntimeError):
    """Another process that this one needs has ended; a worker that raises it is lost at its position."""


class OutOfTime(Exception):
    """The budget of seconds is used up."""


@attrs.frozen
class Lost:
    """A worker that ended without a value.

    :param at: position that it worked on
    :param reason: what became of it
    """

    at: int
    reason: str


@attrs.frozen
class Skip:
    """The positions of a task that are left out because workers were lost there.

    :param lost: such positions
    :param end: this one and everything behind it is left out
    """

    lost: frozenset[int] = frozenset()
    end: int = sys.maxsize

    def __contains__(self, position: int) -> bool:
        return position in self.lost or position >= self.end


Work: TypeAlias = Callable[[T, Skip, Beat], R]
"""task, positions to leave out, beat; gives a value that can be pickled."""


@attrs.define
class Done(Generic[T, R]):
    """A finished task.

    :param lost: the workers that were lost on the way, by position; at :data:`MAX_LOST` the rest of the task was given up
    """

    task: T
    value: R
    lost: tuple[Lost, ...]


class Worker:
    """One forked process.

    :param work: called in it with the beat; the value comes back pickled
    :param stall_s: seconds without a step after which it is killed
    """

    def __init__(self, work: Callable[[Beat], object], stall_s: float) -> None:
        self.connection, theirs = Pipe(duplex=False)
        self._stall_s = stall_s
        self._beat = mmap.mmap(-1, _BEAT.size)
        self._last = self._beat[:]
        self._idle_s = 0.0
        self._looked = time.monotonic()
        with warnings.catch_warnings():
            # The child takes no lock that another thread of ours may hold.
            warnings.simplefilter("ignore", DeprecationWarning)
            parent = os.getpid()
            # An interrupt must not reach the child before it is its own.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            self.pid = os.fork()
        if self.pid == 0:
            _in_worker(work, self._beat, theirs, parent)
        theirs.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def poll(self) -> bytes | Lost | None:
        """The pickled value, why there will be none, or ``None``: still at work."""
        if self.connection.poll():
            try:
                value = self.connection.recv_bytes()
            except (EOFError, OSError):
                return self._lost("")
            self.close()
            return value
        if self._stalled():
            return self._lost(f"made no step for {self._stall_s:g} s")
        return None

    def _stalled(self) -> bool:
        """Time in which this process did not look (stopped, or busy) is not held against the worker."""
        now = time.monotonic()
        beat = self._beat[:]
        self._idle_s = self._idle_s + min(now - self._looked, 2 * _LOOK_S) if beat == self._last else 0.0
        self._looked, self._last = now, beat
        return self._idle_s > self._stall_s

    def _lost(self, reason: str) -> Lost:
        position, _ = _BEAT.unpack(self._beat[:])
        code = self.close(kill=bool(reason))
        return Lost(position, reason or (f"was killed by signal {-code}" if code < 0 else f"ended the process with code {code}"))

    def close(self, *, kill: bool = True) -> int:
        """End the process; its exit code, negative for a signal."""
        self.connection.close()
        if kill:
            os.kill(self.pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _in_worker(work: Callable[[Beat], object], shared: mmap.mmap, result: Connection, parent: int) -> NoReturn:
    """The life of a worker. The variant's code runs here: it gets no standard streams, and no exit handler of ours runs."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _silence()
        gc.disable()  # a worker lives for one task, and what its runs leave behind goes with it
        _tick(shared, parent)
        result.send_bytes(pickle.dumps((True, work(lambda position: _BEAT.pack_into(shared, 0, position, 0)))))
    except GoneError:
        os._exit(1)
    except BaseException:
        result.send_bytes(pickle.dumps((False, traceback.format_exc())))
    finally:
        os._exit(0)


def _silence() -> None:
    faulthandler.disable()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")


def _tick(shared: mmap.mmap, parent: int) -> None:
    """Publish the budget of the run in progress from time to time: it falls with each access, which shows that the run goes on.

    A worker whose parent is gone ends.
    """

    def publish(_signal: int, _frame: object) -> None:
        if os.getppid() != parent:
            os._exit(1)
        machine = getattr(current, "machine", None)
        position, _ = _BEAT.unpack(shared[:])
        _BEAT.pack_into(shared, 0, position, _elsewhere + (0 if machine is None else machine.budget) & sys.maxsize)

    signal.signal(signal.SIGALRM, publish)
    signal.setitimer(signal.ITIMER_REAL, _TICK_S, _TICK_S)


def sign_of_life(steps: int) -> None:
    """What this worker waits for goes on in another process.

    :param steps: a number that changes as long as it does
    """
    global _elsewhere
    _elsewhere = steps


class _Slot(Generic[T, R]):
    """A task, and the worker that it has for now."""

    def __init__(self, task: T, work: Work[T, R], stall_s: float) -> None:
        self.task = task
        self.work = work
        self.stall_s = stall_s
        self.lost: list[Lost] = []
        self.done: Done[T, R] | None = None
        self.worker: Worker | None = self._start(Skip())

    def _start(self, skip: Skip) -> Worker:
        return Worker(lambda beat: self.work(self.task, skip, beat), self.stall_s)

    def poll(self) -> None:
        """Take the value, or go on without the position at which the worker was lost."""
        outcome = None if self.worker is None else self.worker.poll()
        if isinstance(outcome, Lost):
            self.worker = None
            self._retry(outcome)
        elif outcome is not None:
            self.worker = None
            good, value = pickle.loads(outcome)
            if not good:
                raise WorkerError(value)
            self.done = Done(self.task, value, tuple(sorted(self.lost, key=lambda each: each.at)))

    def _retry(self, lost: Lost) -> None:
        positions = frozenset(each.at for each in self.lost)
        if lost.at in positions:
            raise WorkerError(f"a worker {lost.reason} outside of a run")
        self.lost.append(lost)
        positions |= {lost.at}
        self.worker = self._start(Skip(positions, max(positions) if len(positions) >= MAX_LOST else sys.maxsize))

    def close(self) -> None:
        if self.worker is not None:
            self.worker.close()
            self.worker = None


def in_order(
    tasks: Iterable[T], work: Work[T, R], *, jobs: int, deadline: float | None = None, stall_s: float = STALL_S
) -> Generator[Done[T, R], None, None]:
    """Do ``tasks`` in up to ``jobs`` processes; their values in the order of the tasks.

    Closing the generator ends the workers.

    :param deadline: in terms of :func:`time.monotonic`
    :raises OutOfTime: when it has passed
    :raises WorkerError: when ``work`` raises
    """
    todo = iter(tasks)
    more = True
    slots: deque[_Slot[T, R]] = deque()
    try:
        while True:
            while more and len(slots) < LOOKAHEAD and sum(slot.worker is not None for slot in slots) < jobs:
                for task in todo:
                    slots.append(_Slot(task, work, stall_s))
                    break
                else:
                    more = False
            if not slots:
                return
            if slots[0].done is not None:
                yield slots[0].done
                slots.popleft()
                continue
            if deadline is not None and time.monotonic() > deadline:
                raise OutOfTime
            wait([slot.worker.connection for slot in slots if slot.worker is not None], timeout=_LOOK_S)
            for slot in slots:
                slot.poll()
    finally:
        for slot in slots:
            slot.close()


def guarded(work: Work[None, R], *, stall_s: float = STALL_S) -> Done[None, R]:
    """Do one task in a worker."""
    for done in in_order([None], work, jobs=1, stall_s=stall_s):
        return done
    raise WorkerError("the worker gave nothing")
