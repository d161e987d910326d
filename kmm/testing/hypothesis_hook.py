"""Called by Hypothesis when it is imported, by its entry point: strategies for the public types, and profiles of settings.

Hypothesis is still being imported then, so nothing here imports it, or a strategy, before it is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from kmm.scenario.model import Config, Driver, Event, Failure, Geometry, Scenario, Tunables, Vma
from kmm.scenario.page import PageState

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

T = TypeVar("T")

TYPES: Final = (Config, Driver, Event, Failure, Geometry, PageState, Scenario, Tunables, Vma)
"""The types that are registered."""


def register() -> None:
    """Register types and profiles."""
    from hypothesis import HealthCheck, settings
    from hypothesis.strategies import register_type_strategy

    for public in TYPES:
        register_type_strategy(public, _values_of)
    # How long a run takes depends on the geometry that was drawn, so a time limit for each tells nothing.
    settings.register_profile("kmm-dev", max_examples=25, deadline=None, derandomize=False, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile(
        "kmm-ci",
        max_examples=200,
        deadline=None,
        derandomize=True,
        database=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )


def _values_of(public: type[T]) -> SearchStrategy[T]:
    from kmm.testing.strategies import values_of

    return values_of(public)
