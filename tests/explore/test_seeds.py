"""The same seed gives the same bytes, and what was found can be run again."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest

from kmm.explore import explore, replay, schedule_of
from tests.explore.checked import random_code
from tests.explore.lang import program

STRATEGIES = ("random", "pct", "pos", "surw")


def run_replay_run(seed: int) -> bytes:
    """Run one seed, replay each outcome by name, run it again; the bytes of all."""
    code = program(random_code(seed))
    memory, strategy = ("sc", "pso")[seed % 2], STRATEGIES[seed // 2 % 4]
    first = explore(code, memory=memory, strategy=strategy, budget=12, seed=seed)
    said = []
    for outcome in first.outcomes:
        schedule = schedule_of(code, first, outcome)
        again = replay(code, schedule)
        assert again.outcome == outcome, seed
        assert not again.left_out, seed
        said.append((outcome, schedule))
    assert explore(code, memory=memory, strategy=strategy, budget=12, seed=seed) == first, seed
    return repr((first, said)).encode()


def digest(seeds: range) -> str:
    """Of many."""
    total = hashlib.sha256()
    for seed in seeds:
        total.update(run_replay_run(seed))
    return total.hexdigest()


def test_seeds_replay() -> None:
    assert digest(range(60)) == digest(range(60))


@pytest.mark.full
def test_ten_thousand_seeds_replay() -> None:
    digest(range(10_000))


def test_samples_are_among_what_can_happen() -> None:
    for seed in range(0, 80, 3):
        code = program(random_code(seed))
        for memory in ("sc", "pso"):
            everything = set(explore(code, memory=memory).outcomes)
            for strategy in STRATEGIES:
                assert set(explore(code, memory=memory, strategy=strategy, budget=20, seed=seed).outcomes) <= everything


def test_another_process_says_the_same() -> None:
    script = "from tests.explore.test_seeds import digest; print(digest(range(12)))"
    said = {
        subprocess.run(
            [sys.executable, "-c", script], check=True, capture_output=True, text=True, env={"PYTHONHASHSEED": hashes, "PYTHONPATH": "."}
        ).stdout
        for hashes in ("0", "7")
    }
    assert said == {digest(range(12)) + "\n"}
