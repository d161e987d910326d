"""How fast schedules are explored: collapse beside GUP-fast; one process and two; memory; beside frontrun where it is installed.

``python -m benchmarks.explore`` measures this alone; ``make bench`` has it, too. The small program is the one of
``benchmarks/explore_frontrun.py``: each task adds to a counter under a lock, and to another one without.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import attrs

from benchmarks.figure import Figure
from kmm.explore import Body, Exploration, ExploringMachine, Program, World, explore
from kmm.judge.outcomes import Outcomes
from kmm.kernel import current
from kmm.kernel.access import ONCE, Field, Shared
from kmm.kernel.locks import SpinLock, spin_lock, spin_unlock
from kmm.kernel.task import Task
from kmm.scenario.model import Driver, DriverKind, Geometry, Scenario, Tunables, Vma
from kmm.scenario.search import EXHAUSTIVE, Search
from kmm.scenario.spec import parse_actor
from refactors import v12

FRONTRUN: Final = Path(__file__).parent.parent / "build" / "frontrun" / "bin"
"""A virtual environment of its own, which ``make bench`` makes where it can."""
BUDGET: Final = 4_000
"""Executions, where a search is too large to be ended."""


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


def collapse_beside_gup_fast() -> float:
    """Complete executions a second of CPU time at 8 PTEs, reduction and sanitizers on, set-up included."""
    executions, start = 0, time.process_time()
    for page, kind in itertools.product(range(8), ("", ":write")):
        found = Outcomes(_beside(f"gup_fast:{page}{kind}"), v12.VARIANT, EXHAUSTIVE).exploration
        if not found.complete:
            raise SystemExit("the search did not end")
        executions += found.executions
    return executions / (time.process_time() - start)


def speed_up() -> float:
    """How many times faster two processes make the same executions as one."""
    s, search = _beside("gup_fast:0", "gup_fast:1"), Search(budget=BUDGET)
    alone, slow = timed(lambda: Outcomes(s, v12.VARIANT, search).exploration)
    both, fast = timed(lambda: Outcomes(s, v12.VARIANT, attrs.evolve(search, jobs=2)).exploration)
    return both.executions / fast / (alone.executions / slow)


def memory(executions: int) -> int:
    """The most that a process needs for so many executions, in KiB."""
    code = (
        "import resource\n"
        "from benchmarks.explore import search\n"
        f"search({executions})\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def search(budget: int) -> Exploration:
    """So many executions of collapse beside two of GUP-fast."""
    return Outcomes(_beside("gup_fast:0", "gup_fast:1"), v12.VARIANT, Search(budget=budget)).exploration


def _beside(*actors: str) -> Scenario:
    geometry = Geometry(ptes=8)
    return Scenario(
        geometry=geometry,
        tunables=Tunables.default(geometry).with_orders(geometry, 2, 3),
        vmas=(Vma(pages="aaaaaaaa"),),
        driver=Driver(kind=DriverKind.KHUGEPAGED),
        actors=tuple(parse_actor(text, geometry.pages) for text in actors),
    )


def beside_frontrun() -> list[Figure]:
    """The small program here and in frontrun, each a second of CPU time."""
    start = time.process_time()
    found = explore(counters(2, 3))
    rate = found.executions / (time.process_time() - start)
    whole = "all" if found.complete else "not all"
    ours = f"{found.executions:7,} executions  {rate:5,.0f}/s  {len(found.outcomes)} outcomes, {whole} searched".strip()
    figures = [Figure("two tasks and a lock, a second of CPU time", ours)]
    if not (FRONTRUN / "frontrun").exists():
        return [*figures, Figure("the same in frontrun", "not installed: see make bench")]
    command = [str(FRONTRUN / "frontrun"), str(FRONTRUN / "python"), "-m", "benchmarks.explore_frontrun"]
    said = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True, timeout=120).stdout
    return [*figures, Figure("the same in frontrun", said.splitlines()[-1].strip())]


def exploration_figures() -> list[Figure]:
    """Measure everything."""
    rate, faster = collapse_beside_gup_fast(), speed_up()
    growth = memory(2 * BUDGET) / memory(BUDGET // 2)
    return [
        Figure("executions a second and core, collapse x GUP-fast", f"{rate:,.0f}", ">= 1,000", rate >= 1000),
        Figure("two processes against one", f"{faster:.2f} times as fast", ">= 1.8", faster >= 1.8),
        Figure("memory of four times as many executions", f"{growth:.2f} times", "<= 1.1", growth <= 1.1),
        *beside_frontrun(),
    ]


def main() -> None:
    """Print every figure."""
    for figure in exploration_figures():
        print(f"{figure.name:52}  {figure.value:34}  {figure.want}")


if __name__ == "__main__":
    main()
