"""The pytest plugin, in test suites of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from inspect import signature
from pathlib import Path

import attrs
import pytest

from kmm.cli.main import main
from kmm.judge.replay import write_counterexample
from kmm.judge.verdict import Relation
from kmm.scenario.toml import save_many
from kmm.testing import assert_equivalent, options
from kmm.testing.message import message
from kmm.testing.options import NAMES, merged
from tests.helpers import direct, make
from tests.judging import ROOT, mutant, variant

pytest_plugins = ["pytester"]

SCENARIOS = [make("aaaaaaaa"), make(".....aaa", orders=(2,)), make("aaaa....", direct(2, 4))]
SUITE = "import pytest\nfrom kmm.testing import assert_equivalent\nS = 's.toml'\n"


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """A directory with a file of scenarios and a variant that differs; nothing else may be wrong with its tests."""
    save_many("s.toml", SCENARIOS)
    mutant(pytester.path / "broken.py", "folio_ref_add(folio, nr_pages - 1)", "folio_ref_add(folio, nr_pages)")
    pytester.makeini("[pytest]\naddopts = -ra --strict-markers --strict-config\nfilterwarnings = error\n")
    return pytester


def outcome(suite: pytest.Pytester, source: str, *arguments: str, **outcomes: int) -> str:
    """What pytest prints for a file of tests, which must end as told."""
    if source:
        suite.makepyfile(SUITE + source)
    result = suite.runpytest_inprocess(*arguments)
    result.assert_outcomes(**outcomes)
    out = result.stdout.str() + result.stderr.str()
    assert "INTERNALERROR" not in out
    return out


def shown(out: str) -> list[str]:
    """The lines of the message of a failure."""
    return [line.removeprefix("E").strip() for line in out.splitlines() if line.startswith("E ")]


def test_an_equivalent_candidate_passes(suite: pytest.Pytester) -> None:
    outcome(suite, "def test():\n    assert assert_equivalent('reviewed', scenarios=S).scenarios == 3\n", passed=1)


def test_a_difference_fails_with_what_a_kernel_developer_needs(suite: pytest.Pytester) -> None:
    out = outcome(suite, "def test():\n    assert_equivalent('./broken.py', scenarios=S)\n", failed=1)
    lines = shown(out)
    assert lines[0] == "AssertionError: different: reviewed does not behave as v12 does"
    wanted = [
        r"baseline   v12: .*refactors.*v12.*  sha256 [0-9a-f]{12}",
        r"candidate  reviewed: ./broken.py  sha256 [0-9a-f]{12}",
        r"counterexample",
        r"format = 1",
        r"ptes = 8",
        r"The two runs part at event \d+, after: .*",
        r"at .*v12.py:\d+ in collapse_huge_page",
        r"at broken.py:\d+ in map_anon_folio_pte_nopf",
        r"What differs \(v12 \| reviewed\):",
        r"run it again with: kmm replay \.pytest_cache/d/kmm/counterexample-[0-9a-f]{8}\.toml",
        r"seed 0, certificate [0-9a-f]{64}",
    ]
    at = [next((number for number, line in enumerate(lines) if re.fullmatch(each, line)), -1) for each in wanted]
    assert -1 not in at, wanted[at.index(-1)]
    assert at == sorted(at)
    assert "equivalence.py" not in out
    (file,) = (suite.path / ".pytest_cache/d/kmm").glob("*.toml")
    assert main(["replay", str(file)]) == 0


def test_the_message_names_the_file_from_where_pytest_was_called(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    suite.makepyfile(SUITE + "def test():\n    assert_equivalent('../broken.py', scenarios='../s.toml')\n")
    suite.mkdir("below")
    monkeypatch.chdir(suite.path / "below")
    out = suite.runpytest_inprocess(f"--rootdir={suite.path}", "..").stdout.str()
    (file,) = (suite.path / ".pytest_cache/d/kmm").glob("*.toml")
    assert f"run it again with: kmm replay {file}" in shown(out)


def test_without_a_cache_the_counterexample_is_a_temporary_file(suite: pytest.Pytester) -> None:
    out = outcome(suite, "def test():\n    assert_equivalent('./broken.py', scenarios=S)\n", "-pno:cacheprovider", failed=1)
    (line,) = [line for line in shown(out) if line.startswith("run it again with: kmm replay ")]
    file = Path(line.rpartition(" ")[2])
    assert file.is_file()
    assert not file.is_relative_to(suite.path)
    assert sorted(path.name for path in suite.path.iterdir() if path.suffix == ".toml") == ["s.toml"]
    file.unlink()


def test_undetermined_fails(suite: pytest.Pytester) -> None:
    variant(suite.path / "ends.py", "if order == 2:\n    os._exit(0)")
    out = outcome(suite, "def test():\n    assert_equivalent('./ends.py', scenarios=S)\n", failed=1)
    lines = shown(out)
    assert lines[0] == "AssertionError: undetermined: 2 scenarios gave no answer (1 scenarios judged without a difference)"
    ended = "the worker ended the process with code N: 2 scenarios; the first: khugepaged on .....aaa"
    assert ended in lines


def test_the_budget_fails_a_test(suite: pytest.Pytester) -> None:
    out = outcome(suite, "def test():\n    assert_equivalent('reviewed', budget_s=0.001)\n", failed=1)
    assert shown(out)[0].startswith("AssertionError: undetermined: the budget of seconds was used up")


def test_the_marker_says_what_the_call_does_not(suite: pytest.Pytester) -> None:
    source = """
