"""Run a variant, wherever it is: in this process, or in that of another tree."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from kmm.judge.elsewhere import Elsewhere
from kmm.judge.observe import OBSERVABLES, Observation, observe
from kmm.mm.variant import Variant
from kmm.scenario.errors import StepError
from kmm.scenario.model import Scenario
from kmm.scenario.run import run

if TYPE_CHECKING:
    from kmm.explore import Exploration, Progress, Schedule
    from kmm.judge.account import Account
    from kmm.judge.coverage import Line
    from kmm.judge.outcomes import Reachable, Wanted
    from kmm.scenario.search import Search


def observation(s: Scenario, variant: Variant, budget_factor: int = 1, *, like: Observation | None = None) -> Observation | None:
    """What one run shows; ``None``: the variant does not do what the scenario asks for.

    :param budget_factor: how many times the usual budget of accesses the task has
    :param like: if it shows the same, this one may be given
    """
    if not isinstance(variant, Elsewhere):
        finished = run(s, variant, budget_factor=budget_factor)
        return observe(finished) if finished.applicable else None
    from kmm.judge.asked import Observe

    canonical = variant.line.ask(Observe(s, budget_factor))
    if canonical is None:
        return None
    return like if like is not None and like.canonical() == canonical else from_canonical(canonical)


def from_canonical(canonical: bytes) -> Observation:
    """The observation that has these canonical bytes."""
    return Observation(**dict(zip(OBSERVABLES, ast.literal_eval(canonical.decode("ascii")), strict=True)))


def impossible(s: Scenario, variant: Variant) -> StepError | None:
    """The step that cannot happen with this variant.

    :raises StepError: likewise, of an actor
    """
    if not isinstance(variant, Elsewhere):
        return run(s, variant).impossible
    from kmm.judge.asked import Impossible

    return variant.line.ask(Impossible(s))


def executed_lines(s: Scenario, variant: Variant, files: frozenset[str]) -> set[Line]:
    """Run once more, traced: the lines of ``files`` that were executed."""
    if not isinstance(variant, Elsewhere):
        from kmm.judge.coverage import lines_of_run

        return lines_of_run(s, variant, files)
    from kmm.judge.asked import Trace

    return variant.line.ask(Trace(s, files))


def account(s: Scenario, variant: Variant, schedule: Schedule | None = None) -> Account:
    """Run once more, with a log.

    :param schedule: beside actors; ``None``: the usual one
    """
    if not isinstance(variant, Elsewhere):
        from kmm.judge.account import account as here

        return here(s, variant, schedule)
    from kmm.judge.asked import Log

    return variant.line.ask(Log(s, schedule))


def outcomes(s: Scenario, variant: Variant, search: Search, progress: Progress | None = None, stop: Wanted | None = None) -> Reachable:
    """Search the schedules of a scenario with actors.

    :raises NotApplicable: the variant does not do what the scenario asks for
    :raises StepError: a step before the actors cannot happen
    """
    if not isinstance(variant, Elsewhere):
        from kmm.judge.outcomes import Outcomes

        return Outcomes(s, variant, search, progress, stop=stop)
    return _OutcomesElsewhere(s, variant, search, stop)


class _OutcomesElsewhere:
    """Stands for the outcomes that another process has found and keeps."""

    def __init__(self, s: Scenario, variant: Elsewhere, search: Search, stop: Wanted | None) -> None:
        from kmm.judge.asked import Explore

        self._scenario = s
        self._variant = variant
        self._search = search
        self._number, self._exploration = variant.line.ask(Explore(s, search, stop))

    @property
    def name(self) -> str:
        return self._variant.name

    @property
    def search(self) -> Search:
        return self._search

    @property
    def exploration(self) -> Exploration:
        return self._exploration

    @property
    def all(self) -> tuple[bytes, ...]:
        return tuple(self._exploration.outcomes)

    def observation(self, outcome: bytes) -> Observation:
        return from_canonical(outcome)

    def schedule(self, outcome: bytes) -> Schedule:
        from kmm.judge.asked import ScheduleOf

        return self._variant.line.ask(ScheduleOf(self._number, outcome))

    def comes_to(self, schedule: Schedule) -> bytes:
        from kmm.judge.asked import ComesTo

        return self._variant.line.ask(ComesTo(self._number, schedule))

    def again(self, search: Search, stop: Wanted | None = None) -> Reachable:
        return _OutcomesElsewhere(self._scenario, self._variant, search, stop)
