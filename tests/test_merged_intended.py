"""What ``merged`` declares about v12: each difference shows, nothing else excuses it, and bugs are not excused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from kmm.judge.chunk import is_different
from kmm.judge.pair import Pair, judge_pair
from kmm.judge.variants import load_variant
from kmm.mm.intended import IntendedDifference
from kmm.mm.variant import Variant
from kmm.scenario.model import Config, Event, Failure, Scenario, Vma
from kmm.scenario.small_systems import KHUGEPAGED, THREE_RANGES, system
from kmm.scenario.step import Step
from refactors import merged, v12
from refactors.intended import merged as intended
from tests.concurrent.making import beside
from tests.helpers import MADVISE, direct, make

MERGED = merged.VARIANT
DECLARED = intended.INTENDED["v12"]
ROOT = Path(__file__).parent.parent

ARMED = ("read", "uffd_wp", "write")
ZAP = (Event(op="zap", before="vma_start_write", page=0),)
NO_VMEMMAP = Config(sparsemem_vmemmap=False)
MLOCKED = ("locked", "read", "write")
COLLAPSE = Step(op="madvise", page=0, length=24, value="collapse")
TWICE = (Failure(kind="alloc", nth=1), Failure(kind="alloc", nth=2))


def areas(
    pages: str,
    *steps: Step,
    orders: tuple[int, ...] = (2, 3),
    flags: tuple[str, ...] = ("read", "write"),
    failures: tuple[Failure, ...] = (),
    none: int = 7,
) -> Scenario:
    """Three ranges."""
    s = system(THREE_RANGES, "." * 24, steps, orders)
    tunables = attrs.evolve(s.tunables, max_ptes_none=none)
    return attrs.evolve(s, tunables=tunables, vmas=(Vma(pages=pages, flags=flags),), failures=failures)


SHOWS = (
    make("Faaaaaaw", orders=(2, 3), swap=7, shared=7),
    make("Faaaaaaa", direct(3)),
    make("Faaaaaaa", events=ZAP),
    make("Faaaaaaa", config=NO_VMEMMAP),
    make("MMMMMMMM", MADVISE),
    make("wwwwwwww", MADVISE),
    make("wwwwwwww", MADVISE, events=ZAP),
    make("aaaasaaa", direct(2, 4, is_khugepaged=False)),
    make("aaaaasha", direct(2, 4, is_khugepaged=False)),
    make("llllslll", direct(2, 4, is_khugepaged=False), flags=MLOCKED),
    make("aaa.aaaa", orders=(2, 3), flags=ARMED),
    make("aaa.ahaa", orders=(2, 3), flags=ARMED),
    make("aaa.aaaa", orders=(2, 3), flags=ARMED, config=NO_VMEMMAP),
    make("aaa.aaaa", orders=(2, 3), none=0, flags=ARMED, events=ZAP),
    make("hvaaaaao", none=0, swap=1),
    make("vaaaaaaa", none=0, events=ZAP),
    make("vaaaaaaa", none=0, config=NO_VMEMMAP),
    make("aaKKaaZZ", orders=(2, 3), shared=7, flags=("mergeable", "read", "write")),
    make("....aa..", orders=(2,), events=ZAP),
    make("....aa..", orders=(2,), config=NO_VMEMMAP),
    make("....h...", orders=(2,)),
    make("l.......", orders=(2,), flags=MLOCKED),
    attrs.evolve(make("aaaaaaaa", MADVISE), memcg_room=0),
    make("aaaawaaa", swap=0),
    make("aaa.aaa.", orders=(2,), none=0),
    make("rrrrrrrr", orders=(2,), flags=("read",)),
    make("aaaaaaaa", direct(2, is_khugepaged=False), config=Config(arch="walking")),
    make("aaaaaaaa", orders=(2,)),
    areas("KKrrrrrrrrrrrrrrwrrrrrrr", COLLAPSE, flags=("mergeable", "read", "write")),
    areas("r" * 16 + "wrrrrrrr", KHUGEPAGED, orders=(3,), failures=TWICE),
    areas("r" * 24, KHUGEPAGED, orders=(3,), failures=TWICE),
    areas("r......." * 3, Step(op="sysfs", name="khugepaged/pages_to_scan", value="18"), KHUGEPAGED, none=0),
    beside("prctl:yes", pages="aaa.aaaa"),
    beside("fork", pages="aaa.aaaa"),
    beside("mprotect:0-7:read", pages="aaa.aaaa", orders=(2,)),
    beside("sysfs:khugepaged/max_ptes_none=0", pages="aaa.aaaa"),
    beside("madvise:0-7:collapse", pages="a......."),
    beside("migrate:7", pages=".aaa...a", orders=(2,)),
)
"""Together they show every declared difference, each where nothing else excuses it."""


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return [judged(s) for s in SHOWS]


def judged(s: Scenario, candidate: Variant = MERGED) -> Pair:
    return judge_pair(s, v12.VARIANT, candidate, intended=DECLARED)


def test_what_is_declared_excuses_what_differs(pairs: list[Pair]) -> None:
    assert all(pair.differs for pair in pairs)
    assert not [pair.scenario for pair in pairs if is_different(pair, DECLARED)]


@pytest.mark.parametrize("number", range(len(DECLARED)), ids=[f"{each.observable}: {each.why}" for each in DECLARED])
def test_without_the_declaration_the_judge_finds_the_difference(number: int, pairs: list[Pair]) -> None:
    rest: tuple[IntendedDifference, ...] = (*DECLARED[:number], *DECLARED[number + 1 :])
    assert [pair.scenario for pair in pairs if is_different(pair, rest)]


def test_where_khugepaged_is_at_another_place_the_steps_that_follow_are_not_compared() -> None:
    few = Step(op="sysfs", name="khugepaged/pages_to_scan", value="18")
    s = areas("r......." * 3, few, KHUGEPAGED, KHUGEPAGED, none=0)
    pair = judged(s)
    assert pair.scenario == attrs.evolve(s, steps=(few, KHUGEPAGED))
    assert "khugepaged" in pair.differs
    assert not is_different(pair, DECLARED)


def test_declarations_are_complete_sentences_with_a_source() -> None:
    assert len({(each.observable, each.predicate) for each in DECLARED}) == len(DECLARED)
    assert all(each.why and each.source for each in DECLARED)


PLAIN = make("aaaaaaaa", orders=(2,))
REFUSED = make("aasaaaaa", orders=(2,))
FULL_CGROUP = attrs.evolve(make("aaaaaaaa", orders=(2, 3)), memcg_room=0)
MUTANTS: list[tuple[str, str, Scenario]] = [
    ("folio_ref_add(folio, nr_pages - 1)", "folio_ref_add(folio, nr_pages)", PLAIN),
    ("start_addr + (PAGE_SIZE() << order)", "start_addr + PAGE_SIZE()", PLAIN),
    ("        offset += nr_ptes", "        offset += 2 * nr_ptes", PLAIN),
    ("release_pte_pages(pte, pte + i,", "release_pte_pages(pte, pte,", REFUSED),
    ("                pmd_populate(mm, pmd, pmd_pgtable(pmdp_get(_pmd)))\n                spin_unlock(pmd_ptl)\n", "", REFUSED),
    ("if not cc.is_khugepaged or vma.vm_flags & VM_DROPPABLE", "if vma.vm_flags & VM_DROPPABLE", make("aaaaFaaa", MADVISE)),
    ("        ScanResult.SCAN_PAGE_LAZYFREE,\n", "        ScanResult.SCAN_CGROUP_CHARGE_FAIL,\n", FULL_CGROUP),
    ("unmapped if order == HPAGE_PMD_ORDER() else present", "unmapped", make("aaawaaaa", orders=(2,), none=0, swap=1)),
    ("        count_memcg_folio_events(", "        (", make("aaaaaaaa")),
    ("                mmap_locked.value = False\n", "", make("aaaaaaaa")),
    ("        cc.mthp_bitmap = 0\n", "", areas("rrrrrrrrrrrr....rrrrrrrr", KHUGEPAGED, none=0)),
    ("        cc.mthp_bitmap = 0\n", "", areas("rrrrrrrr........rrrr....", KHUGEPAGED, Step(op="drain"), KHUGEPAGED, none=0)),
]
"""Seeded bugs, each with a scenario that shows it though differences are declared."""


@pytest.mark.parametrize(("old", "new", "s"), MUTANTS, ids=[each[0].strip()[:40] for each in MUTANTS])
def test_a_bug_is_no_intended_difference(old: str, new: str, s: Scenario, tmp_path: Path) -> None:
    source = Path(merged.__file__).read_text(encoding="utf-8")
    assert source.count(old) == 1, f"{source.count(old)} places have {old!r}"
    path = tmp_path / "mutant.py"
    path.write_text(source.replace(old, new), encoding="utf-8")
    assert not is_different(judged(s), DECLARED)
    assert is_different(judged(s, load_variant(str(path)).variant), DECLARED)


def first_predicate() -> int:
    """The line of the source at which VARIANT ends and the predicates begin."""
    return 1 + Path(merged.__file__).read_text(encoding="utf-8").partition("\nVARIANT = ")[0].count("\n")


@pytest.mark.full
def test_the_quick_scope_confirms_the_differences_and_finds_no_other(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kmm", "check", "merged", "--baseline", "v12", "--format", "json"]
    finished = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    verdict = json.loads(finished.stdout)
    assert verdict["relation"] == "equivalent"
    assert len(verdict["intended_differences"]) == len(DECLARED)
    confirmed = {each["why"] for each in verdict["intended_differences"] if each["count"]}
    assert confirmed == {each.why for each in DECLARED}
    assert verdict["coverage"]["undetermined"] == 0
    assert not [family for family in verdict["scope"] if family["kind"] == "left out"]
    assert "SCAN_PAGE_LAZYFREE" in verdict["coverage"]["codes"]["reached"]
    assert verdict["coverage"]["codes"]["missed"] == []
    lines = [int(each.partition(":")[2]) for each in verdict["coverage"]["candidate"]["missed"]]
    assert not [line for line in lines if line < first_predicate()], "the code that VARIANT reaches stands above"
