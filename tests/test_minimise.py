"""The minimiser: what is left cannot be made smaller, is found again in the same way, and is found quickly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from kmm.judge.minimise import minimise, size
from kmm.judge.pair import judge_pair
from kmm.judge.recut import recuts
from kmm.scenario.checks import GAP
from kmm.scenario.model import Driver, DriverKind, Event, Failure, Geometry, Scenario, Tunables, Vma
from kmm.scenario.page import Kind, PageState
from kmm.scenario.strategies import generate
from tests.helpers import direct, make
from tests.judging import V12, mutant

Predicate = Callable[[Scenario], bool]


def pages(s: Scenario) -> str:
    """The map."""
    return s.pages


def without_one(s: Scenario) -> list[Scenario]:
    """``s`` without one page state, event or failure."""
    return [
        *(
            attrs.evolve(s, vmas=(*s.vmas[:n], attrs.evolve(vma, pages=vma.pages[:i] + "." + vma.pages[i + 1 :]), *s.vmas[n + 1 :]))
            for n, vma in enumerate(s.vmas)
            for i, letter in enumerate(vma.pages)
            if letter != "."
        ),
        *(attrs.evolve(s, events=s.events[:i] + s.events[i + 1 :]) for i in range(len(s.events))),
        *(attrs.evolve(s, failures=s.failures[:i] + s.failures[i + 1 :]) for i in range(len(s.failures))),
    ]


PIN = Event(op="pin", before="alloc", page=3)
EXIT = Event(op="exit", before="mmap_read_lock", nth=3)
POISON = Failure(kind="poison", page=1)


def test_what_is_not_needed_goes() -> None:
    start = make("asTwz.aa", events=(PIN, EXIT), failures=(POISON,), orders=(2, 3), none=3)
    small = minimise(start, lambda s: "s" in pages(s))
    geometry = Geometry(ptes=8)
    assert small == Scenario(
        geometry=geometry,
        tunables=Tunables.default(geometry),
        vmas=(Vma(pages=".s......"),),
        driver=Driver(kind=DriverKind.KHUGEPAGED),
    )


def test_name_remark_and_assumptions_go() -> None:
    start = attrs.evolve(make("aaaaaaaa"), name="n", remark="r", assumed=("young",))
    small = minimise(start, lambda s: True)
    assert (small.name, small.remark, small.assumed) == ("", "", ())
    assert pages(small) == "........"


def test_what_is_needed_stays() -> None:
    start = make("asTwz.aa", events=(PIN, EXIT), failures=(POISON,))
    small = minimise(start, lambda s: any(e.op == "exit" for e in s.events) and len(s.failures) == 1 and "w" in pages(s))
    assert small.events == (attrs.evolve(EXIT, nth=1),)
    assert small.failures == (POISON,)
    assert pages(small) == "...w...."


def test_the_smallest_geometry_that_does() -> None:
    start = make("a" * 256 + "s" * 256)
    assert minimise(start, lambda s: s.geometry.ptes >= 32 and "s" in pages(s)).geometry.ptes == 32
    assert minimise(start, lambda s: "s" in pages(s)).geometry.ptes == 8


def test_a_scan_in_place_of_an_attempt() -> None:
    start = make("aaaaaaaa", direct(2, 4, is_khugepaged=False, mmap_locked=False))
    assert minimise(start, lambda s: True).driver == Driver(kind=DriverKind.KHUGEPAGED)
    small = minimise(start, lambda s: s.driver.order == 2)
    assert small.driver == Driver(kind=DriverKind.DIRECT, order=2)


def test_letters_that_are_spelled_out() -> None:
    far = PageState(kind=Kind.PRESENT, young=True, node=3)
    old = PageState(kind=Kind.PRESENT, node=2)
    start = make("AABBaaaa", letters=(("A", far), ("B", old)))
    assert minimise(start, lambda s: any(page.node == 3 for _, page in s.letters)).letters == (("A", far),)
    plain = minimise(start, lambda s: any(s.alphabet()[c].kind is Kind.PRESENT for c in pages(s)))
    assert (plain.letters, len(pages(plain).replace(".", ""))) == ((), 1)


def test_a_scenario_without_a_difference() -> None:
    with pytest.raises(ValueError, match="no difference"):
        minimise(make("aaaaaaaa"), lambda s: False)


PREDICATES: list[Predicate] = [
    lambda s: sum(s.alphabet()[c].kind is Kind.PRESENT for c in pages(s) if c != GAP) >= 3,
    lambda s: any(s.alphabet()[c].young for c in pages(s) if c != GAP) and (not s.events or s.tunables.max_ptes_none > 0),
    lambda s: hash((pages(s).count("a"), len(s.events))) % 3 != 1,
    lambda s: len(set(pages(s))) >= 2 or s.driver.order is not None,
]


@pytest.mark.parametrize("differs", PREDICATES, ids=range(len(PREDICATES)))
def test_nothing_can_be_left_out_of_what_is_left(differs: Predicate) -> None:
    tried = 0
    for start in generate(Geometry(ptes=16), 60, 3):
        if not differs(start):
            continue
        tried += 1
        small = minimise(start, differs)
        assert differs(small)
        assert size(small) <= size(start)
        assert not any(differs(each) for each in without_one(small))
        assert minimise(start, differs) == small
        assert minimise(small, differs) == small
    assert tried >= 10


def test_recuts_are_smaller_and_the_smallest_come_first() -> None:
    for start in generate(Geometry(ptes=64), 20, 1):
        sizes = [each.geometry.ptes for each in recuts(start)]
        assert sizes == sorted(sizes)
        assert set(sizes) <= {8, 16, 32}
    assert list(recuts(make("aaaaaaaa"))) == []


def test_a_recut_keeps_what_a_scenario_is_about() -> None:
    start = make("." * 32 + "s" * 32, direct(4, 32), events=(PIN,), failures=(Failure(kind="poison", page=40),), orders=(4, 6))
    every = list(recuts(start))
    assert any(pages(each) == "ssssssss" and each.driver.order == 2 for each in every)
    assert all(each.driver.order is not None and each.driver.offset % (1 << each.driver.order) == 0 for each in every)
    assert all(len(each.events) == len(each.failures) == 1 for each in every)


BUGS = {
    "a young entry that is clean": ("maybe_mkwrite(pte_mkdirty(mk_pte(", "maybe_mkwrite((mk_pte("),
    "a window from the start of the table": ("MmuNotifierRange(mm, mthp_address, ", "MmuNotifierRange(mm, pmd_address, "),
    "a reference too many": ("folio_ref_add(folio, nr_pages - 1)", "folio_ref_add(folio, nr_pages)"),
}


@pytest.mark.parametrize(("old", "new"), BUGS.values(), ids=BUGS)
def test_a_difference_at_512_ptes(tmp_path: Path, old: str, new: str) -> None:
    broken = mutant(tmp_path / "broken.py", old, new).variant

    def differs(s: Scenario) -> bool:
        return bool(judge_pair(s, V12.variant, broken).differs)

    start = next(s for s in generate(Geometry(), 60, 1) if differs(s))
    small = minimise(start, differs)
    assert small.geometry.ptes == 8
    assert differs(small)
    assert not any(differs(each) for each in without_one(small))
