"""Workers: order, loss, and what a variant may do to its process."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kmm.judge.pool import MAX_LOST, Beat, Done, Lost, OutOfTime, Skip, Worker, WorkerError, guarded, in_order

LENGTH = 20
Step = Callable[[int, int], None]


def work_with(step: Step) -> Callable[[int, Skip, Beat], list[int]]:
    """Work on the positions of a task, and give those that were worked on."""

    def work(task: int, skip: Skip, beat: Beat) -> list[int]:
        out = []
        for position in range(LENGTH):
            if position not in skip:
                beat(position)
                step(task, position)
                out.append(position)
        return out

    return work


def run(step: Step, *, tasks: int = 4, jobs: int = 2, stall_s: float = 5.0) -> list[Done[int, list[int]]]:
    return list(in_order(range(tasks), work_with(step), jobs=jobs, stall_s=stall_s))


def spin(task: int, position: int) -> None:
    if (task, position) == (1, 3):
        while True:
            pass


def exits(task: int, position: int) -> None:
    if (task, position) == (1, 3):
        os._exit(5)


def crashes(task: int, position: int) -> None:
    if (task, position) == (1, 3):
        ctypes.string_at(0)


@pytest.mark.parametrize("jobs", [1, 2, 7])
def test_values_come_in_the_order_of_the_tasks(jobs: int) -> None:
    done = run(lambda task, position: time.sleep(0.002 * (4 - task)), tasks=5, jobs=jobs)
    assert [each.task for each in done] == [0, 1, 2, 3, 4]
    assert all(each.value == list(range(LENGTH)) and not each.lost for each in done)


def test_no_state_is_carried_from_task_to_task() -> None:
    state: list[int] = []

    def work(task: int, skip: Skip, beat: Beat) -> int:
        state.append(task)
        return len(state)

    assert [each.value for each in in_order(range(5), work, jobs=1)] == [1] * 5


@pytest.mark.parametrize(
    ("step", "reason"),
    [(spin, "made no step for 0.6 s"), (exits, "ended the process with code 5"), (crashes, "was killed by signal 11")],
)
def test_a_lost_worker_costs_one_position(step: Step, reason: str) -> None:
    done = run(step, stall_s=0.6)
    assert [each.lost for each in done] == [(), (Lost(3, reason),), (), ()]
    assert done[1].value == [position for position in range(LENGTH) if position != 3]


def test_a_task_that_loses_too_many_is_given_up() -> None:
    def step(task: int, position: int) -> None:
        if position >= 2:
            os._exit(0)

    (done,) = run(step, tasks=1)
    assert len(done.lost) == MAX_LOST
    assert done.value == [0, 1]


def test_a_slow_worker_that_steps_is_left_alone() -> None:
    (done,) = run(lambda task, position: time.sleep(0.1), tasks=1, stall_s=0.6)
    assert not done.lost


def test_what_it_prints_goes_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    def step(task: int, position: int) -> None:
        print("hello")
        print("hello", file=sys.stderr, flush=True)
        os.write(1, b"hello")
        assert sys.stdin.read() == ""

    print("kept in the buffer", end="")
    run(step, tasks=1)
    assert capfd.readouterr() == ("kept in the buffer", "")


def test_an_error_of_ours_is_raised() -> None:
    with pytest.raises(WorkerError, match="ZeroDivisionError"):
        run(lambda task, position: print(1 // position))


def test_a_worker_that_is_lost_outside_of_its_positions() -> None:
    with pytest.raises(WorkerError, match="outside of a run"):
        guarded(lambda task, skip, beat: os._exit(1))


def test_the_deadline_ends_it() -> None:
    started = time.monotonic()
    with pytest.raises(OutOfTime):
        list(in_order(range(4), work_with(lambda task, position: time.sleep(1)), jobs=2, deadline=started + 0.3))
    assert time.monotonic() - started < 5


def test_closing_ends_the_workers() -> None:
    def work(task: int, skip: Skip, beat: Beat) -> int:
        if task:
            time.sleep(600)
        return os.getppid()

    finished = in_order(range(3), work, jobs=3)
    assert next(finished).value == os.getpid()
    finished.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def loop(_beat: Beat) -> None:
    while True:
        pass


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_a_worker_whose_parent_is_gone_ends() -> None:
    pid = guarded(lambda _task, _skip, _beat: Worker(loop, 60.0).pid).value
    ends = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not is_alive(pid)
