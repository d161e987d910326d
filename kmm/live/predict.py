"""What khugepaged would do to the captured ranges of a process in one pass."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Final, TypeAlias

from kmm.judge.observe import Observation, observe
from kmm.judge.pool import STALL_S, Beat, Skip, in_order
from kmm.judge.variants import LoadedVariant
from kmm.live.predict_form import form, why_not_scanned
from kmm.live.predict_knobs import Setting, spelled
from kmm.live.predict_value import Fate, Outcome, Prediction, RangeFate
from kmm.mm.khugepaged.types import SCAN_STATUS, ScanResult
from kmm.mm.variant import Variant
from kmm.scenario.build import build
from kmm.scenario.errors import ScenarioError
from kmm.scenario.model import Geometry, Scenario, Tunables
from kmm.scenario.run import run

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the number of runs that are done, and of all."""

NOTHING_ATTEMPTED: Final = "nothing attempted"
_CHUNK: Final = 16
_HUGE: Final = ("huge", "huge_zero", "migration")
_GIVEN_UP: Final = Outcome(fate=Fate.NO_ANSWER, reason="the variant lost too many workers")


def predict(
    scenarios: Sequence[Scenario],
    loaded: LoadedVariant,
    settings: Sequence[Setting] = (),
    *,
    left_out: tuple[tuple[str, int], ...] | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
    stall_s: float = STALL_S,
) -> Prediction:
    """Run every range once under every setting, as khugepaged would come to it: on its own, with nobody else running.

    An interrupt (KeyboardInterrupt) ends it; the ranges reached by then are kept. Equal ranges are run once.

    :param settings: beside the one as captured
    :param left_out: of the capture, for the record
    :param jobs: worker processes; default, and at most, one a CPU
    :param stall_s: seconds after which a run that makes no step is given up
    :raises KnobError: a setting that the kernel refuses
    :raises ScenarioError: no range, or ranges of several geometries
    """
    geometry = _geometry(scenarios)
    every = (Setting(), *settings)
    forms = [tuple(form(s, setting) for setting in every) for s in scenarios]
    found: dict[Scenario, Outcome] = {}
    interrupted = False
    try:
        for done, total in _run_all(forms, loaded.variant, found, jobs, stall_s):
            if progress is not None:
                progress(done, total)
    except KeyboardInterrupt:
        interrupted = True
    return Prediction(
        variant=loaded.variant.name,
        sha256=loaded.sha256,
        geometry=geometry,
        settings=every,
        tunables=tuple(_tunables([each[i].tunables for each in forms], geometry) for i in range(len(every))),
        ranges=tuple(RangeFate(name=s.name, outcomes=_outcomes(each, found)) for s, each in zip(scenarios, forms, strict=True)),
        assumed=tuple(sorted({name for s in scenarios for name in s.assumed})),
        left_out=left_out,
        interrupted=interrupted,
    )


def _geometry(scenarios: Sequence[Scenario]) -> Geometry:
    geometries = list(dict.fromkeys(s.geometry for s in scenarios))
    if not geometries:
        raise ScenarioError("there is no range to predict", "give a capture that holds one or more")
    if len(geometries) > 1:
        raise ScenarioError("the ranges differ in their geometry", "give files of one geometry each")
    return geometries[0]


def _tunables(tunables: Sequence[Tunables], geometry: Geometry) -> str:
    distinct = set(tunables)
    return spelled(tunables[0], geometry) if len(distinct) == 1 else ""


def _outcomes(of: Sequence[Scenario], found: dict[Scenario, Outcome]) -> tuple[Outcome, ...]:
    """Those of all settings, or none."""
    known = tuple(found[s] for s in of if s in found)
    return known if len(known) == len(of) else ()


