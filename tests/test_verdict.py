"""The verdict: relation, exit code, JSON form, certificate."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import jsonschema
import pytest

from kmm.judge.chunk import Chunk, ChunkResult, Contest, judge_chunk
from kmm.judge.coverage import CodeCoverage, LineCoverage, codes, line_coverage, lines_of_run, statements
from kmm.judge.findings import CONTRACT, Finding, generalised, shared
from kmm.judge.observe import Observation, observe
from kmm.judge.pool import Skip
from kmm.judge.unreachable import CODES, LINES
from kmm.judge.variants import LoadedVariant
from kmm.judge.verdict import (
    Counterexample,
    Coverage,
    Environment,
    Excused,
    Relation,
    Scope,
    Side,
    Verdict,
    exit_code,
    relate,
    schema,
    to_json,
)
from kmm.mm.khugepaged.types import ScanResult
from kmm.scenario.run import run
from refactors import v12
from tests.judging import REVIEWED, V12, small, variant

LINES_96 = LineCoverage(total=96, reached=94, unreachable=1, missed=("collapse_huge_page:99",))
KEYS = {
    *("schema", "relation", "exit_code", "baseline", "candidate", "scope", "scenarios", "coverage", "intended_differences"),
    *("findings", "counterexample", "seed", "certificate", "environment"),
}
FINDING = Finding(check="KASAN", sentence="f touches x of page N", count=3, scenario=small("aaaaaaaa"))
VERDICT = Verdict(
    relation=Relation.DIFFERENT,
    exit_code=2,
    baseline=Side(name="v12", sha256="0" * 64, origin="installed refactors.v12", path="/a/v12.py"),
    candidate=Side(name="mine", sha256="1" * 64, origin="./mine.py", path="/b/mine.py"),
    scope=(Scope(name="all", kind="exhaustive", set="every map of 8 letters", count=5),),
    scenarios=4,
    coverage=Coverage(
        baseline=LINES_96,
        candidate=LINES_96,
        codes=CodeCoverage(reached=("SCAN_FAIL",), unreachable=("SCAN_TRUNCATED",), missed=()),
        not_applicable=1,
        undetermined=0,
    ),
    intended_differences=(Excused(observable="trace", why="w", source="s", count=0, scenario=None),),
    findings=(FINDING,),
    counterexample=Counterexample(scenario=small("a......."), differs=("trace",), explanation="they part"),
    seed=7,
    environment=Environment(elapsed_s=1.23456, versions={"kmm": "0.1.0", "python": "3.11.7"}, jobs=2),
    interrupted=False,
    out_of_time=False,
    transcript=b"t" * 32,
)


@pytest.mark.parametrize(
    ("different", "determined", "judged", "kinds", "relation"),
    [
        (False, True, 9, ["exhaustive"], "equivalent"),
        (False, True, 9, ["exhaustive", "covering", "sampled"], "equivalent"),
        (False, True, 9, ["covering", "sampled"], "no-difference-found"),
        (False, True, 9, ["sampled"], "no-difference-found"),
        (True, True, 9, ["exhaustive"], "different"),
        (True, True, 9, ["sampled"], "different"),
        (True, False, 9, ["sampled"], "different"),
        (False, False, 9, ["exhaustive"], "undetermined"),
        (False, True, 0, [], "undetermined"),
    ],
)
def test_relation(different: bool, determined: bool, judged: int, kinds: list[str], relation: str) -> None:
    assert relate(different=different, determined=determined, judged=judged, kinds=kinds).value == relation


@pytest.mark.parametrize(
    ("relation", "expect", "interrupted", "code"),
    [
        ("equivalent", "equivalent", False, 0),
        ("equivalent", "refines", False, 0),
        ("no-difference-found", "equivalent", False, 0),
        ("no-difference-found", "refines", False, 0),
        ("refines", "refines", False, 0),
        ("refines", "equivalent", False, 2),
        ("different", "equivalent", False, 2),
        ("different", "refines", False, 2),
        ("undetermined", "equivalent", False, 3),
        ("undetermined", "refines", False, 3),
        ("different", "equivalent", True, 3),
    ],
)
def test_exit_code(relation: str, expect: str, interrupted: bool, code: int) -> None:
    assert exit_code(Relation(relation), expect=expect, interrupted=interrupted) == code


def test_json_form() -> None:
    form = to_json(VERDICT)
    assert set(form) == KEYS
    jsonschema.Draft202012Validator.check_schema(json.loads(schema()))
    jsonschema.validate(form, json.loads(schema()))
    assert json.loads(json.dumps(form)) == form
    assert form["environment"] == {
        "elapsed_s": 1.235,
        "versions": {"kmm": "0.1.0", "python": "3.11.7"},
        "jobs": 2,
        "interrupted": False,
        "out_of_time": False,
        "baseline": {"origin": "installed refactors.v12", "path": "/a/v12.py"},
        "candidate": {"origin": "./mine.py", "path": "/b/mine.py"},
    }
    bare = attrs.evolve(VERDICT, counterexample=None, findings=(), intended_differences=())
    jsonschema.validate(to_json(bare), json.loads(schema()))


@pytest.mark.parametrize("key", sorted(KEYS))
def test_the_schema_wants_every_key_and_no_other(key: str) -> None:
    form = to_json(VERDICT)
    for bad in ({k: v for k, v in form.items() if k != key}, {**form, f"{key}s": 1}, {**form, key: {"x": 1}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, json.loads(schema()))


EXAMPLE = VERDICT.counterexample
assert EXAMPLE is not None


@pytest.mark.parametrize(
    "same",
    [
        attrs.evolve(VERDICT, environment=Environment(elapsed_s=99.0, versions={"kmm": "0.1.0", "python": "3.13.0"}, jobs=1)),
        attrs.evolve(VERDICT, baseline=attrs.evolve(VERDICT.baseline, origin="elsewhere", path="/c/v12.py")),
        attrs.evolve(VERDICT, counterexample=attrs.evolve(EXAMPLE, file="/tmp/x.toml", explanation="at /b/mine.py:3")),
        attrs.evolve(VERDICT, findings=(*VERDICT.findings, attrs.evolve(FINDING, check=CONTRACT))),
    ],
)
def test_the_certificate_covers_no_environment(same: Verdict) -> None:
    assert same.certificate == VERDICT.certificate


@pytest.mark.parametrize(
    "other",
    [
        attrs.evolve(VERDICT, relation=Relation.EQUIVALENT),
        attrs.evolve(VERDICT, exit_code=0),
        attrs.evolve(VERDICT, baseline=attrs.evolve(VERDICT.baseline, sha256="2" * 64)),
        attrs.evolve(VERDICT, candidate=attrs.evolve(VERDICT.candidate, name="other")),
        attrs.evolve(VERDICT, scope=(attrs.evolve(VERDICT.scope[0], count=6),)),
        attrs.evolve(VERDICT, scenarios=5),
        attrs.evolve(VERDICT, coverage=attrs.evolve(VERDICT.coverage, not_applicable=0)),
        attrs.evolve(VERDICT, intended_differences=()),
        attrs.evolve(VERDICT, findings=()),
        attrs.evolve(VERDICT, counterexample=None),
        attrs.evolve(VERDICT, counterexample=attrs.evolve(EXAMPLE, scenario=small("aa......"))),
        attrs.evolve(VERDICT, seed=8),
        attrs.evolve(VERDICT, transcript=b"u" * 32),
    ],
)
def test_the_certificate_covers_everything_else(other: Verdict) -> None:
    assert other.certificate != VERDICT.certificate


def transcript(candidate: LoadedVariant, *pages: str) -> ChunkResult:
    chunk = Chunk(0, tuple(small(each) for each in pages), len(pages))
    return judge_chunk(Contest(V12, candidate, ()), chunk, Skip(), lambda position: None)


def test_the_transcript_covers_scenarios_and_observations(tmp_path: Path) -> None:
    base = transcript(V12, "aaaaaaaa", "pppppppp").digest
    assert transcript(V12, "aaaaaaaa", "pppppppp").digest == base
    assert transcript(V12, "pppppppp", "aaaaaaaa").digest != base
    assert transcript(V12, "aaaaaaaa").digest != base
    assert transcript(V12, "aaaaaaaa", "xxxxxxxx").digest != base
    same = variant(tmp_path / "same.py", "pass")
    assert transcript(same, "aaaaaaaa", "pppppppp").digest == base


def observation(pages: str, candidate: LoadedVariant = V12) -> Observation:
    return observe(run(small(pages), candidate.variant))


def test_findings_are_what_both_sides_show(tmp_path: Path) -> None:
    report = 'from kmm.kernel import current\ncurrent.machine.report("TLB", f"page {order} of table1")'
    good, bad = observation("aaaa...."), observation("aaaa....", variant(tmp_path / "m.py", report))
    assert shared(good, good) == shared(good, bad) == shared(bad, good) == []
    assert shared(bad, bad) == [("TLB", "page N of table1")]


def test_a_shared_crash_is_a_finding(tmp_path: Path) -> None:
    crash = observation("aaaaaaaa", variant(tmp_path / "m.py", "raise KeyError(12)"))
    assert shared(crash, crash) == [("OUTCOME", "KeyError in changed:N: N")]
    assert shared(crash, observation("aaaaaaaa")) == []


def test_generalised() -> None:
    assert generalised("page 12 of mm1 reads contents 3, CPU 1") == "page N of mm1 reads contents N, CPU N"


SOURCE = '''
X = 1

def f(a):
    """Not executable."""
    b: int
    if (
        a
    ):
        return g(
            a,
        )
    try:
        with a as c:
            pass
    except KeyError:
        c = 2
    def g(): return 3
    return g()

class C:
    y = 1
    def h(self):
        global X
        X = 2
'''


def test_statements_are_the_same_on_every_python() -> None:
    found = [(each.first, each.last, each.function, each.inside) for each in statements(SOURCE)]
    assert found == [
        (7, 9, "f", ()),
        (10, 12, "f", (7,)),
        (14, 14, "f", ()),
        (15, 15, "f", (14,)),
        (17, 17, "f", ()),
        (18, 18, "f", ()),
        (18, 18, "g", ()),
        (19, 19, "f", ()),
        (25, 25, "h", ()),
    ]


def test_lines_of_a_run() -> None:
    source = Path(v12.__file__).read_text().split("\n")
    hit = {line for _, line in lines_of_run(small("aaaa....", 2), V12.variant, V12.files)}
    text = {source[line - 1].strip() for line in hit}
    assert "smp_wmb()" in text
    assert "pgtable_trans_huge_deposit(mm, pmd, pgtable)" not in text
    assert lines_of_run(small("........"), V12.variant, V12.files) == set()


def test_line_coverage_counts_what_is_proved() -> None:
    source = REVIEWED.read_text()
    proved = next(i for i, line in enumerate(source.split("\n"), 1) if line.strip() == LINES[0].text)
    every = {each.first for each in statements(source)}
    texts = {"r.py": source}
    none = line_coverage(texts, ())
    assert (none.total, none.reached, none.unreachable, len(none.missed)) == (len(every), 0, 1, len(every) - 1)
    other = line_coverage({"r.py": source.replace("smp_wmb()\n", "pass\n").replace("goto(out_nolock)", "goto(out_nolock); pass")}, ())
    assert (other.unreachable, len(other.missed)) == (0, len(every)), "the proof is about another function"
    copy = line_coverage({"mine.py": source.replace("    # out_nolock:\n", "")}, ())
    assert (copy.unreachable, len(copy.missed)) == (1, len(every) - 1)
    reached = line_coverage(texts, {("r.py", proved), ("other.py", 9)})
    assert reached.unreachable == 0
    assert reached.reached >= 1


def test_codes_of_an_observation() -> None:
    assert codes(observation("aaaapaaa")) == {"SCAN_PAGE_COUNT"}
    swapped = observe(run(small("waaaaaaa", 2), V12.variant))
    assert codes(swapped) == {"SCAN_SUCCEED", "SCAN_EXCEED_SWAP_PTE"}


def test_every_unreachable_code_exists_and_is_proved() -> None:
    assert {each.name for each in CODES} <= set(ScanResult.__members__)
    assert all(len(each.proof) > 20 for each in (*CODES, *LINES))
