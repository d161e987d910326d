"""What the tests of patches and trees share: a small checkout to change, and patches of it."""

from __future__ import annotations

import difflib
import os
import shutil
import subprocess
from pathlib import Path

from tests.judging import ROOT

TAKEN = ("kmm/mm", "refactors", "kmm/kernel")
IDENTITY = {f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def copied(to: Path) -> Path:
    """A tree with all that is taken from one."""
    for each in TAKEN:
        shutil.copytree(ROOT / each, to / each, ignore=shutil.ignore_patterns("__pycache__"))
    return to


def replace(file: Path, old: str, new: str) -> None:
    """Replace a text that stands there once."""
    text = file.read_text()
    assert text.count(old) == 1, f"{text.count(old)} places of {file.name} have {old!r}"
    file.write_text(text.replace(old, new))


def diff(file: str, old: str, new: str, root: Path = ROOT) -> str:
    """The patch that replaces a text of a file.

    :param file: from the root of the tree
    """
    text = (root / file).read_text()
    assert text.count(old) == 1, f"{text.count(old)} places of {file} have {old!r}"
    before, after = text.splitlines(keepends=True), text.replace(old, new).splitlines(keepends=True)
    return "".join(difflib.unified_diff(before, after, f"a/{file}", f"b/{file}"))


def git(root: Path, *arguments: str) -> str:
    """Run git in a directory."""
    environment = {**os.environ, **IDENTITY, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    return subprocess.run(["git", "-C", str(root), *arguments], env=environment, capture_output=True, text=True, check=True).stdout.strip()


def repository(root: Path) -> Path:
    """A copy with one commit."""
    copied(root)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "one")
    return root


def contents(root: Path) -> dict[str, bytes]:
    """Every file of a tree."""
    return {
        str(each.relative_to(root)): each.read_bytes() for each in sorted(root.rglob("*")) if each.is_file() and ".git" not in each.parts
    }
