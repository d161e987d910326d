"""What CI runs: every test, with what the tests compare with installed where that is possible."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).parent.parent / ".ci" / "run"
TOOLS = ("fish", "gcc", "spin", "zsh")


def run(folder: Path, *, there: tuple[str, ...] = (), user: int = 0, apt: str = "") -> tuple[int, list[str], str]:
    """Run the script among stand-ins: its exit code, what was called, and what it complained of.

    :param there: tools that are installed
    :param apt: what ``apt-get`` does besides
    """
    calls = folder / "calls"
    bodies = {
        **{name: f'echo "{name} $*" >> {calls}' for name in ("make", "apt-get")},
        "id": f"echo {user}",
        "dirname": 'echo "${1%/*}"',
    }
    bodies["apt-get"] += f"\n{apt}"
    for name, body in (*bodies.items(), *((name, "") for name in there)):
        (folder / name).write_text(f"#!/bin/bash\n{body}\n", encoding="ascii")
        (folder / name).chmod(0o755)
    done = subprocess.run(["/bin/bash", str(RUN)], env={"PATH": str(folder)}, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, calls.read_text(encoding="ascii").splitlines(), done.stderr


MAKES = ["make test", "make test-full"]


def test_what_is_missing_is_installed_before_the_tests(tmp_path: Path) -> None:
    code, calls, complaints = run(tmp_path, there=("gcc",))
    assert (code, complaints) == (0, "")
    assert calls == ["apt-get update -qq", "apt-get install -y -qq --no-install-recommends spin fish zsh", *MAKES]


def test_nothing_is_installed_where_nothing_is_missing(tmp_path: Path) -> None:
    assert run(tmp_path, there=TOOLS) == (0, MAKES, "")


def test_whoever_may_not_install_runs_the_tests_all_the_same(tmp_path: Path) -> None:
    assert run(tmp_path, user=1000) == (0, MAKES, "")


@pytest.mark.parametrize("failing", ["update", "install"])
def test_a_failure_to_install_is_told_and_no_failure(failing: str, tmp_path: Path) -> None:
    code, calls, complaints = run(tmp_path, apt=f"[ $1 != {failing} ]")
    assert (code, calls[-2:]) == (0, MAKES)
    assert complaints == "kmm: could not install spin gcc fish zsh; the tests that need them are skipped\n"


def test_the_script_can_be_run() -> None:
    assert os.access(RUN, os.X_OK)
