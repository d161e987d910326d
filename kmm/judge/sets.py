"""One scenario with actors, both variants: the sets of what they can come to."""

from __future__ import annotations

import hashlib
from typing import Final

import attrs

from kmm.explore import Progress
from kmm.judge.differing import differing
from kmm.judge.intended import excusing
from kmm.judge.observe import OBSERVABLES, Observation
from kmm.judge.outcomes import Reachable, Wanted
from kmm.judge.side import outcomes
from kmm.mm.intended import IntendedDifference
from kmm.mm.variant import Variant
from kmm.scenario.model import Scenario
from kmm.scenario.search import EXHAUSTIVE, Search, can_settle

EQUAL: Final = "equal"
REFINES: Final = "refines"
DIFFERENT: Final = "different"
UNDETERMINED: Final = "undetermined"
REPORTS: Final = "violations"
"""The observable that holds what sanitizers say."""
LEAD_STRATEGY: Final = "pos"
LEAD_FACTOR: Final = 4
"""How many times the executions of the first search the search for a lead has."""


@attrs.frozen
class Sets:
    """Both sets of observations of one scenario.

    :param relation: ``equal``, ``refines`` (the candidate's is a part of the baseline's), ``different``, or ``undetermined``: something
        was seen on one side only, and the other side's schedules were not exhausted
    :param witness: canonical bytes of an outcome of one side only; empty when the sets are equal
    :param side: whose it is: ``baseline`` or ``candidate``
    :param may_differ: observables in which an intended difference lets the sides differ: what is alike in all others counts as the same
    """

    scenario: Scenario
    baseline: Reachable
    candidate: Reachable
    relation: str
    witness: bytes = b""
    side: str = ""
    may_differ: frozenset[str] = frozenset()

    @property
    def complete(self) -> bool:
        """Every schedule that matters was run, on both sides."""
        return self.baseline.exploration.complete and self.candidate.exploration.complete

    def digest(self) -> bytes:
        """A hash over all that both sides show."""
        both = hashlib.sha256()
        for side in (self.baseline, self.candidate):
            both.update(repr(side.all).encode() + (b"\n" if side.exploration.complete else b" ...\n"))
        return both.digest()

    def common(self) -> tuple[Observation, ...]:
        """What both sides show."""
        return tuple([self.baseline.observation(each) for each in self.baseline.all if each in self.candidate.exploration.outcomes])

    @property
    def sides(self) -> tuple[Reachable, Reachable]:
        """The side whose the witness is, and the other one."""
        return (self.baseline, self.candidate) if self.side == "baseline" else (self.candidate, self.baseline)

    def nearest(self) -> tuple[Observation, Observation, tuple[str, ...]]:
        """An observation of the baseline and one of the candidate that differ, and in which observables.

        One is the witness; the other is the one that differs from it least, and if it can be in nothing that is not intended.
        """
        mine, other = self.sides
        observed = mine.observation(self.witness)
        nearest = min((other.observation(each) for each in other.all), key=lambda each: self._distance(differing(each, observed)))
        pair = (observed, nearest) if self.side == "baseline" else (nearest, observed)
        return *pair, differing(*pair)

    def _distance(self, names: tuple[str, ...]) -> tuple[int, int]:
        return sum(name not in self.may_differ for name in names), len(names)

    def not_shown(self) -> frozenset[bytes]:
        """Outcomes that are no example of the difference: the other side's, and those that count the same as one of them."""
        mine, other = self.sides
        excused = (each for each in mine.all if _same(mine.observation(each), other, self.may_differ) is not None)
        return frozenset((*other.exploration.outcomes, *excused))

    def excused(self) -> tuple[str, ...]:
        """Observables in which an outcome of one side differs from the one of the other side that it counts the same as."""
        both = (self.baseline, self.candidate), (self.candidate, self.baseline)
        same = (_same(of.observation(each), other, self.may_differ) for of, other in both for each in _only(of, other))
        names = {name for found in same for name in found or ()}
        return tuple(name for name in OBSERVABLES if name in names)


