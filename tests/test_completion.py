"""Shell completion: what is offered, and that real shells offer it."""

from __future__ import annotations

import os
import pty
import select
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from kmm.cli.completion import SHELLS
from kmm.cli.main import COMMANDS, COMPLETION, kmm, main
from kmm.cli.variants import SCENARIO, VARIANT, complete_paths
from tests.helpers import as_nobody

ROOT = Path(__file__).parent.parent
NAMES = sorted(path.stem for path in (ROOT / "refactors").glob("*.py") if path.stem != "__init__")
FILES = ("mine.py", "my own.py", "s.toml", "two words.toml", "notes.md", ".hidden.toml", "maps/deep.toml", "maps/code.py", "sub dir/x.toml")
PATIENCE_S = 30


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory with a few files, outside of the checkout."""
    folder = tmp_path / "here"
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    monkeypatch.chdir(folder)
    return folder


def completer(shell: str) -> ShellComplete:
    return SHELLS[shell](kmm, {}, "kmm", COMPLETION)


def offers(line: str, shell: str = "fish") -> list[str]:
    """What is offered for the last word of ``line``."""
    *args, incomplete = line.split(" ")
    return [item.value for item in completer(shell).get_completions(args, incomplete)]


def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shell: str, words: str, word: str | int) -> list[str]:
    """What ``kmm`` answers to a shell, as lines."""
    monkeypatch.setenv(COMPLETION, f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(word))
    assert main([]) == 0
    return capsys.readouterr().out.splitlines()


def test_every_command() -> None:
    assert offers("") == sorted(COMMANDS)
    assert offers("ch") == ["check"]
    assert offers("nobody") == []


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option(name: str) -> None:
    command = kmm.get_command(click.Context(kmm), name)
    assert command is not None
    options = {option for param in command.params if isinstance(param, click.Option) for option in param.opts}
    assert options | {"--help"} == set(offers(f"{name} --")) | {option for option in options if not option.startswith("--")}


def test_options_of_the_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert offers("--") == ["--version", "--help"]
    assert offers("--version ") == sorted(COMMANDS)
    assert capsys.readouterr().out == "", "no version is shown while completing"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("check --scope ", ["quick", "full"]),
        ("check --expect r", ["refines"]),
        ("check --scope=f", ["--scope=full"]),
        ("doctor --format ", ["text", "json"]),
        ("completion ", ["bash", "zsh", "fish"]),
        ("capture -o x --pid ", []),
    ],
)
def test_values(line: str, expected: list[str]) -> None:
    assert offers(line) == expected


@pytest.mark.parametrize(
    "line",
    ["check ", "check --baseline ", "run s.toml --variant ", "diff ", "diff v12 ", "lint ", "lint v12 ", "new mine --from "],
)
def test_variants(line: str) -> None:
    assert offers(line) == [*NAMES, "mine.py", "my own.py"]
    assert offers(f"{line}v1") == ["v12"]
    assert offers(f"{line}m") == [*(name for name in NAMES if name.startswith("m")), "maps/", "mine.py", "my own.py"]
    assert offers(f"{line}maps/") == ["maps/code.py"]


@pytest.mark.parametrize("line", ["check --scenario ", "run ", "replay ", "fmt ", "fmt s.toml ", "check --scenario s.toml --scenario "])
def test_scenarios(line: str) -> None:
    assert offers(line) == ["maps/", "s.toml", "sub dir/", "two words.toml"]
    assert offers(f"{line}maps/d") == ["maps/deep.toml"]
    assert offers(f"{line}.h") == [".hidden.toml"]


def test_names_of_the_checkout(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    (here / "refactors").mkdir()
    for name in ("__init__", "own"):
        (here / "refactors" / f"{name}.py").touch()
    assert offers("check o") == ["own"]


def test_home(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.chdir("/")
    assert offers("run ~/s") == ["~/s.toml", "~/sub dir/"]


def test_where_nothing_can_be_listed() -> None:
    for incomplete in ("none/", "s.toml/", "~nobody-of-that-name/", "a\0b/"):
        assert complete_paths(incomplete, ".toml") == []


def test_a_directory_that_may_not_be_listed(here: Path) -> None:
    here.chmod(0o755)
    with as_nobody():
        assert [item.value for item in complete_paths("maps/", ".toml")] == ["maps/deep.toml"]
    (here / "maps").chmod(0)
    with as_nobody():
        assert complete_paths("maps/", ".toml") == []


def test_names_that_would_break_a_line_are_left_out(here: Path) -> None:
    (here / "maps" / "a\nb.toml").touch()
    assert offers("run maps/") == ["maps/deep.toml"]


def test_types_take_what_text_does() -> None:
    assert VARIANT.convert("./mine.py", None, None) == "./mine.py"
    assert SCENARIO.convert("no such file", None, None) == "no such file"


@pytest.mark.parametrize(
    ("words", "word", "expected"),
    [
        ("kmm check --scope = f", 4, ["plain,full"]),
        ("kmm check --scope =", 3, ["plain,quick", "plain,full"]),
        ("kmm run ma", 2, ["path,maps"]),
        ("kmm run two\\ w", 2, ["path,two words.toml"]),
        ("kmm run 'sub dir/", 2, ["path,sub dir/x.toml"]),
        ("kmm capture -o ", 3, ["file,"]),
    ],
)
def test_bash_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, word: int, expected: list[str]
) -> None:
    assert ask(monkeypatch, capsys, "bash", words, word) == expected


def test_zsh_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(monkeypatch, capsys, "zsh", "kmm che", 1) == ["plain", "check", COMMANDS["check"][1]]
    assert ask(monkeypatch, capsys, "zsh", "kmm check --scope=f", 2) == ["plain", "--scope=full", "_"]


def test_fish_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(monkeypatch, capsys, "fish", "kmm che", "che") == [f"plain,check\t{COMMANDS['check'][1]}"]


def test_a_shell_that_asks_wrongly(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for instruction in ("", "bash", "bash_source", "csh_complete"):
        monkeypatch.setenv(COMPLETION, instruction)
        assert main([]) == 4
        assert capsys.readouterr().err.startswith(f'kmm: {COMPLETION} is "{instruction}"; unset it')
    monkeypatch.setenv(COMPLETION, "bash_complete")
    monkeypatch.delenv("COMP_WORDS", raising=False)
    assert main([]) == 4
    assert capsys.readouterr().err == f"kmm: {COMPLETION} is set, but not COMP_WORDS and COMP_CWORD; unset {COMPLETION}\n"


def test_the_default_shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for shell in SHELLS:
        assert main(["completion", shell]) == 0
        script = capsys.readouterr().out
        assert f"{COMPLETION}={shell}_complete" in script
        monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
        assert main(["completion"]) == 0
        assert capsys.readouterr().out == script
    monkeypatch.setenv("SHELL", "/bin/csh")
    assert main(["completion"]) == 4
    assert capsys.readouterr().err == "kmm: the variable SHELL names none of bash, zsh and fish; name one, as in: kmm completion bash\n"


def test_an_unknown_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "csh"]) == 4
    assert "'csh'" in capsys.readouterr().err


def test_commands_are_offered_without_importing_them() -> None:
    script = "import sys; from kmm.cli.main import main; main([]); print(sorted(m for m in sys.modules if m.startswith('kmm.cli.')))"
    env = {**os.environ, "PYTHONPATH": str(ROOT), COMPLETION: "bash_complete", "COMP_WORDS": "kmm ", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    *offered, modules = done.stdout.splitlines()
    assert offered == [f"plain,{name}" for name in sorted(COMMANDS)]
    assert modules == "['kmm.cli.completion', 'kmm.cli.errors', 'kmm.cli.main', 'kmm.cli.variants']"


START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
}
SET_UP = {
    "bash": 'eval "$(kmm completion bash)"',
    "zsh": 'autoload -U compinit; compinit -u -D; bindkey -e; unset zle_bracketed_paste; eval "$(kmm completion zsh)"',
}
LINES = {
    "kmm che\t": "kmm check",
    "kmm check --bas\tv1\t": "kmm check --baseline v12",
    "kmm check --scope=f\t": "kmm check --scope=full",
    "kmm check min\t": "kmm check mine.py",
    "kmm run map\tdeep\t": "kmm run maps/deep.toml",
    "kmm run two\t": "kmm run two words.toml",
    "kmm run sub\tx\t": "kmm run sub dir/x.toml",
    "kmm run ~/s.\t": "kmm run {home}/s.toml",
    "kmm capture --output=not\t": "kmm capture --output=notes.md",
}


def shell_environment(tmp_path: Path, home: Path) -> dict[str, str]:
    """One in which ``kmm`` is the one of this checkout."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    program = bin_dir / "kmm"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -m kmm "$@"\n')
    program.chmod(0o755)
    return {"PATH": f"{bin_dir}:{os.environ['PATH']}", "HOME": str(home), "TERM": "dumb", "PS1": "$ ", "LC_ALL": "C"}


