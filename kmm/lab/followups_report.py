"""Follow-ups on a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kmm.lab.experiment_report import experiments_json, pairs, print_tried, said, title, verbatim, where
from kmm.lab.followups import JudgedFollowup

SCHEMA: Final = 1


def print_followups(console: Console, found: Sequence[JudgedFollowup], *, judged: bool) -> None:
    """One row each."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("follow-up", no_wrap=True)
    table.add_column("comments", no_wrap=True)
    table.add_column("what it does", ratio=1)
    table.add_column("expected", no_wrap=not judged)
    if judged:
        table.add_column("found")
        table.add_column("", no_wrap=True)
    for each in found:
        one = each.followup
        row: list[str | Text] = [one.name, ", ".join(one.comments), Text(one.title), one.expected]
        if judged:
            row += [each.found, Text(each.word, style="bold red" if each.exit_code else "green")]
        table.add_row(*row)
    console.print(table)


def print_followup(console: Console, found: JudgedFollowup, refactors: Path) -> None:
    """One, whole."""
    one = found.followup
    console.print(Text(f"{one.name}: {one.title}", style="bold"), soft_wrap=True)
    for head, text in (
        ("comments", ", ".join(one.comments)),
        ("why", one.why),
        ("here", one.says),
        ("the kernel", one.kernel),
    ):
        said(console, head, text)
    verbatim(console, refactors / one.patch)
    for number, (experiment, tried) in enumerate(pairs(one.experiments, found.tried), 1):
        title(console, f"experiment {number}")
        said(console, "question", experiment.question)
        said(console, "in", where(experiment, refactors))
        said(console, "expected", experiment.expectation)
        print_tried(console, tried)


def followups_json(found: Sequence[JudgedFollowup], *, judged: bool) -> dict[str, object]:
    """Everything, with the verdicts in full."""
    return {"schema": SCHEMA, "followups": [_followup(each, judged=judged) for each in found]}


def _followup(found: JudgedFollowup, *, judged: bool) -> dict[str, object]:
    one = found.followup
    return {
        "name": one.name,
        "title": one.title,
        "comments": list(one.comments),
        "why": one.why,
        "says": one.says,
        "kernel": one.kernel,
        "patch": one.patch,
        "baseline": one.baseline,
        "expected": one.expected,
        "found": found.found if judged else None,
        "as_expected": not found.exit_code if judged else None,
        "experiments": experiments_json(one.experiments, found.tried),
    }
