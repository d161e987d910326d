"""What the probes of ``kmm doctor`` look through, and what they find. Standard library only: it must run when a library is missing."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
import warnings
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple

PATIENCE_S: Final = 5.0
"""Seconds that a program or a system call gets."""
_LONGEST: Final = 200
_MOST_BYTES: Final = 1 << 16
_FAILED: Final = 255
_LOOK_S: Final = 0.005


class State(Enum):
    """How much of a part is there."""

    OK = "ok"
    LIMITED = "limited"
    MISSING = "missing"


class Finding(NamedTuple):
    """What a probe says.

    :param found: a version, a value, or what is not there; one line
    :param remedy: what to do about it; empty when the part is there
    """

    state: State
    found: str
    remedy: str = ""


def ok(found: str) -> Finding:
    """The part is there."""
    return Finding(State.OK, one_line(found))


def limited(found: str, remedy: str) -> Finding:
    """Some of the part is there, or it could not be told."""
    return Finding(State.LIMITED, one_line(found), remedy)


def missing(found: str, remedy: str) -> Finding:
    """The part is not there."""
    return Finding(State.MISSING, one_line(found), remedy)


def one_line(text: str) -> str:
    """``text`` in one printable line, cut where it is too long."""
    line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."


class Host(NamedTuple):
    """A machine, or a directory that stands for one.

    :param root: where its ``proc``, ``sys``, ``dev`` and ``boot`` are
    :param environ: its environment variables
    """

    root: Path = Path("/")
    environ: Mapping[str, str] = os.environ

    def read(self, name: str) -> str | None:
        """The stripped text of a file, 64 KiB at most; ``None`` when it cannot be read."""
        try:
            with (self.root / name).open("rb") as file:
                return file.read(_MOST_BYTES).decode(errors="replace").strip()
        except OSError:
            return None

    def names(self, folder: str, pattern: str) -> list[str]:
        """The names in a directory that match in full, sorted; none when it cannot be read."""
        try:
            return sorted(name for name in os.listdir(self.root / folder) if re.fullmatch(pattern, name))
        except OSError:
            return []

    def program(self, *names: str) -> str | None:
        """The path of the first of these programs that is installed."""
        return next((path for name in names if (path := shutil.which(name, path=self.environ.get("PATH", os.defpath)))), None)


def version_of(program: str) -> str | None:
    """The version in the first line of what ``program --version`` prints; ``None`` when it does not answer as it should."""
    try:
        done = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    number = re.search(r"\d+(\.\d+)+", done.stdout[:_MOST_BYTES].decode(errors="replace").partition("\n")[0])
    return number.group() if number else None


def in_child(call: Callable[[], int], patience_s: float = PATIENCE_S) -> int | None:
    """What ``call`` gives (0 to 254) in a child process; 255 when it raises or is killed, ``None`` when it does not end in time.

    :param patience_s: seconds
    """
    with warnings.catch_warnings():
        # The child takes no lock that another thread of ours may hold.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            os._exit(call())
        finally:
            os._exit(_FAILED)
    try:
        return _wait(pid, patience_s)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _wait(pid: int, patience_s: float) -> int | None:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.WEXITSTATUS(status) if os.WIFEXITED(status) else _FAILED
        time.sleep(_LOOK_S)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None
