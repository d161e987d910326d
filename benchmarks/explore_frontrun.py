"""The two-task program of ``benchmarks/explore.py`` for frontrun 0.7, which explores ordinary Python threads.

frontrun switches at every bytecode instruction that touches a shared attribute, on real threads; a complete search of the same program has
the same traces in both. It runs under frontrun's own command: ``frontrun python -m benchmarks.explore_frontrun``. Rates are executions a
second of the CPU time of all threads.
"""

from __future__ import annotations

import importlib
import threading
import time


class Counters:
    """One counter under a lock and one without."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.locked = 0
        self.bare = 0


def add(counters: Counters) -> None:
    """What each task does, three times."""
    for _ in range(3):
        with counters.lock:
            counters.locked = counters.locked + 1
        counters.bare = counters.bare + 1


def main(seconds: float = 5) -> None:
    """Explore for about so long and say how it went."""
    seen: set[tuple[int, int]] = set()

    def note(counters: Counters) -> bool:
        seen.add((counters.locked, counters.bare))
        return True

    frontrun = importlib.import_module("frontrun")
    start = time.process_time()
    result = frontrun.explore(
        setup=Counters,
        workers=add,
        invariant=note,
        count=2,
        preemption_bound=None,
        stop_on_first=False,
        detect_io=False,
        total_timeout=seconds,
    )
    spent = time.process_time() - start
    print(f"{result.num_explored:7,} executions  {result.num_explored / spent:5,.0f}/s  ", end="")
    print(f"{len(seen)} outcomes, {'all' if result.exhausted else 'not all'} searched")


if __name__ == "__main__":
    main()
