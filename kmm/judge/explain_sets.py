"""Why the sets of what two variants can come to differ: one schedule, step by step."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Final

import attrs

from kmm.judge.account import Account
from kmm.judge.columns import WIDTH, Event, columns
from kmm.judge.explain import explain_accounts
from kmm.judge.outcomes import Reachable
from kmm.judge.sets import Sets, judge_sets, reports_beyond
from kmm.judge.side import account
from kmm.judge.variants import LoadedVariant
from kmm.judge.witness import deviation_text, from_record, to_record
from kmm.kernel.record import Step
from kmm.scenario.actors import driver_name, task_names
from kmm.scenario.model import Scenario
from kmm.scenario.recorded import Recorded
from kmm.scenario.search import EXHAUSTIVE, Search

MOST_PREEMPTIONS: Final = 3
"""Up to so many, the schedule with the fewest is looked for."""
MOST_EXECUTIONS: Final = 1_000
"""Of the search for it; a schedule that is known already is shown if there is none."""
_NOTING: Final = ("recorder_note",)


def record_of(sets: Sets) -> Recorded:
    """The schedule with the fewest preemptions that leads one side where the other never comes: to a report, if there is one."""
    mine, other = sets.sides
    reports = reports_beyond(other)
    for_report = reports(sets.witness, mine.observation(sets.witness))
    wanted = attrs.evolve(reports, but=sets.not_shown(), beyond=reports.beyond if for_report else None)
    others = other.exploration.executions
    left = MOST_EXECUTIONS
    for bound in range(MOST_PREEMPTIONS + 1):
        search = attrs.evolve(mine.search, strategy="dfs", preemption_bound=bound, budget=left, jobs=1)
        found = mine.again(search, wanted)
        left = max(1, left - found.exploration.executions)
        for each in found.all:
            if wanted(each, found.observation(each)):
                return to_record(found.schedule(each), side=sets.side, others=others)
    return to_record(mine.schedule(sets.witness), side=sets.side, others=others)


def explain_sets(s: Scenario, baseline: LoadedVariant, candidate: LoadedVariant, search: Search = EXHAUSTIVE) -> tuple[str, Recorded]:
    """Search once more, and show a schedule that leads one variant where the other never comes.

    :returns: text of at most 100 columns, and the schedule
    :raises ValueError: the sets are equal
    """
    sets = judge_sets(s, baseline.variant, candidate.variant, search, intended=candidate.declared(baseline))
    if not sets.side:
        raise ValueError("both variants come to the same")
    record = record_of(sets)
    return explain_record(sets, record, baseline, candidate), record


def explain_record(sets: Sets, record: Recorded, baseline: LoadedVariant, candidate: LoadedVariant) -> str:
    """Show a schedule that leads one variant where the other never comes, as far as was searched.

    :returns: text of at most 100 columns
    """
    s = sets.scenario
    a, b = (account(s, each.variant, from_record(record)) for each in (baseline, candidate))
    text = explain_accounts(a, b, baseline, candidate).text
    return "\n".join([*_claim(sets, record), "", text, "", *_columns(s, b if record.side == "candidate" else a)])


def _claim(sets: Sets, record: Recorded) -> list[str]:
    mine, other = (sets.baseline, sets.candidate) if record.side == "baseline" else (sets.candidate, sets.baseline)
    names = [each.name for each in (mine, other)]
    count, deviations = len(other.all), len(record.deviations)
    text = (
        f"{names[0]} can come to something that {names[1]} never does: {names[1]} has {count} outcome{'s' if count > 1 else ''} in "
        f"{record.others} executions, {_how(other)}. The schedule leaves the usual order {deviations} "
        f"time{'' if deviations == 1 else 's'}{':' if deviations else '.'}"
    )
    out = textwrap.wrap(text, WIDTH, break_on_hyphens=False)
    for each in from_record(record).deviations:
        out += textwrap.wrap(deviation_text(each), WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
    return out


def _how(of: Reachable) -> str:
    return "which are all that matter" if of.exploration.complete else "which are not all"


def _columns(s: Scenario, shown: Account) -> list[str]:
    tasks = [*driver_name(s), *task_names(s)]
    events = [Event(step.task, step.text, _where(step), step.text.partition(":")[0].isupper()) for step in shown.steps]
    tasks += dict.fromkeys(event.task for event in events if event.task not in tasks)
    return columns(events, tasks)


def _where(step: Step) -> str:
    frames = [each for each in step.stack if each[2] not in _NOTING]
    return next((f"{Path(file).name}:{line} {function}" for file, line, function in frames), "")
