"""``kmm`` for programs: names, results, misuse."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from inspect import signature
from pathlib import Path

import attrs
import pytest

import kmm
from kmm import api
from kmm.cli.main import main
from kmm.judge.observe import observe
from kmm.judge.variants import load_variant
from kmm.scenario.families import Family
from kmm.scenario.model import Scenario
from kmm.scenario.run import run as run_scenario
from kmm.scenario.toml import load_replay, save, save_many
from tests.helpers import direct, make
from tests.judging import ROOT, V12, family, mutant, variant

SCENARIOS = [make("aaaaaaaa"), make(".....aaa", orders=(2,)), make("wwaaaaaa"), make("aaaa....", direct(2, 4))]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def broken(here: Path) -> str:
    """A variant that differs, by its path."""
    mutant(here / "broken.py", "folio_ref_add(folio, nr_pages - 1)", "folio_ref_add(folio, nr_pages)")
    return "./broken.py"


def imported_for_types() -> dict[str, str]:
    """Names that ``kmm`` imports for type checkers, with their modules."""
    tree = ast.parse(Path(kmm.__file__).read_text())
    blocks = [node for node in tree.body if isinstance(node, ast.If)]
    froms = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in froms for alias in node.names}


def test_type_checkers_and_programs_see_the_same_names() -> None:
    typed = imported_for_types()
    assert sorted(typed) == kmm.__all__
    assert {name: getattr(kmm, name) for name in typed} == {name: getattr(import_module(home), name) for name, home in typed.items()}
    assert set(kmm.__all__) <= set(dir(kmm))


def test_another_name_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'kmm' has no attribute 'chek'"):
        getattr(kmm, "chek")  # noqa: B009


@pytest.mark.parametrize("module", ["kmm", "kmm.testing"])
def test_importing_is_light(module: str) -> None:
    known = "known = {*sys.stdlib_module_names, '__main__'}"
    text = f"import sys, {module}; {known}; print(*sorted(each for each in sys.modules if each.partition('.')[0] not in known))"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-S", "-c", text], env=env, capture_output=True, text=True, check=True)
    own = ["kmm.testing", "kmm.testing.equivalence", "kmm.testing.options"] if module == "kmm.testing" else []
    assert done.stdout.split() == ["kmm", *own]


def test_load_variant(broken: str) -> None:
    assert kmm.load_variant("v12").variant.name == "v12"
    assert kmm.load_variant(broken).origin == broken
    assert kmm.load_variant(Path("broken.py")).path == Path.cwd() / "broken.py"


def test_a_path_object_is_never_a_name(here: Path) -> None:
    with pytest.raises(kmm.VariantError, match=r"^./v12: there is no such file; check the name$"):
        kmm.load_variant(Path("v12"))


def test_load_scenarios(here: Path) -> None:
    save_many("s.toml", SCENARIOS)
    assert kmm.load_scenarios("s.toml") == kmm.load_scenarios(here / "s.toml") == tuple(SCENARIOS)


def test_the_same(here: Path) -> None:
    verdict = kmm.check("reviewed", scenarios=iter(SCENARIOS), jobs=1)
    assert (verdict.relation, verdict.exit_code, verdict.scenarios) == (kmm.Relation.EQUIVALENT, 0, len(SCENARIOS))
    assert (verdict.baseline.name, verdict.candidate.name) == ("v12", "reviewed")
    assert [each.set for each in verdict.scope] == ["the 4 scenarios given"]


def test_a_file_gives_the_verdict_of_the_command(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_many("s.toml", SCENARIOS)
    verdict = kmm.check("reviewed", scenarios="s.toml", seed=3)
    assert main(["check", "--scenario", "s.toml", "--seed", "3"]) == 0
    assert f"seed 3, certificate {verdict.certificate}" in capsys.readouterr().out


def test_captured_scenarios_are_judged_in_four_forms(here: Path) -> None:
    captured = attrs.evolve(make("aaaaaaaa", orders=(2,), none=0), assumed=("dirty",))
    assert kmm.check("reviewed", scenarios=[captured]).scenarios == 4


def test_a_difference_writes_nothing_unless_it_is_told_to(here: Path, broken: str) -> None:
    verdict = kmm.check(broken, scenarios=SCENARIOS)
    assert (verdict.relation, verdict.exit_code) == (kmm.Relation.DIFFERENT, 2)
    assert verdict.counterexample is not None
    assert (verdict.counterexample.file, [path.name for path in here.iterdir()]) == (None, ["broken.py"])


@pytest.mark.parametrize("loaded", [False, True])
def test_a_difference_in_a_file(here: Path, broken: str, loaded: bool) -> None:
    (here / "found").mkdir()
    candidate = kmm.load_variant(broken) if loaded else broken
    baseline = V12 if loaded else "v12"
    verdict = kmm.check(candidate, baseline, scenarios=SCENARIOS, counterexample_dir=here / "found")
    assert verdict.counterexample is not None
    assert verdict.counterexample.file is not None
    s, table = load_replay(verdict.counterexample.file)
    assert s == verdict.counterexample.scenario
    assert table["candidate"] == "../broken.py"
    assert table["baseline"] == (os.path.relpath(V12.path, here / "found") if loaded else "v12")
    assert main(["replay", verdict.counterexample.file]) == 0


@pytest.mark.parametrize(("scope", "expected"), [(None, "quick"), ("quick", "quick"), ("full", "full")])
def test_the_scope_and_the_seed_reach_the_generator(monkeypatch: pytest.MonkeyPatch, scope: api.ScopeName | None, expected: str) -> None:
    asked: list[tuple[str, int]] = []

    def generated(scope: str, seed: int) -> list[Family]:
        asked.append((scope, seed))
        return [family(SCENARIOS[0])]

    monkeypatch.setattr(api, "generated", generated)
    assert kmm.check("reviewed", scope=scope, seed=5).seed == 5
    assert asked == [(expected, 5)]


def test_the_budget_ends_the_generated_scope() -> None:
    verdict = kmm.check("reviewed", budget_s=0.001, jobs=1)
    assert (verdict.relation, verdict.exit_code, verdict.out_of_time) == (kmm.Relation.UNDETERMINED, 3, True)


SEED = "use a whole number from 0 to 4294967295"
JOBS = "use a whole number from 1 to 1024"
SECONDS = "use a number of seconds above 0, or None"
VARIANT = "give a name, a path or what kmm.load_variant gave"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"seed": -1}, f"seed is -1; {SEED}"),
        ({"seed": 2**32}, f"seed is 4294967296; {SEED}"),
        ({"seed": True}, f"seed is True; {SEED}"),
        ({"seed": "1"}, f"seed is '1'; {SEED}"),
        ({"jobs": 0}, f"jobs is 0; {JOBS}"),
        ({"jobs": 1.5}, f"jobs is 1.5; {JOBS}"),
        ({"budget_s": 0}, f"budget_s is 0; {SECONDS}"),
        ({"budget_s": float("nan")}, f"budget_s is nan; {SECONDS}"),
        ({"budget_s": "9"}, f"budget_s is '9'; {SECONDS}"),
        ({"scope": "all"}, "scope is 'all'; use quick or full"),
        ({"expect": "different"}, "expect is 'different'; use equivalent or refines"),
        ({"scenarios": []}, "there is no scenario in scenarios; give one or more"),
        ({"scenarios": 7}, "scenarios is 7; give a file, or a list of kmm.Scenario"),
        ({"scenarios": [7]}, "scenarios[0] is 7; give kmm.Scenario values; kmm.load_scenarios reads a file"),
        ({"scenarios": "none.toml"}, "none.toml: there is no such file; check the name"),
        ({"scenarios": [], "scope": "quick"}, "scenarios and scope exclude each other; drop one"),
        ({"memory": "pso", "scenarios": None}, "memory is for given scenarios; give scenarios, or drop it"),
        ({"memory": "tso"}, "memory is 'tso'; use sc or pso"),
        ({"candidate": None}, f"candidate is None; {VARIANT}"),
        ({"candidate": V12.variant}, f"candidate is {V12.variant!r}; {VARIANT}"),
        ({"baseline": b"v12"}, f"baseline is b'v12'; {VARIANT}"),
        ({"candidate": "none.py"}, "none.py: there is no such file; check the name"),
        ({"counterexample_dir": "none"}, "none: counterexample_dir is no directory; name one that exists"),
        ({"counterexample_dir": 7}, "counterexample_dir is 7; give a path"),
    ],
)
def test_misuse_of_check(here: Path, arguments: dict[str, object], line: str) -> None:
    given = {"candidate": "reviewed", "scenarios": None if "scope" in arguments else SCENARIOS, **arguments}
    with pytest.raises(kmm.BadInputError) as caught:
        kmm.check(**given)  # type: ignore[arg-type]
    assert str(caught.value) == line


def test_run_gives_the_observation(here: Path) -> None:
    expected = observe(run_scenario(SCENARIOS[1], V12.variant))
    assert kmm.run(SCENARIOS[1]) == kmm.run(SCENARIOS[1], V12) == expected
    assert expected.result == "SCAN_SUCCEED"


def test_run_reads_a_file(here: Path) -> None:
    save("one.toml", SCENARIOS[1])
    assert kmm.run("one.toml", "reviewed") == kmm.run(SCENARIOS[1])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("os._exit(3)", "the variant ended the process with code 3"),
        ("raise NotApplicable", "the variant does not do what the scenario asks for"),
    ],
)
def test_a_run_without_an_answer(here: Path, body: str, reason: str) -> None:
    changed = variant(here / "changed.py", body)
    with pytest.raises(kmm.UndeterminedError) as caught:
        kmm.run(make("aaaaaaaa", orders=(2,)), changed)
    assert str(caught.value) == f"changed: {reason}"


def test_a_crash_of_the_variant_is_an_observation(here: Path) -> None:
    changed = variant(here / "changed.py", "raise KeyError(order)")
    assert kmm.run(SCENARIOS[1], changed).outcome.startswith("KeyError in changed:")


@pytest.mark.parametrize(
    ("scenario", "name", "line"),
    [
        (7, "v12", "scenario is 7; give a kmm.Scenario, or a file that holds one"),
        ("none.toml", "v12", "none.toml: there is no such file; check the name"),
        (SCENARIOS[0], None, f"variant is None; {VARIANT}"),
    ],
)
def test_misuse_of_run(here: Path, scenario: Scenario, name: str, line: str) -> None:
    with pytest.raises(kmm.BadInputError) as caught:
        kmm.run(scenario, name)
    assert str(caught.value) == line


def test_bad_input_is_a_value_error() -> None:
    kinds: Sequence[type[Exception]] = (kmm.ArgumentError, kmm.ScenarioError, kmm.VariantError)
    assert all(issubclass(kind, kmm.BadInputError) for kind in kinds)
    assert issubclass(kmm.BadInputError, ValueError)
    assert not issubclass(kmm.UndeterminedError, kmm.BadInputError)
    assert load_variant is not kmm.load_variant


def test_the_page_names_everything_public() -> None:
    text = (ROOT / "docs/python-api.md").read_text()
    assert [name for name in kmm.__all__ if f"`{name}`" not in text and f"`{name}(" not in text] == []


def test_the_page_names_every_argument_of_check() -> None:
    text = (ROOT / "docs/python-api.md").read_text()
    keywords = [name for name, each in signature(kmm.check).parameters.items() if each.kind is each.KEYWORD_ONLY]
    assert re.findall(r"^\| `(\w+)` \|", text.partition("by keyword only")[2].partition("Ctrl-C")[0], re.MULTILINE) == keywords


def test_the_examples_of_the_page_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_many("scenarios.toml", SCENARIOS)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python-api.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "python-api.md", "exec"), {})
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"equivalent {len(SCENARIOS)}"
    assert len(out) == 1 + len(SCENARIOS)
