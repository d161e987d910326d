"""Type-check files with mypy, which is a tool of developers and may be missing."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs

import kmm
from kmm.scenario.errors import BadInputError

_FLAGS: Final = (
    "--strict",
    "--config-file=",
    "--no-error-summary",
    "--no-color-output",
    "--hide-error-context",
    "--follow-imports=silent",
    "--enable-error-code=possibly-undefined",
)
_ERROR: Final = re.compile(r"(?P<file>.+?):(?P<line>\d+): error: (?P<text>.+)")


@attrs.frozen
class TypeFault:
    """What mypy says of a line.

    :param line: from 1
    """

    line: int
    text: str


def type_faults(files: Sequence[Path], scratch: Path) -> Mapping[Path, TypeFault]:
    """The first type error of each file that has one. The files' names must differ.

    :param scratch: a directory for mypy's cache
    :raises BadInputError: there is no mypy here, or it gave up
    """
    if importlib.util.find_spec("mypy") is None:
        raise BadInputError("there is no mypy to type-check with", "install it (pip install mypy), or say --no-types", "mypy")
    command = [sys.executable, "-m", "mypy", *_FLAGS, f"--cache-dir={scratch / 'mypy'}", *map(str, files)]
    done = subprocess.run(command, cwd=scratch, env=_environment(), capture_output=True, text=True, check=False)
    found: dict[Path, TypeFault] = {}
    for match in map(_ERROR.fullmatch, done.stdout.splitlines()):
        if match is not None:
            found.setdefault(scratch / match["file"], TypeFault(int(match["line"]), match["text"]))
    if done.returncode and not found:
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
        raise BadInputError(f"mypy gave up ({said[-1]})", "run it by hand, or say --no-types", "mypy")
    return found


def _environment() -> dict[str, str]:
    """This process's, with the packages that it runs; mypy finds installed ones by itself."""
    root = Path(str(kmm.__file__)).parents[1]
    env = {name: value for name, value in os.environ.items() if not name.startswith("MYPY")}
    return env if "site-packages" in root.parts else env | {"MYPYPATH": str(root)}
