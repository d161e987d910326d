"""A thread on a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kmm.judge.verdict import to_json
from kmm.lab.experiment import Experiment, Tried
from kmm.lab.experiment_report import experiments_json, pairs, print_tried, said, title, verbatim, where
from kmm.lab.followups import JudgedFollowup
from kmm.lab.series import patches_of
from kmm.lab.thread import Comment, Thread
from kmm.lab.thread_judge import STEPS, Evidence

SCHEMA: Final = 1
_LINES: Final = 12
_GOOD: Final = ("equivalent", "as expected")


def print_thread(console: Console, thread: Thread, evidence: Evidence | None) -> None:
    """One row a comment."""
    console.print(Text(thread.about, style="bold"), soft_wrap=True)
    console.print()
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("id", no_wrap=True)
    table.add_column("by", no_wrap=True)
    table.add_column("asked", ratio=1)
    table.add_column("became", no_wrap=True)
    table.add_column("dealt with by", no_wrap=True)
    if evidence is not None:
        table.add_column("verdict", no_wrap=True)
    for each in thread.comments:
        row: list[str | Text] = [each.id, each.by.split()[-1], Text(each.asked), each.disposition, _dealt(each)]
        if evidence is not None:
            word = evidence.word(each)
            row.append(Text(word, style="green" if word in _GOOD else "bold red"))
        table.add_row(*row)
    console.print(table)


def _dealt(comment: Comment) -> str:
    steps = [f"step {', '.join(map(str, comment.steps))}"] if comment.steps else []
    counts = (("experiment", len(comment.experiments)), ("follow-up", len(comment.followups)))
    return ", ".join([*steps, *(f"{count} {what}{'s' if count > 1 else ''}" for what, count in counts if count)])


def print_comment(console: Console, thread: Thread, comment: Comment, evidence: Evidence | None) -> None:
    """Everything about one, with the patches that deal with it."""
    refactors = thread.path.parent
    known = evidence or Evidence()
    console.print(Text(f"{comment.id}, {comment.by}: {comment.disposition}", style="bold"), soft_wrap=True)
    for head, text in (("asked", comment.asked), ("answer", comment.answer), ("later", comment.later)):
        if text:
            said(console, head, text)
    for number in comment.steps:
        title(console, f"step {number}")
        patch = patches_of(refactors / STEPS)[number - 1]
        verbatim(console, Path(patch.origin))
        if number in known.steps:
            judged = known.steps[number]
            said(console, "verdict", f"{judged.verdict.relation.value}, {judged.verdict.scenarios:,} pairs judged")
            said(console, "certificate", judged.verdict.certificate)
    for number, (experiment, tried) in enumerate(pairs(comment.experiments, known.tried.get(comment.id, ())), 1):
        title(console, f"experiment {number}")
        _experiment(console, experiment, tried, refactors)
    for followup in comment.followups:
        title(console, f"follow-up {followup.name}: {followup.title}")
        _followup(console, known.followups.get(followup.name, JudgedFollowup(followup=followup)), refactors)
    if not comment.steps and not comment.experiments and not comment.followups:
        console.print()
        console.print("no step, no experiment and no follow-up deals with it")


def _experiment(console: Console, experiment: Experiment, tried: Tried | None, refactors: Path) -> None:
    said(console, "question", experiment.question)
    said(console, "in", where(experiment, refactors))
    if experiment.patch:
        verbatim(console, refactors / experiment.patch)
    else:
        said(console, "judged", f"{experiment.candidate} against {experiment.baseline}")
    said(console, "expected", experiment.expectation)
    print_tried(console, tried, _LINES)


def _followup(console: Console, judged: JudgedFollowup, refactors: Path) -> None:
    for experiment, tried in pairs(judged.followup.experiments, judged.tried):
        found = f"; found {tried.verdict.relation.value}" if tried is not None else ""
        said(console, "in", where(experiment, refactors))
        said(console, "expected", f"{experiment.expectation}{found}")
    said(console, "more", f"kmm followups {judged.followup.name}")


def thread_json(thread: Thread, comments: Sequence[Comment], evidence: Evidence | None) -> dict[str, object]:
    """The comments, with the verdicts in full."""
    return {"schema": SCHEMA, "about": thread.about, "comments": [_comment(each, evidence) for each in comments]}


def _comment(comment: Comment, evidence: Evidence | None) -> dict[str, object]:
    known = evidence or Evidence()
    return {
        **attrs.asdict(comment, filter=lambda attribute, _value: attribute.name not in ("steps", "experiments", "followups")),
        "steps": [{"number": n, "verdict": to_json(known.steps[n].verdict) if n in known.steps else None} for n in comment.steps],
        "experiments": experiments_json(comment.experiments, known.tried.get(comment.id, ())),
        "followups": [each.name for each in comment.followups],
    }
