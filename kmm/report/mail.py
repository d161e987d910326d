"""A verdict as plain text to paste under a patch: at most 72 columns, with what it does not say."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Final

from kmm.judge.findings import CONTRACT, UNDETERMINED
from kmm.judge.verdict import LEFT_OUT, Counterexample, Relation, Side, Verdict
from kmm.report.verdict import brief, sentence
from kmm.scenario.toml import render

COLUMNS: Final = 72
_MOST_LINES: Final = 20
"""Of a scenario, and of an explanation."""
_LIMITS: Final = (
    "This is about a model of the anonymous collapse path in Python, not about the C code, its compiler or hardware. It holds for "
    "the scenarios counted above and no others."
)


def mail(verdict: Verdict) -> str:
    """The evidence, every line of which ends with a newline."""
    return "".join(f"{line}\n" for line in _lines(verdict))


def _lines(verdict: Verdict) -> Iterator[str]:
    yield from _wrapped(f"kmm check: {sentence(verdict)}")
    yield ""
    for role, side in (("baseline", verdict.baseline), ("candidate", verdict.candidate)):
        yield from _side(role, side)
    yield from _scope(verdict)
    if verdict.counterexample is not None:
        yield from _counterexample(verdict.counterexample)
    yield from _beside(verdict)
    yield f"certificate {verdict.certificate[:32]}"
    yield f"            {verdict.certificate[32:]}"
    yield ""
    yield from _wrapped(_LIMITS)


def _side(role: str, side: Side) -> Iterator[str]:
    yield from _wrapped(f"{side.name}: {side.origin}, sha256 {side.sha256[:12]}", f"{role:<12}")


def _scope(verdict: Verdict) -> Iterator[str]:
    counts = dict.fromkeys(each.kind for each in verdict.scope if each.count)
    parts = [f"{sum(each.count for each in verdict.scope if each.kind == kind):,} {kind}" for kind in counts]
    yield from _wrapped(f"{verdict.scenarios:,} distinct scenarios ({', '.join(parts) or 'none'}), seed {verdict.seed}", f"{'scope':<12}")
    left_out = [each.name for each in verdict.scope if each.kind == LEFT_OUT]
    if left_out:
        yield from _wrapped(", ".join(left_out), f"{'left out':<12}")
    lines = verdict.coverage.candidate
    yield from _wrapped(f"{lines.reached}/{lines.total} lines of {verdict.candidate.name} were reached", f"{'coverage':<12}")


def _counterexample(example: Counterexample) -> Iterator[str]:
    yield ""
    text = render(example.scenario).split("\n", maxsplit=1)[1].strip().splitlines()
    yield from _wrapped(brief(example.scenario), "counterexample: ")
    if len(text) <= _MOST_LINES:
        yield ""
        for line in text:
            yield from _wrapped(line, "  ") if line else [""]
    yield ""
    told = example.explanation.splitlines()
    for line in told[:_MOST_LINES]:
        yield from _wrapped(line.strip(), line[: len(line) - len(line.lstrip())])
    if len(told) > _MOST_LINES:
        yield f"({len(told) - _MOST_LINES} further lines)"
    yield ""


def _beside(verdict: Verdict) -> Iterator[str]:
    shared = [each for each in verdict.findings if each.check not in (CONTRACT, UNDETERMINED)]
    if shared:
        checks = ", ".join(
            f"{check} {sum(e.count for e in shared if e.check == check):,}" for check in dict.fromkeys(e.check for e in shared)
        )
        yield from _wrapped(f"{checks} (scenarios in which both sides do the same wrong)", f"{'findings':<12}")
    if verdict.intended_differences and verdict.relation is not Relation.DIFFERENT:
        names = ", ".join(dict.fromkeys(each.observable for each in verdict.intended_differences))
        yield from _wrapped(f"{names} may differ, as declared", f"{'intended':<12}")


def _wrapped(text: str, lead: str = "") -> list[str]:
    return textwrap.wrap(
        text, COLUMNS, initial_indent=lead, subsequent_indent=" " * len(lead), break_on_hyphens=False, drop_whitespace=True
    ) or [lead.rstrip()]
