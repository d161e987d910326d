"""Scenarios that the user gives to a check; captured ones are judged in further forms."""

from __future__ import annotations

from collections.abc import Sequence

from kmm.live.capture import as_captured_drivers
from kmm.scenario.families import Family
from kmm.scenario.model import Scenario


def given(scenarios: Sequence[Scenario], name: str) -> Family:
    """One family of everything given.

    :param name: of the family
    """
    captured = sum(bool(s.assumed) for s in scenarios)
    judged = [form for s in scenarios for form in (as_captured_drivers(s) if s.assumed else (s,))]
    forms = f", of which {captured} captured, each in four forms" if captured else ""
    number = "the one scenario" if len(scenarios) == 1 else f"the {len(scenarios)} scenarios"
    return Family(name, "exhaustive", f"{number} given{forms}", lambda: iter(judged))
