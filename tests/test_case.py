"""What the predicate of an intended difference may ask."""

from __future__ import annotations

import attrs

from kmm.judge.case import case_of
from kmm.mm.intended import Case
from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.model import Driver, DriverKind, Event, Failure, Vma
from tests.helpers import direct, make

KSM = ALPHABET["K"]


def test_pages_are_counted() -> None:
    case = case_of(make("aosF.zwg", flags=("read", "uffd_wp", "write")))
    counts = {name: getattr(case, name) for name in ("present", "young", "shared", "lazyfree", "none", "zero", "unmapped", "swap")}
    assert counts == {"present": 4, "young": 3, "shared": 1, "lazyfree": 1, "none": 1, "zero": 1, "unmapped": 2, "swap": 1}
    assert (case.ptes, case.pmd_order, case.armed, case.writable, case.droppable) == (8, 3, True, True, False)


def test_a_page_that_is_being_migrated_is_unmapped() -> None:
    case = case_of(make("aMMaaaaw"))
    assert (case.migrating, case.unmapped, case.swap) == (2, 3, 1)


def test_a_merged_page_is_shared_when_it_stands_twice() -> None:
    alone = make("Xaaaaaaa", flags=("mergeable", "read", "write"), letters=(("X", attrs.evolve(KSM, mapped_by=0)),))
    twice = attrs.evolve(alone, vmas=(attrs.evolve(alone.vmas[0], pages="XXaaaaaa"),))
    assert [(case.shared, case.merged) for case in map(case_of, (alone, twice))] == [(0, 0), (2, 2)]
    elsewhere = case_of(make("KaaaKsaa", flags=("mergeable", "read", "write")))
    assert (elsewhere.shared, elsewhere.merged) == (3, 2), "merged with a page of another address space: shared alone"


def test_the_orders_are_those_of_the_driver() -> None:
    s = make("aaaaaaaa", orders=(2, 3))
    assert case_of(s).enabled_orders == 0b1100
    assert case_of(attrs.evolve(s, driver=Driver(kind=DriverKind.MADVISE))).enabled_orders == 0b1000
    assert case_of(make("aaaaaaaa", orders=(2, 3), flags=("nohugepage", "read", "write"))).enabled_orders == 0
    short = attrs.evolve(s, vmas=(Vma(pages="aaaa", start=0),))
    assert case_of(short).enabled_orders == 0


def test_drivers_and_what_disturbs_them() -> None:
    attempt = case_of(make("aaaaaaaa", direct(2, 4, is_khugepaged=False)))
    assert (attempt.driver, attempt.is_khugepaged, attempt.order, attempt.offset) == ("direct", False, 2, 4)
    plain = case_of(make("aaaaaaaa"))
    assert (plain.driver, plain.is_khugepaged, plain.order, plain.passes) == ("khugepaged", True, None, 1)
    disturbed = case_of(make("aaaaaaaa", events=(Event(op="exit", before="alloc"),), failures=(Failure(kind="alloc"),)))
    assert (disturbed.events, disturbed.failures) == (("exit",), ("alloc",))


def test_every_field_is_documented() -> None:
    assert Case.__doc__ is not None
    assert [a.name for a in attrs.fields(Case) if f":param {a.name}:" not in Case.__doc__] == []
