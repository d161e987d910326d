"""Bad input: one line that says what, where and what to do; exit code 4; no traceback; nothing half-written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kmm.cli.main import main
from kmm.scenario.toml import render, save
from tests.helpers import as_nobody, make
from tests.judging import REVIEWED

GOOD = render(make("aaaaaaaa"))
HEAD = 'format = 1\n\n[geometry]\nptes = 8\n\n[driver]\nkind = "khugepaged"\n'
MAP = '\n[[vma]]\nmap = "aaaaaaaa"\n'
HUGE_MIB = 65


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a command gives on bad input."""
    assert main(list(arguments)) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("kmm: ")
    assert captured.err.count("\n") == 1
    assert captured.err.endswith("\n")
    assert "; " in captured.err, "says what to do"
    return captured.err.removeprefix("kmm: ").rstrip("\n")


FILES: dict[str, tuple[str | bytes, str]] = {
    "an unknown key": (HEAD + "speed = 3\n" + MAP, "s.toml:8: "),
    "an unknown top-level key": ("format = 1\ncolour = 1\n" + HEAD.removeprefix("format = 1\n") + MAP, "s.toml:2: "),
    "a letter outside of the alphabet": (HEAD + MAP.replace("aaaa", "aa?a", 1), 's.toml:10: "?" is not in the alphabet'),
    "a map that is too short": (HEAD + MAP.replace("aaaa", "a", 1), "s.toml:10: the map has 5 letters, the table 8 entries"),
    "a page both none and dirty": (
        HEAD + '\n[letters.A]\nkind = "none"\ndirty = true\n' + MAP,
        "a page cannot be both none and dirty",
    ),
    "a misaligned large folio": (
        HEAD + '\n[letters.A]\nkind = "present"\norder = 2\nindex = 0\n\n[[vma]]\nmap = ".A......"\n',
        'the large folio of "A" is misaligned (page 1)',
    ),
    "an unaligned attempt": (
        HEAD.replace('"khugepaged"', '"direct"\norder = 2\noffset = 2') + MAP,
        "an unaligned address is outside the contract",
    ),
    "an unknown format": (GOOD.replace("format = 1", "format = 7"), "s.toml:1: format = 7 is not known"),
    "no format": (GOOD.replace("format = 1\n", ""), "format is missing"),
    "no driver": (GOOD.replace('[driver]\nkind = "khugepaged"\n', ""), "the scenario has no driver"),
    "not TOML": (HEAD + "[[[\n", "s.toml:8: not valid TOML"),
    "empty": ("", "s.toml: the file is empty"),
    "blank": (" \n\n", "s.toml: the file is empty"),
    "binary": (b"format = 1\n\x00\xff\xfe", "s.toml:2: this is not UTF-8 text"),
    "not UTF-8": (b'format = 1\nname = "\xe9"\n', "s.toml:2: this is not UTF-8 text"),
}


def write(name: str, data: str | bytes) -> None:
    """A file."""
    Path(name).write_bytes(data.encode() if isinstance(data, str) else data)


@pytest.mark.parametrize("command", [["run"], ["replay"], ["check", "--scenario"], ["fmt"]], ids=lambda c: c[0])
@pytest.mark.parametrize(("data", "problem"), FILES.values(), ids=FILES)
def test_a_bad_scenario(capsys: pytest.CaptureFixture[str], command: list[str], data: str | bytes, problem: str) -> None:
    write("s.toml", data)
    line = complaint(capsys, *command, "s.toml")
    assert line.startswith("s.toml:")
    assert problem in line
    assert Path("s.toml").read_bytes() == (data.encode() if isinstance(data, str) else data)


