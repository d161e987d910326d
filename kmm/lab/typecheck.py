"""Type-check what patches have changed, if mypy is there."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

Error: TypeAlias = tuple[str, int, str]
"""File from the root of the tree, line, and what is wrong."""

_ERROR: Final = re.compile(r"(?P<file>(?:kmm/mm|refactors)/[^:]+):(?P<line>\d+): error: (?P<text>.*)")
_OPTIONS: Final = ("--strict", "--config-file=", "--ignore-missing-imports", "--no-error-summary", "--no-color-output")


def can_type_check() -> bool:
    """mypy is there."""
    return importlib.util.find_spec("mypy") is not None


def new_errors(root: Path, before: Callable[[], Path]) -> list[Error]:
    """Type errors in ``kmm/mm`` and ``refactors`` of a tree that were not there before, in the order of mypy.

    :param before: makes the tree as it was; called only when there are errors
    """
    errors = _errors(root)
    known = {(file, text) for file, _, text in _errors(before())} if errors else set()
    return [each for each in errors if (each[0], each[2]) not in known]


def _errors(root: Path) -> list[Error]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "kmm" / "mypy"
    command = [sys.executable, "-P", "-m", "mypy", *_OPTIONS, f"--cache-dir={cache}", "-p", "kmm.mm", "-p", "refactors"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=root, env={**environment, "MYPYPATH": str(root)}, capture_output=True, text=True, check=False)
    found = [(match["file"], int(match["line"]), match["text"]) for line in done.stdout.splitlines() if (match := _ERROR.match(line))]
    if done.returncode > 1 and not found:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise RuntimeError(f"mypy fails: {said[-1] if said else done.returncode}")
    return found
