"""What a scenario with actors can come to: its observations under all schedules, or under some."""

from __future__ import annotations

from typing import Final, Protocol

import attrs

from kmm.explore import Exploration, Progress, Schedule, explore, replay, schedule_of
from kmm.judge.observe import Observation, Value, observe
from kmm.kernel.stop import NotApplicable
from kmm.mm.variant import Variant
from kmm.scenario.concurrent import Concurrent
from kmm.scenario.drive import Run
from kmm.scenario.model import Scenario
from kmm.scenario.search import Search


@attrs.frozen
class Wanted:
    """Which outcome is looked for.

    :param but: canonical bytes of those that are not
    :param beyond: a sanitizer must say something of it that is none of these; ``None``: it need not
    """

    but: frozenset[bytes]
    beyond: frozenset[Value] | None

    def __call__(self, outcome: bytes, observation: Observation) -> bool:
        return outcome not in self.but and (self.beyond is None or not self.beyond.issuperset(observation.violations))


class Reachable(Protocol):
    """What can be come to, here or in another process."""

    @property
    def name(self) -> str:
        """Of the variant."""

    @property
    def search(self) -> Search:
        """How it was searched for."""

    @property
    def exploration(self) -> Exploration:
        """How many executions gave each, and whether there can be others."""

    @property
    def all(self) -> tuple[bytes, ...]:
        """Canonical bytes of each, sorted."""

    def observation(self, outcome: bytes) -> Observation:
        """One of them."""

    def schedule(self, outcome: bytes) -> Schedule:
        """A schedule that leads to one of them."""

    def comes_to(self, schedule: Schedule) -> bytes:
        """Where a schedule leads."""

    def again(self, search: Search, stop: Wanted | None = None) -> Reachable:
        """Search once more, in another way."""


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
    def name(self) -> str:
        """Of the variant."""
        return self.program.variant.name

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

    def comes_to(self, schedule: Schedule) -> bytes:
        """Where a schedule leads."""
        return replay(self.program, schedule).outcome

    def again(self, search: Search, stop: Wanted | None = None) -> Outcomes:
        """Search once more, in another way."""
        return Outcomes(self.program.scenario, self.program.variant, search, stop=stop)

    def run(self, outcome: bytes) -> Run:
        """A run that ends with one of them."""
        replay(self.program, self.schedule(outcome))
        return self.program.run
