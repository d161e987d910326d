"""A series is judged step by step, and its first bad step is named."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from kmm.cli import series as command
from kmm.cli.main import main
from kmm.judge.verdict import Relation
from kmm.lab.patch import PatchError
from kmm.lab.series import first_difference, patches_of, unfold
from kmm.lab.series_run import SeriesResult, run_series
from kmm.scenario.families import Family
from kmm.scenario.model import Driver, DriverKind
from kmm.scenario.scope import generated, smoke
from tests.judging import ROOT, family, small

STEPS = ROOT / "refactors/steps"
V12 = ROOT / "refactors/v12.py"
REVIEWED = ROOT / "refactors/reviewed.py"
FEW = family(*(small(pages, driver=Driver(kind=DriverKind.DIRECT, order=order)) for pages in ("aaaaaaaa", "22222222") for order in (2, 3)))


def texts(tmp_path: Path) -> list[str]:
    """The file before the first step, after it, and so on."""
    found = unfold(patches_of(STEPS), V12, tmp_path / "texts")
    assert found.fault is None
    return [V12.read_text(), *(step.after.read_text() for step in found.steps)]


def write_series(directory: Path, versions: Sequence[str]) -> Path:
    """A series that leads from version to version."""
    directory.mkdir()
    for number, (old, new) in enumerate(itertools.pairwise(versions), 1):
        name = "refactors/v12.py"
        diff = difflib.unified_diff(old.splitlines(keepends=True), new.splitlines(keepends=True), f"a/{name}", f"b/{name}")
        (directory / f"{number:04}.patch").write_text("".join(diff))
    return directory


def edited(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1
    return text.replace(old, new)


def judged(directory: Path, tmp_path: Path, *, typed: bool = False) -> SeriesResult:
    return run_series(patches_of(directory), V12, REVIEWED, tmp_path / "scratch", lambda: [FEW], typed=typed, jobs=1)


def test_the_steps_lead_from_v12_to_reviewed_byte_for_byte(tmp_path: Path) -> None:
    assert texts(tmp_path)[-1].encode() == REVIEWED.read_bytes()


def test_every_step_says_what_it_must() -> None:
    patches = patches_of(STEPS)
    assert len(patches) == len(list(STEPS.glob("*.patch"))) >= 8
    for patch in patches:
        assert patch.subject.startswith("khugepaged: ")
        assert re.findall(r"^(Comments|What|Why|What cannot change): .", patch.message, re.MULTILINE) == [
            "Comments",
            "What",
            "Why",
            "What cannot change",
        ]


def test_a_few_scenarios_pass_through_every_step(tmp_path: Path) -> None:
    result = judged(STEPS, tmp_path)
    assert [(each.step.number, each.verdict.relation) for each in result.judged] == [(n, Relation.EQUIVALENT) for n in range(1, 11)]
    assert (result.bad, result.reached, result.exit_code) == (None, True, 0)
    assert result.judged[4].step.comments == ("R21", "R17")
    assert result.judged[9].step.comments == ()


def test_a_step_that_changes_what_happens_is_the_bad_one(tmp_path: Path) -> None:
    """The fifth step's helper forgets the references of all pages but the first, and so do the steps behind it."""
    versions = texts(tmp_path)
    broken = [edited(text, "folio_ref_add(folio, nr_pages - 1)", "folio_ref_add(folio, 0)") for text in versions[5:]]
    result = judged(write_series(tmp_path / "series", [*versions[:5], *broken]), tmp_path)
    assert (result.bad, result.exit_code, result.reached) == (5, 2, None)
    assert result.judged[-1].verdict.counterexample is not None


def test_a_step_that_the_lint_objects_to_is_bad(tmp_path: Path) -> None:
    versions = texts(tmp_path)[:3]
    versions[2] = edited(versions[2], "VARIANT = ", "CACHE: list[int] = []\nVARIANT = ")
    result = judged(write_series(tmp_path / "series", versions), tmp_path)
    assert (result.bad, result.exit_code) == (2, 2)
    assert "state: CACHE may change" in result.judged[1].lint[0]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("collapse_huge_page=collapse_huge_page)", "collapse_huge_page=gone)", "the variant does not import (NameError"),
        ("-> ScanResult:", "-> ScanResult", "of what it leaves is not Python (expected ':')"),
    ],
)
def test_a_step_that_does_not_import_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    versions = texts(tmp_path)[:4]
    first, *rest = versions[3].partition(old)
    versions[3] = "".join([first, new, *rest[1:]])
    result = judged(write_series(tmp_path / "series", versions), tmp_path)
    assert (result.bad, result.exit_code, len(result.judged)) == (3, 4, 2)
    assert said in str(result.fault)


def test_a_step_that_does_not_apply_ends_the_series_there(tmp_path: Path) -> None:
    """The steps before it are judged."""
    versions = texts(tmp_path)
    directory = write_series(tmp_path / "series", versions)
    (directory / "0002.patch").unlink()
    result = judged(directory, tmp_path)
    assert (result.bad, result.exit_code, len(result.judged)) == (2, 4, 1)
    assert "0003.patch" in str(result.fault)
    assert "does not apply to refactors/v12.py" in str(result.fault)


