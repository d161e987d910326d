"""The command line: exit codes, one-line errors, lazy imports."""

from __future__ import annotations

import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from kmm.cli.errors import InputError
from kmm.cli.main import COMMANDS, main
from kmm.scenario.errors import ScenarioError

HELP = "import sys; from kmm.cli.main import main; code = main(['--help']); "


def raising(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def leaving(code: int) -> Callable[[], None]:
    return lambda: click.get_current_context().exit(code)


def run_command(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> int:
    """Exit code of ``kmm probe``, a command that does ``action``."""
    module = types.ModuleType("kmm_probe")
    vars(module)["probe"] = click.command("probe")(action)
    monkeypatch.setitem(sys.modules, "kmm_probe", module)
    monkeypatch.setitem(COMMANDS, "probe", ("kmm_probe:probe", "A command of the tests."))
    return main(["probe"])


@pytest.mark.parametrize(
    ("action", "code", "message"),
    [
        (lambda: None, 0, ""),
        (leaving(2), 2, ""),
        (leaving(3), 3, ""),
        (raising(SystemExit(2)), 2, ""),
        (raising(SystemExit()), 0, ""),
        (raising(KeyboardInterrupt()), 3, "kmm: interrupted\n"),
        (raising(InputError("no such file", "give another", "a.toml")), 4, "kmm: a.toml: no such file; give another\n"),
        (raising(InputError("a line\nand another", "join them")), 4, "kmm: a line and another; join them\n"),
        (raising(ScenarioError("no letter", "add it", "a.toml:3")), 4, "kmm: a.toml:3: no letter; add it\n"),
        (raising(click.UsageError("that is wrong.")), 4, "kmm: that is wrong; see kmm probe --help\n"),
        (raising(click.FileError("a.toml", "unreadable")), 4, "kmm: Could not open file 'a.toml': unreadable; see kmm --help\n"),
    ],
)
def test_exit_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], action: Callable[[], None], code: int, message: str
) -> None:
    assert run_command(monkeypatch, action) == code
    assert capsys.readouterr().err == message


def test_an_internal_error_is_one_line_and_a_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(monkeypatch, raising(RuntimeError("the sky\nfell"))) == 1
    message = capsys.readouterr().err
    found = re.fullmatch(r"kmm: internal error: RuntimeError: the sky fell; the traceback is in (\S+)\n", message)
    assert found is not None
    traceback = Path(found.group(1))
    assert "RuntimeError: the sky" in traceback.read_text()
    traceback.unlink()


@pytest.mark.parametrize(
    ("arguments", "word", "command"),
    [
        (["nonsense"], "nonsense", "kmm"),
        (["--nonsense"], "--nonsense", "kmm"),
        (["capture"], "--pid", "kmm capture"),
        (["capture", "--pid", "x"], "'x'", "kmm capture"),
        (["capture", "--pid", "0"], "0", "kmm capture"),
    ],
)
def test_bad_usage(capsys: pytest.CaptureFixture[str], arguments: list[str], word: str, command: str) -> None:
    assert main(arguments) == 4
    captured = capsys.readouterr()
    assert re.fullmatch(f"kmm: .*{word}.*; see {command} --help\n", captured.err)
    assert captured.out == ""


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 4
    captured = capsys.readouterr()
    assert captured.err.startswith("Usage: kmm")
    assert captured.out == ""


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"kmm \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Example" in shown
    assert f"kmm {name}" in shown


def test_help_lists_every_command_and_imports_none() -> None:
    script = HELP + "print(code, sorted(m for m in sys.modules if m.startswith(('kmm.', 'hypothesis', 'cattrs', 'rich', 'refactors'))))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 ['kmm.cli', 'kmm.cli.main', 'kmm.scenario', 'kmm.scenario.errors']"
    assert [name for name in COMMANDS if f"\n  {name} " not in done.stdout] == []


def test_a_closed_pipe_is_quiet() -> None:
    script = "import sys, time; from kmm.cli.main import main; sys.stdin.read(); sys.exit(main(['--help']))"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait() == 3
