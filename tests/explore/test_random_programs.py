"""Reduction loses nothing and repeats nothing: random programs against an enumerator that shares no code with the explorer."""

from __future__ import annotations

import pytest

from kmm.explore import explore
from tests.explore.checked import checked, enumerated, random_code
from tests.explore.lang import program
from tests.explore.naive import TooBig


@pytest.mark.parametrize("memory", ["sc", "pso"])
def test_every_trace_exactly_once(memory: str) -> None:
    assert sum(checked(seed, memory) is not None for seed in range(150)) >= 140


@pytest.mark.full
@pytest.mark.parametrize("memory", ["sc", "pso"])
def test_every_trace_exactly_once_in_many_programs(memory: str) -> None:
    assert sum(checked(seed, memory) is not None for seed in range(1_000, 2_300)) >= 1_200


@pytest.mark.parametrize(("memory", "seeds"), [("sc", range(60)), ("pso", range(60))])
def test_without_reduction(memory: str, seeds: range) -> None:
    compared = 0
    for seed in seeds:
        code = random_code(seed)
        every = explore(program(code), memory=memory, strategy="dfs", budget=3_000)
        if every.complete:
            reduced = explore(program(code), memory=memory)
            assert set(every.outcomes) == set(reduced.outcomes), seed
            assert every.traces == reduced.traces, seed
            compared += 1
    assert compared >= 40


@pytest.mark.parametrize("memory", ["sc", "pso"])
def test_in_two_processes(memory: str) -> None:
    one = two = 0
    for seed in (14, 59, 111, 171, 203, 775):
        code = random_code(seed)
        alone, both = explore(program(code), memory=memory), explore(program(code), memory=memory, jobs=2)
        assert both.complete
        assert set(alone.outcomes) == set(both.outcomes), seed
        one, two = one + alone.traces, two + both.traces
    assert one <= two <= 1.05 * one


def test_bounded_search_finds_a_subset() -> None:
    for seed in range(20):
        code = random_code(seed)
        try:
            outcomes, _ = enumerated(code, "sc")
        except TooBig:
            continue
        found: list[set[bytes]] = []
        for bound in (0, 1, 2):
            bounded = explore(program(code), strategy="dfs", preemption_bound=bound)
            assert not bounded.complete, "a bound covers what is within it only"
            found.append(set(bounded.outcomes))
        assert found[0] <= found[1] <= found[2] <= outcomes
