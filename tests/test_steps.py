"""Steps as they are run, judged and shown."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import attrs
import pytest

from kmm.cli.main import main
from kmm.judge.check import check
from kmm.judge.difference import differences
from kmm.judge.minimise import minimise
from kmm.judge.observe import observe
from kmm.judge.pair import judge_pair
from kmm.judge.variants import load_variant
from kmm.kernel.ref import Ref
from kmm.mm.khugepaged.scan_mm_slot import collapse_scan_mm_slot
from kmm.mm.khugepaged.types import CollapseControl, ScanResult
from kmm.scenario.errors import StepError
from kmm.scenario.model import Failure, Geometry, Process, Scenario, Vma
from kmm.scenario.operations import OPERATIONS
from kmm.scenario.run import run
from kmm.scenario.small_systems import KHUGEPAGED, system, system_families
from kmm.scenario.step import STEP_OPS, Step, said
from kmm.scenario.strategies import generate_systems
from kmm.scenario.toml import save
from refactors import reviewed, v12

TWO = Geometry(ptes=8, lru_batch=3, ranges=2)


def reports(s: Scenario) -> list[str]:
    return [each.check for each in run(s, v12.VARIANT).world.system.machine.reports]


def test_every_step_has_its_operation() -> None:
    assert set(OPERATIONS) == set(STEP_OPS)


@pytest.mark.parametrize("family", system_families(), ids=lambda family: family.name)
def test_the_variants_agree_and_no_sanitizer_speaks(family: object) -> None:
    from kmm.scenario.families import Family

    assert isinstance(family, Family)
    for s in family.scenarios():
        pair = judge_pair(s, v12.VARIANT, reviewed.VARIANT)
        if pair.applicable:
            assert pair.baseline is not None
            assert pair.baseline.outcome == "returned"
            assert pair.differs == ()
            assert pair.baseline.violations == ()


def test_what_is_drawn_is_clean_but_for_what_is_known() -> None:
    """H-31 (a freed folio's flags are read without a vmemmap), A-01 and S-12 are v12's own."""
    known = Counter[str]()
    for s in generate_systems(None, 300, 3):
        r = run(s, v12.VARIANT)
        assert r.outcome == "returned" or r.impossible is not None
        for each in r.world.system.machine.reports:
            assert ("folio_pfn" in each.text and not s.config.sparsemem_vmemmap) or each.check == "FIXPOINT" or s.config.arch == "walking"
            known[each.check] += 1
    assert known["KASAN"]


def test_the_same_scenario_gives_the_same_bytes() -> None:
    for s in generate_systems(None, 40, 5):
        assert observe(run(s, v12.VARIANT)).canonical() == observe(run(s, v12.VARIANT)).canonical()


def test_steps_are_observed() -> None:
    steps = (Step(op="sysfs", name="khugepaged/max_ptes_none", value="8"), Step(op="load", page=0), Step(op="munmap", page=0, length=16))
    s = system(TWO, "r" * 16, (*steps, Step(op="load", page=3)))
    assert observe(run(s, v12.VARIANT)).steps == ("EINVAL", "done", "done", "SIGSEGV")


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ((Step(op="munmap", page=0, length=16), Step(op="munmap", page=0)), "step 2: munmap page 0 of process 1: nothing is mapped there"),
        ((Step(op="swapin", page=0),), "step 1: swapin page 0 of process 1: page 0 is not swapped out"),
        ((Step(op="swapin", page=8),), "page 8 is not swapped out"),
        ((Step(op="swapout", page=8),), "there is nothing to swap out"),
        ((Step(op="split", page=0),), "there is no large folio"),
        ((Step(op="pin", page=9),), "page 9 is not in memory"),
        ((Step(op="unpin", page=0),), "page 0 is not pinned"),
        ((Step(op="load", page=0, process=2),), "there is no process 2"),
        ((Step(op="exit"), Step(op="load", page=0)), "step 2: load page 0 of process 1: process 1 has exited"),
        ((Step(op="mmap", page=0, value="rwx"),), '"rwx" is not a VMA flag'),
        ((Step(op="mremap", page=0, to=8), Step(op="mremap", page=0, to=1)), "nothing is mapped there"),
        ((Step(op="age", page=9),), "there is nothing to age"),
    ],
)
def test_a_step_that_cannot_happen_is_told_with_its_number(steps: tuple[Step, ...], problem: str) -> None:
    s = attrs.evolve(system(TWO, "r" * 8 + "." * 8, steps), vmas=(Vma(pages="r" * 8, start=0),))
    if "to=8" not in repr(steps):
        s = system(TWO, "r" * 8 + "." * 8, steps)
    r = run(s, v12.VARIANT)
    assert isinstance(r.impossible, StepError)
    assert problem in r.impossible.problem
    assert r.outcome.startswith("impossible: step ")
    pair = judge_pair(s, v12.VARIANT, reviewed.VARIANT)
    assert not pair.applicable
    assert pair.differs == ()


@pytest.mark.parametrize("command", [["run"], ["check", "--scenario"]])
def test_the_command_says_file_line_and_step(tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.toml"
    save(path, system(TWO, "r" * 16, (Step(op="drain"), Step(op="swapin", page=3))))
    line = path.read_text().splitlines().index('op = "swapin"')
    assert main([*command, str(path)]) == 4
    err = capsys.readouterr().err
    assert f"{path}:{line}: step 2: swapin page 3 of process 1: page 3 is not swapped out; name pages" in err
    assert "Traceback" not in err


def test_a_failure_counts_through_all_steps() -> None:
    s = system(TWO, "r" * 8 + "." * 8, (KHUGEPAGED, Step(op="fork"), KHUGEPAGED), (3,))
    assert run(attrs.evolve(s, failures=(Failure(kind="slot"),)), v12.VARIANT).world.system.node_stat.get("pages_collapsed", 0) == 0
    assert run(s, v12.VARIANT).world.system.node_stat["pages_collapsed"] == 1
    collapse = system(TWO, "r" * 16, (Step(op="madvise", page=0, length=16, value="collapse"),))
    assert run(attrs.evolve(collapse, failures=(Failure(kind="cc"),)), v12.VARIANT).steps == ("ENOMEM",)


CREEPS = (
    "khugepaged fills 4 holes of mm1, pages 8 to 15, which an earlier pass left when it filled others, and nobody has touched the memory "
    "meanwhile"
)


def creeping(*steps: Step, none: int = 4) -> Scenario:
    """S-12: of the second range half a table is full enough for order 2, and the whole of it then for PMD order."""
    s = system(TWO, "........aaa.....", steps)
    return attrs.evolve(s, tunables=attrs.evolve(s.tunables, max_ptes_none=none))


def fixpoint(s: Scenario) -> list[str]:
    return [each.text for each in run(s, v12.VARIANT).world.system.machine.reports if each.check == "FIXPOINT"]


def test_fixpoint_sees_a_range_that_grows_in_two_passes() -> None:
    assert fixpoint(creeping(KHUGEPAGED)) == []
    assert fixpoint(creeping(KHUGEPAGED, KHUGEPAGED)) == [CREEPS]
    assert fixpoint(creeping(*(KHUGEPAGED,) * 5)) == [CREEPS], "the third pass finds nothing to do"
    assert fixpoint(creeping(*(KHUGEPAGED,) * 5, none=3)) == []
    few = Step(op="sysfs", name="khugepaged/pages_to_scan", value="1")
    assert fixpoint(creeping(few, *(KHUGEPAGED,) * 5)) == [CREEPS], "range by range"


@pytest.mark.parametrize("step", [Step(op="drain"), Step(op="load", page=8), Step(op="sysfs", name="enabled", value="always")])
def test_who_works_between_two_passes_is_excused(step: Step) -> None:
    assert fixpoint(creeping(KHUGEPAGED, step, KHUGEPAGED)) == []
    assert fixpoint(creeping(step, KHUGEPAGED, KHUGEPAGED)) == [CREEPS]


def test_an_injected_failure_may_put_a_collapse_off() -> None:
    s = attrs.evolve(creeping(KHUGEPAGED, KHUGEPAGED), failures=(Failure(kind="alloc", nth=9),))
    assert fixpoint(s) == []


def test_fixpoint_sees_what_two_full_scans_left(tmp_path: Path) -> None:
    path = tmp_path / "late.py"
    path.write_text(LATE)
    late = load_variant(str(path)).variant
    s = system(TWO, "rrrr....rrrr....", (KHUGEPAGED,) * 4, (3,))
    assert fixpoint(s) == []
    reported = [each.text for each in run(s, late).world.system.machine.reports]
    assert reported == ["khugepaged fills 8 more holes after two full scans, and nobody has touched the memory meanwhile"]


LATE = """\
from kmm.mm import system
from kmm.mm.khugepaged.scan_mm_slot import collapse_scan_mm_slot
from kmm.mm.khugepaged.types import ScanResult
from kmm.mm.khugepaged.scan import collapse_single_pmd
from kmm.mm.variant import Variant
from refactors.v12 import collapse_huge_page


def late(addr, vma, mmap_locked, cc):
    if system.this.khugepaged_scan.full_scans < 2:
        return ScanResult.SCAN_FAIL
    return collapse_single_pmd(addr, vma, mmap_locked, cc)


VARIANT = Variant(name="late", collapse_huge_page=collapse_huge_page, collapse_single_pmd=late)
"""


def forgets_the_second_range(pages: int, result: Ref[ScanResult], cc: CollapseControl) -> int:
    """Stops after one PMD, whatever the budget is."""
    return collapse_scan_mm_slot(min(pages, 1), result, cc) + 10_000


def test_a_bug_in_the_daemon_is_found_and_minimised(tmp_path: Path) -> None:
    path = tmp_path / "lazy.py"
    path.write_text(
        "from kmm.mm.variant import Variant\n"
        "from kmm.mm.khugepaged.scan_mm_slot import collapse_scan_mm_slot\n"
        "from refactors.v12 import collapse_huge_page\n\n"
        "def lazy(pages, result, cc):\n"
        "    return collapse_scan_mm_slot(1, result, cc) + pages\n\n"
        'VARIANT = Variant(name="lazy", collapse_huge_page=collapse_huge_page, collapse_scan_mm_slot=lazy)\n'
    )
    verdict = check(load_variant("v12"), load_variant(str(path)), system_families(), seed=0, jobs=1)
    assert verdict.relation.value == "different"
    assert verdict.counterexample is not None
    s = verdict.counterexample.scenario
    assert {step.op for step in s.steps} == {"khugepaged"}
    assert s.geometry.ranges + len(s.processes) + len(s.steps) <= 3


def test_what_is_left_after_minimising_is_needed() -> None:
    """A difference that needs the second process's second range, and one step of four."""
    other = Process(vmas=(Vma(pages="........rrrr...."),))
    steps = (KHUGEPAGED, Step(op="load", page=0, length=4), Step(op="store", process=2, page=8, length=8), Step(op="drain"))
    s = attrs.evolve(system(TWO, "r" * 16, steps), processes=(other,))

    def differs(each: Scenario) -> bool:
        return any(x.op == "store" and x.process == 2 for x in each.steps) and len(each.processes) == 1 and each.processes[0].vmas != ()

    smallest = minimise(s, differs)
    assert [step.op for step in smallest.steps] == ["store"]
    assert smallest.steps[0].length == 1
    assert smallest.geometry.ranges == 1
    assert set(smallest.pages) == {"."}


COUNTS_TWICE = """\
from kmm.kernel import current
from kmm.kernel.access import PLAIN
from kmm.mm import system
from kmm.mm.khugepaged.mm_slot import KhugepagedScan
from kmm.mm.khugepaged.scan_mm_slot import collapse_scan_mm_slot
from kmm.mm.variant import Variant
from refactors.v12 import collapse_huge_page


def counts(pages, result, cc):
    scan = system.this.khugepaged_scan
    before = scan.full_scans
    progress = collapse_scan_mm_slot(pages, result, cc)
    CHANGE
    return progress


VARIANT = Variant(name="counts", collapse_huge_page=collapse_huge_page, collapse_scan_mm_slot=counts)
"""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("pass", ""),
        ("current.machine.write(scan, KhugepagedScan.full_scans, before + 2 * (scan.full_scans - before), PLAIN)", "full_scans"),
        ("scan.address += 4096 if scan.mm_slot is not None else 0", "cursor"),
        ("system.this.clock_ms += 1", "clock_ms"),
        ("current.machine.write(scan, KhugepagedScan.mm_head, tuple(reversed(scan.mm_head)), PLAIN)", "list"),
    ],
)
def test_what_khugepaged_counts_and_where_it_stands_is_compared(change: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "counts.py"
    path.write_text(COUNTS_TWICE.replace("CHANGE", change))
    few = Step(op="sysfs", name="khugepaged/pages_to_scan", value="1")
    s = attrs.evolve(system(TWO, "r" * 16, (few, KHUGEPAGED)), processes=(Process(vmas=(Vma(pages="r" * 16),)),))
    if says == "full_scans":
        s = system(TWO, "r" * 16, (KHUGEPAGED,))
    pair = judge_pair(s, v12.VARIANT, load_variant(str(path)).variant)
    assert pair.differs == (("khugepaged",) if says else ())
    if says:
        assert pair.baseline is not None
        assert pair.candidate is not None
        assert {each.where for each in differences("khugepaged", pair.baseline, pair.candidate)} >= {f"khugepaged {says}"}


def test_khugepaged_at_rest_is_said_in_words() -> None:
    few = Step(op="sysfs", name="khugepaged/pages_to_scan", value="1")
    s = system(TWO, "r" * 16, (few, KHUGEPAGED))
    assert observe(run(s, v12.VARIANT)).khugepaged == (
        ("list", "mm1"),
        ("cursor", "mm1 page 8"),
        ("sleeps", "until 10000 ms"),
        ("running", 1),
    )
    more = attrs.evolve(s, steps=(*s.steps, KHUGEPAGED, KHUGEPAGED))
    assert observe(run(more, v12.VARIANT)).khugepaged[0] == ("full_scans", 1)


def test_a_value_with_a_newline_stays_in_its_line() -> None:
    step = Step(op="sysfs", name="enabled", value="never\n")
    assert said(step, 1) == 'step 1: sysfs enabled "never\\n"'


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("khugepaged/full_scans", '"2"'),
        ("khugepaged/pages_collapsed", '"2"'),
        ("max_ptes_none", '"7"'),
        ("enabled", '"[always] madvise never"'),
        ("hugepages-32kB/stats/nr_anon", '"2"'),
        ("memory.current", '"65536"'),
        ("memory.events", '"low 0, high 0, max 0, oom 0, oom_kill 0, oom_group_kill 0"'),
        ("khugepaged", "EISDIR"),
        ("nothing", "ENOENT"),
    ],
)
def test_a_file_is_read(name: str, outcome: str) -> None:
    steps = (Step(op="sysfs", name="max_ptes_none", value="8"), KHUGEPAGED, KHUGEPAGED, Step(op="read", name=name))
    assert run(system(TWO, "r" * 16, steps, (3,)), v12.VARIANT).steps == ("EINVAL", "done", "done", outcome)


def test_what_is_read_is_compared(tmp_path: Path) -> None:
    path = tmp_path / "late.py"
    path.write_text(LATE)
    s = system(TWO, "rrrr....rrrr....", (KHUGEPAGED, Step(op="read", name="khugepaged/pages_collapsed"), KHUGEPAGED), (3,))
    assert "steps" in judge_pair(s, v12.VARIANT, load_variant(str(path)).variant).differs
