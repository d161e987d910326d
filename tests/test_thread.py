"""The review thread: complete, consistent with the steps, and judged as it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import attrs
import pytest

from kmm.cli.main import main
from kmm.judge.lint import lint
from kmm.judge.variants import load_variant
from kmm.lab.experiment import Experiment, try_out
from kmm.lab.followups import FILE, load_followups
from kmm.lab.series import Step, patches_of, unfold
from kmm.lab.thread import Comment, ThreadError, load_thread
from kmm.lab.thread_judge import Evidence, gather
from kmm.scenario.families import Family
from kmm.scenario.toml import load_many, render
from tests.judging import ROOT, family, small

REFACTORS = ROOT / "refactors"
THREAD = load_thread(REFACTORS / "thread.toml")
EXPERIMENTS = [(comment.id, each) for comment in THREAD.comments for each in comment.experiments]
ALONE = [each for _, each in EXPERIMENTS if "beside" not in each.scenario]


def few() -> list[Family]:
    return [family(small("aaaaaaaa"))]


def steps() -> list[Step]:
    """Their patches; the files are of no matter here."""
    return [Step(number=n, patch=patch, before=Path(), after=Path()) for n, patch in enumerate(patches_of(REFACTORS / "steps"), 1)]


def test_every_comment_is_there() -> None:
    assert [each.id for each in THREAD.comments] == [f"R{number:02}" for number in range(1, 27)]


def test_the_thread_and_the_steps_name_each_other() -> None:
    by_thread = {(comment.id, number) for comment in THREAD.comments for number in comment.steps}
    assert by_thread == {(comment, step.number) for step in steps() for comment in step.comments}


def test_every_comment_that_the_reviewed_code_names_has_a_step() -> None:
    named = set(re.findall(r"\bR\d\d\b", (REFACTORS / "reviewed.py").read_text()))
    assert named
    assert named <= {comment.id for comment in THREAD.comments if comment.steps}


def test_what_was_acknowledged_is_dealt_with() -> None:
    assert [each.id for each in THREAD.comments if each.disposition == "acknowledged" and not each.steps] == []


def test_the_questions_about_concurrency_have_experiments() -> None:
    answered = {each.id for each in THREAD.comments if each.experiments or each.followups}
    assert {"R10", "R11", "R15", "R17", "R18", "R23"} <= answered


def test_every_file_of_an_experiment_is_used_and_canonical() -> None:
    files = {path.name for path in (REFACTORS / "experiments").iterdir()}
    own = [each for _, each in EXPERIMENTS]
    of_followups = [attrs.evolve(each, patch="") for one in load_followups(REFACTORS / FILE) for each in one.experiments]
    named = {Path(name).name for each in (*own, *of_followups) for name in (each.patch, each.scenario) if name}
    assert files == named
    for path in (REFACTORS / "experiments").glob("*.toml"):
        (scenario,) = load_many(str(path))
        assert path.read_text() == render(scenario)


@pytest.mark.parametrize("patch", sorted({each.patch for _, each in EXPERIMENTS if each.patch}))
def test_every_patch_of_an_experiment_applies_and_is_clean(patch: str, tmp_path: Path) -> None:
    unfolded = unfold(patches_of(REFACTORS / patch), REFACTORS / "reviewed.py", tmp_path)
    assert unfolded.fault is None
    assert [str(each) for each in lint(load_variant(str(unfolded.steps[0].after))) if not each.note] == []


@pytest.mark.parametrize("experiment", ALONE, ids=lambda each: Path(each.patch).stem)
def test_experiments_with_nobody_beside(experiment: Experiment) -> None:
    (tried,) = try_out([experiment], REFACTORS, few, jobs=1)
    assert tried.as_expected, tried.verdict.relation


def test_an_experiment_that_shows_something_else_is_not_as_expected() -> None:
    one = next(each for each in ALONE if each.shows == "REFCOUNT")
    wrong = [attrs.evolve(one, shows="LOCKDEP"), attrs.evolve(one, expect="equivalent", shows="")]
    assert [(each.as_expected, each.exit_code) for each in try_out(wrong, REFACTORS, few, jobs=1)] == [(False, 2)] * 2


def test_evidence_of_steps_and_experiments(tmp_path: Path) -> None:
    comments = [THREAD.comment(name) for name in ("R01", "R05", "r16", "R19")]
    evidence = gather(comments, REFACTORS, tmp_path, few, jobs=1)
    assert [evidence.word(each) for each in comments] == ["", "equivalent", "as expected", "as expected"]
    assert [evidence.exit_code(each) for each in comments] == [0, 0, 0, 0]
    assert (sorted(evidence.steps), sorted(evidence.tried), sorted(evidence.followups)) == ([3], ["R16"], ["inc-nr-ptes"])


def test_what_was_not_judged_is_said() -> None:
    assert Evidence().word(THREAD.comment("R18")) == "not judged"


def test_a_step_that_is_not_there(tmp_path: Path) -> None:
    comment = Comment(id="R01", by="a", asked="b", disposition="answered", steps=(99,))
    with pytest.raises(ThreadError, match="there is no step 99"):
        gather([comment], REFACTORS, tmp_path, few)


ONE = 'format = 1\nabout = "x"\n[[comment]]\nid = "R01"\nby = "a"\nasked = "b"\ndisposition = "answered"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("format = ", "is no TOML"),
        ("format = 1\n", "is no thread"),
        (ONE + "qqqq = 1\n", "qqqq"),
        (ONE.replace("answered", "lost"), "R01: disposition is lost"),
        (ONE.replace("R01", "Q1"), "Q1: the id is not R and two digits"),
        (ONE + ONE.partition('x"\n')[2], "has an id twice"),
        (ONE.replace("format = 1", "format = 2"), "is not of format 1"),
        (
            ONE + '[[comment.experiment]]\nquestion = "q"\nscenario = "s"\nexpect = "equal"\npatch = "p"\n',
            "R01: experiment's expect is equal",
        ),
        (ONE + '[[comment.experiment]]\nquestion = "q"\nscenario = "s"\nexpect = "different"\n', "both or neither of patch and candidate"),
        (ONE + '[[comment.experiment]]\nquestion = "q"\npatch = "p"\nexpect = "different"\n', "both or neither of scenario and scope"),
    ],
)
def test_a_bad_thread_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "thread.toml").write_text(text)
    with pytest.raises(ThreadError, match=re.escape(said)) as error:
        load_thread(tmp_path / "thread.toml")
    assert "\n" not in str(error.value)


def test_no_thread(tmp_path: Path) -> None:
    with pytest.raises(ThreadError, match="cannot be read"):
        load_thread(tmp_path / "none.toml")


# The command.


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["thread", "--no-judge"]) == 0
    out = capsys.readouterr().out
    assert re.findall(r"^R\d\d", out, re.MULTILINE) == [each.id for each in THREAD.comments]
    assert re.search(r"^R17 .* deferred +step 5, 3 follow-ups$", out, re.MULTILINE)


def test_one_comment_with_its_evidence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["thread", "r16", "--jobs", "1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("R16, Lorenzo Stoakes: answered\n")
    assert "-    folio_ref_add(folio, nr_pages - 1)" in out
    assert "  verdict     different, as expected" in out


def test_one_comment_with_its_followups(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["thread", "r19", "--jobs", "1"]) == 0
    out = capsys.readouterr().out
    assert "follow-up inc-nr-ptes: " in out
    assert "  expected    different, by CONSERVATION: pgtables_bytes; found different\n  more        kmm followups inc-nr-ptes\n" in out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["thread", "R16", "--jobs", "1", "--format", "json"]) == 0
    (comment,) = json.loads(capsys.readouterr().out)["comments"]
    assert comment["id"] == "R16"
    assert comment["experiments"][0]["as_expected"] is True
    assert comment["experiments"][0]["verdict"]["relation"] == "different"


def test_an_unknown_comment_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["thread", "R99"]) == 4
    assert capsys.readouterr().err == 'kmm: thread.toml: there is no comment "R99"; use one of R01 to R26; kmm thread lists them\n'


@pytest.mark.full
def test_every_verdict_of_the_thread_is_as_it_says(tmp_path: Path) -> None:
    """The steps are those of tests/test_series.py, the follow-ups those of tests/test_followups.py; here are all experiments."""
    comments = [attrs.evolve(each, steps=(), followups=()) for each in THREAD.comments]
    evidence = gather(comments, REFACTORS, tmp_path, few)
    found = {each.id: evidence.word(each) for each in comments if each.experiments}
    assert found == dict.fromkeys(found, "as expected")
    assert len(found) >= 5
