"""How one scenario tells a candidate from a baseline: what a sanitizer says first, or what differs."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from kmm.judge.difference import differences
from kmm.judge.differing import differing
from kmm.judge.explain import explain
from kmm.judge.explain_sets import explain_record
from kmm.judge.observe import Observation
from kmm.judge.outcomes import Wanted
from kmm.judge.pair import judge_pair
from kmm.judge.pool import Beat, Skip, guarded
from kmm.judge.sets import DIFFERENT, EQUAL, UNDETERMINED, Sets, judge_sets, reports_beyond
from kmm.judge.side import account, from_canonical, outcomes
from kmm.judge.variants import LoadedVariant
from kmm.judge.witness import to_record
from kmm.kernel.report import Report
from kmm.scenario.model import Scenario
from kmm.scenario.search import EXHAUSTIVE, Search

ANY_REPORT = Wanted(frozenset(), frozenset())


@attrs.frozen(kw_only=True)
class Caught:
    """What one scenario says.

    :param relation: as :class:`kmm.judge.sets.Sets` has it, for a single run too
    :param executions: of the baseline and of the candidate; the candidate's end with the first that has a report of its own
    :param differs: names of the observables that differ
    :param reports: ``CHECK: sentence``, of the candidate only, in the order of its run
    :param both: likewise, of what both say
    :param values: (observable, what differs in it, with both values)
    :param explanation: where the two part, if it was asked for
    """

    relation: str
    executions: tuple[int, int]
    differs: tuple[str, ...] = ()
    reports: tuple[str, ...] = ()
    both: tuple[str, ...] = ()
    values: tuple[tuple[str, str], ...] = ()
    explanation: str = ""

    @property
    def by(self) -> str:
        """The sanitizer that speaks first; else the first observable that differs; empty: nothing does."""
        if self.reports:
            return self.reports[0].partition(":")[0]
        return self.differs[0] if self.differs else ""

    def said_by(self, name: str) -> str:
        """The first sentence of a sanitizer, if it is the first that speaks, or what differs in an observable; empty: nothing.

        An observable tells only where no sanitizer speaks.
        """
        if self.reports:
            return self.reports[0] if self.by == name else ""
        return "; ".join(text for observable, text in self.values if observable == name)


def caught(
    s: Scenario, baseline: LoadedVariant, candidate: LoadedVariant, search: Search = EXHAUSTIVE, *, explained: bool = False
) -> Caught:
    """Judge one scenario, in a worker. One that gives no answer is undetermined.

    :param search: of the schedules, beside actors; a bounded one (``dfs``) looks for a report, and the baseline is searched as far
    """

    def work(_task: None, skip: Skip, beat: Beat) -> Caught:
        if 0 in skip:
            return Caught(relation=UNDETERMINED, executions=(0, 0))
        beat(0)
        if not s.actors:
            return _alone(s, baseline, candidate, explained=explained)
        sets = _sets(s, baseline, candidate, search)
        return _beside(sets, baseline, candidate, search, explained=explained)

    return guarded(work).value


def _alone(s: Scenario, baseline: LoadedVariant, candidate: LoadedVariant, *, explained: bool) -> Caught:
    pair = judge_pair(s, baseline.variant, candidate.variant)
    if not pair.applicable:
        return Caught(relation=UNDETERMINED, executions=(1, 1))
    a, b = (account(s, each.variant) for each in (baseline, candidate))
    ours, theirs = _sentences(a.reports), _sentences(b.reports)
    return Caught(
        relation=DIFFERENT if pair.differs else EQUAL,
        executions=(1, 1),
        differs=pair.differs,
        reports=tuple([each for each in theirs if each not in ours]),
        both=tuple([each for each in theirs if each in ours]),
        values=_values(a.observation, b.observation),
        explanation=explain(s, baseline, candidate).text if explained and pair.differs else "",
    )


def _sets(s: Scenario, baseline: LoadedVariant, candidate: LoadedVariant, search: Search) -> Sets:
    """Where not all schedules are run, those of the candidate come first, up to a report."""
    if search.strategy == EXHAUSTIVE.strategy:
        return judge_sets(s, baseline.variant, candidate.variant, search)
    b = outcomes(s, candidate.variant, search, stop=ANY_REPORT)
    a = outcomes(s, baseline.variant, attrs.evolve(search, budget=b.exploration.executions))
    beyond = reports_beyond(a)
    for each in b.all:
        found = b.observation(each)
        if beyond(each, found) and not set(found.violations) & set(from_canonical(a.comes_to(b.schedule(each))).violations):
            return Sets(s, a, b, UNDETERMINED, each, "candidate")
    return Sets(s, a, b, UNDETERMINED)


def _beside(sets: Sets, baseline: LoadedVariant, candidate: LoadedVariant, search: Search, *, explained: bool) -> Caught:
    executions = sets.baseline.exploration.executions, sets.candidate.exploration.executions
    both = _violations(sets.common())
    if not sets.side:
        exhausted = search.strategy == EXHAUSTIVE.strategy and sets.complete
        return Caught(relation=EQUAL if exhausted else UNDETERMINED, executions=executions, both=both)
    a, b, differs = sets.nearest()
    if sets.side == "baseline":
        return Caught(relation=sets.relation, executions=executions, differs=differs, both=both)
    known = _violations([sets.baseline.observation(each) for each in sets.baseline.all])
    schedule = sets.candidate.schedule(sets.witness)
    told = _sentences(account(sets.scenario, candidate.variant, schedule).reports)
    record = to_record(schedule, side=sets.side, others=executions[0])
    return Caught(
        relation=sets.relation,
        executions=executions,
        differs=differs,
        reports=tuple([each for each in told if each not in known]),
        both=both,
        values=_values(a, b),
        explanation=explain_record(sets, record, baseline, candidate) if explained else "",
    )


def _values(a: Observation, b: Observation) -> tuple[tuple[str, str], ...]:
    return tuple(
        [(name, f"{each.where}: {each.baseline} | {each.candidate}") for name in differing(a, b) for each in differences(name, a, b)]
    )


def _sentences(reports: Iterable[Report]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"{each.check}: {each.text}" for each in reports))


def _violations(observations: Iterable[Observation]) -> tuple[str, ...]:
    found = (each for one in observations for each in one.violations)
    return tuple(dict.fromkeys(f"{each[0]}: {each[1]}" for each in found if isinstance(each, tuple)))
