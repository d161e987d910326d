"""What ``assert_equivalent`` takes where its call says nothing: the test that runs may have options of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypedDict, cast

if TYPE_CHECKING:
    from kmm.api import AnyScenarios, AnyVariant, Expectation, ScopeName


class Options(TypedDict, total=False):
    """The arguments of ``assert_equivalent``."""

    candidate: AnyVariant
    baseline: AnyVariant
    scenarios: AnyScenarios
    scope: ScopeName
    seed: int
    budget_s: float
    jobs: int
    expect: Expectation


NAMES: Final = ("candidate", "baseline", "scenarios", "scope", "seed", "budget_s", "jobs", "expect")


class Surroundings:
    """Where ``assert_equivalent`` is called: outside pytest, without options, and it writes into the current directory."""

    def options(self) -> Options:
        """What holds unless the call says something else."""
        return {}

    def directory(self) -> Path:
        """Where a counterexample is written."""
        return Path()

    def shown(self, file: str) -> str:
        """A file as the reader of the message names it."""
        return file


surroundings: Callable[[], Surroundings] = Surroundings
"""The plugin replaces it while a test runs."""


def merged(layers: Iterable[Mapping[str, object]]) -> Options:
    """One set of options out of several, of which a later one wins; ``None`` says nothing.

    ``scenarios`` and ``scope`` exclude each other, so either of them takes the place of the other.
    """
    out: dict[str, object] = {}
    for layer in layers:
        said = {name: value for name, value in layer.items() if value is not None}
        if "scenarios" in said or "scope" in said:
            out.pop("scenarios", None)
            out.pop("scope", None)
        out |= said
    return cast(Options, out)
