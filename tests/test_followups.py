"""The follow-ups of the review: complete, applicable, and judged as they say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from docs._ext import followups as page
from kmm.cli.main import main
from kmm.judge.named import Named
from kmm.judge.verdict import Verdict
from kmm.lab.experiment import GENERAL, Tried
from kmm.lab.followups import FILE, Followup, FollowupError, JudgedFollowup, followup, judge_followups, load_followups
from kmm.lab.sides import opened
from kmm.lab.thread import load_thread
from kmm.scenario.families import Family
from kmm.scenario.model import Driver, DriverKind
from kmm.scenario.scope import smoke
from tests.judging import ROOT, family, small

REFACTORS = ROOT / "refactors"
KNOWN = load_followups(REFACTORS / FILE)
NAMES = [each.name for each in KNOWN]


def few() -> list[Family]:
    return [family(small("aaaaaaaa"))]


def judged(name: str, one: Followup | None = None) -> JudgedFollowup:
    (found,) = judge_followups([one or followup(KNOWN, name)], REFACTORS, few, jobs=1)
    return found


def test_what_the_review_left_open_is_there() -> None:
    """The list of what is to be tried out."""
    assert {
        "pmd-install",
        "pmd-install-unlocked",
        "inc-nr-ptes",
        "upstream-helper",
        "set-pte-range",
        "populate-first",
        "populate-first-unlocked",
        "hook-last",
        "no-barrier",
        "params-reused",
        "orig-pmd",
        "no-mmap-locked",
        "shared-pte-check",
    } <= set(NAMES)


def test_each_has_its_patch_and_each_patch_its_follow_up() -> None:
    assert sorted(NAMES) == sorted(path.stem for path in (REFACTORS / "followups").glob("*.patch"))


def test_they_name_comments_of_the_thread() -> None:
    thread = load_thread(REFACTORS / "thread.toml")
    named = {(comment, each.name) for each in KNOWN for comment in each.comments}
    assert named == {(comment.id, each.name) for comment in thread.comments for each in comment.followups}


def test_what_is_equivalent_is_so_in_a_scope() -> None:
    """One scenario shows a difference, and no equivalence."""
    equivalent = [each for each in KNOWN if each.expected == "equivalent"]
    assert equivalent
    assert [each.name for each in equivalent if not any(one.scope == GENERAL for one in each.experiments)] == []


def test_what_is_different_says_in_what() -> None:
    assert [each.name for each in KNOWN for one in each.experiments if one.expect == "different" and not one.shows] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_patch_applies_and_is_typed_and_imports(name: str) -> None:
    one = followup(KNOWN, name)
    with opened(Named(one.baseline), Named(one.baseline, patches=(str(REFACTORS / one.patch),))) as (ours, theirs):
        assert ours.sha256 != theirs.sha256


@pytest.mark.parametrize("name", ["pmd-install", "pmd-install-unlocked", "inc-nr-ptes"])
def test_some_that_are_wrong(name: str) -> None:
    found = judged(name)
    assert (found.word, found.found, found.exit_code) == ("as expected", "different", 0)


def test_another_relation_and_another_sanitizer_are_not_as_expected() -> None:
    one = followup(KNOWN, "inc-nr-ptes")
    (experiment,) = one.experiments
    for wrong in (attrs.evolve(experiment, shows="LOCKDEP"), attrs.evolve(experiment, expect="equivalent", shows="")):
        found = judged("", attrs.evolve(one, experiments=(experiment, wrong)))
        assert (found.word, found.exit_code) == ("not as expected", 2)


def test_a_patch_of_the_model_itself_is_judged() -> None:
    """It is the tree with the patch that runs, and not the one that is imported here."""
    empty = small("........", driver=Driver(kind=DriverKind.MADVISE))
    (found,) = judge_followups([followup(KNOWN, "shared-hole-check")], REFACTORS, lambda: [family(empty)], jobs=1)
    assert found.word == "as expected"


def test_what_was_not_tried_is_undetermined() -> None:
    one = followup(KNOWN, "no-barrier")
    assert (JudgedFollowup(followup=one).word, JudgedFollowup(followup=one).exit_code) == ("not judged", 3)


ONE = """format = 1
[[followup]]
name = "a-b"
title = "t"
comments = ["R01"]
why = "w"
says = "s"
kernel = "k"
[[followup.experiment]]
question = "q"
scope = "general"
expect = "equivalent"
"""


def test_the_smallest_file(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text(ONE)
    (found,) = load_followups(tmp_path / "one.toml")
    (experiment,) = found.experiments
    assert (experiment.patch, experiment.baseline, experiment.memory) == ("followups/a-b.patch", "reviewed", "sc")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("format = ", "is no TOML"),
        ("format = 1\n", "is no list of follow-ups"),
        (ONE + "qqqq = 1\n", "qqqq"),
        (ONE.replace('kernel = "k"\n', ""), "kernel"),
        (ONE.replace("format = 1", "format = 2"), "is not of format 1"),
        (ONE + ONE.partition("format = 1\n")[2], "has a name twice"),
        (ONE.replace("a-b", "../a"), "../a: the name is not words"),
        (ONE.replace("R01", "R1"), "a-b: R1 is no comment"),
        (ONE.partition("[[followup.experiment]]")[0] + "experiment = []\n", "a-b: it has no experiment"),
        (ONE + 'patch = "p"\n', "a-b: an experiment's patch and baseline are those of the follow-up"),
        (ONE + 'scenario = "s"\n', "a-b: an experiment has both or neither of scenario and scope"),
        (ONE.replace('"general"', '"all"'), "a-b: experiment's scope is all"),
        (ONE + 'memory = "tso"\n', "a-b: experiment's memory is tso"),
        (ONE + 'shows = "x"\n', "a-b: an experiment shows something and is not different"),
        (ONE.replace('"equivalent"', '"equal"'), "a-b: experiment's expect is equal"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(FollowupError, match=re.escape(said)) as error:
        load_followups(tmp_path / "bad.toml")
    assert "\n" not in str(error.value)


# The command.


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["followups", "--no-judge"]) == 0
    out = capsys.readouterr().out
    assert [name for line in out.splitlines() for name in NAMES if line.startswith(f"{name} ")] == NAMES


def test_one_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["followups", "pmd-install", "--jobs", "1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("pmd-install: pmd_install() in place of")
    assert "+                pmd_install(mm, pmd, pgtable)" in out
    assert "  verdict     different, as expected" in out
    assert "LOCKDEP: pmd_lock takes pmd_lock, which its task already holds" in out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["followups", "upstream-helper", "--jobs", "1", "--format", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["followups"]
    assert (found["name"], found["found"], found["as_expected"]) == ("upstream-helper", "different, equivalent", True)
    told = [(each["as_expected"], each["verdict"]["relation"]) for each in found["experiments"]]
    assert told == [(True, "different"), (True, "different"), (True, "equivalent")]


def test_json_without_judging(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["followups", "--no-judge", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)["followups"]
    assert [each["name"] for each in found] == NAMES
    assert {each["as_expected"] for each in found} == {None}


def test_an_unknown_one_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["followups", "pmd_install"]) == 4
    said = capsys.readouterr().err
    assert said.startswith('kmm: followups/followups.toml: there is no follow-up "pmd_install"; use one of pmd-install, ')
    assert said.count("\n") == 1


@pytest.mark.parametrize("raised", [False, True])
def test_an_interrupt_keeps_what_was_judged(*, raised: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In the middle of a judgement, which ends as interrupted; and between two of them."""
    done = judged("pmd-install")
    stopped: Verdict = attrs.evolve(done.tried[0].verdict, interrupted=True)

    def halved(*_: object, **__: object) -> Iterator[JudgedFollowup]:
        if raised:
            yield done
            raise KeyboardInterrupt
        yield JudgedFollowup(followup=done.followup, tried=(Tried(experiment=done.followup.experiments[0], verdict=stopped),))

    monkeypatch.setattr("kmm.lab.followups.judge_followups", halved)
    assert main(["followups"]) == 3
    out = capsys.readouterr().out
    assert out.count("not judged") == len(KNOWN) - 1
    assert ("as expected" in out, "undetermined" in out) == (raised, not raised)


def test_the_page_is_what_the_file_says() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.text(), "run: make docs-help"


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_every_verdict_is_as_it_says(name: str) -> None:
    (found,) = judge_followups([followup(KNOWN, name)], REFACTORS, smoke)
    assert [(each.experiment.question, each.verdict.relation.value) for each in found.tried if not each.as_expected] == []
    assert found.exit_code == 0