pytestmark = pytest.mark.kmm(candidate="./broken.py", scenarios=S, seed=1)

def test_module():
    assert_equivalent()

@pytest.mark.kmm(candidate="reviewed")
class TestNearest:
    def test_class(self):
        assert assert_equivalent().seed == 1

    @pytest.mark.kmm(seed=2, baseline="reviewed")
    def test_function(self):
        verdict = assert_equivalent()
        assert (verdict.seed, verdict.baseline.name, verdict.scenarios) == (2, "reviewed", 3)

    def test_call(self):
        assert assert_equivalent("v12", seed=3).seed == 3

@pytest.fixture
def judged():
    return assert_equivalent()

@pytest.mark.kmm(candidate="v12")
def test_fixture(judged):
    assert judged.candidate.name == "v12"
"""
    out = outcome(suite, source, passed=4, failed=1)
    assert shown(out)[0] == "AssertionError: different: reviewed does not behave as v12 does"
    assert "FAILED test_the_marker_says_what_the_call_does_not.py::test_module" in out


def test_a_marker_ends_with_its_test(suite: pytest.Pytester) -> None:
    source = """
@pytest.mark.kmm(candidate="reviewed", scenarios=S)
def test_first():
    assert_equivalent()

def test_second():
    assert_equivalent()
"""
    before = options.surroundings
    out = outcome(suite, source, passed=1, failed=1)
    assert "there is no candidate; give assert_equivalent or the kmm marker one" in out
    assert options.surroundings is before


@pytest.mark.parametrize(
    ("decorator", "body", "line"),
    [
        ("@pytest.mark.kmm(scop='full')", "pass", "the kmm marker has no argument 'scop'; use some of candidate, baseline, "),
        ("@pytest.mark.kmm('reviewed')", "pass", "the kmm marker is given 'reviewed' without a keyword; use some of candidate, "),
        ("@pytest.mark.kmm(scope='all')", "assert_equivalent('v12')", "scope is 'all'; use quick or full"),
        ("@pytest.mark.kmm(candidate=7)", "assert_equivalent()", "candidate is 7; give a name, a path or what kmm.load_variant gave"),
        ("", "assert_equivalent()", "there is no candidate; give assert_equivalent or the kmm marker one"),
        ("", "assert_equivalent('none')", 'there is no variant "none"; use one of these ('),
        ("", "assert_equivalent('none.py')", "none.py: there is no such file; check the name"),
        ("", "assert_equivalent('s.toml', 'v12')", 'there is no variant "s.toml"; use one of these ('),
        ("", "assert_equivalent('v12', scenarios='no.toml')", "no.toml: there is no such file; check the name"),
        ("", "assert_equivalent('v12', scenarios='broken.py')", "broken.py:1: "),
        ("", "assert_equivalent('v12', scenarios=S, jobs='2')", "jobs is '2'; use a whole number from 1 to 1024"),
        ("", "assert_equivalent('v12', scenarios=S, expect=True)", "expect is True; use equivalent or refines"),
        ("", "assert_equivalent('v12', scenarios=S, scope='quick')", "scenarios and scope exclude each other; drop one"),
        ("", "assert_equivalent('v12', seeds=1)", "assert_equivalent() got an unexpected keyword argument 'seeds'"),
    ],
)
def test_misuse_fails_the_test_with_one_line(suite: pytest.Pytester, decorator: str, body: str, line: str) -> None:
    out = outcome(suite, f"{decorator}\ndef test():\n    {body}\n", failed=1)
    assert len([each for each in out.splitlines() if line in each and not each.startswith("FAILED")]) == 1
    assert "kmm/api.py" not in out


def test_pytest_lists_the_marker_and_the_options(suite: pytest.Pytester) -> None:
    assert "@pytest.mark.kmm(candidate, baseline, scenarios, " in suite.runpytest_inprocess("--markers").stdout.str()
    text = suite.runpytest_inprocess("--help").stdout.str()
    assert "--kmm-replay=FILE" in text
    assert "--kmm-scope={quick,full}" in text


RECORDING = """
import kmm.api
from kmm.live.given import given
from kmm.scenario.toml import load_many