@pytest.mark.parametrize("command", [["run"], ["replay"], ["check", "--scenario"], ["fmt"]], ids=lambda c: c[0])
def test_not_a_file(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    Path("d").mkdir()
    assert complaint(capsys, *command, "none.toml") == "none.toml: there is no such file; check the name"
    assert complaint(capsys, *command, "d").startswith("d: this is a directory; ")
    with open("huge.toml", "wb") as huge:
        huge.truncate(HUGE_MIB << 20)
    assert "huge.toml: the file is larger than" in complaint(capsys, *command, "huge.toml")
    assert "cannot be read" in complaint(capsys, *command, "n" * 300)


def test_one_bad_file_of_several(capsys: pytest.CaptureFixture[str]) -> None:
    save("good.toml", make("aaaaaaaa"))
    write("bad.toml", "format = 1\n")
    assert complaint(capsys, "check", "--scenario", "good.toml", "--scenario", "bad.toml").startswith("bad.toml:")


def test_several_scenarios_where_one_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    write("two.toml", "format = 1\n\n[[scenario]]\n\n[[scenario]]\n")
    assert "the file holds several scenarios" in complaint(capsys, "run", "two.toml")


VARIANTS: dict[str, tuple[str | bytes, str]] = {
    "does not parse": ("def f(:\n", "v.py:1: this is not Python"),
    "does not import": ("import kmm\nimport no_such_module\n", "v.py:2: the variant does not import (ModuleNotFoundError"),
    "raises": ("x = 1\n\nraise OSError('no')\n", "v.py:3: the variant does not import (OSError: no)"),
    "exits": ("raise SystemExit(0)\n", "v.py:1: the variant does not import (SystemExit: 0)"),
    "ends the process": ("import os\nos._exit(0)\n", "v.py: the variant does not import (it ended the process with code 0)"),
    "lacks VARIANT": ("x = 1\n", "v.py: the module has no VARIANT"),
    "has one of the wrong type": ("x = 1\nVARIANT = 'v12'\n", "v.py:2: VARIANT is of type str, not Variant"),
    "has no function": (
        "from kmm.mm.variant import Variant\nVARIANT = Variant(name='n', collapse_huge_page=3)\n",
        "v.py:2: collapse_huge_page of VARIANT is not a function",
    ),
    "is empty": ("", "v.py: the file is empty"),
    "is binary": (b"\x7fELF\x00\x01", "v.py"),
}


@pytest.mark.parametrize("option", ["candidate", "--baseline", "--variant"])
@pytest.mark.parametrize(("data", "problem"), VARIANTS.values(), ids=VARIANTS)
def test_a_bad_variant(capsys: pytest.CaptureFixture[str], option: str, data: str | bytes, problem: str) -> None:
    write("v.py", data)
    save("s.toml", make("aaaaaaaa"))
    commands = {
        "candidate": ["check", "./v.py", "--scenario", "s.toml"],
        "--baseline": ["check", "--baseline", "v.py", "--scenario", "s.toml"],
        "--variant": ["run", "s.toml", "--variant", "v.py"],
    }
    assert problem in complaint(capsys, *commands[option])


def test_a_variant_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    save("s.toml", make("aaaaaaaa"))
    assert complaint(capsys, "check", "v13", "--scenario", "s.toml").startswith('there is no variant "v13"; use one of these (')
    assert complaint(capsys, "check", "./none.py", "--scenario", "s.toml") == "./none.py: there is no such file; check the name"
    assert "is not the name of a variant" in complaint(capsys, "run", "s.toml", "--variant", "v 12")
    Path("dir.py").mkdir()
    assert "this is a directory" in complaint(capsys, "run", "s.toml", "--variant", "dir.py")


def test_a_replay_of_a_variant_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    write("e.toml", GOOD + '\n[replay]\ncandidate = "./gone.py"\n')
    assert "gone.py: there is no such file" in complaint(capsys, "replay", "e.toml")
    write("e.toml", GOOD + '\n[replay]\nbaseline = "v13"\n')
    assert 'there is no variant "v13"' in complaint(capsys, "replay", "e.toml")
    write("e.toml", GOOD + "\n[replay]\nspeed = 3\n")
    assert complaint(capsys, "replay", "e.toml").startswith("e.toml:")
    write("e.toml", GOOD)
    assert "e.toml: the file has no [replay] table" in complaint(capsys, "replay", "e.toml")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["frobnicate"], "No such command"),
        (["check", "--frobnicate"], "No such option"),
        (["check", "a", "b"], "two candidates: a and b"),
        (["check", "--budget", "-1"], "--budget"),
        (["check", "--budget", "0"], "--budget"),
        (["check", "--budget", "nan"], "nan is not a number of seconds"),
        (["check", "--budget", "soon"], "--budget"),
        (["check", "--seed", "-1"], "--seed"),
        (["check", "--jobs", "0"], "--jobs"),
        (["check", "--scope", "huge"], "--scope"),
        (["check", "--expect", "different"], "--expect"),
        (["check", "--format", "yaml"], "--format"),
        (["check", "--scope", "quick", "--scenario", "s.toml"], "--scope and --scenario exclude each other"),
        (["check", "--memory", "pso"], "--memory needs --scenario"),
        (["run"], "Missing argument"),
        (["run", "s.toml", "t.toml"], "unexpected extra argument"),
        (["replay"], "Missing argument"),
        (["boundary", "--format", "yaml"], "--format"),
        (["boundary", "all"], "unexpected extra argument"),
        (["capture"], "--pid"),
        (["capture", "--pid", "0"], "--pid"),
        (["capture", "--pid", "me"], "--pid"),
    ],
    ids=" ".join,
)
def test_bad_usage(capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str) -> None:
    line = complaint(capsys, *arguments)
    assert problem in line
    assert "--help" in line or "'" in line


def test_a_dead_process(capsys: pytest.CaptureFixture[str]) -> None:
    with open("/proc/sys/kernel/pid_max", encoding="ascii") as file:
        nobody = int(file.read()) + 1
    assert str(nobody) in complaint(capsys, "capture", "--pid", str(nobody))


def test_a_process_of_somebody_else(capsys: pytest.CaptureFixture[str]) -> None:
    """Of root, and this one where root runs the tests; it may be read by who started it."""
    pid = str(os.getpid()) if os.geteuid() == 0 else "1"
    assert os.geteuid() or main(["capture", "--pid", pid, "--output", "own"]) == 0
    capsys.readouterr()
    with as_nobody():
        assert complaint(capsys, "capture", "--pid", pid).startswith(f"the memory of process {pid} may not be read; ")


def test_nothing_is_left_behind(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    write("s.toml", "format = 1\n")
    for command in (["run", "s.toml"], ["replay", "s.toml"], ["check", "--scenario", "s.toml"], ["check", "nobody"]):
        complaint(capsys, *command)
    assert [path.name for path in here.iterdir()] == ["s.toml"]


def test_a_good_file_and_a_good_variant_are_fine(capsys: pytest.CaptureFixture[str]) -> None:
    write("s.toml", GOOD)
    write("v.py", REVIEWED.read_bytes())
    assert main(["run", "s.toml", "--variant", "v.py"]) == 0
    assert capsys.readouterr().err == ""
