"""Write what the sessions and the judge say into docs/mutation.md, below its heading "Results"."""

from __future__ import annotations

import platform
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

import attrs

from tests.mutation import judge
from tests.mutation.run import tool
from tests.mutation.sessions import FILTERED, HERE, KILLED, PENDING, ROOT, SURVIVED, Mutant, mutants, planned, session

PAGE: Final = ROOT / "docs" / "mutation.md"
HEADING: Final = "## Results\n"
NOT_JUDGED: Final = "not judged"
RELATIONS: Final = (judge.KILLED_LATER, "equivalent", "different", judge.UNDETERMINED, NOT_JUDGED)
COLUMNS: Final = ("mutants", "filtered", "not run", "killed by tests", *RELATIONS)
RULE: Final = "|---|" + "---:|" * len(COLUMNS)


@attrs.frozen
class Survivor:
    """One that the tests of its time let live, and what became of it."""

    mutant: Mutant
    relation: str
    judged: judge.Judged | None


def survivors(every: list[Mutant], judged: Mapping[str, judge.Judged]) -> list[Survivor]:
    """With the judge's word where it is about the source as it stands."""
    found = []
    for each in every:
        if each.outcome == SURVIVED:
            known = judged.get(each.key)
            if known is not None and known.source != session(each.path).stem:
                known = None
            found.append(Survivor(each, _column(known), known))
    return found


def _column(known: judge.Judged | None) -> str:
    """What is neither proved nor refuted is undetermined."""
    if known is None:
        return NOT_JUDGED
    if known.relation in judge.DIFFERENT:
        return "different"
    return known.relation if known.relation in RELATIONS else judge.UNDETERMINED


def counts(every: list[Mutant], lived: list[Survivor]) -> tuple[int, ...]:
    """A row of the table. What the tool could not run is not run."""
    outcomes = Counter(each.outcome for each in every)
    relations = Counter(each.relation for each in lived)
    not_run = len(every) - outcomes[FILTERED] - outcomes[KILLED] - outcomes[SURVIVED]
    return (len(every), outcomes[FILTERED], not_run, outcomes[KILLED], *(relations[name] for name in RELATIONS))


def row(title: str, numbers: tuple[int, ...]) -> str:
    """One line of the table."""
    return f"| {title} | {' | '.join(map(str, numbers))} |"


def listed(lived: list[Survivor], reasons: Mapping[str, str]) -> Iterator[str]:
    """The survivors of a file that no test kills, one line each."""
    for each in lived:
        if each.relation == judge.KILLED_LATER:
            continue
        before, after = each.mutant.change
        known = each.judged
        evidence = "" if known is None or not known.scenarios else f" over {known.scenarios:,} pairs"
        if known is not None and each.relation == judge.UNDETERMINED:
            evidence += f" in {known.budget_s:g} s"
        reason = reasons.get(each.mutant.key, "")
        if reason and each.relation != "equivalent":
            reason = f"Expected to be equivalent: {reason[0].lower()}{reason[1:]}"
        where = f"line {each.mutant.line}" + (f", {each.mutant.function}" if each.mutant.function else "")
        yield f"* {where}: `{before}` becomes `{after}`: {each.relation}{evidence}. {reason}".rstrip()


def body() -> Iterator[str]:
    """Everything below the heading, by line."""
    judged = judge.read()
    reasons = tomllib.loads((HERE / "reasons.toml").read_text(encoding="utf-8"))["reasons"]
    rows, lines, absent = [], [], []
    for path in planned():
        every = mutants(path)
        lived = survivors(every, judged)
        if not every or all(each.outcome in (FILTERED, PENDING) for each in every):
            absent.append(f"`{path}`")
            continue
        rows.append((path, counts(every, lived)))
        found = list(listed(lived, reasons))
        if found:
            lines += [f"### {path}", "", *found, ""]
    yield f"{datetime.now(UTC):%Y-%m-%d}, `make mutation`, {_versions()}."
    yield ""
    yield f"| file | {' | '.join(COLUMNS)} |"
    yield RULE
    for path, numbers in rows:
        yield row(f"`{path}`", numbers)
    yield row("all", tuple(map(sum, zip(*(numbers for _, numbers in rows), strict=True))))
    yield ""
    yield f"Not run yet: {', '.join(absent)}." if absent else "Every file of the plan was run."
    yield ""
    yield from lines


def _versions() -> str:
    said = subprocess.run([tool("cosmic-ray"), "--version"], capture_output=True, check=True, text=True).stdout
    return f"Cosmic Ray {said.split()[-1]}, Python {platform.python_version()}"


def main() -> None:
    """Write the page."""
    text = PAGE.read_text(encoding="utf-8")
    prose = text[: text.index(HEADING) + len(HEADING)]
    PAGE.write_text(prose + "\n" + "\n".join(body()).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
