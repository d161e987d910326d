"""A verdict that is not a pass, as the text of a failed test."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from typing import Final

from kmm.judge.findings import UNDETERMINED
from kmm.judge.verdict import Counterexample, Relation, Side, Verdict
from kmm.report.verdict import brief, sentence
from kmm.scenario.toml import render

_SHOWN: Final = 5


def message(verdict: Verdict, shown: Callable[[str], str]) -> str:
    """The relation, the counterexample, and where the two part.

    :param shown: gives a file as the reader names it
    """
    return "\n".join(_lines(verdict, shown))


def _lines(verdict: Verdict, shown: Callable[[str], str]) -> Iterator[str]:
    yield sentence(verdict)
    if verdict.relation is Relation.REFINES:
        yield 'equivalence was expected; expect="refines" takes a refinement too'
    yield _side("baseline ", verdict.baseline)
    yield _side("candidate", verdict.candidate)
    if verdict.counterexample is not None:
        yield from _counterexample(verdict.counterexample, shown)
    if verdict.relation is Relation.UNDETERMINED:
        yield from _unanswered(verdict)
    yield ""
    yield f"seed {verdict.seed}, certificate {verdict.certificate}"


def _side(role: str, side: Side) -> str:
    return f"  {role}  {side.name}: {side.origin}  sha256 {side.sha256[:12]}"


def _counterexample(example: Counterexample, shown: Callable[[str], str]) -> Iterator[str]:
    yield ""
    yield "counterexample"
    yield from textwrap.indent(render(example.scenario), "    ").splitlines()
    yield ""
    yield example.explanation
    if example.file is not None:
        yield ""
        yield f"run it again with: kmm replay {shown(example.file)}"


def _unanswered(verdict: Verdict) -> Iterator[str]:
    findings = [each for each in verdict.findings if each.check == UNDETERMINED]
    if findings:
        yield ""
    for each in findings[:_SHOWN]:
        yield f"{each.sentence}: {each.count:,} {'scenario' if each.count == 1 else 'scenarios; the first'}: {brief(each.scenario)}"
    if len(findings) > _SHOWN:
        yield f"and {len(findings) - _SHOWN} more kinds"
