"""Judge seeded bugs: in the smallest scenario, and in general ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs

from kmm.judge.caught import Caught, caught
from kmm.judge.check import Progress, check
from kmm.judge.sets import DIFFERENT, EQUAL, UNDETERMINED
from kmm.judge.variants import LoadedVariant
from kmm.judge.verdict import Relation, Verdict
from kmm.lab.bugs import Bug, BugError
from kmm.lab.experiment import both_sides
from kmm.scenario.families import Family
from kmm.scenario.model import Scenario
from kmm.scenario.search import EXHAUSTIVE, Search
from kmm.scenario.toml import load_many

KILLED: Final = "killed"
NO_BUG: Final = "no bug"
SURVIVED: Final = "survived"
WRONG: Final = "wrong check"
DIFFERS: Final = "differs"
OPEN: Final = "undetermined"
NOT_JUDGED: Final = "not judged"
_CODES: Final = {KILLED: 0, NO_BUG: 0, OPEN: 3, NOT_JUDGED: 3}


@attrs.frozen(kw_only=True)
class General:
    """What general scenarios say.

    :param verdict: on the scope
    :param by: what catches the bug; empty: nothing does
    :param family: that shows it
    """

    verdict: Verdict
    by: str = ""
    family: str = ""


@attrs.frozen(kw_only=True)
class JudgedBug:
    """A bug, and what became of it.

    :param caught: in its smallest scenario; ``None``: not judged
    :param general: in general scenarios, if that was asked for
    """

    bug: Bug
    caught: Caught | None = None
    general: General | None = None

    @property
    def word(self) -> str:
        """What became of it in its smallest scenario, in a word or two."""
        found, bug = self.caught, self.bug
        if found is None:
            return NOT_JUDGED
        if not bug.is_control and bug.shows in found.said_by(bug.caught_by):
            return KILLED
        if found.relation == UNDETERMINED:
            return OPEN
        if bug.is_control:
            return NO_BUG if found.relation == EQUAL and not found.both else DIFFERS
        return WRONG if found.relation == DIFFERENT else SURVIVED

    @property
    def exit_code(self) -> int:
        """0 as it has to be, 2 not so, 3 undetermined."""
        return max(_CODES.get(self.word, 2), self._general_code)

    @property
    def _general_code(self) -> int:
        if self.general is None:
            return 0
        verdict = self.general.verdict
        if verdict.interrupted or (verdict.relation is Relation.UNDETERMINED and not self.general.by):
            return 3
        return 0 if bool(self.general.by) == bool(self.bug.general) else 2


def judge_bugs(
    bugs: Sequence[Bug],
    refactors: Path,
    general: Callable[[], Sequence[Family]] | None = None,
    drawn: Sequence[Family] = (),
    *,
    explained: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Iterator[JudgedBug]:
    """Judge one after the other. An interrupt ends it.

    :param refactors: directory of the variants
    :param general: the general scenarios, for bugs that are patches: two variants differ in more; ``None``: the smallest scenario only
    :param drawn: further ones with actors, for what needs an interleaving and was not found in those
    :param explained: say where the two forms part
    :raises BadInputError: a patch or a scenario cannot be used
    """
    for number, bug in enumerate(bugs):
        if progress is not None:
            progress(bug.name, number)
        with forms(bug, refactors) as sides:
            found = JudgedBug(bug=bug, caught=caught(smallest(bug, refactors), *sides, search_of(bug), explained=explained))
            if general is not None and not bug.candidate:
                found = attrs.evolve(found, general=_general(bug, sides, general(), drawn, jobs, progress))
        yield found
        if found.general is not None and found.general.verdict.interrupted:
            return


@contextmanager
def forms(bug: Bug, refactors: Path) -> Iterator[tuple[LoadedVariant, LoadedVariant]]:
    """The form without the bug, and the one with it. The tests type-check the patches."""
    with both_sides(refactors, bug.variant, bug.candidate, bug.patch, typed=False) as (a, b):
        yield (b, a) if bug.repairs else (a, b)


def smallest(bug: Bug, refactors: Path) -> Scenario:
    """The smallest scenario that is known.

    :raises BadInputError: it cannot be used, or there are several
    """
    scenarios = load_many(str(refactors / bug.scenario))
    if len(scenarios) != 1:
        raise BugError(f"holds {len(scenarios)} scenarios", "leave one", bug.scenario)
    return scenarios[0]


def search_of(bug: Bug) -> Search:
    """How its schedules are searched."""
    search = attrs.evolve(EXHAUSTIVE, memory=bug.memory)
    return search if bug.preemptions is None else attrs.evolve(search, strategy="dfs", preemption_bound=bug.preemptions)


def _general(
    bug: Bug,
    sides: tuple[LoadedVariant, LoadedVariant],
    families: Sequence[Family],
    drawn: Sequence[Family],
    jobs: int | None,
    progress: Progress | None,
) -> General:
    def said(family: str, judged: int) -> None:
        if progress is not None:
            progress(f"{bug.name}, {family}", judged)

    verdict = check(*sides, families, seed=0, jobs=jobs, progress=said)
    if verdict.counterexample is not None:
        family = next((each.name for each in reversed(verdict.scope) if each.count), "")
        return General(verdict=verdict, by=caught(verdict.counterexample.scenario, *sides).by, family=family)
    if bug.kind == "CONC" and not verdict.interrupted:
        for each in drawn:
            for number, s in enumerate(each.scenarios()):
                said(each.name, number)
                found = caught(s, *sides, each.search)
                if found.reports:
                    return General(verdict=verdict, by=found.by, family=each.name)
    return General(verdict=verdict)
