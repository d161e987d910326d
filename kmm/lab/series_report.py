"""A series on a terminal and as JSON."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kmm.judge.verdict import Relation, to_json
from kmm.lab.series import Judged
from kmm.lab.series_run import SeriesResult
from kmm.report.verdict import print_verdict

SCHEMA: Final = 1
STYLE: Final = {Relation.EQUIVALENT: "green", Relation.NO_DIFFERENCE_FOUND: "green"}


def print_series(console: Console, result: SeriesResult, goal: str) -> None:
    """One row a step, then why it ended; a bad verdict in full."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("step", "proposal", "comments", "types", "lint", "verdict"):
        table.add_column(head)
    table.add_column("pairs", justify="right")
    for each in result.judged:
        relation = each.verdict.relation
        table.add_row(
            str(each.step.number),
            Text(each.step.patch.subject.partition(": ")[2] or each.step.patch.subject),
            ", ".join(each.step.comments),
            _typed(each),
            "clean" if not each.lint else f"{len(each.lint)} found",
            Text(relation.value, style=STYLE.get(relation, "bold red")),
            f"{each.verdict.scenarios:,}",
        )
    console.print(table)
    console.print()
    console.print(Text(_end(result, goal), style="bold"), soft_wrap=True)
    if result.judged and result.judged[-1].exit_code:
        _bad(console, result.judged[-1])


def _end(result: SeriesResult, goal: str) -> str:
    if result.bad is not None:
        why = "cannot be taken" if result.bad > len(result.judged) else "is bad"
        left = result.total - result.bad
        return f"step {result.bad} of {result.total} {why}" + (f"; {left} behind it were not looked at" if left else "")
    if result.differs is not None:
        return f"the last step is not {goal}: line {result.differs} differs"
    return f"{result.total} steps, and the last is {goal}, byte for byte"


def _bad(console: Console, judged: Judged) -> None:
    console.print(Text(f"  {judged.step.patch.origin}"), soft_wrap=True)
    for line in judged.lint:
        console.print(Text(f"  {line}"), soft_wrap=True)
    if judged.verdict.exit_code:
        console.print()
        print_verdict(console, judged.verdict)


def _typed(each: Judged) -> str:
    return "clean" if each.typed else "not checked"


def series_json(result: SeriesResult, *, start: str, goal: str, scope: str) -> dict[str, object]:
    """Everything that :func:`print_series` shows, and every verdict in full."""
    return {
        "schema": SCHEMA,
        "from": start,
        "to": goal,
        "scope": scope,
        "total": result.total,
        "steps": [_step(each) for each in result.judged],
        "bad_step": result.bad,
        "reached": result.reached,
        "exit_code": result.exit_code,
    }


def _step(each: Judged) -> dict[str, object]:
    return {
        "number": each.step.number,
        "patch": each.step.patch.origin,
        "subject": each.step.patch.subject,
        "comments": list(each.step.comments),
        "types": _typed(each),
        "lint": list(each.lint),
        "verdict": to_json(each.verdict),
    }
