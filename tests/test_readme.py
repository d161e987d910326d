"""Every command and every output in the README is what a user sees."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SESSIONS = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
MAKE = [s for s in SESSIONS if s.startswith("$ make")]
KMM = [s for s in SESSIONS if not s.startswith("$ make")]


def matches(expected: str, printed: str) -> bool:
    """Whether the output is the expected one. A line ``...`` stands for any lines, ``...`` in a line for any text."""
    pattern = ""
    for line in expected.strip().splitlines():
        pattern += r"(?:.*\n)*?" if line == "..." else ".*?".join(re.escape(part) for part in line.split("...")) + r"\n"
    return re.fullmatch(pattern, printed.strip() + "\n") is not None or not (expected.strip() or printed.strip())


def shell(session: str, cwd: Path) -> None:
    """Run a console session, all commands in one shell, and compare each output."""
    parts = re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]
    commands = [part.partition("\n") for part in parts]
    script = "\n".join(f"{command}\necho; echo =====8=====" for command, _, _ in commands)
    env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(cwd), "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", script], cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900, check=False
    )
    outputs = done.stdout.split("=====8=====")
    for (command, _, expected), printed in zip(commands, outputs, strict=False):
        assert matches(expected, printed), f"$ {command}\n{printed}"


def test_the_matcher_can_fail() -> None:
    assert matches("one\n...\nthree", "one\ntwo\nthree")
    assert not matches("one\n...\nfour", "one\ntwo\nthree")


def test_the_readme_names_the_two_commands() -> None:
    assert [line for s in MAKE for line in s.splitlines() if line.startswith("$ ")] == ["$ make verdict", "$ make test"]
    makefile = (ROOT / "Makefile").read_text()
    assert "\nverdict:" in makefile
    assert "\ntest:" in makefile
    assert "make test\n" in (ROOT / ".ci/run").read_text()


@pytest.mark.full
@pytest.mark.parametrize("session", KMM, ids=["capture", "mistake"])
def test_sessions(session: str, tmp_path: Path) -> None:
    shell(session, tmp_path)


@pytest.mark.full
def test_what_make_verdict_prints(tmp_path: Path) -> None:
    first = MAKE[0].partition("\n")[2].partition("\n$ ")[0]
    shell(f"$ kmm check\n{first}", tmp_path)
