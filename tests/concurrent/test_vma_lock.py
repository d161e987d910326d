"""Faults under the lock of a VMA: what the writer's lock of a collapse and of others is for."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Final

import attrs
import pytest

from kmm.judge.outcomes import Outcomes
from kmm.judge.sets import judge_sets
from kmm.mm import mmap, vma, vma_lock
from kmm.mm.variant import Variant
from kmm.scenario.model import Driver, DriverKind, Geometry, Scenario, Tunables, Vma
from kmm.scenario.search import EXHAUSTIVE, Search
from kmm.scenario.spec import parse_actor
from refactors import reviewed, v12
from tests.concurrent.making import GEOMETRY, alone, beside, outcomes, violations
from tests.seeded import load, replace_line
from tests.test_sanitizers import recompiled

FEW: Final = attrs.evolve(EXHAUSTIVE, budget=300)
DRAWN: Final = Search(strategy="pos", budget=300)


def without_the_lock() -> Variant:
    """H-06: v12 without one line."""
    assert v12.__file__ is not None
    return load(replace_line(Path(v12.__file__).read_text(encoding="utf-8"), "vma_start_write(vma)", "pass"), "no_vma_start_write")


def neighbours(*actors: str, first: str, second: str) -> Scenario:
    """Two VMAs that share a range, or have one each."""
    ranges = (len(first) + len(second)) // 8
    return Scenario(
        geometry=Geometry(ptes=8, ranges=ranges),
        tunables=Tunables.default(GEOMETRY).with_orders(GEOMETRY, 3),
        vmas=(Vma(pages=first, start=0), Vma(pages=second, flags=("read",), start=len(first))),
        driver=Driver(kind=DriverKind.STEPS),
        actors=tuple(parse_actor(text, 8 * ranges) for text in actors),
    )


PAGES: Final = {
    "mapped": ("load:3", "aaaaaaaa"),
    "mapped, written": ("store:3", "aaaaaaaa"),
    "empty": ("load:3", "aaa.aaaa"),
    "empty, written": ("store:3", "aaa.aaaa"),
    "zero page": ("load:3", "aaazaaaa"),
    "write-protected": ("store:3", "aaaraaaa"),
    "shared": ("store:3", "aaanaaaa"),
    "swapped out, elsewhere": ("load:3", "waaaaaaa"),
}


@pytest.mark.parametrize("name", PAGES)
def test_the_hole_of_a_collapse_is_not_filled(name: str) -> None:
    """H-06: a fault that nobody shuts out finds no table in the range, and installs one, or a huge page."""
    actor, pages = PAGES[name]
    s = beside(actor, pages=pages)
    for variant in (v12.VARIANT, reviewed.VARIANT):
        assert violations(outcomes(s, variant)) == set()
    found = violations(Outcomes(s, without_the_lock(), FEW))
    assert "DEBUG_VM: WARNING in collapse_huge_page: !pmd_none(*pmd)" in found
    if name not in ("empty", "zero page"):
        assert {each.partition(":")[0] for each in found} & {"TRANSPARENCY", "CONSERVATION", "TLB"}, "pages are lost, or tables"


@pytest.mark.parametrize("name", ["mapped", "mapped, written"])
def test_the_hole_is_not_filled_while_a_part_of_the_table_is_collapsed(name: str) -> None:
    actor, pages = PAGES[name]
    s = beside(actor, pages=pages, orders=(2,))
    assert violations(outcomes(s)) == set()
    found = violations(Outcomes(s, without_the_lock(), FEW))
    assert "DEBUG_VM: WARNING in collapse_huge_page: !pmd_none(*pmd)" in found


def test_a_verdict_says_so() -> None:
    judged = judge_sets(beside("load:3"), v12.VARIANT, without_the_lock(), EXHAUSTIVE)
    assert judged.relation == "different"


@pytest.mark.full
@pytest.mark.parametrize("actor", ["load:0", "store:0"])
def test_a_page_that_comes_back_beside_a_collapse(actor: str) -> None:
    """The folio lock is not waited for under the lock of the VMA."""
    for pages in ("waaaaaaa", "vaaaaaaa"):
        s = beside(actor, pages=pages)
        assert violations(outcomes(s)) == violations(outcomes(s, reviewed.VARIANT)) == set()
    assert violations(Outcomes(beside(actor, pages="waaaaaaa"), without_the_lock(), FEW))


def test_a_fault_on_a_huge_page_beside_a_collapse() -> None:
    for actor, pmd in product(("load:3", "store:3"), ("huge", "huge_zero", "none")):
        assert violations(outcomes(attrs.evolve(beside(actor, pages="........", kind=DriverKind.MADVISE), pmd=pmd))) == set()


def test_a_neighbour_in_the_same_range_keeps_it_from_being_collapsed() -> None:
    """So a neighbour's fault, which the lock of the other VMA does not shut out, never meets a hole."""
    s = neighbours("madvise:0-3:collapse", "load:5", first="aaaa", second="r...")
    for variant in (v12.VARIANT, without_the_lock()):
        found = outcomes(s, variant)
        assert violations(found) == set()
        assert {found.observation(each).actors for each in found.all} == {("EINVAL", "done")}


