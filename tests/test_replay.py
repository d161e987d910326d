"""Counterexample files: written whole, read back byte for byte, run again everywhere alike."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from kmm.cli.main import main
from kmm.judge.errors import VariantError
from kmm.judge.replay import DIFFERENT, EQUIVALENT, UNDETERMINED, default_name, replay, write_counterexample
from kmm.scenario.errors import ScenarioError
from kmm.scenario.toml import canonical, load_replay, render
from tests.helpers import make
from tests.judging import REVIEWED, ROOT, mutant, variant
from tests.test_processes import find

SCENARIO = make(".....aaa", orders=(2,))


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A counterexample in a directory of its own, beside a variant that differs there."""
    mutant(tmp_path / "broken.py", "folio_ref_add(folio, nr_pages - 1)", "folio_ref_add(folio, nr_pages)")
    path = tmp_path / "example.toml"
    write_counterexample(path, SCENARIO, baseline="v12", candidate=str(tmp_path / "broken.py"))
    return path


def test_a_file_is_canonical_and_says_how_to_run_it(example: Path) -> None:
    text = example.read_text()
    assert canonical(text) == text
    assert text.startswith(render(SCENARIO))
    assert load_replay(example) == (SCENARIO, {"baseline": "v12", "candidate": "broken.py", "expect": "different"})


def test_a_name_is_made_of_what_the_file_holds() -> None:
    name = default_name(SCENARIO)
    assert name == default_name(attrs.evolve(SCENARIO, name="other", remark="words"))
    assert name != default_name(make("......aa", orders=(2,)))
    stem, _, digest = name.removesuffix(".toml").partition("-")
    assert stem == "counterexample"
    assert len(digest) == 8
    assert int(digest, 16) >= 0


def test_it_shows_the_difference_again(example: Path) -> None:
    again = replay(example)
    assert (again.relation, again.expect, again.scenario) == (DIFFERENT, "different", SCENARIO)
    assert again.differs == ("violations", "folios")
    assert again.explanation.startswith("The two runs part at event ")
    assert (again.baseline.variant.name, again.candidate.variant.name) == ("v12", "reviewed")


@pytest.mark.parametrize("where", [".", "..", "../.."])
def test_paths_are_taken_from_the_file(example: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    monkeypatch.chdir(example.parent / where)
    assert replay(os.path.relpath(example)).relation == DIFFERENT


def test_a_path_without_a_slash_or_suffix_stays_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").write_text(REVIEWED.read_text())
    write_counterexample(Path("e.toml"), SCENARIO, baseline="v12", candidate="./mine", expect="equivalent")
    assert load_replay("e.toml")[1]["candidate"] == "./mine"
    assert replay("e.toml").relation == EQUIVALENT


def test_the_command(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(example)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("different, as expected: reviewed (")
    assert "  reviewed: new order-2 folio.refcount = 5\n" in out


def test_a_difference_that_is_gone_is_not_as_expected(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(REVIEWED, example.parent / "broken.py")
    assert main(["replay", str(example)]) == 2
    assert capsys.readouterr().out.startswith("equivalent, expected: different: ")


def test_agreement_may_be_expected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "fine.toml"
    write_counterexample(path, SCENARIO, baseline="v12", candidate="reviewed", expect="equivalent")
    assert main(["replay", str(path)]) == 0
    assert capsys.readouterr().out.startswith("equivalent, as expected: reviewed")


def test_defaults_of_the_table(tmp_path: Path) -> None:
    path = tmp_path / "e.toml"
    path.write_text(render(SCENARIO) + '\n[replay]\nexpect = "equivalent"\n')
    again = replay(path)
    assert (again.baseline.variant.name, again.candidate.variant.name, again.relation) == ("v12", "reviewed", EQUIVALENT)


@pytest.mark.parametrize(
    ("body", "text"), [("os._exit(3)", "ended the process with code 3"), ("while True: pass", "made no step"), ("raise NotApplicable", "")]
)
def test_no_answer(tmp_path: Path, body: str, text: str) -> None:
    variant(tmp_path / "v.py", body)
    path = tmp_path / "e.toml"
    write_counterexample(path, SCENARIO, baseline="v12", candidate=str(tmp_path / "v.py"))
    again = replay(path, stall_s=1)
    assert again.relation == UNDETERMINED
    assert text in again.explanation


def test_no_answer_is_never_a_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    variant(tmp_path / "v.py", "os._exit(0)")
    path = tmp_path / "e.toml"
    write_counterexample(path, SCENARIO, baseline="v12", candidate=str(tmp_path / "v.py"))
    assert main(["replay", str(path)]) == 3
    assert "ended the process with code 0" in capsys.readouterr().out


def test_a_scenario_without_the_table(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(render(SCENARIO))
    with pytest.raises(ScenarioError, match=r"s\.toml: the file has no \[replay\] table"):
        replay(path)


def test_an_unknown_expectation(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    text = render(SCENARIO) + '\n[replay]\nexpect = "faster"\n'
    path.write_text(text)
    line = text.splitlines().index('expect = "faster"') + 1
    with pytest.raises(ScenarioError, match=rf's\.toml:{line}: expect = "faster" is not known'):
        replay(path)


def test_a_variant_that_is_gone(example: Path) -> None:
    (example.parent / "broken.py").unlink()
    with pytest.raises(VariantError, match="there is no such file"):
        replay(example)
    assert main(["replay", str(example)]) == 4


def test_a_file_that_cannot_be_written_leaves_the_old_one(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = example.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(ScenarioError, match="cannot be written"):
        write_counterexample(example, make("aaaaaaaa"), baseline="v12", candidate="reviewed")
    assert example.read_bytes() == before
    assert sorted(path.name for path in example.parent.iterdir()) == ["broken.py", "example.toml"]


def output(python: str, seed: str, example: Path) -> str:
    """What ``kmm replay`` prints in a process; run-time dependencies are lent to it, for they are pure Python."""
    lent = Path(attrs.__file__).parents[1]
    env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": f"{ROOT}{os.pathsep}{lent}", "PYTHONDONTWRITEBYTECODE": "1"}
    code = "import sys; from kmm.cli.main import main; sys.exit(main())"
    command = [python, "-c", code, "replay", example.name]
    done = subprocess.run(command, env=env, cwd=example.parent, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_every_hash_seed_prints_the_same(example: Path, seed: str) -> None:
    assert output(sys.executable, seed, example) == output(sys.executable, "7", example)


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_every_python_prints_the_same(example: Path, version: str) -> None:
    python = find(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    assert output(python, "3", example) == output(sys.executable, "7", example)
