"""An experiment on a terminal and as JSON; patches and paragraphs."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import attrs
from rich.console import Console
from rich.text import Text

from kmm.judge.verdict import to_json
from kmm.lab.experiment import BESIDE, GENERAL, Experiment, Tried


def print_tried(console: Console, tried: Tried | None, lines: int | None = None) -> None:
    """The verdict, and where the two runs part.

    :param lines: of the explanation, at most
    """
    if tried is None:
        return
    said(console, "verdict", f"{tried.verdict.relation.value}, {'as expected' if tried.as_expected else 'which is not as expected'}")
    if tried.verdict.counterexample is not None:
        told = tried.verdict.counterexample.explanation.splitlines()
        for line in [*told[:lines], *(["..."] if len(told[:lines]) < len(told) else [])]:
            console.print(Text(f"    {line}".rstrip()), soft_wrap=True)


def where(experiment: Experiment, refactors: Path) -> str:
    """What it is run in."""
    under = ", under store buffers" if experiment.memory == "pso" else ""
    if experiment.scenario:
        return f"{refactors.name}/{experiment.scenario}{under}"
    if experiment.scope == GENERAL:
        return "the scope of the command"
    return f"every schedule beside one of {len(BESIDE[experiment.scope])} actors{under}"


def title(console: Console, text: str) -> None:
    """A line that stands out."""
    console.print()
    console.print(Text(text, style="bold"))


def said(console: Console, head: str, text: str) -> None:
    """A paragraph with something in front."""
    lead = f"  {head:<12}"
    for line in textwrap.wrap(text, max(console.width, 60), initial_indent=lead, subsequent_indent=" " * len(lead)):
        console.print(Text(line), soft_wrap=True)


def verbatim(console: Console, patch: Path) -> None:
    """A patch without its mail headers."""
    said(console, "patch", f"{'/'.join(patch.parts[-3:])}")
    text = patch.read_text(encoding="utf-8")
    _, _, body = text.partition("\n\n")
    for line in body.rstrip().splitlines():
        style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
        console.print(Text(f"    {line}".rstrip(), style=style), soft_wrap=True)


def experiments_json(experiments: Sequence[Experiment], tried: Sequence[Tried]) -> list[dict[str, object]]:
    """The experiments, with the verdicts that there are in full."""
    return [
        {
            **attrs.asdict(each),
            "verdict": None if found is None else to_json(found.verdict),
            "as_expected": None if found is None else found.as_expected,
        }
        for each, found in pairs(experiments, tried)
    ]


def pairs(experiments: Sequence[Experiment], tried: Sequence[Tried]) -> list[tuple[Experiment, Tried | None]]:
    """Each experiment with its verdict; those behind an interrupt have none."""
    return list(zip_longest(experiments, tried))
