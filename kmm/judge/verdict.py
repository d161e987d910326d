"""The verdict: what the judge concluded, from what, and how sure it is."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Final

import attrs

from kmm.judge.certificate import certificate
from kmm.judge.coverage import CodeCoverage, LineCoverage
from kmm.judge.findings import CONTRACT, Finding
from kmm.scenario.model import Scenario
from kmm.scenario.recorded import Recorded
from kmm.scenario.toml import ScenarioFile, render, render_file

SCHEMA: Final = 1
EXPECTATIONS: Final = ("equivalent", "refines")
LEFT_OUT: Final = "left out"


class Relation(enum.Enum):
    """What holds between the observations of candidate and baseline."""

    EQUIVALENT = "equivalent"
    REFINES = "refines"
    DIFFERENT = "different"
    NO_DIFFERENCE_FOUND = "no-difference-found"
    UNDETERMINED = "undetermined"


@attrs.frozen(kw_only=True)
class Side:
    """One of the two variants.

    :param sha256: of its source
    :param origin: for people; a path may stand in it
    :param path: the source
    """

    name: str
    sha256: str
    origin: str
    path: str


@attrs.frozen(kw_only=True)
class Scope:
    """One family, as far as it was judged.

    :param kind: ``exhaustive``, ``covering``, ``sampled`` or ``left out``
    :param set: the set in one sentence; empty when none of it was judged
    :param count: distinct scenarios; one that an earlier family has too counts in both
    """

    name: str
    kind: str
    set: str
    count: int


@attrs.frozen(kw_only=True)
class Coverage:
    """What was reached.

    :param not_applicable: scenarios outside of what both variants do
    :param undetermined: scenarios that gave no answer
    """

    baseline: LineCoverage
    candidate: LineCoverage
    codes: CodeCoverage
    not_applicable: int
    undetermined: int


@attrs.frozen(kw_only=True)
class Excused:
    """An intended difference.

    :param count: scenarios that show it
    :param scenario: the first of them; ``None``: none does
    """

    observable: str
    why: str
    source: str
    count: int
    scenario: Scenario | None


@attrs.frozen(kw_only=True)
class Counterexample:
    """A scenario in which the variants differ.

    :param differs: names of the observables that differ
    :param explanation: where the two runs part
    :param file: where it was written; ``None``: nowhere yet
    :param schedule: beside actors: leads one variant where the other never comes
    """

    scenario: Scenario
    differs: tuple[str, ...]
    explanation: str
    file: str | None = None
    schedule: Recorded | None = None


@attrs.frozen(kw_only=True)
class Environment:
    """What a verdict does not depend on.

    :param elapsed_s: seconds
    :param versions: of the tool, of Python
    :param jobs: worker processes
    """

    elapsed_s: float
    versions: Mapping[str, str]
    jobs: int


@attrs.frozen(kw_only=True)
class Verdict:
    """The outcome of a check.

    :param scenarios: distinct pairs judged
    :param interrupted: by the user; the rest is what was known then
    :param out_of_time: the budget of seconds ended the scope
    :param transcript: digest of every pair judged
    """

    relation: Relation
    exit_code: int
    baseline: Side
    candidate: Side
    scope: tuple[Scope, ...]
    scenarios: int
    coverage: Coverage
    intended_differences: tuple[Excused, ...]
    findings: tuple[Finding, ...]
    counterexample: Counterexample | None
    seed: int
    environment: Environment
    interrupted: bool
    out_of_time: bool
    transcript: bytes

    @property
    def certificate(self) -> str:
        """Hash of the verdict, in hexadecimal; covers neither time nor paths nor versions."""
        body = _body(self)
        body["findings"] = [_finding(each) for each in self.findings if each.check != CONTRACT]
        return certificate(body, self.transcript)


def relate(*, different: bool, determined: bool, judged: int, kinds: Sequence[str], refines: bool = False) -> Relation:
    """The relation of two variants.

    :param different: some scenario shows a difference that nothing excuses
    :param refines: in some scenario the candidate can do less than the baseline
    :param determined: every scenario of the promised scope gave an answer
    :param judged: pairs
    :param kinds: of the families that were judged
    """
    if different:
        return Relation.DIFFERENT
    if not determined or not judged:
        return Relation.UNDETERMINED
    if refines:
        return Relation.REFINES
    return Relation.EQUIVALENT if "exhaustive" in kinds else Relation.NO_DIFFERENCE_FOUND


def exit_code(relation: Relation, *, expect: str = "equivalent", interrupted: bool = False) -> int:
    """0 the same, 2 different or not as expected, 3 undetermined or interrupted.

    :param expect: ``equivalent`` or ``refines``
    """
    if interrupted or relation is Relation.UNDETERMINED:
        return 3
    if relation is Relation.REFINES:
        return 0 if expect == "refines" else 2
    return 2 if relation is Relation.DIFFERENT else 0


def to_json(verdict: Verdict) -> dict[str, object]:
    """The verdict as in :func:`schema`."""
    return {**_body(verdict), "certificate": verdict.certificate, "environment": _environment(verdict)}


def schema() -> str:
    """The JSON Schema of a verdict."""
    return resources.files("kmm.judge").joinpath("verdict.schema.json").read_text(encoding="utf-8")


def _body(verdict: Verdict) -> dict[str, object]:
    example = verdict.counterexample
    return {
        "schema": SCHEMA,
        "relation": verdict.relation.value,
        "exit_code": verdict.exit_code,
        "baseline": {"name": verdict.baseline.name, "sha256": verdict.baseline.sha256},
        "candidate": {"name": verdict.candidate.name, "sha256": verdict.candidate.sha256},
        "scope": [attrs.asdict(each) for each in verdict.scope],
        "scenarios": verdict.scenarios,
        "coverage": _coverage(verdict.coverage),
        "intended_differences": [_excused(each) for each in verdict.intended_differences],
        "findings": [_finding(each) for each in verdict.findings],
        "counterexample": None if example is None else _counterexample(example),
        "seed": verdict.seed,
    }


def _coverage(coverage: Coverage) -> dict[str, object]:
    return {
        "baseline": _lines(coverage.baseline),
        "candidate": _lines(coverage.candidate),
        "codes": {key: list(value) for key, value in attrs.asdict(coverage.codes).items()},
        "not_applicable": coverage.not_applicable,
        "undetermined": coverage.undetermined,
    }


def _lines(lines: LineCoverage) -> dict[str, object]:
    return {"total": lines.total, "reached": lines.reached, "unreachable": lines.unreachable, "missed": list(lines.missed)}


def _excused(each: Excused) -> dict[str, object]:
    return {
        "observable": each.observable,
        "why": each.why,
        "source": each.source,
        "count": each.count,
        "scenario": None if each.scenario is None else render(each.scenario),
    }


def _finding(each: Finding) -> dict[str, object]:
    return {"check": each.check, "sentence": each.sentence, "count": each.count, "scenario": render(each.scenario)}


def _counterexample(each: Counterexample) -> dict[str, object]:
    file = ScenarioFile(each.scenario, {}, each.schedule)
    return {"file": each.file, "explanation": each.explanation, "scenario": render_file(file)}


def _environment(verdict: Verdict) -> dict[str, object]:
    return {
        "elapsed_s": round(verdict.environment.elapsed_s, 3),
        "versions": dict(verdict.environment.versions),
        "jobs": verdict.environment.jobs,
        "interrupted": verdict.interrupted,
        "out_of_time": verdict.out_of_time,
        "baseline": {"origin": verdict.baseline.origin, "path": verdict.baseline.path},
        "candidate": {"origin": verdict.candidate.origin, "path": verdict.candidate.path},
    }
