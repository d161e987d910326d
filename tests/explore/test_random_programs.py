"""Reduction loses nothing and repeats nothing: random programs against an enumerator that shares no code with the explorer."""

from __future__ import annotations

import pytest

from kmm.explore import explore, forest
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


@pytest.mark.soak
@pytest.mark.parametrize("memory", ["sc", "pso"])
def test_every_trace_exactly_once_in_ten_thousand_programs(memory: str) -> None:
    assert sum(checked(seed, memory) is not None for seed in range(10_000, 20_000)) >= 9_000


def without_reduction(seeds: range, memory: str) -> int:
    """Run every schedule, and every trace once, which must come to the same; of how many programs there are few enough."""
    compared = 0
    for seed in seeds:
        code = random_code(seed)
        every = explore(program(code), memory=memory, strategy="dfs", budget=3_000)
        if every.complete:
            reduced = explore(program(code), memory=memory)
            assert set(every.outcomes) == set(reduced.outcomes), seed
            assert every.traces == reduced.traces, seed
            compared += 1
    return compared


@pytest.mark.parametrize("memory", ["sc", "pso"])
def test_without_reduction(memory: str) -> None:
    assert without_reduction(range(60), memory) >= 40


@pytest.mark.soak
@pytest.mark.parametrize("memory", ["sc", "pso"])
def test_without_reduction_in_many_programs(memory: str) -> None:
    assert without_reduction(range(6_000, 7_600), memory) >= 1_000


def in_parts(seeds: range, memory: str) -> int:
    """Search in two processes and in one, which must make the same executions; how many programs had something to share."""
    compared = 0
    for seed in seeds:
        code = program(random_code(seed))
        alone = explore(code, memory=memory, budget=2_000)
        if alone.complete and alone.traces > 10:
            both = explore(code, memory=memory, jobs=2)
            assert both.complete
            assert both.given_up == 0
            assert both.traces == alone.traces, seed
            assert {o: found.executions for o, found in both.outcomes.items()} == {
                o: found.executions for o, found in alone.outcomes.items()
            }, seed
            compared += 1
    return compared


@pytest.mark.parametrize("memory", ["sc", "pso"])
@pytest.mark.parametrize(("slices", "parts"), [(8, 16), (24, 3), (192, 16)])
def test_every_trace_exactly_once_in_two_processes(memory: str, slices: int, parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forest, "SLICE", slices)
    monkeypatch.setattr(forest, "PARTS", parts)
    assert in_parts(range(3_000, 3_060), memory) >= 8
    assert in_parts(range(3_352, 3_353), memory) == 1, "it lost traces when what parts learnt was told at once"


@pytest.mark.full
@pytest.mark.parametrize("memory", ["sc", "pso"])
def test_every_trace_exactly_once_in_two_processes_in_many_programs(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forest, "SLICE", 8)
    assert in_parts(range(5_000, 5_600), memory) >= 100


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
