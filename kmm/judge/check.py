"""Judge a candidate against a baseline over families of scenarios."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from importlib import metadata
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from kmm.judge.certificate import Transcript
from kmm.judge.chunk import CHUNK_WEIGHT, Chunk, ChunkResult, Contest, judge_chunk
from kmm.judge.counterexample import counterexample
from kmm.judge.coverage import Line, Sight, code_coverage, line_coverage, sources
from kmm.judge.elsewhere import Elsewhere
from kmm.judge.findings import UNDETERMINED, Finding, generalised
from kmm.judge.pool import LOOKAHEAD, MAX_LOST, STALL_S, Beat, Done, OutOfTime, Skip, in_order
from kmm.judge.variants import LoadedVariant
from kmm.judge.verdict import LEFT_OUT, Counterexample, Coverage, Environment, Excused, Scope, Side, Verdict, exit_code, relate
from kmm.scenario.model import Scenario
from kmm.scenario.search import Search

if TYPE_CHECKING:
    from kmm.scenario.families import Family

EXECUTIONS: Final = 50
"""How much more than one run a scenario with actors weighs."""
Progress: TypeAlias = Callable[[str, int], None]
"""Called with the name of the family and the number of pairs judged so far, now and then."""


def check(
    baseline: LoadedVariant,
    candidate: LoadedVariant,
    families: Sequence[Family],
    *,
    seed: int,
    budget_s: float | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
    expect: str = "equivalent",
    stall_s: float = STALL_S,
) -> Verdict:
    """Judge every scenario of the families, each once, up to the first difference, which is then minimised and explained.

    An interrupt (KeyboardInterrupt) ends the scope; the verdict says what was known by then.

    A declared difference is about what a visit finds, and visits are watched in this tree only: families with steps are left out for a
    candidate of another one that declares any, or against a baseline of another one.

    :param seed: that the families were made with
    :param budget_s: seconds for the judging; ``None``: no limit
    :param jobs: worker processes; default, and at most, one a CPU
    :param expect: ``equivalent`` or ``refines``
    :param stall_s: seconds after which a run that makes no step is given up
    """
    started = time.monotonic()
    cpus = os.cpu_count() or 1
    workers = max(1, min(jobs or cpus, cpus))
    contest = Contest(baseline, candidate, candidate.declared(baseline))
    elsewhere = isinstance(baseline.variant, Elsewhere) or isinstance(candidate.variant, Elsewhere)
    left_out = [family for family in families if contest.intended and family.steps and elsewhere]
    tally = Tally(contest, [family for family in families if family not in left_out], left_out)
    out_of_time = interrupted = False
    example = None
    deadline = None if budget_s is None else started + budget_s
    try:
        _judge(tally, workers, deadline, progress, stall_s)
    except OutOfTime:
        out_of_time = True
    except KeyboardInterrupt:
        interrupted = True
    try:
        if tally.different is not None:
            example = counterexample(contest, *tally.different, stall_s)
        elif tally.refines is not None:
            example = counterexample(contest, *tally.refines, stall_s, refines=True)
    except KeyboardInterrupt:
        interrupted = True
    environment = Environment(elapsed_s=time.monotonic() - started, versions=_versions(), jobs=workers)
    determined = not (tally.undetermined or tally.gave_up or out_of_time or interrupted)
    return tally.verdict(
        determined=determined,
        example=example,
        seed=seed,
        expect=expect,
        environment=environment,
        interrupted=interrupted,
        out_of_time=out_of_time,
    )


def _judge(tally: Tally, jobs: int, deadline: float | None, progress: Progress | None, stall_s: float) -> None:
    def work(chunk: Chunk, skip: Skip, beat: Beat) -> ChunkResult:
        return judge_chunk(tally.contest, chunk, skip, beat)

    tasks = tally.informed(chunks(tally.families))
    with closing(in_order(tasks, work, jobs=jobs, deadline=deadline, stall_s=stall_s)) as finished:
        for done in finished:
            tally.add(done)
            if progress is not None:
                progress(tally.families[done.task.family].name, tally.judged)
            if tally.different is not None or tally.gave_up:
                return


def chunks(families: Sequence[Family]) -> Iterator[Chunk]:
    """Cut the families into chunks of about equal work; a scenario that stood in one before is left out."""
    everywhere: set[int] = set()
    for number, family in enumerate(families):
        here: set[int] = set()
        scenarios: list[Scenario] = []
        weight = seen = 0
        for s in family.scenarios():
            identity = hash(s)
            if identity in here:
                continue
            here.add(identity)
            seen += 1
            if identity in everywhere:
                continue
            everywhere.add(identity)
            scenarios.append(s)
            weight += (s.geometry.pages * (1 + len(s.steps)) + 8) * (EXECUTIONS if s.actors else 1)
            if weight >= CHUNK_WEIGHT:
                yield Chunk(number, tuple(scenarios), seen, family.search)
                scenarios.clear()
                weight = seen = 0
        if seen:
            yield Chunk(number, tuple(scenarios), seen, family.search)


class Tally:
    """What is known so far. Chunks are added in their order, so it does not depend on who judged them."""

    def __init__(self, contest: Contest, families: Sequence[Family], left_out: Sequence[Family] = ()) -> None:
        self.contest = contest
        self.families = families
        self.left_out = left_out
        self.counts = [0] * len(families)
        self.judged = 0
        self.not_applicable = 0
        self.undetermined = 0
        self.gave_up = False
        self.different: tuple[Scenario, Search] | None = None
        self.refines: tuple[Scenario, Search] | None = None
        self.findings: dict[tuple[str, str], Finding] = {}
        self.excused: dict[int, tuple[int, Scenario]] = {}
        self.codes: set[str] = set()
        self.lines: tuple[set[Line], set[Line]] = (set(), set())
        self.sights: list[frozenset[Sight]] = [frozenset()]
        """What runs had shown by the end of each chunk, before the first one nothing."""
        self.texts = sources(contest.baseline), sources(contest.candidate)
        self.transcript = Transcript()

    def informed(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """The chunks, each with what runs had shown by the end of the last one that has always been added when it begins."""
        for number, chunk in enumerate(chunks):
            yield attrs.evolve(chunk, known=self.sights[max(0, number + 1 - LOOKAHEAD)])

    def add(self, done: Done[Chunk, ChunkResult]) -> None:
        """Add the next chunk."""
        chunk, result = done.task, done.value
        self.sights.append(self.sights[-1] | result.sights if result.sights else self.sights[-1])
        complete = result.different is None and len(done.lost) < MAX_LOST
        self.counts[chunk.family] += chunk.seen - result.outside if complete else result.judged
        self.judged += result.judged
        self.not_applicable += result.not_applicable
        self.undetermined += result.undetermined + len(done.lost)
        self.gave_up = len(done.lost) >= MAX_LOST
        self.codes |= result.codes
        self.lines[0].update(result.baseline_lines)
        self.lines[1].update(result.candidate_lines)
        self.transcript.part(result.digest)
        for key, found in sorted(result.findings.items()):
            self._find(*key, found.count, chunk.scenarios[found.first])
        for lost in done.lost:
            self._find(UNDETERMINED, generalised(f"the worker {lost.reason}"), 1, chunk.scenarios[lost.at])
        for number, found in sorted(result.excused.items()):
            count, first = self.excused.get(number, (0, chunk.scenarios[found.first]))
            self.excused[number] = count + found.count, first
        if result.refines is not None and self.refines is None:
            self.refines = chunk.scenarios[result.refines], chunk.search
        if result.different is not None:
            self.different = chunk.scenarios[result.different], chunk.search

    def _find(self, name: str, sentence: str, count: int, first: Scenario) -> None:
        before = self.findings.get((name, sentence))
        if before is None:
            self.findings[name, sentence] = Finding(check=name, sentence=sentence, count=count, scenario=first)
        else:
            self.findings[name, sentence] = attrs.evolve(before, count=before.count + count)

    def verdict(
        self,
        *,
        determined: bool,
        example: Counterexample | None,
        seed: int,
        expect: str,
        environment: Environment,
        interrupted: bool,
        out_of_time: bool,
    ) -> Verdict:
        """The conclusion."""
        kinds = [family.kind for family, count in zip(self.families, self.counts, strict=True) if count]
        relation = relate(
            different=self.different is not None, refines=self.refines is not None, determined=determined, judged=self.judged, kinds=kinds
        )
        if example is None and self.different is not None:
            example = Counterexample(scenario=self.different[0], differs=(), explanation="interrupted before it was minimised")
        return Verdict(
            relation=relation,
            exit_code=exit_code(relation, expect=expect, interrupted=interrupted),
            baseline=_side(self.contest.baseline),
            candidate=_side(self.contest.candidate),
            scope=(
                *(
                    Scope(name=f.name, kind=f.kind, set=f.set if count else "", count=count)
                    for f, count in zip(self.families, self.counts, strict=True)
                ),
                *(Scope(name=f.name, kind=LEFT_OUT, set=f.set, count=0) for f in self.left_out),
            ),
            scenarios=self.judged,
            coverage=self._coverage(),
            intended_differences=tuple(self._excused()),
            findings=tuple(sorted(self.findings.values(), key=lambda each: (each.check, each.sentence))),
            counterexample=example,
            seed=seed,
            environment=environment,
            interrupted=interrupted,
            out_of_time=out_of_time,
            transcript=self.transcript.digest(),
        )

    def _coverage(self) -> Coverage:
        return Coverage(
            baseline=line_coverage(self.texts[0], self.lines[0]),
            candidate=line_coverage(self.texts[1], self.lines[1]),
            codes=code_coverage(self.codes),
            not_applicable=self.not_applicable,
            undetermined=self.undetermined,
        )

    def _excused(self) -> Iterator[Excused]:
        for number, each in enumerate(self.contest.intended):
            count, first = self.excused.get(number, (0, None))
            yield Excused(observable=each.observable, why=each.why, source=each.source, count=count, scenario=first)


def _side(loaded: LoadedVariant) -> Side:
    return Side(name=loaded.variant.name, sha256=loaded.sha256, origin=loaded.origin, path=str(loaded.path))


def _versions() -> dict[str, str]:
    try:
        own = metadata.version("kmm-sandbox")
    except metadata.PackageNotFoundError:
        own = "unknown"
    return {"kmm": own, "python": platform.python_version()}