def judge_sets(
    s: Scenario,
    baseline: Variant,
    candidate: Variant,
    search: Search,
    progress: Progress | None = None,
    intended: tuple[IntendedDifference, ...] = (),
) -> Sets:
    """Search the schedules of both variants, and compare what they come to.

    When the baseline's are exhausted, the first outcome of the candidate with a report that no outcome of the baseline has ends the search.

    :param intended: what the candidate declares about this baseline
    """
    a = outcomes(s, baseline, search, progress)
    may_differ = frozenset(excusing(s, intended))
    ends_early = a.exploration.complete and REPORTS not in may_differ
    b = outcomes(s, candidate, search, progress, stop=reports_beyond(a) if ends_early else None)
    only_candidate, a = _missing(b, a, may_differ, s)
    if only_candidate:
        relation = DIFFERENT if a.exploration.complete else UNDETERMINED
        return Sets(s, a, b, relation, _worst(only_candidate, b, a), "candidate", may_differ)
    only_baseline, b = _missing(a, b, may_differ, s)
    if only_baseline:
        relation = REFINES if b.exploration.complete else UNDETERMINED
        return Sets(s, a, b, relation, _worst(only_baseline, a, b), "baseline", may_differ)
    return Sets(s, a, b, EQUAL, may_differ=may_differ)


def _same(outcome: Observation, side: Reachable, may_differ: frozenset[str]) -> tuple[str, ...] | None:
    """In what an outcome differs from the one of a side that it counts the same as; ``None``: there is none."""
    if not may_differ:
        return None
    found = (differing(side.observation(each), outcome) for each in side.all)
    return min((names for names in found if may_differ.issuperset(names)), key=len, default=None)


def reports_beyond(other: Reachable) -> Wanted:
    """Whether a sanitizer says something of an outcome that it says of none of the other side's."""
    return Wanted(frozenset(), frozenset(each for outcome in other.all for each in other.observation(outcome).violations))


def _worst(only: list[bytes], mine: Reachable, other: Reachable) -> bytes:
    """The first with a report of its own, else the first."""
    wanted = reports_beyond(other)
    return next((each for each in only if wanted(each, mine.observation(each))), only[0])


def _missing(of: Reachable, other: Reachable, may_differ: frozenset[str], s: Scenario) -> tuple[list[bytes], Reachable]:
    """Outcomes that only one side shows and nothing excuses, and the other side as far as it was searched for them.

    Where the other was not exhausted, each of them is a lead that is followed: first by its schedule, then by all schedules, if these can
    be run, else by more samples.
    """
    missing = _not_shown(of, other, may_differ)
    if other.exploration.complete:
        return missing, other
    leads = [each for each in missing if other.comes_to(of.schedule(each)) != each]
    if leads and can_settle(s, other.search):
        every = other.again(attrs.evolve(EXHAUSTIVE, memory=other.search.memory))
        if every.exploration.complete:
            return _not_shown(of, every, may_differ), every
    return _not_sampled(leads, other) if leads else [], other


def _not_shown(of: Reachable, other: Reachable, may_differ: frozenset[str]) -> list[bytes]:
    only = _only(of, other)
    return [each for each in only if _same(of.observation(each), other, may_differ) is None] if may_differ else only


def _only(of: Reachable, other: Reachable) -> list[bytes]:
    return [each for each in of.all if each not in other.exploration.outcomes]


def _not_sampled(leads: list[bytes], other: Reachable) -> list[bytes]:
    search = attrs.evolve(
        other.search,
        strategy=LEAD_STRATEGY,
        preemption_bound=None,
        budget=LEAD_FACTOR * other.exploration.executions,
        seconds=None,
        seed=other.search.seed + 1,
    )
    found = other.again(search).exploration.outcomes
    return [each for each in leads if each not in found]
