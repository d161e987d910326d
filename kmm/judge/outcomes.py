"""What a scenario with actors can come to: its observations under all schedules, or under some."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from kmm.explore import Exploration, Progress, Schedule, explore, replay, schedule_of
from kmm.judge.observe import Observation, observe
from kmm.kernel.stop import NotApplicable
from kmm.mm.variant import Variant
from kmm.scenario.concurrent import Concurrent
from kmm.scenario.drive import Run
from kmm.scenario.model import Scenario
from kmm.scenario.search import Search

Wanted: TypeAlias = Callable[[bytes, Observation], bool]
"""Whether an outcome is looked for."""


class Outcomes:
    """The observations of one variant, each with a schedule.

    :param progress: told how far the search has come
    :param stop: whether an outcome ends the search at once
    :param keep: an interrupt ends the search, and what was found by then is the result
    :raises NotApplicable: the variant does not do what the scenario asks for
    :raises StepError: a step before the actors cannot happen

    ``exploration`` says how many executions gave each, and whether there can be others.
    """

    def __init__(
        self,
        scenario: Scenario,
        variant: Variant,
        search: Search,
        progress: Progress | None = None,
        *,
        stop: Wanted | None = None,
        keep: bool = False,
    ) -> None:
        self._seen: dict[bytes, Observation] = {}
        self.program: Final = Concurrent(scenario, variant, self._outcome)
        self.search: Final = search
        self.exploration: Final[Exploration] = explore(
            self.program,
            strategy=search.strategy,
            memory=search.memory,
            preemption_bound=search.preemption_bound,
            budget=search.budget,
            seconds=search.seconds,
            seed=search.seed,
            jobs=search.jobs,
            stop=None if stop is None else lambda outcome: stop(outcome, self._seen[outcome]),
            progress=progress,
            keep=keep,
        )

    def _outcome(self, run: Run) -> bytes:
        if not run.applicable:
            raise NotApplicable(f"{run.world.system.variant.name} does not do what the scenario asks for")
        observation = observe(run)
        outcome = observation.canonical()
        self._seen.setdefault(outcome, observation)
        return outcome

    @property
    def all(self) -> tuple[bytes, ...]:
        """Canonical bytes of each, sorted."""
        return tuple(self.exploration.outcomes)

    def observation(self, outcome: bytes) -> Observation:
        """One of them."""
        if outcome not in self._seen:
            self.schedule(outcome)
        return self._seen[outcome]

    def schedule(self, outcome: bytes) -> Schedule:
        """A schedule that leads to one of them."""
        return schedule_of(self.program, self.exploration, outcome)

    def run(self, outcome: bytes) -> Run:
        """A run that ends with one of them."""
        replay(self.program, self.schedule(outcome))
        return self.program.run