def generated(scope, seed):
    return list(given(load_many("s.toml"), scope))

kmm.api.generated = generated
"""


def test_the_scope_of_the_command_line_is_the_default(suite: pytest.Pytester) -> None:
    suite.makeconftest(RECORDING)
    source = """
def scope(**options):
    return assert_equivalent("reviewed", **options).scope[0].name

def test_default(request):
    assert scope() == (request.config.getoption("kmm_scope") or "quick")

def test_call():
    assert scope(scope="quick") == "quick"

@pytest.mark.kmm(scope="quick")
def test_marker():
    assert scope() == "quick"

def test_scenarios():
    assert scope(scenarios=S) == "files"
"""
    outcome(suite, source, passed=4)
    outcome(suite, "", "--kmm-scope=full", passed=4)


def test_an_unknown_scope_is_a_usage_error(suite: pytest.Pytester) -> None:
    result = suite.runpytest_inprocess("--kmm-scope=all")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--kmm-scope: invalid choice: 'all'*"])


JOBS = """
def test():
    assert assert_equivalent("reviewed", scenarios=S).environment.jobs == {jobs}

def test_call():
    assert assert_equivalent("reviewed", scenarios=S, jobs=3).environment.jobs == 3
"""


@pytest.mark.parametrize(("arguments", "jobs"), [((), 4), (("-n", "1"), 1)])
def test_a_worker_of_xdist_has_one_job(suite: pytest.Pytester, arguments: tuple[str, ...], jobs: int) -> None:
    suite.makeconftest("import os\nos.cpu_count = lambda: 4\n")
    suite.makepyfile(SUITE + JOBS.format(jobs=jobs))
    suite.runpytest_subprocess(*arguments).assert_outcomes(passed=2)


def replayed(suite: pytest.Pytester, candidate: str, expect: str) -> str:
    """A counterexample file in a directory below; the variant is named from there."""
    suite.mkdir("kept")
    write_counterexample(suite.path / "kept/example.toml", SCENARIOS[1], baseline="v12", candidate=candidate, expect=expect)
    return "kept/example.toml"


@pytest.mark.parametrize(("candidate", "expect"), [("./broken.py", "different"), ("reviewed", "equivalent")])
def test_a_replay_passes(suite: pytest.Pytester, candidate: str, expect: str) -> None:
    file = replayed(suite, candidate, expect)
    out = outcome(suite, "", "--kmm-replay", file, "-v", passed=1)
    assert "kept/example.toml::replay PASSED" in out


@pytest.mark.parametrize(
    ("candidate", "expect", "line"),
    [
        ("./broken.py", "equivalent", "different, expected: equivalent: reviewed ("),
        ("reviewed", "different", "equivalent, expected: different: reviewed ("),
        ("./ends.py", "different", "undetermined, expected: different: changed ("),
    ],
)
def test_a_replay_fails(suite: pytest.Pytester, candidate: str, expect: str, line: str) -> None:
    variant(suite.path / "ends.py", "os._exit(0)")
    out = outcome(suite, "", "--kmm-replay", replayed(suite, candidate, expect), failed=1)
    assert [each for each in out.splitlines() if each.startswith(line)]
    assert ("The two runs part at event" in out) == line.startswith("different")
    assert ("the worker ended the process with code 0" in out) == line.startswith("undetermined")
    assert "replay.py" not in out


def test_replays_are_chosen_like_tests(suite: pytest.Pytester) -> None:
    file = replayed(suite, "reviewed", "equivalent")
    both = ["--kmm-replay", file, "--kmm-replay", file]
    outcome(suite, "def test():\n    pass\n", *both, passed=2)
    outcome(suite, "", *both, "-k", "example", passed=1, deselected=1)
    outcome(suite, "", *both, "-k", "not example", passed=1, deselected=1)


def test_replays_run_in_workers_of_xdist(suite: pytest.Pytester) -> None:
    file = replayed(suite, "./broken.py", "different")
    suite.runpytest_subprocess("--kmm-replay", file, "-n", "2").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("none.toml", "--kmm-replay none.toml: there is no such file; check the name"),
        (".", "--kmm-replay .: this is a directory; name a scenario file in it"),
        ("empty.toml", "--kmm-replay empty.toml: the file is empty; write a scenario, beginning with format = 1"),
    ],
)
def test_a_replay_that_cannot_be_read_is_a_usage_error(suite: pytest.Pytester, name: str, line: str) -> None:
    (suite.path / "empty.toml").touch()
    result = suite.runpytest_inprocess("--kmm-replay", name)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [each for each in result.stderr.lines if each] == [f"ERROR: {line}"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{one}", "example.toml: the file has no [replay] table; name a counterexample, or use kmm run"),
        ("{one}\n[replay]\ncandidate = 'none'\n", 'there is no variant "none"; use one of these ('),
        ("{one}\n[replay]\nexpect = 'refines'\n", ': expect = "refines" is not known; use "different" or "equivalent"'),
        ("format = 1\nnonsense\n", "example.toml:2: not valid TOML"),
    ],
)
def test_a_replay_that_cannot_be_used_fails_with_one_line(suite: pytest.Pytester, text: str, line: str) -> None:
    from kmm.scenario.toml import render

    (suite.path / "example.toml").write_text(text.format(one=render(SCENARIOS[1])))
    out = outcome(suite, "", "--kmm-replay", "example.toml", failed=1)
    assert len([each for each in out.splitlines() if line in each and not each.startswith("FAILED")]) == 1
    assert "Traceback" not in out
    assert "replay.py" not in out


def test_outside_of_pytest_it_is_an_assertion_too(suite: pytest.Pytester) -> None:
    text = "import sys\nfrom kmm.testing import assert_equivalent\n"
    text += "try:\n    assert_equivalent('./broken.py', scenarios='s.toml')\n"
    text += "except AssertionError as error:\n    print(error)\n    assert 'pytest' not in sys.modules\n"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", text], env=env, capture_output=True, text=True, check=True)
    (file,) = suite.path.glob("counterexample-*.toml")
    assert f"run it again with: kmm replay {file.name}\n" in done.stdout


def test_an_interrupt_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    import kmm.api

    judged = kmm.api.check("reviewed", scenarios=SCENARIOS, jobs=1)
    monkeypatch.setattr(kmm.api, "check", lambda *_, **__: attrs.evolve(judged, interrupted=True, exit_code=3))
    with pytest.raises(KeyboardInterrupt):
        assert_equivalent("reviewed")


def test_a_refinement_says_how_it_passes(tmp_path: Path) -> None:
    judged = assert_equivalent("reviewed", scenarios=SCENARIOS)
    text = message(attrs.evolve(judged, relation=Relation.REFINES, exit_code=2), str)
    assert text.splitlines()[1] == 'equivalence was expected; expect="refines" takes a refinement too'


def test_the_nearer_of_scope_and_scenarios_wins() -> None:
    assert merged([{"scope": "full"}, {"scenarios": "s.toml", "seed": None}]) == {"scenarios": "s.toml"}
    assert merged([{"scenarios": "s.toml", "seed": 1}, {"scope": "full", "seed": 2}]) == {"scope": "full", "seed": 2}
    assert merged([{"seed": 1}, {"seed": None}]) == {"seed": 1}


def test_the_plugin_is_light() -> None:
    text = "import sys, kmm.testing.plugin; print(*[m for m in sys.modules if m.startswith(('kmm.', 'hypothesis'))])"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", text], env=env, capture_output=True, text=True, check=True)
    names = ("testing", "testing.equivalence", "testing.options", "testing.plugin", "testing.replay")
    assert sorted(done.stdout.split()) == [f"kmm.{name}" for name in names]


def test_the_examples_of_the_page_run(suite: pytest.Pytester) -> None:
    (suite.path / "mine.py").write_text((ROOT / "refactors/reviewed.py").read_text())
    save_many("scenarios.toml", SCENARIOS)
    suite.makeconftest(RECORDING)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/pytest.md").read_text(), re.DOTALL)
    suite.makepyfile(**{f"test_{number}": block for number, block in enumerate(blocks)})
    outcome(suite, "", passed=6)


def test_the_page_names_every_option_and_argument() -> None:
    text = (ROOT / "docs/pytest.md").read_text()
    assert [name for name in (*NAMES, "--kmm-scope", "--kmm-replay") if f"`{name}" not in text] == []
    assert list(signature(assert_equivalent).parameters) == list(NAMES)
