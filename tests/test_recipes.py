"""The scripts of the page about patches are run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kmm.scenario.toml import save_many
from tests.helpers import make
from tests.judging import ROOT
from tests.sessions import blocks
from tests.trees import git, replace, repository

PAGE = (ROOT / "docs" / "your-patch.md").read_text(encoding="utf-8")
RMAP = Path("kmm/mm/rmap.py")
INDEX = "machine.write(folio, Folio.index, linear_page_index(vma, address), PLAIN)"


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """A directory with the scripts, and a repository: good commits, one of which does not import, the bad one, and a last one."""
    for each in blocks(PAGE):
        if each.file.endswith(".sh"):
            (tmp_path / each.file).write_text(each.text)
    (tmp_path / "kmm").write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m kmm "$@"\n')
    (tmp_path / "kmm").chmod(0o755)
    save_many(tmp_path / "s.toml", [make(".....aaa", orders=(2,))])
    root = repository(tmp_path / "repo")
    git(root, "tag", "good")
    for old, new, tag in (
        ("from __future__ import annotations\n", "from __future__ import annotations\n# a word\n", "fine"),
        (INDEX, f"no_such_name = (\n    {INDEX}", "broken"),
        (f"no_such_name = (\n    {INDEX}", INDEX, "mended"),
        (INDEX, "pass", "bad"),
        ("# a word\n", "# another word\n", "last"),
    ):
        replace(root / RMAP, old, new)
        git(root, "commit", "-q", "-a", "-m", tag)
        git(root, "tag", tag)
    return tmp_path


def script(history: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the repository, with ``kmm`` on the path."""
    environment = {**os.environ, "PATH": f"{history}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return subprocess.run(arguments, cwd=history / "repo", env=environment, capture_output=True, text=True, check=False)


@pytest.mark.full
def test_bisect_finds_the_commit(history: Path) -> None:
    script(history, "git", "bisect", "start", "last", "good")
    done = script(history, "git", "bisect", "run", "sh", str(history / "bisect.sh"), "good", str(history / "s.toml"))
    assert f"{git(history / 'repo', 'rev-parse', 'bad')} is the first bad commit" in done.stdout


def test_ci_fails_when_the_branch_changes_something(history: Path) -> None:
    repo = history / "repo"
    bad = script(history, "sh", str(history / "ci.sh"), "good", "--scenario", str(history / "s.toml"))
    assert bad.returncode == 2, bad.stderr
    assert bad.stdout == (repo / "verdict.txt").read_text()
    assert bad.stdout.startswith("kmm check: different: v12 (")
    git(repo, "checkout", "-q", "fine")
    good = script(history, "sh", str(history / "ci.sh"), "good", "--scenario", str(history / "s.toml"))
    assert (good.returncode, good.stdout.splitlines()[0].split(":")[1]) == (0, " equivalent")
    git(repo, "checkout", "-q", "broken")
    assert script(history, "sh", str(history / "ci.sh"), "good", "--scenario", str(history / "s.toml")).returncode == 4
