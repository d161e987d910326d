"""A thread on a terminal and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kmm.judge.verdict import to_json
from kmm.lab.experiment import Experiment, Tried
from kmm.lab.series import patches_of
from kmm.lab.thread import Comment, Thread
from kmm.lab.thread_judge import STEPS, Evidence

SCHEMA: Final = 1
_GOOD: Final = ("equivalent", "as expected")
_LINES: Final = 12


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
    count = len(comment.experiments)
    return ", ".join([*steps, *([f"{count} experiment{'s' if count > 1 else ''}"] if count else [])])


def print_comment(console: Console, thread: Thread, comment: Comment, evidence: Evidence | None) -> None:
    """Everything about one, with the patches that deal with it."""
    refactors = thread.path.parent
    console.print(Text(f"{comment.id}, {comment.by}: {comment.disposition}", style="bold"), soft_wrap=True)
    for title, text in (("asked", comment.asked), ("answer", comment.answer), ("later", comment.later)):
        if text:
            _said(console, title, text)
    for number in comment.steps:
        _title(console, f"step {number}")
        patch = patches_of(refactors / STEPS)[number - 1]
        _verbatim(console, Path(patch.origin))
        if evidence is not None and number in evidence.steps:
            judged = evidence.steps[number]
            _said(console, "verdict", f"{judged.verdict.relation.value}, {judged.verdict.scenarios:,} pairs judged")
            _said(console, "certificate", judged.verdict.certificate)
    tried: Sequence[Tried | None] = evidence.tried.get(comment.id, ()) if evidence is not None else ()
    tried = [*tried, *[None] * (len(comment.experiments) - len(tried))]
    for number, (experiment, each) in enumerate(zip(comment.experiments, tried, strict=True), 1):
        _title(console, f"experiment {number}")
        _experiment(console, experiment, each, refactors)
    if not comment.steps and not comment.experiments:
        console.print()
        console.print("no step and no experiment deals with it")


def _experiment(console: Console, experiment: Experiment, tried: Tried | None, refactors: Path) -> None:
    _said(console, "question", experiment.question)
    _said(console, "scenario", f"{refactors.name}/{experiment.scenario}" + (", under store buffers" if experiment.memory == "pso" else ""))
    if experiment.patch:
        _verbatim(console, refactors / experiment.patch)
    else:
        _said(console, "judged", f"{experiment.candidate} against {experiment.baseline}")
    _said(console, "expected", experiment.expect + (f", by {experiment.shows}" if experiment.shows else ""))
    if tried is None:
        return
    _said(console, "verdict", f"{tried.verdict.relation.value}, {'as expected' if tried.as_expected else 'which is not as expected'}")
    if tried.verdict.counterexample is not None:
        lines = tried.verdict.counterexample.explanation.splitlines()
        for line in [*lines[:_LINES], *(["..."] if len(lines) > _LINES else [])]:
            console.print(Text(f"    {line}"), soft_wrap=True)


def _title(console: Console, title: str) -> None:
    console.print()
    console.print(Text(title, style="bold"))


def _said(console: Console, title: str, text: str) -> None:
    lead = f"  {title:<12}"
    for line in textwrap.wrap(text, max(console.width, 60), initial_indent=lead, subsequent_indent=" " * len(lead)):
        console.print(Text(line), soft_wrap=True)


def _verbatim(console: Console, patch: Path) -> None:
    """A patch without its mail headers."""
    _said(console, "patch", f"{'/'.join(patch.parts[-3:])}")
    text = patch.read_text(encoding="utf-8")
    _, _, body = text.partition("\n\n")
    for line in body.rstrip().splitlines():
        style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
        console.print(Text(f"    {line}".rstrip(), style=style), soft_wrap=True)


def thread_json(thread: Thread, comments: Sequence[Comment], evidence: Evidence | None) -> dict[str, object]:
    """The comments, with the verdicts in full."""
    return {"schema": SCHEMA, "about": thread.about, "comments": [_comment(each, evidence) for each in comments]}


def _comment(comment: Comment, evidence: Evidence | None) -> dict[str, object]:
    known = evidence or Evidence(steps={}, tried={})
    tried = known.tried.get(comment.id, ())
    return {
        **attrs.asdict(comment, filter=lambda attribute, _value: attribute.name not in ("steps", "experiments")),
        "steps": [{"number": n, "verdict": to_json(known.steps[n].verdict) if n in known.steps else None} for n in comment.steps],
        "experiments": [
            {
                **attrs.asdict(each),
                "verdict": to_json(tried[number].verdict) if number < len(tried) else None,
                "as_expected": tried[number].as_expected if number < len(tried) else None,
            }
            for number, each in enumerate(comment.experiments)
        ],
    }
