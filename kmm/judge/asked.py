"""What the process of another tree may be asked. A request travels pickled, and is answered there."""

from __future__ import annotations

from typing import Final

import attrs

from kmm.explore import Exploration, Schedule
from kmm.judge.account import Account, account
from kmm.judge.coverage import Line, lines_of_run
from kmm.judge.observe import observe
from kmm.judge.outcomes import Outcomes, Wanted
from kmm.judge.variants import LoadedVariant
from kmm.mm.intended import Case
from kmm.mm.variant import Variant
from kmm.scenario.errors import StepError
from kmm.scenario.model import Scenario
from kmm.scenario.run import run
from kmm.scenario.search import Search


class Here:
    """The process that is asked.

    :param loaded: its variant
    """

    def __init__(self, loaded: LoadedVariant) -> None:
        self.loaded: Final = loaded
        self._scenario: Scenario | None = None
        self._outcomes: list[Outcomes] = []

    @property
    def variant(self) -> Variant:
        """Its variant."""
        return self.loaded.variant

    def keep(self, outcomes: Outcomes) -> int:
        """Keep outcomes as long as the questions are about their scenario; the number that they get."""
        if self._scenario != outcomes.program.scenario:
            self._scenario = outcomes.program.scenario
            self._outcomes.clear()
        self._outcomes.append(outcomes)
        return len(self._outcomes) - 1

    def kept(self, number: int) -> Outcomes:
        """Those with this number."""
        return self._outcomes[number]


@attrs.frozen
class Description:
    """A variant, without its code.

    :param intended: baseline's name to (observable, why, source) of each difference that it declares
    """

    name: str
    origin: str
    sha256: str
    path: str
    files: frozenset[str]
    intended: dict[str, tuple[tuple[str, str, str], ...]]


@attrs.frozen
class Describe:
    """Who is there?"""

    def answer(self, here: Here) -> Description:
        """In the process that is asked."""
        loaded = here.loaded
        intended = {name: tuple((each.observable, each.why, each.source) for each in own) for name, own in loaded.intended.items()}
        return Description(loaded.variant.name, loaded.origin, loaded.sha256, str(loaded.path), loaded.files, intended)


@attrs.frozen
class Excuses:
    """Does a declared difference apply to a case?"""

    baseline: str
    number: int
    case: Case

    def answer(self, here: Here) -> bool:
        """In the process that is asked."""
        return here.loaded.intended[self.baseline][self.number].predicate(self.case)


@attrs.frozen
class Observe:
    """The canonical bytes of a run; ``None``: not applicable."""

    scenario: Scenario
    budget_factor: int

    def answer(self, here: Here) -> bytes | None:
        """In the process that is asked."""
        finished = run(self.scenario, here.variant, budget_factor=self.budget_factor)
        return observe(finished).canonical() if finished.applicable else None


@attrs.frozen
class Impossible:
    """A step that cannot happen."""

    scenario: Scenario

    def answer(self, here: Here) -> StepError | None:
        """In the process that is asked."""
        return run(self.scenario, here.variant).impossible


@attrs.frozen
class Trace:
    """The lines that a run executes."""

    scenario: Scenario
    files: frozenset[str]

    def answer(self, here: Here) -> set[Line]:
        """In the process that is asked."""
        return lines_of_run(self.scenario, here.variant, self.files)


@attrs.frozen
class Log:
    """A run with its log."""

    scenario: Scenario
    schedule: Schedule | None

    def answer(self, here: Here) -> Account:
        """In the process that is asked."""
        return account(self.scenario, here.variant, self.schedule)


@attrs.frozen
class Explore:
    """All schedules; the outcomes stay there, under the number that comes back."""

    scenario: Scenario
    search: Search
    stop: Wanted | None

    def answer(self, here: Here) -> tuple[int, Exploration]:
        """In the process that is asked."""
        found = Outcomes(self.scenario, here.variant, self.search, stop=self.stop)
        return here.keep(found), found.exploration


@attrs.frozen
class ScheduleOf:
    """A schedule that leads to an outcome."""

    number: int
    outcome: bytes

    def answer(self, here: Here) -> Schedule:
        """In the process that is asked."""
        return here.kept(self.number).schedule(self.outcome)


@attrs.frozen
class ComesTo:
    """Where a schedule leads."""

    number: int
    schedule: Schedule

    def answer(self, here: Here) -> bytes:
        """In the process that is asked."""
        return here.kept(self.number).comes_to(self.schedule)
