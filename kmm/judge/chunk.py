"""A chunk of scenarios: what one worker judges, and what it says about them."""

from __future__ import annotations

from typing import Final, TypeVar

import attrs

from kmm.judge.certificate import Transcript
from kmm.judge.coverage import Line, Sight, codes, sights
from kmm.judge.findings import CONTRACT, UNDETERMINED, shared
from kmm.judge.intended import excuses
from kmm.judge.pair import Pair, judge_pair
from kmm.judge.pool import Beat, Skip
from kmm.judge.side import executed_lines
from kmm.judge.variants import LoadedVariant
from kmm.mm.intended import IntendedDifference
from kmm.scenario.model import Scenario
from kmm.scenario.search import EXHAUSTIVE, Search

K = TypeVar("K")

CHUNK_WEIGHT: Final = 8192
"""Of one chunk; a scenario weighs its number of PTEs and a little more."""


@attrs.frozen
class Contest:
    """Who is judged.

    :param intended: what the candidate declares about this baseline
    """

    baseline: LoadedVariant
    candidate: LoadedVariant
    intended: tuple[IntendedDifference, ...]


@attrs.frozen
class Chunk:
    """Scenarios in the order of their family.

    :param family: its number
    :param seen: how many of the family's distinct scenarios the chunk stands for: its own, and those that were judged before
    :param search: of the schedules of scenarios with actors
    :param known: what runs have shown before, whose lines are therefore known
    """

    family: int
    scenarios: tuple[Scenario, ...]
    seen: int
    search: Search = EXHAUSTIVE
    known: frozenset[Sight] = frozenset()


@attrs.define
class Count:
    """How many scenarios show something, and which is the first, by index in the chunk."""

    count: int
    first: int


@attrs.define
class ChunkResult:
    """What a worker found.

    :param judged: pairs
    :param outside: scenarios outside of the contract
    :param different: the first scenario in which the variants differ; the chunk was judged no further
    :param refines: the first one in which the candidate can do less than the baseline
    :param findings: (check, sentence) to how often
    :param excused: index of the intended difference to how often
    :param sights: what runs have shown that was not known
    :param digest: of the transcript
    """

    judged: int = 0
    not_applicable: int = 0
    undetermined: int = 0
    outside: int = 0
    different: int | None = None
    refines: int | None = None
    findings: dict[tuple[str, str], Count] = attrs.field(factory=dict)
    excused: dict[int, Count] = attrs.field(factory=dict)
    codes: set[str] = attrs.field(factory=set)
    baseline_lines: set[Line] = attrs.field(factory=set)
    candidate_lines: set[Line] = attrs.field(factory=set)
    sights: set[Sight] = attrs.field(factory=set)
    digest: bytes = b""


def is_different(pair: Pair, intended: tuple[IntendedDifference, ...], *, refines: bool = False) -> bool:
    """Some observable differs, and nothing excuses it.

    :param refines: ask instead whether the candidate can only do less than the baseline
    """
    return bool(pair.differs) and pair.refines == refines and len(excuses(pair, intended)) < len(pair.differs)


def judge_chunk(contest: Contest, chunk: Chunk, skip: Skip, beat: Beat) -> ChunkResult:
    """Judge a chunk, up to the first difference."""
    judge = _ChunkJudge(contest, chunk)
    for index, s in enumerate(chunk.scenarios):
        if index in skip:
            continue
        beat(index)
        if judge.scenario(index, s):
            break
    judge.out.digest = judge.transcript.digest()
    return judge.out


class _ChunkJudge:
    def __init__(self, contest: Contest, chunk: Chunk) -> None:
        self.contest = contest
        self.search = chunk.search
        self.files = contest.baseline.files, contest.candidate.files
        self.out = ChunkResult()
        self.transcript = Transcript()
        self.known = set(chunk.known)

    def scenario(self, index: int, s: Scenario) -> bool:
        """Judge one; true for a difference. Whatever escapes a run makes the scenario undetermined."""
        try:
            pair = judge_pair(s, self.contest.baseline.variant, self.contest.candidate.variant, self.search, self.contest.intended)
            excused = excuses(pair, self.contest.intended) if pair.differs else {}
            if s.contract == "checked":
                self._reached(pair)
        except BaseException as error:
            self._find(index, UNDETERMINED, f"the run could not be observed: {type(error).__name__}")
            self.out.undetermined += 1
            return False
        if not pair.applicable:
            self.out.not_applicable += 1
        elif pair.lead:
            self._find(index, UNDETERMINED, "the search of the schedules ended before it could tell")
            self.out.undetermined += 1
        elif s.contract == "unchecked":
            self._outside(index, pair)
        else:
            return self._inside(index, pair, excused)
        return False

    def _reached(self, pair: Pair) -> None:
        a, b = pair.baseline, pair.candidate
        if a is None or b is None:
            return
        shown = {a, *pair.common, *((b,) if pair.differs else ())}
        seen = {each for o in shown for each in sights(pair.scenario, o)}
        if seen <= self.known:
            return
        self.out.sights |= seen - self.known
        self.known |= seen
        self.out.codes |= {code for o in shown for code in codes(o)}
        self.out.baseline_lines |= executed_lines(pair.scenario, self.contest.baseline.variant, self.files[0])
        self.out.candidate_lines |= executed_lines(pair.scenario, self.contest.candidate.variant, self.files[1])

    def _outside(self, index: int, pair: Pair) -> None:
        self.out.outside += 1
        what = f"the variants differ in {', '.join(pair.differs)}" if pair.differs else "the variants agree"
        self._find(index, CONTRACT, f"outside of the contract {what}")

    def _inside(self, index: int, pair: Pair, excused: dict[str, IntendedDifference]) -> bool:
        self.out.judged += 1
        self.transcript.pair(pair)
        for each in excused.values():
            _count(self.out.excused, self.contest.intended.index(each), index)
        for check, sentence in self._shared(pair):
            self._find(index, check, sentence)
        if pair.refines and self.out.refines is None:
            self.out.refines = index
        if pair.refines or len(excused) == len(pair.differs):
            return False
        self.out.different = index
        return True

    def _shared(self, pair: Pair) -> list[tuple[str, str]]:
        """What is wrong on both sides; beside actors, in some outcome that both can come to."""
        if pair.scenario.actors:
            return sorted({each for o in pair.common for each in shared(o, o)})
        return [] if pair.baseline is None or pair.candidate is None else shared(pair.baseline, pair.candidate)

    def _find(self, index: int, check: str, sentence: str) -> None:
        _count(self.out.findings, (check, sentence), index)


def _count(counts: dict[K, Count], key: K, index: int) -> None:
    found = counts.setdefault(key, Count(0, index))
    found.count += 1