def _run_all(
    forms: Sequence[tuple[Scenario, ...]], variant: Variant, found: dict[Scenario, Outcome], jobs: int | None, stall_s: float
) -> Iterator[tuple[int, int]]:
    """Fill ``found``; yields the runs done, and all of them, now and then."""
    distinct = list(dict.fromkeys(s for each in forms for s in each))
    tasks = [tuple(distinct[i : i + _CHUNK]) for i in range(0, len(distinct), _CHUNK)]

    def work(task: tuple[Scenario, ...], skip: Skip, beat: Beat) -> list[Outcome]:
        out = []
        for i, s in enumerate(task):
            beat(i)
            out.append(_GIVEN_UP if i in skip else outcome(s, variant))
        return out

    cpus = os.cpu_count() or 1
    with closing(in_order(tasks, work, jobs=max(1, min(jobs or cpus, cpus)), stall_s=stall_s)) as finished:
        for done in finished:
            found.update(zip(done.task, done.value, strict=True))
            for lost in done.lost:
                found[done.task[lost.at]] = Outcome(fate=Fate.NO_ANSWER, reason=f"the variant {lost.reason}")
            yield len(found), len(distinct)


def outcome(s: Scenario, variant: Variant) -> Outcome:
    """Run one range, and say what became of it."""
    before = build(s, variant).mm._rss_stat
    ran = run(s, variant)
    try:
        seen = observe(ran)
    except Exception as error:
        return Outcome(fate=Fate.NO_ANSWER, reason=f"the run could not be observed: {type(error).__name__}")
    after = ran.world.mm._rss_stat
    attempts = [_attempt(event, s.geometry) for event in seen.trace if isinstance(event, tuple) and event[0] == "mm_collapse_huge_page"]
    made = Counter(order for order, status in attempts if status == SCAN_STATUS[ScanResult.SCAN_SUCCEED])
    fate, reason = _fate(s, seen, attempts, applicable=ran.applicable)
    return Outcome(
        fate=fate,
        code=seen.result if seen.result in ScanResult.__members__ else "",
        reason=reason,
        folios=tuple(sorted(made.items(), reverse=True)),
        resident=before[0],
        growth=after[0] - before[0],
        swapped_in=before[1] - after[1],
        violations=tuple(sorted({report.check for report in ran.world.system.machine.reports})),
    )


def _attempt(event: tuple[object, ...], geometry: Geometry) -> tuple[int, str]:
    """Order and status of an attempt; an event without an order is that of PMD order."""
    order = event[4] if len(event) > 4 else geometry.pmd_order
    return (order if isinstance(order, int) else geometry.pmd_order), str(event[3])


def _fate(s: Scenario, seen: Observation, attempts: Sequence[tuple[int, str]], *, applicable: bool) -> tuple[Fate, str]:
    succeeded = SCAN_STATUS[ScanResult.SCAN_SUCCEED]
    if not applicable:
        return Fate.NO_ANSWER, "the variant does not do this"
    if seen.outcome != "returned":
        return Fate.STOPPED, seen.outcome
    if s.pmd in _HUGE:
        return Fate.HUGE, ""
    if (s.geometry.pmd_order, succeeded) in attempts:
        return Fate.COLLAPSED, ""
    if any(status == succeeded for _, status in attempts):
        return Fate.PARTLY, ""
    if seen.result == "not scanned":
        return Fate.NOT_SCANNED, why_not_scanned(s)
    if seen.result not in ScanResult.__members__:
        return Fate.STOPPED, seen.result
    return _refused(ScanResult[seen.result], [status for _, status in attempts])


def _refused(result: ScanResult, attempts: Sequence[str]) -> tuple[Fate, str]:
    if result == ScanResult.SCAN_SUCCEED:
        return Fate.NO_ANSWER, "the variant collapses without a trace event of it"
    status = SCAN_STATUS[result]
    if result != ScanResult.SCAN_FAIL:
        return Fate.REFUSED, status
    return Fate.REFUSED, f"{status}, {', '.join(dict.fromkeys(attempts)) or NOTHING_ATTEMPTED}"
