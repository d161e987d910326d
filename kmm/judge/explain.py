"""Where two runs of one scenario part, in kernel words."""

from __future__ import annotations

import linecache
import textwrap
from pathlib import Path
from typing import Final

import attrs

import kmm
from kmm.judge.account import Account
from kmm.judge.difference import Difference, differences
from kmm.judge.differing import differing
from kmm.judge.side import account
from kmm.judge.variants import LoadedVariant
from kmm.kernel.record import READ, Step
from kmm.scenario.model import Scenario

WIDTH: Final = 100
"""Columns of an explanation."""
SHOWN: Final = 3
"""Differences that are spelled out for each observable."""
_ROOT: Final = Path(kmm.__file__).parent.parent


@attrs.frozen
class Place:
    """A line of source.

    :param file: relative to the project, else to the current directory, else the bare name
    """

    file: str
    line: int
    function: str
    text: str


@attrs.frozen(kw_only=True)
class Turn:
    """What one variant does where the two part.

    :param name: of the variant
    :param event: in kernel words
    :param place: the line of the variant; ``None``: the variant's code is not on the stack
    :param through: the calls below that line, outermost first
    """

    name: str
    event: str
    place: Place | None
    through: tuple[Place, ...]


@attrs.frozen(kw_only=True)
class Explanation:
    """Why two observations differ.

    :param names: of baseline and candidate
    :param common: events that the two runs have in common before they part
    :param last: the last of these; empty when there is none
    :param baseline: ``None``, like ``candidate``, when both runs have the same events
    :param differences: by observable
    :param first_violation: what a sanitizer said first about the candidate and not about the baseline; empty: nothing
    """

    names: tuple[str, str]
    common: int
    last: str
    baseline: Turn | None
    candidate: Turn | None
    differences: tuple[tuple[str, tuple[Difference, ...]], ...]
    first_violation: str

    @property
    def text(self) -> str:
        """For people, at most 100 columns wide."""
        return "\n".join([*self._parting(), *self._observed(), *self._violation()])

    def _parting(self) -> list[str]:
        if self.baseline is None or self.candidate is None:
            return [f"The two runs go through the same {self.common} events; they differ in what they leave behind."]
        after = f", after: {self.last}" if self.last else ""
        out = _wrapped(f"The two runs part at event {self.common + 1}{after}", "")
        for turn in (self.baseline, self.candidate):
            out += _turn(turn)
        return out

    def _observed(self) -> list[str]:
        if not self.differences:
            return ["No observable differs."]
        out = [f"What differs ({self.names[0]} | {self.names[1]}):"]
        for _, each in self.differences:
            for difference in each[:SHOWN]:
                out += _difference(difference)
            if len(each) > SHOWN:
                out.append(f"    and {len(each) - SHOWN} more")
        return out

    def _violation(self) -> list[str]:
        return _wrapped(self.first_violation, f"The first check that only {self.names[1]} fails: ") if self.first_violation else []


def explain(s: Scenario, baseline: LoadedVariant, candidate: LoadedVariant) -> Explanation:
    """Run both variants once more, with a log, and find where they part."""
    a, b = (account(s, each.variant) for each in (baseline, candidate))
    return explain_accounts(a, b, baseline, candidate)


def explain_accounts(a: Account, b: Account, baseline: LoadedVariant, candidate: LoadedVariant) -> Explanation:
    """Where two runs part that were made with a log."""
    steps, others = ([step for step in each.steps if not step.text.startswith(READ)] for each in (a, b))
    common = next((i for i, (x, y) in enumerate(zip(steps, others, strict=False)) if _said(x) != _said(y)), min(len(steps), len(others)))
    same = common == len(steps) == len(others)
    x, y = a.observation, b.observation
    return Explanation(
        names=(baseline.variant.name, candidate.variant.name),
        common=common,
        last=_without_note(steps[common - 1].text) if common else "",
        baseline=None if same else _turn_of(a, steps, common, baseline),
        candidate=None if same else _turn_of(b, others, common, candidate),
        differences=tuple((name, tuple(differences(name, x, y))) for name in differing(x, y)),
        first_violation=_first_violation(a, b),
    )


def _said(step: Step) -> tuple[str, str]:
    return step.task, step.text


def _without_note(text: str) -> str:
    return text.partition(" (")[0] if ".entries[" in text else text


def _turn_of(r: Account, steps: list[Step], at: int, loaded: LoadedVariant) -> Turn:
    name = loaded.variant.name
    if at >= len(steps):
        end = "has returned" if r.outcome == "returned" else f"has ended: {r.outcome}"
        return Turn(name=name, event=f"({end})", place=None, through=())
    stack = steps[at].stack
    depth = next((i for i, (file, _, _) in enumerate(stack) if file in loaded.files), None)
    through = stack if depth is None else stack[:depth]
    return Turn(
        name=name,
        event=steps[at].text,
        place=None if depth is None else _place(*stack[depth], loaded.root),
        through=tuple(_place(*each, loaded.root) for each in reversed(through) if each[2] != "recorder_note"),
    )


def _place(file: str, line: int, function: str, root: Path) -> Place:
    linecache.checkcache(file)
    return Place(relative(Path(file), root), line, function, linecache.getline(file, line).strip())


def relative(file: Path, root: Path = _ROOT) -> str:
    """A file as people name it.

    :param root: of the tree that it belongs to
    """
    for base in (root, _ROOT, Path.cwd()):
        if file.is_relative_to(base):
            return str(file.relative_to(base))
    return file.name


def _first_violation(a: Account, b: Account) -> str:
    new = [report for report in b.reports if report not in a.reports]
    if new:
        return f"{new[0].check}: {new[0].text}"
    return b.outcome if b.outcome not in ("returned", a.outcome) else ""


def _turn(turn: Turn) -> list[str]:
    out = _wrapped(turn.event, f"  {turn.name}: ")
    if turn.place is not None:
        out += _wrapped(f"{turn.place.file}:{turn.place.line} in {turn.place.function}", "    at ")
        out += _wrapped(turn.place.text, "       | ")
    if turn.through:
        out += _wrapped(", ".join(f"{each.function} ({each.file}:{each.line})" for each in turn.through), "    through ")
    return out


def _difference(difference: Difference) -> list[str]:
    line = f"  {difference.where}: {difference.baseline} | {difference.candidate}"
    if len(line) <= WIDTH:
        return [line]
    return [*_wrapped(f"{difference.where}:", "  "), *_wrapped(difference.baseline, "      "), *_wrapped(difference.candidate, "    | ")]


def _wrapped(text: str, lead: str) -> list[str]:
    """``lead`` and text in lines of at most :data:`WIDTH`; those that follow are indented."""
    wrapper = textwrap.TextWrapper(
        width=WIDTH,
        initial_indent=lead,
        subsequent_indent=" " * (len(lead) - len(lead.lstrip()) + 2),
        break_on_hyphens=False,
        max_lines=4,
        placeholder=" ...",
    )
    return wrapper.wrap(" ".join(text.split())) or [lead.rstrip()]
