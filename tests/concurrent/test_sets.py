"""Sets of outcomes: equal, a part, different, undetermined; and what is shown of a difference."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from kmm.judge.check import check
from kmm.judge.chunk import Contest, is_different
from kmm.judge.counterexample import counterexample
from kmm.judge.explain_sets import explain_sets
from kmm.judge.filed import with_file
from kmm.judge.outcomes import Outcomes
from kmm.judge.pair import judge_pair
from kmm.judge.pool import STALL_S
from kmm.judge.replay import replay
from kmm.judge.sets import DIFFERENT, EQUAL, REFINES, UNDETERMINED, judge_sets
from kmm.judge.variants import LoadedVariant, load_variant
from kmm.judge.verdict import Relation
from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.kernel.ref import Ref
from kmm.live.given import SCHEDULES, given
from kmm.mm import system
from kmm.mm.intended import IntendedDifference
from kmm.mm.khugepaged.types import CollapseControl, ScanResult
from kmm.mm.mm_types import MmStruct
from kmm.mm.system import Sysctl
from kmm.mm.variant import Variant
from kmm.scenario.search import EXHAUSTIVE, Search
from refactors import reviewed, v12
from tests.concurrent.making import beside
from tests.judging import REVIEWED, V12

SYSFS = beside("sysfs:khugepaged/max_ptes_none=0", pages="aaa.aaaa")
UNMAP = beside("munmap:0-7", pages="aaa.aaaa", orders=(2, 3))
REVALIDATE = "result, vma = hugepage_vma_revalidate(mm, pmd_address, True, cc, order)"


def looking(times: int) -> Variant:
    """v12, which first looks at a tunable so many times, and says whether it changed meanwhile."""

    def collapse_huge_page(
        mm: MmStruct,
        pmd_address: int,
        referenced: int,
        unmapped: int,
        cc: CollapseControl,
        mmap_locked: Ref[bool],
        order: int,
        offset: int,
    ) -> ScanResult:
        seen = {current.machine.read(system.this.sysctl, Sysctl.khugepaged_max_ptes_none, ONCE) for _ in range(times)}
        current.machine.trace("looked", len(seen))
        return v12.VARIANT.collapse_huge_page(mm, pmd_address, referenced, unmapped, cc, mmap_locked, order, offset)

    return attrs.evolve(v12.VARIANT, name=f"looking {times} times", collapse_huge_page=collapse_huge_page)


def unguarded(path: Path) -> LoadedVariant:
    """The reviewed form without the second look at the VMA, after the locks are taken."""
    source = REVIEWED.read_text(encoding="utf-8")
    head, _, tail = source.rpartition(REVALIDATE)
    path.write_text(f"{head}result = ScanResult.SCAN_SUCCEED{tail}", encoding="utf-8")
    return load_variant(str(path))


def test_equal() -> None:
    sets = judge_sets(UNMAP, v12.VARIANT, reviewed.VARIANT, EXHAUSTIVE)
    assert (sets.relation, sets.complete, sets.side) == (EQUAL, True, "")
    assert len(sets.common()) == len(sets.baseline.all) > 1


def test_a_part_is_a_refinement_and_the_other_way_round_a_difference() -> None:
    assert judge_sets(SYSFS, looking(2), looking(1), EXHAUSTIVE).relation == REFINES
    assert judge_sets(SYSFS, looking(1), looking(2), EXHAUSTIVE).relation == DIFFERENT
    assert judge_sets(SYSFS, looking(2), looking(3), EXHAUSTIVE).relation == EQUAL


TRACE = IntendedDifference(observable="trace", predicate=lambda c: "sysfs" in c.actors, why="it looks more often", source="a test")
ELSEWHERE = attrs.evolve(TRACE, predicate=lambda c: "munmap" in c.actors)
OTHER = attrs.evolve(TRACE, observable="result")


def test_outcomes_that_differ_as_intended_count_as_the_same() -> None:
    pair = judge_pair(SYSFS, looking(1), looking(2), intended=(TRACE,))
    assert (pair.differs, pair.refines, pair.lead) == (("trace",), False, False)
    assert not is_different(pair, (TRACE,))
    assert judge_sets(SYSFS, looking(1), looking(2), EXHAUSTIVE, intended=(TRACE,)).relation == EQUAL
    assert judge_sets(SYSFS, looking(2), looking(1), EXHAUSTIVE, intended=(TRACE,)).relation == EQUAL


@pytest.mark.parametrize("intended", [ELSEWHERE, OTHER], ids=["elsewhere", "another observable"])
def test_what_is_intended_elsewhere_excuses_nothing(intended: IntendedDifference) -> None:
    assert is_different(judge_pair(SYSFS, looking(1), looking(2), intended=(intended,)), (intended,))
    assert judge_sets(SYSFS, looking(1), looking(2), EXHAUSTIVE, intended=(intended,)).relation == DIFFERENT


def test_a_bug_is_shown_though_differences_are_intended(tmp_path: Path) -> None:
    """The schedule that is shown leads to the bug, not to what is intended."""
    bad = unguarded(tmp_path / "bad.py")
    reports = attrs.evolve(TRACE, predicate=lambda _: True)
    declared = attrs.evolve(bad, intended={"reviewed": (reports,)})
    pair = judge_pair(UNMAP, reviewed.VARIANT, bad.variant, intended=(reports,))
    assert "violations" in pair.differs
    assert is_different(pair, (reports,))
    text, _ = explain_sets(UNMAP, load_variant("reviewed"), declared)
    assert "KASAN" in text


def test_the_witness_is_what_one_side_never_shows() -> None:
    sets = judge_sets(SYSFS, looking(1), looking(2), EXHAUSTIVE)
    assert sets.side == "candidate"
    assert sets.witness in sets.candidate.all
    assert sets.witness not in sets.baseline.all
    _, candidate, differs = sets.nearest()
    assert candidate.canonical() == sets.witness
    assert differs == ("trace",)


def test_a_report_of_its_own_ends_the_candidate_s_search(tmp_path: Path) -> None:
    bad = unguarded(tmp_path / "bad.py").variant
    found = judge_sets(UNMAP, reviewed.VARIANT, bad, EXHAUSTIVE)
    assert (found.relation, found.side) == (DIFFERENT, "candidate")
    assert found.baseline.exploration.complete
    assert not found.candidate.exploration.complete
    assert any("KASAN" in str(each) for each in found.candidate.observation(found.witness).violations)
    assert found.candidate.exploration.executions < Outcomes(UNMAP, bad, EXHAUSTIVE).exploration.executions


def test_without_an_end_of_the_search_a_difference_is_a_lead_that_is_followed() -> None:
    """A few executions teach too little; the schedule of a lead is tried on the other side, and then samples."""
    three = beside("sysfs:khugepaged/max_ptes_none=0", "prctl:yes", pages="aaa.aaaa")
    few = Search(strategy="random", budget=4, seed=1)
    assert judge_sets(three, looking(2), looking(3), few).relation == EQUAL
    assert judge_sets(three, looking(1), looking(2), Search(strategy="pos", budget=200)).relation == UNDETERMINED


def test_a_lead_of_two_tasks_is_settled_by_all_schedules_of_the_other_side() -> None:
    drawn = Search(strategy="random", budget=200)
    found = judge_sets(SYSFS, looking(1), looking(2), drawn)
    assert (found.relation, found.side, found.baseline.exploration.complete) == (DIFFERENT, "candidate", True)
    assert found.relation == judge_sets(SYSFS, looking(1), looking(2), EXHAUSTIVE).relation
    assert judge_sets(SYSFS, looking(2), looking(1), drawn).relation == REFINES
    assert judge_sets(SYSFS, looking(2), looking(3), attrs.evolve(drawn, budget=4, seed=1)).relation == EQUAL
    assert judge_sets(SYSFS, looking(2), looking(3), drawn).baseline.exploration.complete is False


def test_a_budget_that_ends_the_search_is_no_equivalence() -> None:
    pair = judge_pair(UNMAP, v12.VARIANT, reviewed.VARIANT, attrs.evolve(EXHAUSTIVE, budget=12))
    assert pair.lead


def test_a_dropped_check_is_found_minimised_explained_and_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bad = unguarded(tmp_path / "bad.py")
    verdict = check(load_variant("reviewed"), bad, given([UNMAP], "tests"), seed=0)
    assert verdict.relation is Relation.DIFFERENT
    example = verdict.counterexample
    assert example is not None
    s = example.scenario
    assert (s.tunables, len(s.actors), s.actors[0].op) == (type(s.tunables).default(s.geometry), 1, "munmap")
    assert s.pages.count("a") == s.actors[0].length == 1
    assert example.schedule is not None
    assert (example.schedule.side, len(example.schedule.deviations)) == ("candidate", 1)
    assert example.schedule.deviations[0].function == "mmap_write_lock"
    assert "KASAN" in example.explanation
    assert max(map(len, example.explanation.splitlines())) <= 100
    filed = with_file(verdict, Path(), baseline="reviewed", candidate="bad.py").counterexample
    assert filed is not None
    assert filed.file is not None
    again = replay(filed.file)
    assert again.relation == "different"
    assert again.explanation == example.explanation


def test_the_explanation_has_a_column_for_each_task(tmp_path: Path) -> None:
    text, record = explain_sets(UNMAP, load_variant("reviewed"), unguarded(tmp_path / "bad.py"))
    assert record.others == judge_sets(UNMAP, reviewed.VARIANT, reviewed.VARIANT, EXHAUSTIVE).baseline.exploration.executions
    head = next(line for line in text.splitlines() if line.startswith("khugepaged "))
    assert head.split() == ["khugepaged", "|", "munmap"]


def test_a_refinement_has_an_example_too(tmp_path: Path) -> None:
    baseline, candidate = (attrs.evolve(V12, variant=looking(n)) for n in (2, 1))
    example = counterexample(Contest(baseline, candidate, ()), SYSFS, EXHAUSTIVE, STALL_S, refines=True)
    assert example.schedule is not None
    assert example.schedule.side == "baseline"


def test_scenarios_with_three_tasks_are_sampled() -> None:
    three = beside("load:0", "store:1")
    verdict = check(V12, load_variant("reviewed"), given([UNMAP, three], "tests"), seed=0)
    assert [(scope.kind, scope.count) for scope in verdict.scope] == [("exhaustive", 1), ("sampled", 1)]
    assert verdict.relation is Relation.EQUIVALENT
    only = check(V12, load_variant("reviewed"), given([three], "tests"), seed=0)
    assert only.relation is Relation.NO_DIFFERENCE_FOUND
    assert str(SCHEDULES) in only.scope[0].set


def test_the_memory_model_reaches_every_search_and_the_certificate() -> None:
    families = given([UNMAP, beside("load:0", "store:1")], "tests", "pso")
    assert {family.search.memory for family in families} == {"pso"}
    buffered, usual = (check(V12, load_variant("reviewed"), given([UNMAP], "tests", memory), seed=0) for memory in ("pso", "sc"))
    assert "under store buffers" in buffered.scope[0].set
    assert buffered.relation is Relation.EQUIVALENT
    assert buffered.certificate != usual.certificate


def test_a_variant_that_does_not_do_it_is_not_applicable() -> None:
    pair = judge_pair(beside("load:0", orders=(2,)), v12.VARIANT, load_variant("base").variant)
    assert not pair.applicable


def test_the_same_verdict_whoever_works(tmp_path: Path) -> None:
    bad = unguarded(tmp_path / "bad.py")
    one, two = (check(V12, bad, given([UNMAP], "tests"), seed=0, jobs=jobs) for jobs in (1, 2))
    assert one.certificate == two.certificate