class Terminal:
    """A shell that believes to be used by a person."""

    def __init__(self, command: list[str], env: dict[str, str], cwd: Path) -> None:
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=env, cwd=cwd, start_new_session=True)
        os.close(slave)

    def type(self, keys: str, mark: str) -> str:
        """What is shown from now on until the line that begins with ``mark``, which is the last."""
        os.write(self._master, keys.encode())
        shown = ""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if select.select([self._master], [], [], 0.1)[0]:
                shown += os.read(self._master, 1 << 16).decode(errors="replace")
            *lines, _ = shown.replace("\r", "\n").split("\n")
            if found := [line for line in lines if line.startswith(mark)]:
                return found[-1].removeprefix(mark)
        raise AssertionError(f"{mark} did not come: {shown!r}")

    def close(self) -> None:
        """End the shell."""
        self._process.kill()
        self._process.wait()
        os.close(self._master)


@pytest.fixture(params=sorted(START))
def terminal(request: pytest.FixtureRequest, tmp_path: Path, here: Path) -> Iterator[Terminal]:
    """A shell that completes kmm."""
    shell = str(request.param)
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    opened = Terminal(START[shell], shell_environment(tmp_path, here), here)
    try:
        opened.type(f"{SET_UP[shell]}; echo rea''dy\n", "ready")
        yield opened
    finally:
        opened.close()


def test_a_line_is_completed(terminal: Terminal, here: Path) -> None:
    for typed, completed in LINES.items():
        line = terminal.type(f"{typed}\x01echo @@\x05 %%\n", "@@")
        assert line.removesuffix("%%").rstrip() == completed.format(home=here), typed


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("kmm che", ["check\t" + COMMANDS["check"][1]]),
        ("kmm check --scope=f", ["--scope=full"]),
        ("kmm check min", ["mine.py"]),
        ("kmm run map", ["maps/"]),
        ("kmm run two", ["two words.toml"]),
        ("kmm run ~/s.", ["~/s.toml"]),
        ("kmm capture --output=not", ["--output=notes.md"]),
    ],
)
def test_fish_completes(tmp_path: Path, here: Path, line: str, expected: list[str]) -> None:
    script = f"kmm completion fish | source; complete -C {shlex.quote(line)}"
    env = shell_environment(tmp_path, here)
    done = subprocess.run(
        ["fish", "--no-config", "-c", script], env=env, cwd=here, capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    assert done.stdout.splitlines() == expected
