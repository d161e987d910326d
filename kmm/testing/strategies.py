"""What ``st.from_type`` draws for the public types: valid values, at every geometry of the strategies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar, cast

from hypothesis import strategies as st

from kmm.scenario.model import Config, Driver, Event, Failure, Geometry, Scenario, Tunables, Vma
from kmm.scenario.page import PageState
from kmm.scenario.strategies import GEOMETRIES, configs, drivers, events, failures, page_states, scenarios, tunables, vmas

T = TypeVar("T")

_STRATEGIES: Final[dict[type, Callable[[], st.SearchStrategy[object]]]] = {
    Config: configs,
    Driver: lambda: _at_any_geometry(drivers),
    Event: lambda: _at_any_geometry(events),
    Failure: lambda: _at_any_geometry(failures),
    Geometry: lambda: st.sampled_from(GEOMETRIES),
    PageState: page_states,
    Scenario: scenarios,
    Tunables: lambda: _at_any_geometry(tunables),
    Vma: lambda: _at_any_geometry(vmas),
}


def values_of(public: type[T]) -> st.SearchStrategy[T]:
    """Valid values of a public type."""
    return cast("st.SearchStrategy[T]", _STRATEGIES[public]())


def _at_any_geometry(make: Callable[[Geometry], st.SearchStrategy[T]]) -> st.SearchStrategy[T]:
    return st.sampled_from(GEOMETRIES).flatmap(make)
