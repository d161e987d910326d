"""The text that explains a difference, of one schedule or of many."""

from __future__ import annotations

from kmm.judge.explain import explain
from kmm.judge.variants import LoadedVariant
from kmm.scenario.model import Scenario
from kmm.scenario.recorded import Recorded
from kmm.scenario.search import EXHAUSTIVE, Search


def explanation(s: Scenario, baseline: LoadedVariant, candidate: LoadedVariant, search: Search = EXHAUSTIVE) -> str:
    """Where the two variants part.

    :param search: of the schedules, beside actors
    :returns: at most 100 columns
    """
    return explained(s, baseline, candidate, search)[0]


def explained(s: Scenario, baseline: LoadedVariant, candidate: LoadedVariant, search: Search = EXHAUSTIVE) -> tuple[str, Recorded | None]:
    """:func:`explanation`, and beside actors the schedule that it shows."""
    if s.actors:
        from kmm.judge.explain_sets import explain_sets

        return explain_sets(s, baseline, candidate, search)
    return explain(s, baseline, candidate).text, None
