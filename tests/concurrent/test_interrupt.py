"""``kmm explore`` says how far it is, and an interrupt ends it with what was found; a long search is no stalled worker."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from kmm.judge.pair import judge_pair
from kmm.judge.pool import guarded
from kmm.scenario.search import EXHAUSTIVE
from kmm.scenario.toml import render
from refactors import reviewed, v12
from tests.concurrent.making import beside

LONG = beside("gup:0-7", pages="aaa.aaaa", orders=(2, 3))
"""A minute's search at least."""


def until_progress(terminal: int) -> None:
    """Read what a terminal shows up to a line that says that a hundred traces were run."""
    shown = ""
    while not re.search(r"[\d,]+ executions, (?:\d,)?\d{3} traces, [\d,]+ executions/s, \d+ s", shown):
        shown += os.read(terminal, 4096).decode()


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupt_shows_what_was_found(jobs: int, tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(render(LONG), encoding="utf-8")
    code = "import sys; from kmm.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "explore", str(path), "--jobs", str(jobs), "--format", "json"]
    mine, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment, text=True) as process:
        until_progress(mine)
        process.send_signal(signal.SIGINT)
        os.close(theirs)
        assert process.stdout is not None
        found = json.loads(process.stdout.read())
    assert process.returncode == 3
    assert (found["complete"], found["interrupted"]) == (False, True)
    assert found["outcomes"]
    assert sum(each["executions"] for each in found["outcomes"]) == found["traces"]
    said = _rest(mine)
    assert f"kmm: interrupted: {found['executions']:,} executions were made" in said
    assert "Traceback" not in said


def _rest(terminal: int) -> str:
    """What a terminal showed that nobody has any more."""
    shown = b""
    try:
        while more := os.read(terminal, 4096):
            shown += more
    except OSError:
        pass
    return shown.decode()


def test_a_long_search_beats_in_a_worker() -> None:
    search = attrs.evolve(EXHAUSTIVE, budget=2_000)
    done = guarded(lambda _task, _skip, _beat: judge_pair(LONG, v12.VARIANT, reviewed.VARIANT, search).lead, stall_s=3.0)
    assert (done.value, done.lost) == (True, ())
