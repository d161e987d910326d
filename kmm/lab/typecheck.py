"""Type-check what patches have changed, if mypy is there."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias

Error: TypeAlias = tuple[str, int, str]
"""File from the root of the tree, line, and what is wrong."""

_ERROR: Final = re.compile(r"(?P<file>(?:kmm/mm|refactors)/[^:]+):(?P<line>\d+): error: (?P<text>.*)")
_OPTIONS: Final = ("--strict", "--config-file=", "--ignore-missing-imports", "--no-error-summary", "--no-color-output")


def can_type_check() -> bool:
    """mypy is there."""
    return importlib.util.find_spec("mypy") is not None


class Check:
    """mypy at work on ``kmm/mm`` and ``refactors`` of a tree. Leaving the block ends it.

    :param root: of the tree
    """

    def __init__(self, root: Path) -> None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "kmm" / "mypy"
        command = [sys.executable, "-P", "-m", "mypy", *_OPTIONS, f"--cache-dir={cache}", "-p", "kmm.mm", "-p", "refactors"]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        self._process = subprocess.Popen(
            command,
            cwd=root,
            env={**environment, "MYPYPATH": str(root)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def errors(self) -> list[Error]:
        """What it has found, when it has ended."""
        out, err = self._process.communicate()
        found = [(match["file"], int(match["line"]), match["text"]) for line in out.splitlines() if (match := _ERROR.match(line))]
        if self._process.returncode > 1 and not found:
            said = (err or out).strip().splitlines()
            raise RuntimeError(f"mypy fails: {said[-1] if said else self._process.returncode}")
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()


def new_errors(check: Check, before: Callable[[], Path]) -> list[Error]:
    """Type errors of a tree that were not there before, in the order of mypy.

    :param before: makes the tree as it was; called only when there are errors
    """
    errors = check.errors()
    if not errors:
        return []
    with Check(before()) as old:
        known = {(file, text) for file, _, text in old.errors()}
    return [each for each in errors if (each[0], each[2]) not in known]
