"""Counterexample files: a scenario with a ``[replay]`` table, written, read back and run again."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Final

import attrs

from kmm.judge.chunk import is_different
from kmm.judge.explanation import explanation
from kmm.judge.named import Named, Opener, from_table, open_here, to_table
from kmm.judge.pair import judge_pair
from kmm.judge.pool import STALL_S, Beat, Skip, guarded
from kmm.judge.possible import need_possible
from kmm.judge.variants import LoadedVariant
from kmm.scenario.actors import driver_name, task_names
from kmm.scenario.errors import ScenarioError
from kmm.scenario.files import read_text, write_atomic
from kmm.scenario.lines import line_of
from kmm.scenario.model import Scenario
from kmm.scenario.recorded import Recorded
from kmm.scenario.search import EXHAUSTIVE, Search
from kmm.scenario.toml import ScenarioFile, canonical_bytes, parse_file, render_file

DIFFERENT: Final = "different"
EQUIVALENT: Final = "equivalent"
UNDETERMINED: Final = "undetermined"
EXPECTATIONS: Final = (DIFFERENT, EQUIVALENT)
"""What ``expect`` may say."""
_FUNCTION: Final = re.compile(r"^\s*(?:async )?def (\w+)", re.MULTILINE)


@attrs.frozen(kw_only=True)
class Replay:
    """A counterexample that was run again.

    :param expect: what the file says should come out
    :param relation: what came out: one of :data:`EXPECTATIONS`, or ``undetermined``
    :param differs: names of the observables that differ
    :param explanation: where the two runs part, or why nothing came out; empty when they agree
    """

    scenario: Scenario
    baseline: LoadedVariant
    candidate: LoadedVariant
    expect: str
    relation: str
    differs: tuple[str, ...]
    explanation: str


@attrs.frozen
class _Outcome:
    relation: str
    differs: tuple[str, ...]
    explanation: str


def default_name(s: Scenario) -> str:
    """The name of a counterexample's file, by what it holds."""
    return f"counterexample-{hashlib.sha256(canonical_bytes(s)).hexdigest()[:8]}.toml"


def write_counterexample(
    path: Path, s: Scenario, *, baseline: str | Named, candidate: str | Named, expect: str = DIFFERENT, schedule: Recorded | None = None
) -> None:
    """Write a counterexample; a file that was there is replaced whole, or not at all.

    :param baseline: name of the variant, or its path from the current directory, or where else it is; paths in the file are from
        the file's directory
    :param candidate: likewise
    :param schedule: beside actors: leads one variant where the other never comes
    :raises ScenarioError: it cannot be written, or does not read back as what it is
    """
    sides = {**_table(baseline, "baseline", path), **_table(candidate, "candidate", path), "expect": expect}
    text = render_file(ScenarioFile(s, sides, schedule))
    write_atomic(path, text)
    again = parse_file(read_text(path), str(path))
    if again.scenario != s or render_file(again) != text:
        raise ScenarioError("the counterexample does not read back as it was written", "report this", str(path))


def _table(side: str | Named, role: str, path: Path) -> dict[str, str]:
    return to_table(side if isinstance(side, Named) else Named(side), role, path)


def replay(path: str | os.PathLike[str], *, stall_s: float = STALL_S, opened: Opener = open_here) -> Replay:
    """Run a counterexample again; the code of both variants is executed.

    :param stall_s: seconds after which a run that makes no step is given up
    :param opened: loads the variants
    :raises ScenarioError: the file cannot be read, or is not a counterexample
    :raises VariantError: one of its variants cannot be loaded
    """
    s, table, names, search, schedule = _read(Path(path))
    with opened(*names) as (baseline, candidate):
        if schedule is not None:
            _need_functions(schedule, (baseline, candidate), Path(path))
        need_possible(s, baseline, path)
        outcome = _run(s, baseline, candidate, search, stall_s)
    return Replay(
        scenario=s,
        baseline=baseline,
        candidate=candidate,
        expect=table.get("expect", DIFFERENT),
        relation=outcome.relation,
        differs=outcome.differs,
        explanation=outcome.explanation,
    )


def _read(path: Path) -> tuple[Scenario, dict[str, str], tuple[Named, Named], Search, Recorded | None]:
    text = read_text(path)
    file = parse_file(text, str(path))
    s, table = file.scenario, file.replay
    if not table:
        raise ScenarioError("the file has no [replay] table", "name a counterexample, or use kmm run", str(path))
    expect = table.get("expect", DIFFERENT)
    if expect not in EXPECTATIONS:
        where = f"{path}:{line_of(text, ('replay', 'expect'))}"
        raise ScenarioError(f'expect = "{expect}" is not known', 'use "different" or "equivalent"', where)
    if file.schedule is not None:
        _need_tasks(s, file.schedule, text, path)
    search = EXHAUSTIVE if file.schedule is None else attrs.evolve(EXHAUSTIVE, memory=file.schedule.memory)
    names = from_table(table, "baseline", "v12", path), from_table(table, "candidate", "reviewed", path)
    return s, table, names, search, file.schedule


def _need_functions(schedule: Recorded, sides: tuple[LoadedVariant, LoadedVariant], path: Path) -> None:
    """Raise for a schedule of functions that neither side has."""
    sources = {file for side in sides for file in (*map(Path, side.files), *(side.root / "kmm").rglob("*.py"))}
    known = {name for file in sources for name in _FUNCTION.findall(file.read_text(encoding="utf-8"))}
    for number, deviation in enumerate(schedule.deviations):
        if deviation.function.isidentifier() and deviation.function not in known:
            where = f"{path}:{_line(read_text(path), number)}"
            problem = f'the schedule is for another version: neither side has a function "{deviation.function}"'
            raise ScenarioError(problem, "drop [schedule]", where)


def _line(text: str, deviation: int) -> int:
    return line_of(text, ("schedule", "deviation", deviation))


def _need_tasks(s: Scenario, schedule: Recorded, text: str, path: Path) -> None:
    """Raise for a schedule of other tasks than the scenario has. RCU callbacks and stores on their way are named after theirs."""
    tasks = {*driver_name(s), *task_names(s)}
    for number, deviation in enumerate(schedule.deviations):
        for task in (deviation.task, deviation.to):
            if not any(task == name or task.startswith((f"{name}'s ", f"{name}/")) for name in tasks):
                where = f"{path}:{_line(text, number)}"
                raise ScenarioError(f'the schedule is for another scenario: there is no task "{task}"', "drop [schedule]", where)


def _run(s: Scenario, baseline: LoadedVariant, candidate: LoadedVariant, search: Search, stall_s: float) -> _Outcome:
    def work(_task: None, skip: Skip, beat: Beat) -> _Outcome:
        if 0 in skip:
            return _Outcome(UNDETERMINED, (), "")
        beat(0)
        intended = candidate.declared(baseline)
        pair = judge_pair(s, baseline.variant, candidate.variant, search, intended)
        if not pair.applicable:
            return _Outcome(UNDETERMINED, (), "one of the variants does not do what the scenario asks for")
        if pair.lead:
            return _Outcome(UNDETERMINED, (), "the search of the schedules ended before it could tell")
        if not is_different(pair, intended, refines=pair.refines):
            return _Outcome(EQUIVALENT, (), "")
        return _Outcome(DIFFERENT, pair.differs, explanation(s, baseline, candidate, search))

    done = guarded(work, stall_s=stall_s)
    return attrs.evolve(done.value, explanation=f"the worker {done.lost[0].reason}") if done.lost else done.value
