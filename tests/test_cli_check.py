"""``kmm check``: exit codes, both formats, counterexample files, interrupts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import attrs
import click
import jsonschema
import pytest

from kmm.cli.main import kmm, main
from kmm.judge.check import check
from kmm.judge.variants import load_variant
from kmm.judge.verdict import schema
from kmm.scenario.families import hypothesis_family
from kmm.scenario.model import Geometry, Scenario
from kmm.scenario.small_scope import quick_families
from kmm.scenario.toml import canonical_bytes, load_replay, parse, render, save_many
from tests.helpers import direct, make
from tests.judging import ROOT, V12, mutant, variant
from tests.seeded import SEEDED_BUGS, SeededBug, mutate

SCENARIOS = [make("aaaaaaaa"), make(".....aaa", orders=(2,)), make("wwaaaaaa"), make("aaaa....", direct(2, 4))]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory with a file of scenarios, which is the current one."""
    monkeypatch.chdir(tmp_path)
    save_many("s.toml", SCENARIOS)
    return tmp_path


def verdict(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, object]]:
    """Exit code and JSON verdict of ``kmm check``; nothing else may be on standard output."""
    code = main(["check", *arguments, "--format", "json"])
    out: dict[str, object] = json.loads(capsys.readouterr().out)
    jsonschema.validate(out, json.loads(schema()))
    assert out["exit_code"] == code
    return code, out


def broken(here: Path) -> str:
    """A variant that differs, by its path."""
    mutant(here / "broken.py", "folio_ref_add(folio, nr_pages - 1)", "folio_ref_add(folio, nr_pages)")
    return "./broken.py"


