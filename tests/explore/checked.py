"""Random programs, explored and enumerated."""

from __future__ import annotations

import random

from kmm.explore import Exploration, explore
from tests.explore.lang import Code, Generator, program
from tests.explore.naive import Naive, TooBig, shared_names


def random_code(seed: int) -> Code:
    """The random program of a seed."""
    return Generator(random.Random(seed)).code()


def enumerated(code: Code, memory: str, limit: int = 4_000) -> tuple[set[bytes], int]:
    """Outcomes and number of traces, by the enumerator.

    :raises TooBig: when it would take too long
    """
    naive = Naive(code, buffered=memory == "pso", shared=shared_names(code), limit=limit)
    outcomes = naive.outcomes()
    naive.shared = naive.fought_over()
    return outcomes, len(naive.traces())


def checked(seed: int, memory: str) -> Exploration | None:
    """Explore a random program and compare with the enumerator; ``None`` when that would take too long."""
    code = random_code(seed)
    try:
        outcomes, traces = enumerated(code, memory)
    except TooBig:
        return None
    reduced = explore(program(code), memory=memory, budget=2 * traces + 100)
    assert reduced.complete, f"{seed}: more than {reduced.traces} executions for {traces} traces"
    assert set(reduced.outcomes) == outcomes, seed
    assert reduced.given_up == 0, f"{seed}: {reduced.given_up} executions were begun for nothing"
    assert reduced.traces == traces, f"{seed}: {reduced.traces} executions for {traces} traces"
    return reduced
