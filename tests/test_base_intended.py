"""What v12 declares about the base: each difference shows, nothing else excuses it, and bugs are not excused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from kmm.judge.case import case_of
from kmm.judge.chunk import is_different
from kmm.judge.pair import Pair, judge_pair
from kmm.judge.variants import load_variant
from kmm.judge.visits import visits
from kmm.kernel.ref import Ref
from kmm.mm.geometry import HPAGE_PMD_SIZE
from kmm.mm.intended import Case, IntendedDifference
from kmm.mm.khugepaged.madvise_collapse import madvise_collapse
from kmm.mm.khugepaged.scan_mm_slot import collapse_scan_mm_slot
from kmm.mm.khugepaged.types import CollapseControl, ScanResult
from kmm.mm.mm_types import VmAreaStruct
from kmm.mm.variant import Variant
from kmm.scenario.model import Config, Driver, DriverKind, Event, Failure, Scenario, Vma
from kmm.scenario.small_systems import KHUGEPAGED, THREE_RANGES, system
from kmm.scenario.step import Step
from refactors import base, reviewed, v12
from refactors.intended import v12 as intended
from tests.concurrent.making import beside
from tests.helpers import MADVISE, direct, make

BASE = base.VARIANT
DECLARED = intended.INTENDED["base"]
ROOT = Path(__file__).parent.parent

ZAP = (Event(op="zap", before="vma_start_write", page=0),)
COLLAPSE = Step(op="madvise", page=0, length=24, value="collapse")
TWICE = (Failure(kind="alloc", nth=1), Failure(kind="alloc", nth=2))


def areas(pages: str, *steps: Step, flags: tuple[str, ...] = ("read", "write"), failures: tuple[Failure, ...] = ()) -> Scenario:
    """Three ranges, and PMD order."""
    s = system(THREE_RANGES, "." * 24, steps, (3,))
    return attrs.evolve(s, vmas=(Vma(pages=pages, flags=flags),), failures=failures)


NO_VMEMMAP = Config(sparsemem_vmemmap=False)
SHOWS = (
    make("........", MADVISE),
    make("zzzzzzzz", MADVISE),
    make("wwwwwwww", MADVISE),
    make(".......w", MADVISE),
    make("vaaaaaaa", none=0),
    make("aaaaww..", none=3, swap=2),
    make("........", MADVISE, events=ZAP),
    make("wwwwwwww", MADVISE, events=ZAP),
    make("vaaaaaaa", none=0, config=NO_VMEMMAP),
    attrs.evolve(make("aaaaaaaa", MADVISE), memcg_room=0),
    make("aaaaaaaa", failures=(Failure(kind="alloc"),)),
    make("KKaaaaaa", MADVISE, flags=("mergeable", "read", "write")),
    make("M...aaaa", none=3, swap=1),
    make("aaaaaaaa"),
    make("aaaaaaaa", direct(3)),
    areas("KKrrrrrrrrrrrrrrwrrrrrrr", COLLAPSE, flags=("mergeable", "read", "write")),
    areas("r" * 16 + "wrrrrrrr", KHUGEPAGED, failures=TWICE),
    areas("." * 24, COLLAPSE),
    beside("sysfs:khugepaged/max_ptes_none=0", pages="aaa.aaaa"),
    beside("prctl:yes"),
    beside("madvise:0-7:collapse", pages="a......."),
)
"""Together they show every declared difference, each where nothing else excuses it."""


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return [judged(s) for s in SHOWS]


def judged(s: Scenario, candidate: Variant = v12.VARIANT) -> Pair:
    return judge_pair(s, BASE, candidate, intended=DECLARED)


def test_what_is_declared_excuses_what_differs(pairs: list[Pair]) -> None:
    assert all(pair.differs for pair in pairs)
    assert not [pair.scenario for pair in pairs if is_different(pair, DECLARED)]


@pytest.mark.parametrize("number", range(len(DECLARED)), ids=[f"{each.observable}: {each.why}" for each in DECLARED])
def test_without_the_declaration_the_judge_finds_the_difference(number: int, pairs: list[Pair]) -> None:
    rest: tuple[IntendedDifference, ...] = (*DECLARED[:number], *DECLARED[number + 1 :])
    assert [pair.scenario for pair in pairs if is_different(pair, rest)]


def test_declarations_are_distinct_and_have_a_source() -> None:
    assert len({(each.observable, each.predicate) for each in DECLARED}) == len(DECLARED)
    assert all(each.why and each.source for each in DECLARED)


def test_they_are_about_the_base_alone() -> None:
    assert list(load_variant(str(ROOT / "refactors" / "v12.py")).intended) == list(intended.INTENDED) == ["base"]
    assert load_variant(str(ROOT / "refactors" / "base.py")).intended == {}


def test_reviewed_departs_from_the_base_as_v12_does() -> None:
    for s in SHOWS:
        assert not is_different(judged(s, reviewed.VARIANT), DECLARED)


# Predicates: one page, one limit or one disturbance beside what they are about, they are false.


PREDICATES = (
    intended.madvise_of_holes,
    intended.madvise_of_swap,
    intended.swap_fills,
    intended.refused,
    intended.attempted,
    intended.another_is_refused,
    intended.limit_is_written,
)


def holds(s: Scenario) -> set[str]:
    case: Case = case_of(s)
    return {each.__name__ for each in PREDICATES if each(case)}


TWO_PASSES = Driver(kind=DriverKind.KHUGEPAGED, passes=2)
ARMED = ("read", "uffd_wp", "write")


@pytest.mark.parametrize(
    ("s", "expected"),
    [
        (make("........", MADVISE), {"madvise_of_holes"}),
        (make("z.......", MADVISE), {"madvise_of_holes"}),
        (make("a.......", MADVISE), {"attempted"}),
        (make("........", MADVISE, flags=ARMED), set()),
        (make("........", MADVISE, flags=("nohugepage", "read", "write")), set()),
        (make("........", MADVISE, pmd="none"), set()),
        (make("........"), set()),
        (make("........", direct(3)), {"attempted"}),
        (make(".......w", MADVISE), {"madvise_of_swap"}),
        (make("a......w", MADVISE), {"attempted"}),
        (make("wwwwwwww", MADVISE, flags=ARMED), {"madvise_of_swap"}),
        (make(".......w", MADVISE, flags=ARMED), set()),
        (make("aaaaaaaw", none=0, swap=1), {"swap_fills"}),
        (make("aaaaaaaw", none=1, swap=1), {"attempted"}),
        (make("aaaaaa.w", none=0, swap=1), set()),
        (make("aaaaaaww", none=0, swap=1), set()),
        (make("aaaaaaaa", none=0), {"attempted"}),
        (make("aaaaaaaw", TWO_PASSES, none=1, swap=1, events=ZAP), {"swap_fills", "attempted", "refused"}),
        (make("aaaaaaaa", MADVISE, events=ZAP), {"attempted", "refused"}),
        (beside("madvise:0-7:collapse"), {"attempted", "refused", "another_is_refused"}),
        (beside("load:0"), {"attempted", "refused"}),
        (beside("sysfs:khugepaged/max_ptes_none=0"), {"attempted", "refused", "limit_is_written"}),
        (make("aaaaaaaa", direct(3), events=ZAP), {"attempted"}),
        (make("aaaaaaaM", none=1, swap=1), {"attempted", "refused"}),
        (make("aaaaaaaw", MADVISE), {"attempted"}),
    ],
)
def test_predicates(s: Scenario, expected: set[str]) -> None:
    assert holds(s) == expected


# A bug in v12 stays a difference.


PIN = (Event(op="pin", before="mmap_write_lock", page=2),)
MUTANTS: list[tuple[str, str, Scenario]] = [
    ("        if unmapped:\n", "        if False:\n", make("aaaaaaaw")),
    ("pgtable_trans_huge_deposit(mm, pmd, pgtable)", "pass", make("aaaaaaaa")),
    (
        "                pmd_populate(mm, pmd, pmd_pgtable(pmdp_get(_pmd)))\n                spin_unlock(pmd_ptl)\n                goto",
        "                spin_unlock(pmd_ptl)\n                goto",
        make("aaaaaaaa", MADVISE, events=PIN),
    ),
    ("            pte_unmap(pte)\n        mmap_write", "            pass\n        mmap_write", make("aaaaaaaa")),
    ("mthp_address + (PAGE_SIZE() << order)", "mthp_address + PAGE_SIZE()", make("aaaaaaaa", direct(3))),
    ("            folio = NULL(Folio)\n", "", make("aaaaaaaa")),
    ("            __folio_mark_uptodate(folio)\n", "", make("aaaaaaaa")),
    ("    mmap_locked.value = False\n    if folio", "    if folio", make("aaaaaaaa", MADVISE, events=(Event(op="exit", before="alloc"),))),
]
"""Seeded bugs, each with a scenario that shows it though differences are declared."""


@pytest.mark.parametrize(("old", "new", "s"), MUTANTS, ids=[each[0].strip()[:40] for each in MUTANTS])
def test_a_bug_is_no_intended_difference(old: str, new: str, s: Scenario, tmp_path: Path) -> None:
    source = Path(v12.__file__).read_text(encoding="utf-8")
    assert source.count(old) == 1, f"{source.count(old)} places have {old!r}"
    path = tmp_path / "mutant.py"
    path.write_text(source.replace(old, new), encoding="utf-8")
    assert not is_different(judge_pair(s, BASE, v12.VARIANT), DECLARED)
    assert is_different(judge_pair(s, BASE, load_variant(str(path)).variant), DECLARED)


def first_only(pages: int, result: Ref[ScanResult], cc: CollapseControl) -> int:
    """A pass that ends behind its first range."""
    return collapse_scan_mm_slot(1, result, cc) + pages


def one_more(vma: VmAreaStruct, start: int, end: int, lock_dropped: Ref[bool]) -> str:
    """A call that leaves its last range out."""
    return madvise_collapse(vma, start, end - HPAGE_PMD_SIZE(), lock_dropped)


@pytest.mark.parametrize(
    ("candidate", "s"),
    [
        (attrs.evolve(v12.VARIANT, collapse_scan_mm_slot=first_only), areas("r" * 24, KHUGEPAGED)),
        (attrs.evolve(v12.VARIANT, collapse_scan_mm_slot=first_only), areas("r" * 24, KHUGEPAGED, Step(op="drain"), KHUGEPAGED)),
        (attrs.evolve(v12.VARIANT, madvise_collapse=one_more), areas("r" * 24, COLLAPSE)),
        (attrs.evolve(v12.VARIANT, madvise_collapse=one_more), areas("r" * 24, Step(op="drain"), COLLAPSE, KHUGEPAGED)),
    ],
)
def test_a_bug_in_the_drivers_is_no_intended_difference(candidate: Variant, s: Scenario) -> None:
    assert judged(s).differs == ("mthp_stats",)
    assert not is_different(judged(s), DECLARED)
    assert is_different(judged(s, candidate), DECLARED)


def test_what_lies_behind_a_changed_state_is_not_compared() -> None:
    """The base collapses the holes (S-25); what is stored there later meets a huge page on one side only."""
    store = Step(op="store", page=0)
    pair = judged(areas("." * 24, store, Step(op="madvise", page=0, value="dontneed"), COLLAPSE, store))
    assert [step.op for step in pair.scenario.steps] == ["store", "madvise", "madvise"]
    assert not is_different(pair, DECLARED)
    whole = judge_pair(areas("." * 24, COLLAPSE, store), BASE, v12.VARIANT)
    assert len(whole.scenario.steps) == 2, "without declarations everything is compared"


def test_visits_are_found_with_their_steps() -> None:
    s = areas("rrrr....rrrrrrrrw.......", KHUGEPAGED, Step(op="drain"), COLLAPSE)
    """The first two ranges are huge from the first step on; the third one is refused, for nothing in it is young."""
    cases = [(visit.step, visit.case) for visit in visits(s, BASE)]
    found = [(step, c.driver, c.present, c.none, c.swap, c.shared, c.merged, c.more) for step, c in cases]
    assert found == [
        (1, "khugepaged", 4, 4, 0, 0, 0, True),
        (1, "khugepaged", 8, 0, 0, 0, 0, True),
        (1, "khugepaged", 0, 7, 1, 0, 0, True),
        (3, "madvise", 0, 0, 0, 0, 0, True),
        (3, "madvise", 0, 0, 0, 0, 0, True),
        (3, "madvise", 0, 7, 1, 0, 0, False),
    ]


@pytest.mark.parametrize("pages", ["aosF.zwg", "rrrrrrrr", "KKaas...", "FFfaMMww", "2222zz..", "SSSS.yUc"])
@pytest.mark.parametrize("driver", ["khugepaged", "madvise"])
def test_a_visit_is_the_case_of_the_scenario_with_one_table(pages: str, driver: str) -> None:
    flags = ("mergeable", "read", "uffd_wp", "write")
    one = make(pages, Driver(kind=DriverKind(driver)), orders=(2, 3), flags=flags)
    op = KHUGEPAGED if driver == "khugepaged" else Step(op="madvise", page=0, length=8, value="collapse")
    several = attrs.evolve(one, driver=Driver(kind=DriverKind.STEPS), steps=(op,))
    visit = visits(several, v12.VARIANT)[0]
    expected = attrs.evolve(case_of(one), more=driver == "khugepaged", young=visit.case.young)
    assert visit.case == expected


@pytest.mark.full
def test_the_quick_scope_confirms_the_differences_and_finds_no_other(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kmm", "check", "v12", "--baseline", "base", "--format", "json"]
    finished = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    verdict = json.loads(finished.stdout)
    assert verdict["relation"] == "equivalent"
    assert len(verdict["intended_differences"]) == len(DECLARED)
    confirmed = {each["why"] for each in verdict["intended_differences"] if each["count"]}
    assert confirmed == {each.why for each in DECLARED}
    assert verdict["coverage"]["undetermined"] == 0
    assert verdict["coverage"]["not_applicable"], "orders below PMD order are outside of the pair's scope"
