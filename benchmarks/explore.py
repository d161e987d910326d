"""How fast schedules are explored: executions a second of two tasks, on one core and on two, beside frontrun when it is installed.

``python -m benchmarks.explore``. The two-task program is the one of ``benchmarks/explore_frontrun.py``: each task adds to a counter under a
lock, and looks at another one.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from kmm.explore import Body, Exploration, ExploringMachine, Program, World, explore
from kmm.kernel import current
from kmm.kernel.access import ONCE, Field, Shared
from kmm.kernel.locks import SpinLock, spin_lock, spin_unlock
from kmm.kernel.task import Task


class Counter(Shared):
    """One counter."""

    __slots__ = ("_value", "label")
    value: Field[int] = Field()

    def __init__(self, label: str) -> None:
        self.freed_by = ""
        self.label = label
        self._value = 0

    @property
    def name(self) -> str:
        """The label."""
        return self.label


def counters(tasks: int, rounds: int) -> Program:
    """Tasks that add to one counter under a lock and to another without."""

    def world() -> World:
        machine = ExploringMachine(
            page_size=4096, ptes=8, lru_batch=1, debug_vm=True, split_ptlocks=True, tlb="ipi", arch="x86", budget=1_000_000, cpus=tasks
        )
        locked, bare, lock = Counter("locked"), Counter("bare"), SpinLock("pte_lock")

        def run() -> None:
            for _ in range(rounds):
                spin_lock(lock)
                current.machine.write(locked, Counter.value, current.machine.read(locked, Counter.value, ONCE) + 1, ONCE)
                spin_unlock(lock)
                current.machine.write(bare, Counter.value, current.machine.read(bare, Counter.value, ONCE) + 1, ONCE)

        bodies = tuple(Body(Task("ABCD"[i], machine.cpus[i], 1), run) for i in range(tasks))
        return World(machine, bodies, lambda ends: repr((locked._value, bare._value, ends)).encode())

    return world


def timed(call: Callable[[], Exploration]) -> tuple[Exploration, float]:
    """What a call gives and the seconds that it takes."""
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def main() -> None:
    """Print every figure."""
    two = counters(2, 3)
    found, seconds = timed(lambda: explore(two))
    print(f"two tasks, reduction and sanitizers on   {found.traces:7,} traces  {found.executions / seconds:9,.0f} executions/s")
    three = counters(3, 2)
    alone, slow = timed(lambda: explore(three, budget=6_000))
    both, fast = timed(lambda: explore(three, budget=6_000, jobs=2))
    print(f"three tasks, 1 process                   {alone.executions:7,} executions  {alone.executions / slow:5,.0f}/s")
    print(f"three tasks, 2 processes                 {both.executions:7,} executions  {both.executions / fast:5,.0f}/s  ", end="")
    print(f"{both.executions / fast / (alone.executions / slow):.2f} times as fast")
    print(f"memory                                   {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB at most")
    frontrun = Path(sys.executable).parent / "frontrun"
    if not frontrun.exists():
        print("frontrun                                 not installed: pip install frontrun==0.7.0")
        return
    command = [str(frontrun), sys.executable, "-m", "benchmarks.explore_frontrun"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    print(f"frontrun 0.7, the same two tasks         {said.splitlines()[-1]}")


if __name__ == "__main__":
    main()
