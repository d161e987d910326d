"""Type-check what patches have changed."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kmm.scenario.errors import BadInputError

_ERROR: Final = re.compile(r"(?P<file>[^:]+):(?P<line>\d+): error: (?P<text>.*)")
_ROOMS: Final = ("kmm/mm/", "refactors/")


class TypingError(BadInputError):
    """Code that does not type-check."""


def can_type_check() -> bool:
    """mypy is there."""
    return importlib.util.find_spec("mypy") is not None


def type_check(root: Path, title: str) -> None:
    """Type-check ``kmm/mm`` and ``refactors`` of a tree, strictly.

    :param title: how people call the tree
    :raises TypingError: for the first error
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "kmm" / "mypy"
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *_options(cache), "-p", "kmm.mm", "-p", "refactors"],
        cwd=root,
        env={**os.environ, "MYPYPATH": str(root), "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        match = _ERROR.match(line)
        if match and match["file"].startswith(_ROOMS):
            raise TypingError(f"the code does not type-check ({match['text']})", "correct it", f"{match['file']}:{match['line']} of {title}")
    if done.returncode > 1:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise TypingError(f"mypy fails ({said[-1] if said else done.returncode})", "see whether it runs on its own", title)


def _options(cache: Path) -> Sequence[str]:
    return ("--strict", "--config-file=", "--ignore-missing-imports", "--no-error-summary", f"--cache-dir={cache}")
