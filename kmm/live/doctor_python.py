"""Probes of what every command stands on: Python, its libraries, worker processes, the terminal."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import sys
from collections.abc import Mapping
from itertools import zip_longest
from typing import Final

from kmm.live.doctor_host import Finding, Host, in_child, limited, missing, ok

DISTRIBUTION: Final = "kmm-sandbox"
LIBRARIES: Final = ("attrs", "cattrs", "click", "greenlet", "hypothesis", "rich", "tomli-w")
"""What it stands on, for when it is not installed itself and cannot tell."""
FIRST_PYTHON: Final = (3, 11)
LAST_PYTHON: Final = (3, 13)
"""The newest that the tests run on."""
WORKER_MIB: Final = 64
"""What a worker process of ``kmm check`` takes at most, rounded up."""

_CHILD: Final = 7
_MAKE: Final = "run make in a checkout, which installs into .venv"
_REQUIREMENT: Final = re.compile(r"([\w.-]+)\s*(?:\[[^\]]*\])?\s*\(?([^;)]*)\)?\s*(?:;(.*))?")
_CLAUSE: Final = re.compile(r"(>=|<=|==|!=|<|>)(\d+(?:\.\d+)*)")


def python(_host: Host) -> Finding:
    """The interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < FIRST_PYTHON:
        return missing(version, f"install Python {_dotted(FIRST_PYTHON)} or later")
    if sys.version_info[:2] > LAST_PYTHON:
        return limited(f"{version}, newer than what kmm is tested with", f"should something fail, use Python {_dotted(LAST_PYTHON)}")
    return ok(version)


def libraries(_host: Host) -> Finding:
    """What the package asks for, and what is installed."""
    wanted = requirements(extra=False)
    found = _installed(wanted or dict.fromkeys(LIBRARIES, ""), f"{_MAKE}, or pip install {DISTRIBUTION}")
    if found.remedy or wanted:
        return found
    return limited(f"{found.found}; {DISTRIBUTION} is not installed, so which versions it wants cannot be told", _MAKE)


def fork(_host: Host) -> Finding:
    """Worker processes."""
    if not hasattr(os, "fork"):
        return missing(f"{sys.platform} has no fork", "use Linux")
    try:
        works = in_child(lambda: _CHILD) == _CHILD
    except OSError as error:
        return missing(f"no child process could be started ({error.strerror})", "raise the limit of processes (ulimit -u)")
    return ok("works") if works else missing("a child process did not end as it should", "look for what kills processes here")


def workers(host: Host) -> Finding:
    """CPUs and memory."""
    cpus = os.cpu_count() or 1
    found = "1 CPU" if cpus == 1 else f"{cpus} CPUs"
    kib = re.search(r"^MemAvailable:\s*(\d+) kB$", host.read("proc/meminfo") or "", re.MULTILINE)
    if kib is None:
        return ok(found)
    mib = int(kib.group(1)) // 1024
    found += f", {mib} MiB of memory free"
    if mib < WORKER_MIB * cpus:
        return limited(found, f"check with --jobs {max(1, mib // WORKER_MIB)}")
    return ok(found) if cpus > 1 else limited(found, "give checks more time")


def terminal(host: Host) -> Finding:
    """Colour and width."""
    if not sys.stdout.isatty():
        return limited("standard output is no terminal: plain text", "use a terminal; nothing else is lost without one")
    found = f"{shutil.get_terminal_size().columns} columns"
    reason = no_colour(host.environ)
    return limited(f"{found}, no colour: {reason}", "change that variable") if reason else ok(f"{found}, colour")


def no_colour(environ: Mapping[str, str]) -> str:
    """Why a terminal gets no colour; empty when it does."""
    if environ.get("NO_COLOR"):
        return "NO_COLOR is set"
    term = environ.get("TERM", "")
    return f'TERM is "{term}"' if term in ("", "dumb", "unknown") else ""


def tests(_host: Host) -> Finding:
    """What ``make test`` runs."""
    return _development("pytest", "pytest-xdist", "jsonschema", "mypy", "ruff")


def pyright(_host: Host) -> Finding:
    """The second type checker. It is not started, for its first start may download."""
    return _development("pyright")


def docs(_host: Host) -> Finding:
    """What ``make docs`` runs."""
    return _development("sphinx", "myst-parser", "furo")


def requirements(*, extra: bool) -> dict[str, str]:
    """Distribution and versions wanted, as ``>=24.2,<27``; empty when the package itself is not installed.

    :param extra: those of its extras, instead of its own
    """
    try:
        lines = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found = [match.groups(default="") for line in lines if (match := _REQUIREMENT.fullmatch(line))]
    return {name: versions.strip() for name, versions, marker in found if ("extra" in marker) == extra}


def satisfies(version: str, wanted: str) -> bool:
    """Whether a version is in a range; only release numbers count, and clauses of another form are taken as met."""
    return all(_meets(version, *clause.groups()) for clause in map(_CLAUSE.fullmatch, wanted.replace(" ", "").split(",")) if clause)


def _meets(version: str, relation: str, bound: str) -> bool:
    release = re.match(r"\d+(?:\.\d+)*", version)
    numbers = (each.split(".") for each in (release.group() if release else "0", bound))
    pairs = [(int(mine), int(theirs)) for mine, theirs in zip_longest(*numbers, fillvalue="0")]
    order = next(((mine > theirs) - (mine < theirs) for mine, theirs in pairs if mine != theirs), 0)
    return {">=": order >= 0, "<=": order <= 0, "==": order == 0, "!=": order != 0, "<": order < 0, ">": order > 0}[relation]


def _development(*names: str) -> Finding:
    wanted = requirements(extra=True)
    return _installed({name: wanted.get(name, "") for name in names}, _MAKE)


def _installed(wanted: dict[str, str], remedy: str) -> Finding:
    """One finding over several distributions; what is wrong is named first."""
    wrong: list[str] = []
    good: list[str] = []
    for name, versions in wanted.items():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        if satisfies(version, versions):
            good.append(f"{name} {version}")
        else:
            wrong.append(f"{name} is {version}, wanted is {versions}")
    found = "; ".join([*wrong, ", ".join(good)] if good else wrong)
    return missing(found, remedy) if wrong else ok(found)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
