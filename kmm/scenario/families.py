"""A family: a set of scenarios that can be written in one sentence, and how they are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import attrs

from kmm.scenario.model import Geometry, Scenario
from kmm.scenario.search import EXHAUSTIVE, Search


@attrs.frozen
class Family:
    """A set of scenarios.

    :param name: short
    :param kind: ``exhaustive``, ``covering`` or ``sampled``
    :param words: the set in one sentence, or what makes it
    :param scenarios: makes them anew, always in the same order
    :param steps: the scenarios have steps, or actors
    :param search: of the schedules of scenarios with actors
    """

    name: str
    kind: str
    words: str | Callable[[], str]
    scenarios: Callable[[], Iterator[Scenario]]
    steps: bool = False
    search: Search = EXHAUSTIVE

    @property
    def set(self) -> str:
        """The set in one sentence; counting what is in it may take a while."""
        return self.words if isinstance(self.words, str) else self.words()


def hypothesis_family(geometry: Geometry, count: int, seed: int) -> Family:
    """``count`` distinct scenarios that Hypothesis draws."""

    def scenarios() -> Iterator[Scenario]:
        from kmm.scenario.strategies import generate

        return iter(generate(geometry, count, seed))

    text = f"{count} scenarios of {geometry.ptes} PTEs drawn by Hypothesis with seed {seed}"
    return Family(f"Hypothesis, {geometry.ptes} PTEs", "sampled", text, scenarios)


def systems_family(count: int, seed: int) -> Family:
    """``count`` distinct scenarios with steps that Hypothesis draws."""

    def scenarios() -> Iterator[Scenario]:
        from kmm.scenario.strategies import generate_systems

        return iter(generate_systems(None, count, seed))

    text = (
        f"{count} scenarios with one to eight steps, up to three ranges of 8 or 16 PTEs and up to three processes, drawn with seed {seed}"
    )
    return Family("Hypothesis, systems", "sampled", text, scenarios, steps=True)


def distinct(scenarios: Iterable[Scenario]) -> Iterator[Scenario]:
    """Each scenario once, at its first place."""
    seen: set[Scenario] = set()
    for s in scenarios:
        if s not in seen:
            seen.add(s)
            yield s