def test_a_step_that_does_not_type_check_names_its_hunk(tmp_path: Path) -> None:
    versions = texts(tmp_path)[:4]
    versions[2] = edited(versions[2], "    anon_vma_locked = False\n    nr_pages", "    anon_vma_locked: int = 'no'\n    nr_pages")
    result = judged(write_series(tmp_path / "series", versions), tmp_path, typed=True)
    assert (result.bad, result.exit_code) == (2, 4)
    assert re.search(r"0002\.patch:\d+ \(hunk \d\): line \d+ of what it leaves does not type-check \(Incompatible types", str(result.fault))


def test_a_series_that_ends_elsewhere_says_where(tmp_path: Path) -> None:
    result = judged(write_series(tmp_path / "series", texts(tmp_path)[:2]), tmp_path)
    assert (result.bad, result.reached, result.differs, result.exit_code) == (None, False, 1, 2)


def test_the_line_of_the_first_difference(tmp_path: Path) -> None:
    for name, text in (("a", "1\n2\n3\n"), ("b", "1\n2\n"), ("c", "1\nx\n3\n"), ("d", "1\n2\n3")):
        (tmp_path / name).write_text(text)
    found = [first_difference(tmp_path / "a", tmp_path / name) for name in "abcd"]
    assert found == [None, 3, 2, 3]


def test_a_step_keeps_to_the_file_of_the_variant(tmp_path: Path) -> None:
    directory = write_series(tmp_path / "series", texts(tmp_path)[:2])
    (directory / "0001.patch").write_text((directory / "0001.patch").read_text().replace("v12.py", "base.py"))
    assert "changes refactors/base.py; a step of this series changes refactors/v12.py only" in str(judged(directory, tmp_path).fault)


def test_a_directory_without_patches(tmp_path: Path) -> None:
    with pytest.raises(PatchError, match=r"holds no \*\.patch"):
        patches_of(tmp_path)


# The command.


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scope of four scenarios."""

    def few(_scope: str, _seed: int) -> Sequence[Family]:
        return [FEW]

    monkeypatch.setattr(command, "families", few)


@pytest.mark.usefixtures("quick")
def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["series", str(STEPS), "--no-types", "--jobs", "1"]) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()[1:11]]
    assert [(row[0], row[-4:]) for row in rows] == [(str(n), ["checked", "clean", "equivalent", "4"]) for n in range(1, 11)]
    assert out.splitlines()[-1] == "10 steps, and the last is reviewed, byte for byte"


@pytest.mark.usefixtures("quick")
def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["series", "--no-types", "--jobs", "1", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["from"], found["to"], found["total"], found["bad_step"], found["reached"]) == ("v12", "reviewed", 10, None, True)
    assert [each["verdict"]["relation"] for each in found["steps"]] == ["equivalent"] * 10
    assert found["steps"][0]["comments"] == ["R07"]


@pytest.mark.usefixtures("quick")
def test_a_bad_step_leaves_files_that_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    versions = texts(tmp_path)
    broken = edited(versions[1], "            anon_vma_lock_write(vma.anon_vma)\n", "")
    directory = write_series(tmp_path / "series", [*versions[:2], broken])
    monkeypatch.chdir(tmp_path)
    assert main(["series", str(directory), "--no-types", "--jobs", "1", "--keep", "kept"]) == 2
    out = capsys.readouterr().out
    assert "step 2 of 2 is bad" in out
    (example,) = (tmp_path / "kept").glob("*.toml")
    assert main(["replay", str(example)]) == 0
    assert main(["series", str(directory), "--no-types", "--keep", "kept"]) == 4


@pytest.mark.usefixtures("quick")
def test_bad_input_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["series", str(tmp_path)]) == 4
    versions = texts(tmp_path)
    directory = write_series(tmp_path / "series", versions[1:3])
    assert main(["series", str(directory), "--no-types"]) == 4
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None if name == "mypy" else find(name, package))
    assert main(["series"]) == 4
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("; ")[0] for line in lines if line.startswith("kmm: ")] == [
        f"kmm: {tmp_path}: holds no *.patch",
        lines[1].partition("; ")[0],
        "kmm: mypy: there is no mypy to type-check with",
    ]
    assert re.search(r"step 1: hunk 1 does not apply to refactors/v12\.py: line \d+ is ", lines[1])


def test_smoke_is_a_part_of_the_quick_scope() -> None:
    quick = {s for each in generated("quick", 0) if each.name in ("events", "counts") for s in each.scenarios()}
    found = {each.name: list(each.scenarios()) for each in smoke()}
    assert len(found) == 9
    assert {*found["events, one map"], *found["counts"]} <= quick
    assert 500 < len(found["events, one map"]) < 2000


@pytest.mark.full
def test_the_whole_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Type-checked, at its default scope, which reaches every line of both ends; and no file of refactors changes."""

    def tree() -> dict[str, str]:
        files = (path for path in (ROOT / "refactors").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    before = tree()
    assert main(["series", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {each["types"] for each in found["steps"]} == {"clean"}
    for each in found["steps"]:
        assert each["verdict"]["relation"] == "equivalent"
        assert each["verdict"]["coverage"]["baseline"]["missed"] == []
        assert each["verdict"]["coverage"]["candidate"]["missed"] == []
    assert tree() == before