def test_a_neighbour_in_another_range_is_not_shut_out() -> None:
    s = neighbours("madvise:0-7:collapse", "load:9", first="aaaaaaaa", second="rr......")
    for variant in (v12.VARIANT, without_the_lock()):
        found = outcomes(s, variant)
        assert violations(found) == set()
        assert {found.observation(each).actors for each in found.all} == {("done", "done")}


UNMAP: Final = alone("load:3", "munmap:0-7", pages="aaa.aaaa")
CUT: Final = alone("load:3", "munmap:0-3", pages="aaa.aaaa")
PROTECT: Final = alone("store:5", "mprotect:0-3:read", pages="aaaaa.aa")
COLLAPSE: Final = beside("load:3", pages="aaa.aaaa")


@pytest.mark.parametrize("s", [UNMAP, CUT, PROTECT], ids=["unmap", "cut", "protect"])
def test_who_changes_a_vma_waits_for_its_faults(s: Scenario) -> None:
    assert violations(outcomes(s)) == set()


def test_the_lock_that_was_got_may_be_that_of_another_address() -> None:
    """The part of the VMA with page 5 became a VMA of its own meanwhile."""

    def answers() -> set[str]:
        found = outcomes(PROTECT)
        return {found.observation(each).actors[0] for each in found.all}

    assert answers() == {"done"}
    with recompiled(vma_lock.lock_vma_under_rcu, edited("if vma.vm_start <= address < vma.vm_end:", "if vma is not None:")):
        assert answers() == {"done", "SIGSEGV"}


def edited(old: str, new: str) -> Callable[[str], str]:
    """One line of a function's source replaced."""
    return lambda source: replace_line(source, old, new)


WAITS: Final = "smp_cond_load_acquire(vma, _refcnt, alone.__eq__)"
LOOKS_AGAIN: Final = "if vma.vm_mm is not mm or vma.vm_lock_seq == read(mm, _mm_seq, ACQUIRE):"
SEEDED: Final = (
    ("DEBUG_VM", vma_lock.__dict__["__vma_enter_locked"], WAITS, "pass", COLLAPSE),
    ("KASAN", vma_lock.__dict__["__vma_enter_locked"], WAITS, "pass", UNMAP),
    ("DEBUG_VM", vma_lock.vma_start_read, LOOKS_AGAIN, "if vma.vm_mm is not mm:", COLLAPSE),
    ("KASAN", vma.vma_unlink, "vma_mark_detached(vma)", "pass", UNMAP),
    ("DEBUG_VM", vma.vma_unlink, "vma_start_write(vma)", "pass", UNMAP),
    ("DEBUG_VM", mmap.vma_start_write, "__vma_start_write(vma, mm_lock_seq)", "pass", COLLAPSE),
    ("LOCKDEP", vma_lock.lock_vma_under_rcu, "vma_end_read(vma)", "pass", PROTECT),
)


@pytest.mark.parametrize(("check", "function", "old", "new", "s"), SEEDED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_seeded_bug_is_caught(check: str, function: Callable[..., object], old: str, new: str, s: Scenario) -> None:
    with recompiled(function, edited(old, new)):
        found = violations(Outcomes(s, v12.VARIANT, DRAWN)) | violations(Outcomes(s, v12.VARIANT, FEW))
    assert any(each.startswith(check) for each in found), found
