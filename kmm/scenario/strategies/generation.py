"""Scenarios outside of a test: the same for the same seed in every process."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from typing import Final

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir, storage_directory

from kmm.scenario.errors import ScenarioError
from kmm.scenario.model import (
    Geometry,
    Scenario,
)
from kmm.scenario.strategies.draw import need, need_geometry
from kmm.scenario.strategies.scenarios import scenarios
from kmm.scenario.strategies.systems import systems
from kmm.scenario.toml import canonical_bytes

_BATCH: Final = 100
_IDLE_BATCHES: Final = 5


def generate(geometry: Geometry, count: int, seed: int) -> list[Scenario]:
    """Distinct scenarios, the same for the same arguments in every process.

    :param count: how many
    :param seed: any integer
    :raises ScenarioError: there are not that many
    """
    need_geometry(geometry)
    return _distinct(scenarios(geometry), count, seed)


def generate_systems(geometry: Geometry | None, count: int, seed: int) -> list[Scenario]:
    """Distinct scenarios with steps, the same for the same arguments in every process.

    :param geometry: of one range; ``None``: 8 or 16 PTEs
    :param count: how many
    :param seed: any integer
    :raises ScenarioError: there are not that many
    """
    return _distinct(systems(geometry), count, seed)


def _distinct(strategy: st.SearchStrategy[Scenario], count: int, seed: int) -> list[Scenario]:
    need(isinstance(count, int), f"count is {count!r}", "give a whole number")
    need(count >= 0, f"count = {count} is negative", "give 0 or more")
    need(isinstance(seed, int), f"seed is {seed!r}", "give a whole number")
    found: dict[bytes, Scenario] = {}
    batch = idle = 0
    with _private_storage():
        while len(found) < count and idle < _IDLE_BATCHES:
            before = len(found)
            for each in _batch(strategy, f"{seed}:{batch}"):
                found.setdefault(canonical_bytes(each), each)
            batch += 1
            idle = idle + 1 if len(found) == before else 0
    if len(found) < count:
        raise ScenarioError(f"only {len(found)} distinct scenarios were found", "ask for fewer")
    return list(found.values())[:count]


def _batch(strategy: st.SearchStrategy[Scenario], name: str) -> list[Scenario]:
    """What Hypothesis draws in one run with this seed."""
    drawn: list[Scenario] = []

    @seed(name)
    @settings(
        database=None,
        deadline=None,
        derandomize=False,
        max_examples=_BATCH,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(scenario: Scenario) -> None:
        drawn.append(scenario)

    collect()
    return drawn


@contextlib.contextmanager
def _private_storage() -> Iterator[None]:
    """Keep Hypothesis from leaving files in the current directory."""
    before = storage_directory().path
    with tempfile.TemporaryDirectory(prefix="kmm-") as directory:
        set_hypothesis_home_dir(directory)
        try:
            yield
        finally:
            set_hypothesis_home_dir(before)
