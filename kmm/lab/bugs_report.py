"""Seeded bugs on a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kmm.judge.caught import Caught
from kmm.judge.verdict import to_json
from kmm.lab.bugs import GENERAL, Bug, LeftOut
from kmm.lab.bugs_judge import General, JudgedBug
from kmm.lab.experiment_report import said, title, verbatim
from kmm.scenario.model import Scenario

SCHEMA: Final = 1
NOTHING: Final = "nothing"


def print_bugs(console: Console, found: Sequence[JudgedBug], left_out: Sequence[LeftOut], *, judged: bool) -> None:
    """One row each, and what is left out."""
    in_general = any(each.general is not None for each in found)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("bug", no_wrap=True)
    table.add_column("class", no_wrap=True)
    table.add_column("what is wrong", ratio=1)
    table.add_column("in", no_wrap=True)
    table.add_column("breaks", max_width=6)
    table.add_column("caught by" if judged else "must be caught by", no_wrap=not judged)
    if judged:
        table.add_column("runs", max_width=12)
        if in_general:
            table.add_column("in general")
        table.add_column("", no_wrap=True)
    for each in found:
        table.add_row(*_row(each, judged=judged, in_general=in_general))
    if found:
        console.print(table)
    for one in left_out:
        said(console, one.id, f"left out: {one.title}. {one.why}")


def _row(found: JudgedBug, *, judged: bool, in_general: bool) -> list[str | Text]:
    bug = found.bug
    row: list[str | Text] = [bug.name, bug.kind, Text(bug.title), bug.candidate or bug.variant, " ".join(bug.invariants)]
    if not judged:
        return [*row, bug.expected]
    row += [by(found), "" if found.caught is None else runs(found.caught)]
    if in_general:
        row.append("" if found.general is None else general(found.general))
    return [*row, Text(found.word, style="bold red" if found.exit_code else "green")]


def by(found: JudgedBug) -> str:
    """What catches it, and what should have if that is something else."""
    wanted, caught = found.bug.caught_by, found.caught
    if caught is None:
        return ""
    if wanted and caught.said_by(wanted):
        return wanted
    is_by = caught.by or NOTHING
    return is_by if is_by == found.bug.expected else f"{is_by}, not {found.bug.expected}"


def runs(found: Caught) -> str:
    """How much was run: of the form with the bug, up to what shows it, and of the one without."""
    without, having = found.executions
    return "1 pair" if (without, having) == (1, 1) else f"{having:,}; {without:,} without"


def general(found: General) -> str:
    """What general scenarios say."""
    verdict = found.verdict
    if not found.by:
        return f"{verdict.relation.value}, {verdict.scenarios:,} pairs"
    return f"{found.by}, {found.family}, {verdict.scenarios:,} pairs"


def print_bug(console: Console, found: JudgedBug, scenario: Scenario, refactors: Path) -> None:
    """One, whole."""
    bug = found.bug
    console.print(Text(f"{bug.name}: {bug.title}", style="bold"), soft_wrap=True)
    without, having = bug.forms
    for head, text in (
        ("class", f"{bug.kind}, known as {bug.grade}"),
        ("breaks", ", ".join(bug.invariants)),
        ("why", bug.why),
        ("without it", without),
        ("with it", having),
        ("scenario", f"{refactors.name}/{bug.scenario}: {scenario.pages}{_under(bug)}"),
        ("in general", GENERAL.get(bug.general, "")),
        ("must be", f"caught by {bug.expected}" + (f": {bug.shows}" if bug.shows else "")),
    ):
        if text:
            said(console, head, text)
    if bug.patch:
        verbatim(console, refactors / bug.patch)
    if found.caught is not None:
        _print_caught(console, found, found.caught)


def _under(bug: Bug) -> str:
    bound = "" if bug.preemptions is None else f", schedules with up to {bug.preemptions} preemptions"
    return f"{bound}{', under store buffers' if bug.memory == 'pso' else ''}"


def _print_caught(console: Console, found: JudgedBug, caught: Caught) -> None:
    title(console, f"{found.word} by {by(found)}" if found.bug.caught_by else found.word)
    said(console, "runs", runs(caught))
    for each in caught.reports:
        said(console, "says", each)
    if not caught.reports and caught.differs:
        said(console, "differs", ", ".join(caught.differs))
    for line in caught.explanation.splitlines():
        console.print(Text(f"    {line}".rstrip()), soft_wrap=True)
    if found.general is not None:
        title(console, "in general")
        said(console, "verdict", general(found.general))


def bugs_json(found: Sequence[JudgedBug], left_out: Sequence[LeftOut]) -> dict[str, object]:
    """Everything, with what was found in full."""
    return {"schema": SCHEMA, "bugs": [_bug(each) for each in found], "left_out": [attrs.asdict(each) for each in left_out]}


def _bug(found: JudgedBug) -> dict[str, object]:
    bug, caught = found.bug, found.caught
    return {
        "name": bug.name,
        "id": bug.id,
        "title": bug.title,
        "class": bug.kind,
        "grade": bug.grade,
        "invariants": list(bug.invariants),
        "why": bug.why,
        "without": bug.forms[0],
        "with": bug.forms[1],
        "patch": bug.patch,
        "scenario": bug.scenario,
        "memory": bug.memory,
        "preemptions": bug.preemptions,
        "general_expected": bug.general,
        "expected": bug.expected,
        "shows": bug.shows,
        "word": found.word,
        "caught": None if caught is None else _caught(caught),
        "general": None if found.general is None else {"by": found.general.by, "verdict": to_json(found.general.verdict)},
    }


def _caught(caught: Caught) -> dict[str, object]:
    return {
        "by": caught.by,
        "relation": caught.relation,
        "executions": {"without": caught.executions[0], "with": caught.executions[1]},
        "differs": list(caught.differs),
        "reports": list(caught.reports),
        "both": list(caught.both),
        "explanation": caught.explanation,
    }
