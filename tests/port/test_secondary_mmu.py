"""A guest's MMU beside the process's: what it maps, what it forgets when the primary tables change (virt/kvm/kvm_main.c)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import attrs
import pytest

from kmm.kernel.locks import spin_lock, spin_unlock
from kmm.kernel.stop import Hang
from kmm.mm import mmu_notifier, secondary_fault, secondary_mmu
from kmm.mm.folio import PG_dirty
from kmm.mm.mm_types import MmStruct
from kmm.mm.pte import ZERO_PFN, pte_pfn
from kmm.mm.secondary_fault import secondary_access
from kmm.mm.secondary_mmu import (
    SPTE_WRITE,
    SecondaryMmu,
    kvm_mmu_notifier_invalidate_range_end,
    kvm_mmu_notifier_invalidate_range_start,
    mmu_invalidate_retry_gfn,
)
from kmm.scenario.build import World
from kmm.scenario.model import Scenario, Vma
from kmm.scenario.operations import OPERATIONS, Actor
from kmm.scenario.run import run
from kmm.scenario.spec import parse_actor
from kmm.scenario.step import Step
from refactors import v12
from tests.port.faulting import NR, address, folio, load, memory, process, pte, store

ALL: Final = "a" * NR
READ: Final = ("read",)


def guest(s: Scenario) -> Scenario:
    """Its first process has a secondary MMU."""
    return attrs.evolve(s, steps=(Step(op="secondary_fault", page=0),))


@contextmanager
def with_guest(pages: str = ALL, *, flags: tuple[str, ...] = ("read", "write"), expect: tuple[str, ...] = ()) -> Iterator[World]:
    with process(guest(memory(pages, flags=flags)), expect=expect) as world:
        yield world


def kvm_of(world: World, mm: MmStruct | None = None) -> SecondaryMmu:
    kvm = (mm or world.mm).secondary
    assert kvm is not None
    return kvm


def reads(world: World, page: int) -> str:
    return secondary_access(world.mm, address(world, page), None)


def writes(world: World, page: int, token: int) -> str:
    return secondary_access(world.mm, address(world, page), token)


def mapped(world: World) -> dict[int, tuple[int, bool]]:
    """Page to frame and whether it may be written."""
    base, size = world.system.base, world.system.machine.page_size
    return {(at - base) // size: (spte >> 12, bool(spte & SPTE_WRITE)) for at, spte in kvm_of(world)._sptes.items()}


def perform(world: World, text: str) -> str:
    return OPERATIONS[text.partition(":")[0]](Actor(world.system, world.mm, parse_actor(text, NR), 9))


def test_a_read_maps_for_reading_and_a_write_for_writing() -> None:
    with with_guest() as world:
        assert reads(world, 3) == ""
        assert mapped(world) == {3: (pte_pfn(pte(world, 3)), False)}
        assert writes(world, 3, 7) == ""
        assert mapped(world) == {3: (pte_pfn(pte(world, 3)), True)}
        assert folio(world, 3).pages[0]._contents == 7
        assert load(world, 3) == "", "the process reads what the guest wrote"
        assert store(world, 3, 8) == ""
        assert reads(world, 3) == "", "and the other way round"


def test_a_hole_is_zeros_until_the_guest_writes() -> None:
    with with_guest("." * NR) as world:
        assert reads(world, 3) == ""
        assert mapped(world) == {3: (ZERO_PFN, False)}
        assert writes(world, 3, 7) == ""
        assert mapped(world) == {3: (pte_pfn(pte(world, 3)), True)}
        assert pte_pfn(pte(world, 3)) != ZERO_PFN


def test_a_page_is_dirty_and_keeps_no_reference() -> None:
    with with_guest("c" * NR) as world:
        page = folio(world, 3)
        before, clean = page._refcount, page._flags & PG_dirty
        assert reads(world, 3) == ""
        assert (page._refcount, page._flags & PG_dirty) == (before, clean)
        assert writes(world, 3, 7) == ""
        assert (page._refcount, bool(page._flags & PG_dirty)) == (before, True)


def test_what_the_process_may_not_the_guest_may_not() -> None:
    with with_guest("r" * NR, flags=READ) as world:
        assert reads(world, 3) == ""
        assert writes(world, 3, 7) == "EFAULT"
        assert mapped(world) == {3: (pte_pfn(pte(world, 3)), False)}
    vmas = (Vma(pages="aaaa", flags=("read", "write"), start=0),)
    with process(guest(memory(vmas=vmas))) as world:
        assert reads(world, 9) == "EFAULT"
        assert mapped(world) == {}


def test_what_was_young_is_translated_from_the_start() -> None:
    with with_guest("Ya" * (NR // 2)) as world:
        assert mapped(world) == {page: (pte_pfn(pte(world, page)), True) for page in range(0, NR, 2)}


@pytest.mark.parametrize(
    ("operation", "left"),
    [
        ("madvise:0-3:dontneed", {4, 5}),
        ("madvise:0-3:free", {4, 5}),
        ("madvise:4-4:pageout", {2, 3, 5}),
        ("munmap:0-3", set()),
        ("mprotect:0-3:read", set()),
        ("mremap:2-3>8", set()),
        ("swapout:2", {3, 4, 5}),
        ("fork", set()),
        ("load:2", {2, 3, 4, 5}),
        ("store:2", {2, 3, 4, 5}),
        ("gup:2:write", {2, 3, 4, 5}),
        ("mlock:2-3", set()),
        (f"mlock:0-{NR - 1}", {2, 3, 4, 5}),
        ("age:2", {2, 3, 4, 5}),
    ],
)
def test_it_forgets_what_changes_and_nothing_else(operation: str, left: set[int]) -> None:
    """Where a VMA is cut, the whole PMD range is announced, for a huge entry would be split."""
    with with_guest() as world:
        assert [writes(world, page, 70 + page) for page in (2, 3, 4, 5)] == [""] * 4
        assert perform(world, operation) == ""
        assert set(mapped(world)) == left


def test_protection_by_the_monitor_reaches_it() -> None:
    with with_guest(flags=("read", "uffd_wp", "write")) as world:
        assert writes(world, 2, 7) == ""
        assert perform(world, "uffd_wp:0-3:protect") == ""
        assert mapped(world) == {}
        assert writes(world, 2, 8) == "EFAULT"
        assert reads(world, 2) == ""
        assert perform(world, "uffd_wp:0-3:resolve") == ""
        assert writes(world, 2, 8) == ""


def test_a_child_reads_what_was_there_at_the_fork() -> None:
    with with_guest() as world:
        assert writes(world, 2, 7) == ""
        assert perform(world, "fork") == ""
        child = world.system.mms[-1]
        assert child.secondary is None
        assert writes(world, 2, 8) == ""
        assert load(world, 2, child) == ""


def test_when_the_process_ends_nothing_is_translated() -> None:
    s = memory(ALL)
    steps = (Step(op="secondary_fault", page=2, value="write"), Step(op="exit"))
    found = run(attrs.evolve(s, steps=steps), v12.VARIANT)
    assert found.steps == ("done", "done")
    assert mapped(found.world) == {}
    assert found.world.system.machine.reports == []


def test_a_process_that_was_not_there_has_none() -> None:
    steps = (Step(op="fork"), Step(op="secondary_fault", process=2, page=0))
    found = run(attrs.evolve(memory(ALL), steps=steps), v12.VARIANT)
    assert "process 2 has no secondary MMU" in str(found.impossible)


def test_an_access_is_young_until_reclaim_has_seen_it() -> None:
    with with_guest("oo" * (NR // 2)) as world:
        at = address(world, 2)
        assert reads(world, 2) == ""
        assert world.mm._secondary_young == {at}
        assert perform(world, "age:2") == ""
        assert world.mm._secondary_young == set()
        assert reads(world, 2) == "", "through the entry that it still has"
        assert world.mm._secondary_young == {at}
        assert perform(world, "madvise:2-2:dontneed") == ""
        assert world.mm._secondary_young == set()


def test_while_an_invalidation_is_under_way_and_after_it_the_fault_comes_again() -> None:
    with with_guest() as world:
        kvm, (first, second, third) = kvm_of(world), (address(world, page) for page in (0, 4, 8))

        def retry(where: int, seq: int) -> bool:
            with held(kvm):
                return mmu_invalidate_retry_gfn(kvm, where, seq)

        before = kvm._invalidate_seq
        kvm_mmu_notifier_invalidate_range_start(kvm, world.mm, first, second)
        assert [retry(where, before) for where in (first, second, third)] == [True, False, False]
        kvm_mmu_notifier_invalidate_range_start(kvm, world.mm, second, third)
        assert [retry(where, before) for where in (first, second, third)] == [True, True, False]
        kvm_mmu_notifier_invalidate_range_end(kvm)
        assert [retry(where, before + 1) for where in (first, second, third)] == [True, True, False]
        kvm_mmu_notifier_invalidate_range_end(kvm)
        assert [retry(where, before) for where in (first, third)] == [True, True]
        assert [retry(where, before + 2) for where in (first, third)] == [False, False]
        kvm_mmu_notifier_invalidate_range_start(kvm, world.mm, second, third)
        assert not retry(first, before + 2), "the range of an earlier one is forgotten"
        kvm_mmu_notifier_invalidate_range_end(kvm)


@contextmanager
def held(kvm: SecondaryMmu) -> Iterator[None]:
    spin_lock(kvm.mmu_lock)
    yield
    spin_unlock(kvm.mmu_lock)


@pytest.mark.parametrize(
    ("spte", "said"),
    [
        (lambda right: right + (1 << 12), "translates page 3 to"),
        (lambda right: ZERO_PFN << 12, "translates page 3 to the zero page"),
        (lambda right: right | SPTE_WRITE, "writes page 3, which the tables forbid"),
    ],
)
def test_at_rest_it_must_say_what_the_tables_say(spte: Callable[[int], int], said: str) -> None:
    with with_guest("r" * NR, expect=("TLB",)) as world:
        reads(world, 3)
        sptes = kvm_of(world)._sptes
        sptes[address(world, 3)] = spte(sptes[address(world, 3)])
    (report,) = world.system.machine.reports
    assert said in report.text


def test_at_rest_nothing_is_translated_that_is_not_there_and_nothing_is_under_way() -> None:
    with with_guest("." * NR, expect=("TLB",)) as world:
        kvm_of(world)._sptes[address(world, 3)] = 77 << 12
        kvm_of(world)._in_progress = 1
    assert len(world.system.machine.reports) == 2


BUGS: Final[dict[str, tuple[object, str, object, Callable[[], None]]]] = {
    "nothing is forgotten": (
        secondary_mmu,
        "kvm_unmap_gfn_range",
        lambda *_: None,
        lambda: test_it_forgets_what_changes_and_nothing_else("swapout:2", {3, 4, 5}),
    ),
    "everything is forgotten": (
        mmu_notifier,
        "kvm_mmu_notifier_invalidate_range_start",
        lambda kvm, mm, _start, _end: kvm_mmu_notifier_invalidate_range_start(kvm, mm, 0, 1 << 60),
        lambda: test_it_forgets_what_changes_and_nothing_else("swapout:2", {3, 4, 5}),
    ),
    "an end too many": (
        mmu_notifier,
        "kvm_mmu_notifier_invalidate_range_end",
        lambda _kvm: None,
        lambda: test_it_forgets_what_changes_and_nothing_else("fork", set()),
    ),
    "a reference is kept": (secondary_fault, "folio_put", lambda _folio: None, test_a_page_is_dirty_and_keeps_no_reference),
    "what is written stays clean": (secondary_fault, "folio_set_flag", lambda *_: None, test_a_page_is_dirty_and_keeps_no_reference),
    "nothing is mapped for writing": (secondary_fault, "SPTE_WRITE", 0, test_a_read_maps_for_reading_and_a_write_for_writing),
    "an access is not young": (secondary_fault, "_mark_young", lambda *_: None, test_an_access_is_young_until_reclaim_has_seen_it),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_seeded_bug_is_caught(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, instead, caught_by = BUGS[bug]
    monkeypatch.setattr(module, name, instead)
    with pytest.raises((AssertionError, Hang)):
        caught_by()