def test_the_defaults_are_reviewed_against_v12(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = verdict(capsys, "--scenario", "s.toml")
    assert (code, out["relation"], out["scenarios"], out["counterexample"]) == (0, "equivalent", len(SCENARIOS), None)
    sides = [out["baseline"], out["candidate"]]
    assert [side["name"] for side in sides if isinstance(side, dict)] == ["v12", "reviewed"]
    scope = out["scope"]
    assert scope == [{"name": "files", "kind": "exhaustive", "set": "the 4 scenarios given", "count": 4}]
    assert sorted(path.name for path in here.iterdir()) == ["s.toml"]


def test_text(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--scenario", "s.toml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "equivalent: reviewed behaves as v12 does in all 4 scenarios of the scope"
    assert lines[-1] == "exit code 0: the same, as far as the scope goes"
    assert all(line == line.rstrip() for line in lines)
    for word in ("scope", "coverage", "findings (both variants alike; without effect on the exit code)"):
        assert word in lines


def test_a_difference(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = verdict(capsys, broken(here), "--scenario", "s.toml")
    assert (code, out["relation"]) == (2, "different")
    example = out["counterexample"]
    assert isinstance(example, dict)
    written = here / str(example["file"])
    s, table = load_replay(written)
    assert canonical_bytes(parse(str(example["scenario"]))) == canonical_bytes(s)
    assert table == {"baseline": "v12", "candidate": "broken.py", "expect": "different"}
    assert str(example["explanation"]).startswith("The two runs part at event ")
    assert main(["replay", written.name]) == 0


def test_a_difference_in_text(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", broken(here), "--scenario", "s.toml"]) == 2
    out = capsys.readouterr().out
    assert out.startswith("different: reviewed does not behave as v12 does\n")
    assert "kmm replay counterexample-" in out
    assert "exit code 2: different\n" in out
    assert out.index("scope\n") < out.index("coverage\n") < out.index("findings (") < out.index("counterexample\n")


def test_a_captured_scenario_is_judged_in_four_forms(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    captured = attrs.evolve(make("aaaaaaaa", orders=(2,), none=0), assumed=("dirty",))
    save_many("memory.toml", [captured])
    code, out = verdict(capsys, "--scenario", "memory.toml")
    assert (code, out["scenarios"]) == (0, 4)
    scope = out["scope"]
    assert isinstance(scope, list)
    assert scope[0]["set"] == "the one scenario given, of which 1 captured, each in four forms"


def test_scenarios_of_several_files_are_judged_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_many("t.toml", [SCENARIOS[0], make("ssssssss")])
    _, out = verdict(capsys, "--scenario", "s.toml", "--scenario", "t.toml", "--scenario", "s.toml")
    assert out["scenarios"] == 5


def test_the_certificate_covers_what_was_judged_and_not_where(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, first = verdict(capsys, "--scenario", "s.toml", "--jobs", "1")
    (here / "other").mkdir()
    os.rename("s.toml", "other/t.toml")
    _, again = verdict(capsys, "--scenario", "other/t.toml", "--jobs", "2")
    assert first["certificate"] == again["certificate"]
    _, other_seed = verdict(capsys, "--scenario", "other/t.toml", "--seed", "5")
    assert first["certificate"] != other_seed["certificate"]
    save_many("u.toml", SCENARIOS[:3])
    _, fewer = verdict(capsys, "--scenario", "u.toml")
    assert first["certificate"] != fewer["certificate"]


def test_the_budget_ends_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = verdict(capsys, "--budget", "0.001")
    assert (code, out["relation"]) == (3, "undetermined")
    environment = out["environment"]
    assert isinstance(environment, dict)
    assert environment["out_of_time"] is True


def test_a_variant_that_ends_its_process_is_undetermined(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    variant(here / "ends.py", "if order == 2:\n    os._exit(0)")
    assert main(["check", "./ends.py", "--scenario", "s.toml"]) == 3
    out = capsys.readouterr().out
    assert out.startswith("undetermined: 2 scenarios gave no answer")
    assert "scenarios that gave no answer\n  UNDETERMINED: the worker ended the process with code N\n" in out
    assert "exit code 3: undetermined or interrupted, which is never a pass\n" in out


def test_a_variant_that_keeps_state_gets_no_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    variant(here / "keeps.py", "changed.calls = getattr(changed, 'calls', 0) + 1\nif changed.calls > 1:\n    raise ValueError")
    code, out = verdict(capsys, "./keeps.py", "--scenario", "s.toml")
    example = out["counterexample"]
    assert isinstance(example, dict)
    assert (code, example["file"]) == (2, None)
    assert sorted(path.name for path in here.iterdir()) == ["keeps.py", "s.toml"]


def test_a_directory_that_takes_no_file_does_not_lose_the_verdict(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = broken(here)

    def fail(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "replace", fail)
    code, out = verdict(capsys, path, "--scenario", "s.toml")
    example = out["counterexample"]
    assert isinstance(example, dict)
    assert (code, example["file"]) == (2, None)
    assert str(example["explanation"]).endswith("cannot be written (Read-only file system); name a writable file")


def test_what_a_variant_prints_does_not_reach_the_verdict(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = here / "loud.py"
    variant(path, "print('noise', flush=True)")
    path.write_text("print('noise')\n" + path.read_text())
    assert main(["check", "./loud.py", "--scenario", "s.toml", "--format", "json"]) == 0
    assert json.loads(capfd.readouterr().out)["relation"] == "equivalent"


def test_a_sample_alone_proves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    from kmm.report.console import plain
    from kmm.report.verdict import print_verdict

    reviewed = load_variant("reviewed")
    done = check(V12, reviewed, [hypothesis_family(Geometry(ptes=8), 40, 1)], seed=1, jobs=1)
    console = plain()
    with console.capture() as captured:
        print_verdict(console, done)
    first = captured.get().splitlines()[0]
    assert first == "no difference found between reviewed and v12 in 40 scenarios, which is not a proof"


@pytest.mark.parametrize("bug", SEEDED_BUGS, ids=lambda bug: bug.name)
def test_a_seeded_bug_is_found_and_minimised_in_five_seconds(here: Path, bug: SeededBug) -> None:
    (here / "bug.py").write_text(mutate(bug))
    loaded = load_variant("./bug.py")
    began = time.perf_counter()
    done = check(V12, loaded, quick_families(0), seed=0)
    assert time.perf_counter() - began < 5
    assert (done.relation.value, done.exit_code) == ("different", 2)
    assert done.counterexample is not None
    small: Scenario = done.counterexample.scenario
    assert small.geometry.ptes == 8
    assert len(render(small).splitlines()) <= 25


def test_an_interrupt_prints_what_is_known(here: Path) -> None:
    command = [sys.executable, "-c", "import sys; from kmm.cli.main import main; sys.exit(main())", "check", "--format", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, text=True) as process:
        time.sleep(4)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    partial = json.loads(out)
    jsonschema.validate(partial, json.loads(schema()))
    assert partial["relation"] == "undetermined"
    assert partial["environment"]["interrupted"] is True
    assert "Traceback" not in err


@pytest.mark.parametrize("name", ["check", "run", "replay", "boundary"])
def test_help_has_an_example_that_names_the_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert "Example" in out
    assert f"  kmm {name}" in out.partition("Example")[2]


def test_help_says_that_a_path_is_executed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--help"]) == 0
    assert "its code is executed" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("name", "page"), [("check", "check.md"), ("run", "run-and-replay.md"), ("boundary", "boundary.md")])
def test_every_option_is_documented(name: str, page: str) -> None:
    command = kmm.get_command(click.Context(kmm), name)
    assert command is not None
    text = (ROOT / "docs" / page).read_text()
    options = [option for parameter in command.params if isinstance(parameter, click.Option) for option in parameter.opts]
    assert options
    assert [option for option in options if option not in text] == []
