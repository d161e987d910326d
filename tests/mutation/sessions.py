"""Cosmic Ray's sessions, one a file, as they stand in ``build/mutation``."""

from __future__ import annotations

import hashlib
import sqlite3
import tomllib
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

import attrs

ROOT: Final = Path(__file__).parents[2]
HERE: Final = Path(__file__).parent
BUILD: Final = ROOT / "build" / "mutation"
KILLED: Final = "killed"
SURVIVED: Final = "survived"
FILTERED: Final = "filtered"
PENDING: Final = "pending"
BROKEN: Final = "broken"
_MUTANTS: Final = """
select m.job_id, module_path, operator_name, occurrence, start_pos_row, definition_name, worker_outcome, test_outcome, diff
from mutation_specs m left join work_results r on m.job_id = r.job_id
order by start_pos_row, start_pos_col, operator_name, occurrence
"""


@attrs.frozen(kw_only=True)
class Mutant:
    """One change of one file, and what the tests said.

    :param key: file, line, operator and occurrence: what names it in every session over the same sources
    :param outcome: ``killed``, ``survived``, ``filtered``, ``pending`` (not run yet) or ``broken`` (the tool failed)
    :param diff: the change; empty where none was made
    """

    path: str
    operator: str
    occurrence: int
    line: int
    function: str
    outcome: str
    diff: str

    @property
    def key(self) -> str:
        """What names it."""
        return f"{self.path}:{self.line} {self.operator} {self.occurrence}"

    @property
    def change(self) -> tuple[str, str]:
        """The line before and after."""
        lines = [line for line in self.diff.splitlines() if not line.startswith(("---", "+++"))]
        before, after = ([line[1:].strip() for line in lines if line.startswith(sign)] for sign in "-+")
        return " ".join(before), " ".join(after)


def planned() -> Mapping[str, tuple[str, ...]]:
    """Each file that is mutated, with its tests in their order."""
    plan = tomllib.loads((HERE / "plan.toml").read_text(encoding="utf-8"))
    after = plan["tests"]["after"]
    return {path: tuple(dict.fromkeys([*first, *after])) for path, first in plan["files"].items()}


def session(path: str) -> Path:
    """The session of a file as it stands now."""
    text = hashlib.sha256((ROOT / path).read_bytes()).hexdigest()
    return BUILD / f"{path.removesuffix('.py').replace('/', '-')}-{text[:8]}.sqlite"


def mutants(path: str) -> list[Mutant]:
    """Those of a file, by line; none if its session was not begun."""
    if not session(path).exists():
        return []
    with closing(sqlite3.connect(session(path))) as database:
        rows = database.execute(_MUTANTS).fetchall()
    return [
        Mutant(
            path=row[1],
            operator=row[2].removeprefix("core/"),
            occurrence=row[3],
            line=row[4],
            function=row[5] or "",
            outcome=_outcome(row[6], row[7]),
            diff=row[8] or "",
        )
        for row in rows
    ]


def _outcome(worker: str | None, test: str | None) -> str:
    if worker is None:
        return PENDING
    if worker == "SKIPPED":
        return FILTERED
    return {"KILLED": KILLED, "SURVIVED": SURVIVED}.get(test or "", BROKEN) if worker == "NORMAL" else BROKEN
