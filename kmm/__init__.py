"""kmm: a typed model of khugepaged's anonymous collapse path, and a judge for its refactorings.

A name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kmm.api import ArgumentError, UndeterminedError, check, load_scenarios, load_variant, run
    from kmm.judge.errors import VariantError
    from kmm.judge.observe import Observation
    from kmm.judge.variants import LoadedVariant
    from kmm.judge.verdict import Counterexample, Relation, Verdict
    from kmm.mm.variant import Variant
    from kmm.scenario.errors import BadInputError, ScenarioError
    from kmm.scenario.model import Config, Driver, DriverKind, Event, Failure, Geometry, Scenario, Tunables, Vma
    from kmm.scenario.page import Kind, Lru, PageState

__all__ = [
    "ArgumentError",
    "BadInputError",
    "Config",
    "Counterexample",
    "Driver",
    "DriverKind",
    "Event",
    "Failure",
    "Geometry",
    "Kind",
    "LoadedVariant",
    "Lru",
    "Observation",
    "PageState",
    "Relation",
    "Scenario",
    "ScenarioError",
    "Tunables",
    "UndeterminedError",
    "Variant",
    "VariantError",
    "Verdict",
    "Vma",
    "check",
    "load_scenarios",
    "load_variant",
    "run",
]

_FROM = {
    "kmm.api": ("ArgumentError", "UndeterminedError", "check", "load_scenarios", "load_variant", "run"),
    "kmm.judge.errors": ("VariantError",),
    "kmm.judge.observe": ("Observation",),
    "kmm.judge.variants": ("LoadedVariant",),
    "kmm.judge.verdict": ("Counterexample", "Relation", "Verdict"),
    "kmm.mm.variant": ("Variant",),
    "kmm.scenario.errors": ("BadInputError", "ScenarioError"),
    "kmm.scenario.model": ("Config", "Driver", "DriverKind", "Event", "Failure", "Geometry", "Scenario", "Tunables", "Vma"),
    "kmm.scenario.page": ("Kind", "Lru", "PageState"),
}
_HOME = {name: module for module, names in _FROM.items() for name in names}

if not TYPE_CHECKING:
    # A type checker must not think that every name is there.
    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
