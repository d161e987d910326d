"""A verdict on a terminal: the relation in plain words first, then what it rests on."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.text import Text

from kmm.judge.coverage import LineCoverage
from kmm.judge.findings import CONTRACT, UNDETERMINED, Finding
from kmm.judge.verdict import LEFT_OUT, Counterexample, Excused, Relation, Side, Verdict
from kmm.scenario.model import Scenario
from kmm.scenario.toml import render

_STYLE: Final = {
    Relation.EQUIVALENT: "bold green",
    Relation.REFINES: "bold yellow",
    Relation.DIFFERENT: "bold red",
    Relation.NO_DIFFERENCE_FOUND: "bold green",
    Relation.UNDETERMINED: "bold yellow",
}
_FINDINGS_SHOWN: Final = 20


def print_verdict(console: Console, verdict: Verdict) -> None:
    """Show a verdict."""
    console.print(Text(sentence(verdict), style=_STYLE[verdict.relation]), soft_wrap=True)
    _sides(console, verdict)
    _scope(console, verdict)
    _coverage(console, verdict)
    _intended(console, verdict.intended_differences)
    _findings(console, verdict)
    if verdict.counterexample is not None:
        _counterexample(console, verdict.counterexample)
    _foot(console, verdict)


def sentence(verdict: Verdict) -> str:
    """The relation in plain words."""
    baseline, candidate = verdict.baseline.name, verdict.candidate.name
    match verdict.relation:
        case Relation.EQUIVALENT:
            every = "the one scenario" if verdict.scenarios == 1 else f"all {verdict.scenarios:,} scenarios"
            return f"equivalent: {candidate} behaves as {baseline} does in {every} of the scope"
        case Relation.REFINES:
            return f"refines: whatever {candidate} does, {baseline} may do too"
        case Relation.DIFFERENT:
            return f"different: {candidate} does not behave as {baseline} does"
        case Relation.NO_DIFFERENCE_FOUND:
            return f"no difference found between {candidate} and {baseline} in {verdict.scenarios:,} scenarios, which is not a proof"
        case Relation.UNDETERMINED:
            return f"undetermined: {_why_undetermined(verdict)} ({verdict.scenarios:,} scenarios judged without a difference)"


def _why_undetermined(verdict: Verdict) -> str:
    if verdict.interrupted:
        return "the check was interrupted"
    if verdict.out_of_time:
        return "the budget of seconds was used up before the end of the scope"
    if verdict.coverage.undetermined:
        return f"{verdict.coverage.undetermined:,} scenarios gave no answer"
    return "no scenario lies inside what both variants do"


def _title(console: Console, title: str) -> None:
    console.print()
    console.print(Text(title, style="bold"))


def _sides(console: Console, verdict: Verdict) -> None:
    for role, side in (("baseline ", verdict.baseline), ("candidate", verdict.candidate)):
        console.print(Text(f"  {role}  {_origin(side)}  sha256 {side.sha256[:12]}", style="dim"), soft_wrap=True)


def _origin(side: Side) -> str:
    return f"{side.name}: {side.origin}"


def _scope(console: Console, verdict: Verdict) -> None:
    _title(console, "scope")
    reached = [each for each in verdict.scope if each.count]
    width = max(len("family"), *(len(each.name) for each in reached))
    console.print(Text(f"  {'family':<{width}}  kind        scenarios  set", style="dim"))
    for each in reached:
        head = f"  {each.name:<{width}}  {each.kind:<10}  {each.count:>9,}  "
        _wrapped(console, each.set, head)
    left_out = [each.name for each in verdict.scope if each.kind == LEFT_OUT]
    if len(reached) + len(left_out) < len(verdict.scope):
        console.print(f"  {len(verdict.scope) - len(reached) - len(left_out)} further families were not reached")
    if left_out:
        _wrapped(console, f"left out, since declared differences are about one table: {', '.join(left_out)}", "  ", "yellow")
    console.print(f"  {verdict.scenarios:,} distinct pairs judged")


def _wrapped(console: Console, text: str, lead: str, style: str = "") -> None:
    """``lead`` and text; further lines stand under the text."""
    for line in textwrap.wrap(text, max(console.width, len(lead) + 30), initial_indent=lead, subsequent_indent=" " * len(lead)):
        console.print(Text(line, style=style), soft_wrap=True)


def _coverage(console: Console, verdict: Verdict) -> None:
    coverage = verdict.coverage
    whole = verdict.relation in (Relation.EQUIVALENT, Relation.REFINES, Relation.NO_DIFFERENCE_FOUND)
    _title(console, "coverage")
    for side, lines in ((verdict.baseline, coverage.baseline), (verdict.candidate, coverage.candidate)):
        console.print(Text(f"  lines of {side.name}: {_lines(lines)}"))
        if whole:
            _missed(console, lines.missed)
    codes = coverage.codes
    total = len(codes.reached) + len(codes.unreachable) + len(codes.missed)
    console.print(Text(f"  SCAN codes: {len(codes.reached)}/{total} ({len(codes.unreachable)} proved unreachable)"))
    if whole:
        _missed(console, codes.missed)
    if coverage.not_applicable:
        console.print(f"  not applicable: {coverage.not_applicable:,} scenarios")
    if coverage.undetermined:
        console.print(f"  undetermined: {coverage.undetermined:,} scenarios")


def _lines(lines: LineCoverage) -> str:
    return f"{lines.reached}/{lines.total} ({lines.unreachable} proved unreachable)"


def _missed(console: Console, missed: Sequence[str]) -> None:
    if missed:
        more = f" and {len(missed) - 8} more" if len(missed) > 8 else ""
        _wrapped(console, f"{', '.join(missed[:8])}{more}", "    not reached: ", "yellow")


def _intended(console: Console, intended: Sequence[Excused]) -> None:
    if not intended:
        return
    _title(console, "intended differences (what shows them, and in how many scenarios)")
    reasons = dict.fromkeys((each.why, each.source) for each in intended)
    for why, source in reasons:
        _wrapped(console, f"{why} ({source})", "  ")
        shown = (f"{each.observable} {each.count:,}" for each in intended if (each.why, each.source) == (why, source))
        _wrapped(console, ", ".join(shown), "    ", "dim")


def _findings(console: Console, verdict: Verdict) -> None:
    for check, title in ((UNDETERMINED, "scenarios that gave no answer"), (CONTRACT, "outside of the contract (judged apart)")):
        apart = [each for each in verdict.findings if each.check == check]
        if apart:
            _title(console, title)
            _list(console, apart)
    _title(console, "findings (both variants alike; without effect on the exit code)")
    shared = [each for each in verdict.findings if each.check not in (UNDETERMINED, CONTRACT)]
    if not shared:
        console.print("  none")
    _list(console, shared)


def _list(console: Console, findings: Sequence[Finding]) -> None:
    for each in findings[:_FINDINGS_SHOWN]:
        _wrapped(console, each.sentence, f"  {each.check}: ", "red")
        count = "1 scenario:" if each.count == 1 else f"{each.count:,} scenarios; the first:"
        _wrapped(console, f"{count} {brief(each.scenario)}", "    ", "dim")
    if len(findings) > _FINDINGS_SHOWN:
        console.print(f"  and {len(findings) - _FINDINGS_SHOWN} more kinds; --format json has them all")


def brief(s: Scenario) -> str:
    """A scenario in one line."""
    d = s.driver
    who = d.kind.value if d.order is None else f"{d.kind.value} order {d.order} at {d.offset}"
    pages = s.pages if s.geometry.ptes <= 16 else f"{s.geometry.ptes} PTEs"
    extra = [f"{event.op} before {event.before}" for event in s.events] + [f"{failure.kind} fails" for failure in s.failures]
    return ", ".join([f"{who} on {pages}" if s.pmd == "table" else f"{who}, PMD {s.pmd}", *extra])


def _counterexample(console: Console, example: Counterexample) -> None:
    _title(console, "counterexample")
    if example.file is not None:
        console.print(Text(f"  {example.file}; run it again with: kmm replay {example.file}"), soft_wrap=True)
    console.print()
    for line in render(example.scenario).splitlines():
        console.print(Text(f"    {line}".rstrip(), style="cyan"), soft_wrap=True)
    console.print()
    for line in example.explanation.splitlines():
        console.print(Text(line), soft_wrap=True)


def _foot(console: Console, verdict: Verdict) -> None:
    environment = verdict.environment
    versions = ", ".join(f"{name} {version}" for name, version in sorted(environment.versions.items()))
    console.print()
    console.print(Text(f"seed {verdict.seed}, certificate {verdict.certificate}", style="dim"), soft_wrap=True)
    console.print(Text(f"{environment.elapsed_s:.1f} s, {environment.jobs} worker processes, {versions}", style="dim"), soft_wrap=True)
    console.print(Text(f"exit code {verdict.exit_code}: {_meaning(verdict)}"))


def _meaning(verdict: Verdict) -> str:
    if verdict.exit_code == 3:
        return "undetermined or interrupted, which is never a pass"
    if verdict.relation is Relation.REFINES:
        return "a refinement, as expected" if verdict.exit_code == 0 else "a refinement, and equivalence was expected"
    return "different" if verdict.exit_code else "the same, as far as the scope goes"
