"""``check``: whole judgements, with variants that misbehave in every way."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import jsonschema
import pytest

from kmm.judge.check import check, chunks
from kmm.judge.chunk import CHUNK_WEIGHT, Chunk, Contest, judge_chunk
from kmm.judge.counterexample import KEEPS_STATE
from kmm.judge.pair import judge_pair
from kmm.judge.pool import MAX_LOST, Skip
from kmm.judge.variants import LoadedVariant, load_variant
from kmm.judge.verdict import Relation, Verdict, schema, to_json
from kmm.scenario.families import Family
from kmm.scenario.model import Driver, DriverKind, Event, Scenario
from tests.judging import ROOT, V12, family, mutant, small, variant

LETTERS = "pka.w"
TRACE = '    current.machine.trace("mm_collapse_huge_page", mm, result == ScanResult.SCAN_SUCCEED, result, order)\n'


def maps() -> Iterator[Scenario]:
    """625 maps: several chunks."""
    for letters in itertools.product(LETTERS, repeat=4):
        yield small("".join(letters) + "aaaa")


ALL = Family("maps", "exhaustive", "every map of 4 letters and aaaa", maps)
REVIEWED = load_variant(str(ROOT / "refactors" / "reviewed.py"))
PINNED = small("aaaapaaa")


def judge(candidate: LoadedVariant, *families: Family, jobs: int | None = None, stall_s: float = 10.0) -> Verdict:
    verdict = check(V12, candidate, families, seed=0, jobs=jobs, stall_s=stall_s)
    jsonschema.validate(to_json(verdict), json.loads(schema()))
    return verdict


def found(verdict: Verdict, name: str) -> list[tuple[str, int]]:
    return [(each.sentence, each.count) for each in verdict.findings if each.check == name]


def test_equivalent() -> None:
    verdict = judge(REVIEWED, ALL)
    assert (verdict.relation, verdict.exit_code) == (Relation.EQUIVALENT, 0)
    assert verdict.scenarios == 625
    assert [(each.name, each.kind, each.count) for each in verdict.scope] == [("maps", "exhaustive", 625)]
    assert verdict.counterexample is None
    assert {"SCAN_SUCCEED", "SCAN_PAGE_COUNT", "SCAN_PAGE_LOCK"} <= set(verdict.coverage.codes.reached)
    assert verdict.coverage.baseline.reached > 60


def test_only_sampled_families_find_no_difference() -> None:
    assert judge(REVIEWED, family(PINNED, kind="sampled")).relation is Relation.NO_DIFFERENCE_FOUND


def test_nothing_judged_is_undetermined() -> None:
    verdict = judge(REVIEWED, family())
    assert (verdict.relation, verdict.exit_code, verdict.scenarios) == (Relation.UNDETERMINED, 3, 0)


def test_every_scenario_is_judged_once() -> None:
    a, b, c = small("aaaaaaaa"), small("a......."), small("pppppppp")
    named = attrs.evolve(a, name="other", remark="same")
    verdict = judge(REVIEWED, family(a, b, named, a), family(c, b, name="second"), family(a, b, name="third"))
    assert verdict.scenarios == 3
    assert [each.count for each in verdict.scope] == [2, 2, 2]


def test_chunks_are_of_about_equal_work() -> None:
    cut = list(chunks([ALL, family(small("aaaaaaaa"), small("a.......", 3), name="second")]))
    assert [each.family for each in cut] == [0, 0, 1]
    assert [len(each.scenarios) for each in cut] == [CHUNK_WEIGHT // 16, 625 - CHUNK_WEIGHT // 16, 1]
    assert [each.seen for each in cut] == [CHUNK_WEIGHT // 16, 625 - CHUNK_WEIGHT // 16, 2]


def test_what_has_been_shown_before_is_not_traced_again() -> None:
    contest, once = Contest(V12, V12, ()), Chunk(0, (small("aaaaaaaa"), small("pppppppp")), 2)
    first = judge_chunk(contest, once, Skip(), lambda _: None)
    again = judge_chunk(contest, attrs.evolve(once, known=frozenset(first.sights)), Skip(), lambda _: None)
    assert first.sights
    assert first.baseline_lines
    assert (again.digest, again.sights, again.baseline_lines, again.codes) == (first.digest, set(), set(), set())


def test_what_is_known_does_not_depend_on_the_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = judge(REVIEWED, ALL).coverage
    monkeypatch.setattr("kmm.judge.check.CHUNK_WEIGHT", 160)
    for module in ("check", "pool"):
        monkeypatch.setattr(f"kmm.judge.{module}.LOOKAHEAD", 3)
    some = [check(V12, REVIEWED, [ALL], seed=0, jobs=jobs) for jobs in (1, 2)]
    assert some[0].certificate == some[1].certificate
    assert some[0].coverage == usual


BUGS = {
    "no trace event": (TRACE, ""),
    "swap-in skipped": ("        if params.unmapped:\n", "        if False and params.unmapped:\n"),
    "flag left set": ("    # R22: nobody relies on the label to clear the flag.\n", "    mmap_locked.value = True\n"),
    "smaller orders lose the dirty bit": ("maybe_mkwrite(pte_mkdirty(mk_pte(", "maybe_mkwrite((mk_pte("),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_seeded_bug_is_found_minimised_and_explained(tmp_path: Path, bug: str) -> None:
    candidate = mutant(tmp_path / "bug.py", *BUGS[bug])
    wider = Family("orders", "exhaustive", "the same with order 2 only", lambda: (small(s.vmas[0].pages, 2) for s in maps()))
    verdict = judge(candidate, ALL, wider)
    assert (verdict.relation, verdict.exit_code) == (Relation.DIFFERENT, 2)
    example = verdict.counterexample
    assert example is not None
    pair = judge_pair(example.scenario, V12.variant, candidate.variant)
    assert pair.differs == example.differs != ()
    assert "v12.py:" in example.explanation or "bug.py:" in example.explanation
    assert example.file is None


@pytest.mark.parametrize("bug", BUGS)
def test_the_number_of_workers_does_not_show(tmp_path: Path, bug: str) -> None:
    candidate = mutant(tmp_path / "bug.py", *BUGS[bug])
    one, two = judge(candidate, ALL, jobs=1), judge(candidate, ALL, jobs=2)
    assert {**to_json(one), "environment": None} == {**to_json(two), "environment": None}


def test_the_first_difference_is_the_earliest(tmp_path: Path) -> None:
    """It is late in the first of two chunks, of which the second is shorter and has a difference too."""
    candidate = variant(tmp_path / "m.py", "if unmapped and referenced == 4:\n    raise KeyError('four')")
    scenarios = list(maps())
    first, *_, last = (i for i, s in enumerate(scenarios) if judge_pair(s, V12.variant, candidate.variant).differs)
    assert 400 < first < CHUNK_WEIGHT // 16 < last
    verdicts = [judge(candidate, ALL, jobs=jobs) for jobs in (1, 2)]
    assert [each.scenarios for each in verdicts] == [first + 1] * 2


def test_a_file_of_another_name_has_the_same_certificate(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    one = mutant(tmp_path / "one.py", *BUGS["no trace event"])
    two = mutant(tmp_path / "elsewhere" / "two.py", *BUGS["no trace event"])
    assert judge(one, ALL).certificate == judge(two, ALL).certificate


@pytest.mark.parametrize("hashseed", ["0", "1"])
def test_the_hash_seed_does_not_show(hashseed: str) -> None:
    code = "from tests.test_check import *\nprint(judge(REVIEWED, ALL).certificate)"
    environment = {**os.environ, "PYTHONHASHSEED": hashseed}
    out = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert out.strip() == judge(REVIEWED, ALL).certificate


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("while True:\n    pass", "the worker made no step for N s"),
        ("time.sleep(600)", "the worker made no step for N s"),
        ("os._exit(0)", "the worker ended the process with code N"),
        ("os.abort()", "the worker was killed by signal N"),
        ("raise KeyboardInterrupt", "the run could not be observed: KeyboardInterrupt"),
    ],
)
def test_a_run_that_gives_no_answer_is_undetermined_and_the_judge_goes_on(tmp_path: Path, body: str, sentence: str) -> None:
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    candidate = variant(tmp_path / "m.py", f"if unmapped == 1:\n{lines}")
    loses, good = small("waaaaaaa", 3), small("aaaaaaaa")
    verdict = judge(candidate, family(good, loses, PINNED), stall_s=1.0)
    assert (verdict.relation, verdict.exit_code) == (Relation.UNDETERMINED, 3)
    assert (verdict.scenarios, verdict.coverage.undetermined) == (2, 1)
    assert found(verdict, "UNDETERMINED") == [(sentence, 1)]
    assert [each.scenario for each in verdict.findings] == [loses]


def test_a_variant_that_always_ends_the_process_is_given_up(tmp_path: Path) -> None:
    verdict = judge(variant(tmp_path / "m.py", "os._exit(1)"), ALL)
    assert verdict.relation is Relation.UNDETERMINED
    assert verdict.coverage.undetermined == MAX_LOST


def test_a_difference_is_found_beside_runs_that_hang(tmp_path: Path) -> None:
    candidate = variant(tmp_path / "m.py", "while unmapped and order == 3:\n    pass\nif unmapped:\n    raise KeyError('one')")
    verdict = judge(candidate, family(small("waaaaaaa", 3), small("awaaaaaa"), small("waaaaaaa", 2)), stall_s=0.5)
    assert verdict.relation is Relation.DIFFERENT
    assert verdict.coverage.undetermined == 2
    assert verdict.counterexample is not None
    assert verdict.counterexample.scenario.vmas[0].pages.count("w") == 1


@pytest.mark.parametrize("body", ["sys.exit(0)", "raise MemoryError", "def f(): f()\nf()", "1 // 0"])
def test_a_crash_is_a_difference(tmp_path: Path, body: str) -> None:
    verdict = judge(variant(tmp_path / "m.py", body), family(PINNED, small("aaaaaaaa")))
    assert verdict.relation is Relation.DIFFERENT
    assert verdict.counterexample is not None
    assert "outcome" in verdict.counterexample.differs


def test_what_a_variant_prints_does_not_show(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    candidate = variant(tmp_path / "m.py", "print('hello')\nos.write(1, b'hello')\nprint('hello', file=sys.stderr)")
    assert judge(candidate, family(small("aaaaaaaa"))).relation is Relation.EQUIVALENT
    assert capfd.readouterr() == ("", "")


def test_state_that_outlives_a_run_is_named(tmp_path: Path) -> None:
    candidate = variant(tmp_path / "m.py", "runs.append(1)\nif len(runs) > 2:\n    raise KeyError('third')")
    candidate.path.write_text("runs = []\n" + candidate.path.read_text())
    verdict = judge(load_variant(str(candidate.path)), family(small("aaaaaaaa", 2), small("aaaaaaaa", 3), PINNED, small("aaaaaaaa")))
    assert verdict.relation is Relation.DIFFERENT
    assert verdict.counterexample is not None
    assert verdict.counterexample.explanation == KEEPS_STATE


def test_out_of_scope_is_counted_apart(tmp_path: Path) -> None:
    candidate = variant(tmp_path / "m.py", "if order == 2:\n    raise NotApplicable")
    verdict = judge(candidate, family(small("aaaaaaaa", 2), small("aaaaaaaa", 3)))
    assert verdict.relation is Relation.EQUIVALENT
    assert (verdict.scenarios, verdict.coverage.not_applicable) == (1, 1)
    assert judge(candidate, family(small("aaaaaaaa", 2))).relation is Relation.UNDETERMINED


def test_outside_of_the_contract(tmp_path: Path) -> None:
    driver = Driver(kind=DriverKind.DIRECT, order=2, offset=1)
    aligned = small("aaaaaaaa", driver=attrs.evolve(driver, offset=0))
    unaligned = attrs.evolve(aligned, driver=driver, contract="unchecked")
    verdict = judge(REVIEWED, family(aligned, unaligned))
    assert verdict.relation is Relation.EQUIVALENT
    assert (verdict.scenarios, verdict.scope[0].count) == (1, 1)
    ((sentence, count),) = found(verdict, "CONTRACT")
    assert (sentence.startswith("outside of the contract the variants differ in "), count) == (True, 1)
    assert verdict.certificate == judge(REVIEWED, family(aligned)).certificate


def declares(path: Path, *observables: str) -> LoadedVariant:
    bug = mutant(path, *BUGS["no trace event"])
    each = ", ".join(f"IntendedDifference(observable={o!r}, predicate=lambda s: True, why='w', source='s')" for o in observables)
    text = bug.path.read_text() + f"\nfrom kmm.mm.intended import IntendedDifference\n\nINTENDED = {{'v12': ({each},)}}\n"
    bug.path.write_text(text)
    return load_variant(str(path))


def test_an_intended_difference_is_excused_and_counted(tmp_path: Path) -> None:
    holes, full = small("........"), small("aaaaaaaa")
    verdict = judge(declares(tmp_path / "m.py", "trace", "swap"), family(holes, full))
    assert verdict.relation is Relation.EQUIVALENT
    assert [(each.observable, each.count, each.scenario) for each in verdict.intended_differences] == [
        ("trace", 1, full),
        ("swap", 0, None),
    ]


def test_an_intended_difference_excuses_nothing_else(tmp_path: Path) -> None:
    assert judge(declares(tmp_path / "m.py", "swap"), family(small("aaaaaaaa"))).relation is Relation.DIFFERENT


def test_findings_that_both_share_do_not_change_the_relation(tmp_path: Path) -> None:
    crash = variant(tmp_path / "m.py", "raise KeyError('x')")
    verdict = check(crash, crash, [family(small("aaaaaaaa"), small("aaaaaaaa", 2), small("........"))], seed=0)
    assert (verdict.relation, verdict.exit_code) == (Relation.EQUIVALENT, 0)
    assert len(found(verdict, "OUTCOME")) == 1
    assert found(verdict, "OUTCOME")[0][1] == 2


def test_the_budget_ends_the_scope() -> None:
    def endless() -> Iterator[Scenario]:
        for nth in itertools.count(1):
            events = tuple(Event(op="pin", before="alloc", nth=1 + i, page=nth >> 3 * i & 7) for i in range(8))
            yield small("aaaaaaaa", events=events)

    verdict = check(V12, REVIEWED, [Family("endless", "sampled", "no end", endless)], seed=0, budget_s=1.0)
    assert (verdict.relation, verdict.exit_code, verdict.out_of_time) == (Relation.UNDETERMINED, 3, True)
    assert verdict.environment.elapsed_s >= 1.0


def test_an_interrupt_keeps_what_is_known() -> None:
    calls: list[tuple[str, int]] = []

    def progress(name: str, judged: int) -> None:
        calls.append((name, judged))
        raise KeyboardInterrupt

    verdict = check(V12, REVIEWED, [ALL], seed=0, progress=progress)
    assert calls == [("maps", CHUNK_WEIGHT // 16)]
    assert (verdict.relation, verdict.exit_code, verdict.interrupted) == (Relation.UNDETERMINED, 3, True)
    assert verdict.scenarios == CHUNK_WEIGHT // 16
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
