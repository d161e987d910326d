"""What ends a search early, and that what was found by then is kept."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import pytest

from kmm.explore import Exploration, explore, replay, schedule_of
from kmm.explore.workers import Workers
from tests.explore.lang import Op, load, program, store

WORK = tuple(each for n in range(1, 5) for each in (store("x", n), load("y", f"r{n}"), Op("add", "y", 1, f"s{n}")))
LONG = program((WORK, WORK, WORK))
"""More traces than anybody runs."""


def at(executions: int, do: Callable[[], object]) -> Callable[[int, int], None]:
    """Does something when so many executions have been made."""

    def progress(made: int, traces: int) -> None:
        assert 0 <= traces <= made
        if made >= executions:
            do()

    return progress


def interrupt() -> None:
    """As the terminal does."""
    os.kill(os.getpid(), signal.SIGINT)


def check_partial(found: Exploration) -> None:
    """It says what it is, and what it has can be run again."""
    assert found.interrupted
    assert not found.complete
    assert sum(each.executions for each in found.outcomes.values()) == found.traces > 0
    for outcome in found.outcomes:
        assert replay(LONG, schedule_of(LONG, found, outcome)).outcome == outcome


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("memory", ["sc", "pso"])
def test_an_interrupt_keeps_what_was_found(jobs: int, memory: str) -> None:
    found = explore(LONG, memory=memory, jobs=jobs, progress=at(100, interrupt), keep=True)
    check_partial(found)
    assert jobs > 1 or found.executions == 100


@pytest.mark.parametrize("strategy", ["dfs", "pos"])
def test_other_searches_keep_it_too(strategy: str) -> None:
    found = explore(LONG, strategy=strategy, budget=10**9, progress=at(64, interrupt), keep=True)
    assert found.interrupted
    assert not found.complete
    assert found.outcomes


def test_a_second_interrupt_does_not_wait_for_the_execution() -> None:
    def twice() -> None:
        interrupt()
        interrupt()
        raise AssertionError("the second one was not raised")

    assert explore(LONG, progress=at(50, twice), keep=True).interrupted


def test_whoever_does_not_ask_gets_the_exception() -> None:
    for jobs in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            explore(LONG, jobs=jobs, progress=at(20, interrupt))


def test_the_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    explore(LONG, budget=20, keep=True)
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_has_no_handler_to_set() -> None:
    found: list[Exploration] = []
    thread = threading.Thread(target=lambda: found.append(explore(LONG, budget=20, keep=True)))
    thread.start()
    thread.join()
    assert [each.interrupted for each in found] == [False]


@pytest.mark.parametrize("jobs", [1, 2])
def test_seconds_end_a_search(jobs: int) -> None:
    found = explore(LONG, seconds=0.2, jobs=jobs)
    assert not found.complete
    assert not found.interrupted
    assert found.outcomes


def test_executions_and_traces_grow() -> None:
    told: list[tuple[int, int]] = []
    found = explore(LONG, budget=60, progress=lambda *each: told.append(each))
    assert told == sorted(told)
    assert told[-1] == (found.executions, found.traces)


def test_workers_do_not_outlive_whoever_stops_listening() -> None:
    workers: Workers[int, int] = Workers(2, lambda n: sum(range(10**6 * n)) * 0 + n)
    with workers:
        assert next(workers.results([1, 50, 50, 50])) == 1
        processes = workers.processes
    assert not any(each.is_alive() for each in processes)
