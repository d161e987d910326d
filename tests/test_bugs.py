"""The seeded bugs: complete, each caught by the check that it names in a scenario that cannot be smaller, and the kill table itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
import pytest

from docs._ext import bugs as page
from kmm.cli.main import main
from kmm.judge.caught import caught
from kmm.judge.minimise import minimise
from kmm.judge.named import Named
from kmm.lab.bugs import FILE, Bug, BugError, Bugs, load_bugs
from kmm.lab.bugs_judge import KILLED, NO_BUG, JudgedBug, forms, judge_bugs, search_of, smallest
from kmm.lab.sides import opened
from kmm.scenario.families import Family
from kmm.scenario.model import Scenario
from kmm.scenario.search import Search
from kmm.scenario.toml import canonical
from tests.judging import ROOT, family, small

REFACTORS: Final = ROOT / "refactors"
KNOWN: Final = load_bugs(REFACTORS / FILE)
BY_NAME: Final = {each.name: each for each in KNOWN.bugs}
IDS: Final = (
    *("A-01", "C-02", "S-04", "S-05", "S-06", "S-12", "S-14", "S-15", "S-17", "S-25", "S-26", "S-28", "C-29", "C-30", "S-31"),
    *("H-01", "H-02", "H-03", "H-06", "H-10", "H-15", "H-17", "H-19", "H-22", "H-26", "H-31", "H-36"),
)
"""Every known defect."""
LONG: Final = ("C-29-rcu", "C-30-short", "C-30-early", "H-02", "H-03")
THREE_TASKS: Final = ("H-02",)
"""Too many schedules to run them for each scenario that is smaller."""


def slow_ones(names: list[str]) -> list[object]:
    return [pytest.param(each, marks=pytest.mark.full) if each in LONG else each for each in names]


def judged(bug: Bug) -> JudgedBug:
    (found,) = judge_bugs([bug], REFACTORS)
    return found


# What is there.


def test_every_known_defect_is_seeded_or_left_out() -> None:
    assert sorted(KNOWN.ids) == sorted(IDS)
    assert {each.id for each in KNOWN.left_out} & {each.id for each in KNOWN.bugs} == set()


def test_each_patch_and_scenario_is_of_an_entry() -> None:
    files = {path.relative_to(REFACTORS).as_posix() for path in (REFACTORS / "bugs").iterdir()} - {FILE}
    assert files - {name for each in KNOWN.bugs for name in (each.patch, each.scenario)} == set()


def test_every_id_that_is_seeded_has_a_bug_and_controls_stand_beside_one() -> None:
    seeded = {each.id for each in KNOWN.bugs}
    assert {each.id for each in KNOWN.bugs if not each.is_control} == seeded


@pytest.mark.parametrize("name", sorted({each.scenario for each in KNOWN.bugs}))
def test_scenarios_are_canonical(name: str) -> None:
    text = (REFACTORS / name).read_text(encoding="utf-8")
    assert canonical(text, name) == text


@pytest.mark.full
@pytest.mark.parametrize("name", [each.name for each in KNOWN.bugs if each.patch])
def test_every_patch_applies_and_is_typed_and_imports(name: str) -> None:
    bug = BY_NAME[name]
    with opened(Named(bug.variant), Named(bug.variant, patches=(str(REFACTORS / bug.patch),))) as (ours, theirs):
        assert ours.sha256 != theirs.sha256


# What catches them.


@pytest.mark.parametrize("name", slow_ones(list(BY_NAME)))
def test_each_is_what_it_says(name: str) -> None:
    found = judged(BY_NAME[name])
    assert (found.word, found.exit_code) == (NO_BUG if found.bug.is_control else KILLED, 0), found.caught


@pytest.mark.soak
@pytest.mark.parametrize("name", [each.name for each in KNOWN.bugs if not each.is_control and each.name not in THREE_TASKS])
def test_no_smaller_scenario_shows_it(name: str) -> None:
    """Without any page state, actor, event, failure or setting it is gone."""
    bug = BY_NAME[name]
    with forms(bug, REFACTORS) as sides:

        def shows(s: Scenario) -> bool:
            return JudgedBug(bug=bug, caught=caught(s, *sides, search_of(bug))).word == KILLED

        start = smallest(bug, REFACTORS)
        assert minimise(start, shows) == start


@pytest.mark.full
def test_the_three_tasks_are_needed() -> None:
    bug = BY_NAME["H-02"]
    s = smallest(bug, REFACTORS)
    smaller = [attrs.evolve(s, actors=(each,)) for each in s.actors]
    smaller.append(attrs.evolve(s, vmas=(attrs.evolve(s.vmas[0], pages="........"),)))
    with forms(bug, REFACTORS) as sides:
        assert [caught(each, *sides, attrs.evolve(search_of(bug), budget=3_000)).reports for each in smaller] == [(), (), ()]


# The table fails when it has to.

SIMPLE: Final = BY_NAME["S-05-unlock"]
BESIDE: Final = BY_NAME["C-02"]
NO_REPORT: Final = BY_NAME["S-15"]


@pytest.mark.parametrize(
    "wrong",
    [
        attrs.evolve(SIMPLE, caught_by="KASAN"),
        attrs.evolve(SIMPLE, shows="inside an RCU read section"),
        attrs.evolve(SIMPLE, caught_by="violations"),
        attrs.evolve(BESIDE, caught_by="TRANSPARENCY"),
        attrs.evolve(NO_REPORT, caught_by="LOCKDEP"),
        attrs.evolve(NO_REPORT, caught_by="mthp_stats"),
    ],
)
def test_another_check_is_no_kill(wrong: Bug) -> None:
    """Neither a check that does not speak, nor one that speaks second, nor an observable where a sanitizer speaks."""
    found = judged(wrong)
    assert (found.word, found.exit_code) == ("wrong check", 2)


def nothing(tmp_path: Path) -> str:
    """A patch that changes a comment."""
    lines = (REFACTORS / "v12.py").read_text(encoding="utf-8").splitlines()
    at = next(i for i, line in enumerate(lines) if line.endswith("# out_nolock:"))
    hunk = [f" {lines[at - 1]}", f"-{lines[at]}", f"+{lines[at]} yes", f" {lines[at + 1]}"]
    path = tmp_path / "nothing.patch"
    path.write_text("\n".join(["--- a/refactors/v12.py", "+++ b/refactors/v12.py", f"@@ -{at},3 +{at},3 @@", *hunk, ""]))
    return str(path)


def test_what_changes_nothing_survives(tmp_path: Path) -> None:
    for bug in (SIMPLE, attrs.evolve(BESIDE, variant="v12")):
        found = judged(attrs.evolve(bug, patched=nothing(tmp_path)))
        assert (found.word, found.exit_code) == ("survived", 2)


def test_a_control_that_differs_fails() -> None:
    for bug in (SIMPLE, BY_NAME["S-15"], BESIDE):
        found = judged(attrs.evolve(bug, caught_by="", shows=""))
        assert (found.word, found.exit_code) == ("differs", 2)


def test_a_control_in_which_a_sanitizer_speaks_on_both_sides_fails() -> None:
    found = judged(attrs.evolve(BY_NAME["S-12-left"], variant="v12", candidate="reviewed", caught_by="", shows=""))
    assert found.caught is not None
    assert (found.caught.relation, found.word, found.exit_code) == ("equal", "differs", 2)


def test_a_bounded_search_that_finds_nothing_is_undetermined() -> None:
    bug = attrs.evolve(BY_NAME["H-01-masked"], caught_by="KASAN", shows="x", preemptions=0)
    assert (judged(bug).word, judged(bug).exit_code) == ("undetermined", 3)


def test_what_was_not_judged_is_undetermined() -> None:
    assert (JudgedBug(bug=SIMPLE).word, JudgedBug(bug=SIMPLE).exit_code) == ("not judged", 3)


# In general scenarios.


def test_general_scenarios_have_to_find_a_bug_and_not_a_control() -> None:
    shows, hides = [family(small("aawaaa..", 2))], [family(small("aaaaaaaa", 3))]
    codes = []
    for bug, scenarios in ((SIMPLE, shows), (SIMPLE, hides), (BY_NAME["A-01-x86"], hides)):

        def given(families: list[Family] = scenarios) -> list[Family]:
            return families

        (found,) = judge_bugs([bug], REFACTORS, given, jobs=1)
        assert found.general is not None
        codes.append((found.general.by, found.exit_code))
    assert codes == [("LOCKDEP", 0), ("", 2), ("", 0)]


def test_what_the_scope_does_not_show_is_looked_for_in_drawn_schedules() -> None:
    hides = [family(small("aaaaaaaa", 3))]
    drawn = attrs.evolve(family(smallest(BESIDE, REFACTORS), name="drawn"), search=Search(strategy="pos", budget=200))
    (found,) = judge_bugs([BESIDE], REFACTORS, lambda: hides, [drawn], jobs=1)
    assert found.general is not None
    assert (found.general.by, found.general.family, found.exit_code) == ("CONSERVATION", "drawn", 0)


# The file.

ONE = """format = 1
[[bug]]
name = "S-01-a"
title = "t"
class = "SEQ"
grade = "A"
why = "w"
caught_by = "KASAN"
shows = "x"
scenario = "bugs/S-01.toml"
"""
LEFT = '[[left_out]]\nid = "H-19"\ntitle = "t"\nwhy = "w"\n'


def test_the_smallest_file(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text(ONE + LEFT)
    found = load_bugs(tmp_path / "one.toml")
    (bug,) = found.bugs
    assert (bug.id, bug.patch, bug.variant, bug.is_control, found.ids) == ("S-01", "bugs/S-01-a.patch", "v12", False, ("S-01", "H-19"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("format = ", "is no TOML"),
        ("format = 1\n", "is no list of bugs"),
        ("format = 1\nbug = []\n", "is not of format 1, or has a name twice, or no bug"),
        (ONE + "qqqq = 1\n", "qqqq"),
        (ONE.replace('why = "w"\n', ""), "why"),
        (ONE.replace("format = 1", "format = 2"), "is not of format 1"),
        (ONE + ONE.partition("format = 1\n")[2], "has a name twice"),
        (ONE.replace("S-01-a", "S-1"), "S-1: the name is not the id"),
        (ONE.replace("S-01-a", "../a"), "../a: the name is not the id"),
        (ONE.replace("SEQ", "PAR"), "S-01-a: class is PAR"),
        (ONE.replace('"A"', '"D"'), "S-01-a: grade is D"),
        (ONE + 'memory = "tso"\n', "S-01-a: memory is tso"),
        (ONE + 'invariants = ["I20"]\n', "S-01-a: I20 is no invariant"),
        (ONE.replace("KASAN", "ASAN"), "S-01-a: caught_by is ASAN, neither a sanitizer nor an observable"),
        (ONE.replace('shows = "x"\n', ""), "S-01-a: it has one of caught_by and shows"),
        (ONE + 'general = "some"\n', "S-01-a: general is some"),
        (ONE + 'candidate = "v12"\nrepairs = true\n', "S-01-a: it has both a candidate and a patch"),
        (ONE + LEFT.replace("H-19", "19"), "19: the id is not that of a known defect"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(BugError, match=re.escape(said)) as error:
        load_bugs(tmp_path / "bad.toml")
    assert "\n" not in str(error.value)


# The command.


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bugs", "--no-judge"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if re.match(r"[ACHS]-\d\d", line)] == list(BY_NAME)
    assert all(f"  {each.id}        left out: " in out for each in KNOWN.left_out)


def test_one_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bugs", "s-05-unlock"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("S-05-unlock: the early exit of swap-in keeps the mmap lock\n")
    assert "    -            mmap_read_unlock(mm)\n" in out
    assert "killed by LOCKDEP\n" in out
    assert "The first check that only v12 (patched) fails: LOCKDEP: mmap_locked is False" in out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bugs", "C-02", "--format", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["bugs"]
    assert (found["name"], found["word"], found["caught"]["by"]) == ("C-02", "killed", "CONSERVATION")
    assert "khugepaged" in found["caught"]["explanation"]


def test_json_without_judging(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bugs", "--no-judge", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in found["bugs"]] == list(BY_NAME)
    assert {each["word"] for each in found["bugs"]} == {"not judged"}
    assert [each["id"] for each in found["left_out"]] == [each.id for each in KNOWN.left_out]


def test_an_unknown_one_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bugs", "S-99"]) == 4
    said = capsys.readouterr().err
    assert said.startswith('kmm: bugs/bugs.toml: there is no bug "S-99"; use one of A-01, ')
    assert said.count("\n") == 1


def with_bug(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kmm.lab.bugs.load_bugs", lambda _path: Bugs(bugs=(bug,), left_out=()))


def test_a_patch_that_no_longer_applies_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (REFACTORS / SIMPLE.patch).read_text(encoding="utf-8")
    (tmp_path / "old.patch").write_text(text.replace("pte_unmap(pte)", "pte_unmap(ptep)"))
    with_bug(attrs.evolve(SIMPLE, patched=str(tmp_path / "old.patch")), monkeypatch)
    assert main(["bugs"]) == 4
    said = capsys.readouterr().err.splitlines()[-1]
    assert "hunk 1 does not apply to kmm/mm/khugepaged/swapin.py: line 43 is" in said
    assert "rebase the patch on this version" in said


def test_the_exit_code_of_the_command_is_that_of_the_worst(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with_bug(attrs.evolve(SIMPLE, caught_by="KASAN"), monkeypatch)
    assert main(["bugs"]) == 2
    row = capsys.readouterr().out.splitlines()[1]
    assert "LOCKDEP, not" in row
    assert row.rstrip().endswith("wrong check")


def test_an_interrupt_keeps_what_was_judged(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    done = judged(SIMPLE)

    def halved(*_: object, **__: object) -> Iterator[JudgedBug]:
        yield done
        raise KeyboardInterrupt

    monkeypatch.setattr("kmm.lab.bugs_judge.judge_bugs", halved)
    assert main(["bugs"]) == 3
    out = capsys.readouterr().out
    assert (out.count("killed"), out.count("not judged")) == (1, len(KNOWN.bugs) - 1)


def test_the_page_is_what_the_file_says() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.text(), "run: make docs-help"
