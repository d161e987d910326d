"""Worker processes: forked from the explorer, so that the program need not be sent to them."""

from __future__ import annotations

import multiprocessing
import signal
import traceback
import warnings
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Generic, Self, TypeVar, cast

A = TypeVar("A")
B = TypeVar("B")


class WorkerError(RuntimeError):
    """A worker failed; the text has its traceback."""


class Workers(Generic[A, B]):
    """So many processes that all do the same.

    :param jobs: 1: no process, it is done here
    :param work: must not depend on what was done before
    """

    def __init__(self, jobs: int, work: Callable[[A], B]) -> None:
        self.work = work
        self.pipes: list[Connection] = []
        self.processes: list[multiprocessing.process.BaseProcess] = []
        if jobs > 1:
            # An interrupt is the explorer's, not the workers'.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)
                    for _ in range(jobs):
                        self._start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        mine, theirs = context.Pipe()
        process = context.Process(target=self._serve, args=(theirs, mine), daemon=True)
        process.start()
        theirs.close()
        self.pipes.append(mine)
        self.processes.append(process)

    def _serve(self, pipe: Connection, far_end: Connection) -> None:
        for other in [*self.pipes, far_end]:
            other.close()
        while True:
            try:
                task = pipe.recv()
            except EOFError:
                return
            try:
                pipe.send((True, self.work(task)))
            except Exception:
                pipe.send((False, traceback.format_exc()))

    def results(self, tasks: Sequence[A]) -> Generator[B, None, None]:
        """The results, in the order of the tasks. Whoever stops taking them cannot ask for others."""
        if not self.pipes:
            yield from map(self.work, tasks)
            return
        results: dict[int, B] = {}
        todo = list(enumerate(tasks))[::-1]
        busy: dict[Connection, int] = {}
        idle = list(self.pipes)
        following = 0
        while todo or busy:
            while todo and idle:
                pipe = idle.pop()
                number, task = todo.pop()
                pipe.send(task)
                busy[pipe] = number
            for ready in wait(list(busy)):
                pipe = cast(Connection, ready)
                results[busy.pop(pipe)] = self._receive(pipe)
                idle.append(pipe)
            while following in results:
                yield results.pop(following)
                following += 1

    def _receive(self, pipe: Connection) -> B:
        try:
            good, result = pipe.recv()
        except EOFError:
            raise WorkerError("a worker process ended without an answer") from None
        if not good:
            raise WorkerError(result)
        return cast(B, result)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for pipe in self.pipes:
            pipe.close()
        for process in self.processes:
            process.kill()
            process.join()
