"""mlock and munlock of ranges: VMAs, the accounting of folios, and the pages that are brought in; and seeded mistakes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kmm.mm import mlock_vma, populate
from kmm.mm.folio import PG_dirty, PG_referenced, PG_unevictable
from kmm.mm.mlock_vma import do_mlock, do_munlock
from kmm.mm.mm_types import VM_IO, VM_LOCKED
from kmm.mm.swap import lru_add_drain_all
from kmm.mm.vmscan import swap_out_folio
from kmm.scenario.build import World
from kmm.scenario.model import Failure, Scenario, Vma
from kmm.scenario.step import Step
from tests.port.faulting import NR, SIZE, address, bits, events, folio, is_huge, load, memory, process, rss, store, usage
from tests.port.mistakes import notices
from tests.port.test_address_space import done, system

BOTH = ("read", "write")
NONE = "." * NR


def lock(world: World, first: int, length: int) -> str:
    return do_mlock(world.mm, address(world, first), length * SIZE)


def unlock(world: World, first: int, length: int) -> str:
    return do_munlock(world.mm, address(world, first), length * SIZE)


def extents(world: World) -> list[tuple[int, int, bool]]:
    """First page, one behind the last, and whether it is locked, of every VMA."""
    base = world.system.base
    return [((v._vm_start - base) // SIZE, (v._vm_end - base) // SIZE, bool(v._vm_flags & VM_LOCKED)) for v in world.mm._vmas]


def mlocked(world: World) -> int:
    """NR_MLOCK, in pages."""
    return world.system.node_stat.get("nr_mlock", 0)


def area(pages: str, start: int = 0, *, flags: tuple[str, ...] = BOTH) -> Vma:
    return Vma(pages=pages, flags=flags, start=start)


def test_pages_are_brought_in_and_kept() -> None:
    with process(memory("a.wz" + "." * (NR - 4))) as world:
        assert lock(world, 0, 6) == ""
        assert extents(world) == [(0, 6, True), (6, NR, False)]
        assert rss(world) == (6, 0)
        assert [bits(world, page)[3] for page in range(6)] == ["w"] * 6
        lru_add_drain_all()
        assert [bool(folio(world, page)._flags & PG_unevictable) for page in range(6)] == [True, True, False, True, True, True]
        assert mlocked(world) == 5, "the kernel passes over a page that it has swapped in"
        assert swap_out_folio(folio(world, 2)) == "mlocked"
        assert mlocked(world) == 6, "until reclaim finds it"
        assert not any(vma._vm_flags & VM_IO for vma in world.mm._vmas)


def test_what_is_unlocked_can_be_reclaimed() -> None:
    with process(memory("a" * NR)) as world:
        lock(world, 0, NR)
        assert unlock(world, 4, 4) == ""
        assert extents(world) == [(0, 4, True), (4, 8, False), (8, NR, True)]
        assert mlocked(world) == NR - 4
        lru_add_drain_all()
        assert swap_out_folio(folio(world, 5), force=True) == ""
        assert unlock(world, 0, NR) == ""
        assert mlocked(world) == 0
        assert extents(world) == [(0, NR, False)]
        assert events(world, "unevictable_pgs_mlocked", "unevictable_pgs_munlocked") == [NR, NR]


def test_twice_counts_once() -> None:
    with process(memory("a" * NR)) as world:
        lock(world, 0, NR)
        assert lock(world, 4, 4) == ""
        assert extents(world) == [(0, NR, True)]
        assert mlocked(world) == NR
        assert folio(world, 4)._mlock_count == 1
        assert unlock(world, 0, NR) == ""
        assert mlocked(world) == 0


def test_on_fault_only_becomes_at_once() -> None:
    """A VMA that is locked on fault loses that, and nothing is mlocked twice; its holes are filled."""
    with process(memory("l..." + "." * (NR - 4), flags=("locked", "lockonfault", "read", "write"))) as world:
        assert lock(world, 0, 4) == ""
        assert mlocked(world) == 4
        assert rss(world) == (4, 0)


def test_only_read_pages_are_read() -> None:
    with process(memory("r..." + "." * (NR - 4), flags=("read",))) as world:
        assert lock(world, 0, 4) == ""
        assert rss(world) == (1, 0)
        assert bits(world, 1) == "py---s"
        assert mlocked(world) == 1


def test_pages_are_touched() -> None:
    with process(memory("ac" + "." * (NR - 2))) as world:
        lock(world, 0, 3)
        flags = [folio(world, page)._flags for page in range(3)]
        assert [bool(each & PG_referenced) for each in flags] == [True] * 3
        assert [bool(each & PG_dirty) for each in flags] == [False, True, False], "clean, but writable"


@pytest.mark.parametrize(
    ("flags", "outcome", "locked"),
    [((), "ENOMEM", True), (("mixedmap", "read", "write"), "", False), (("droppable", "read", "write"), "", False)],
)
def test_vmas_that_cannot_be_locked(flags: tuple[str, ...], outcome: str, locked: bool) -> None:
    """Without access nothing can be brought in; special VMAs and those that may be dropped are passed over."""
    with process(memory(NONE, flags=flags)) as world:
        assert lock(world, 0, 4) == outcome
        assert extents(world)[0] == ((0, 4, True) if locked else (0, NR, False))
        assert mlocked(world) == 0


def test_a_hole_ends_it_before_anything_is_brought_in() -> None:
    with process(memory(vmas=(area("...."), area("....", 8)))) as world:
        assert lock(world, 0, 12) == "ENOMEM"
        assert extents(world) == [(0, 4, True), (8, 12, False)]
        assert rss(world) == (0, 0)
        assert lock(world, 5, 2) == "ENOMEM"
        assert unlock(world, 0, 12) == "ENOMEM"
        assert extents(world) == [(0, 4, False), (8, 12, False)]


@pytest.mark.parametrize(("letter", "outcome"), [("g", "ENOMEM"), ("P", "ENOMEM"), ("H", "ENOMEM")])
def test_a_page_that_cannot_be_had(letter: str, outcome: str) -> None:
    with process(memory("." + letter + "." * (NR - 2))) as world:
        assert lock(world, 0, 4) == outcome
        assert rss(world) == (1, 0), "what lies behind it is not brought in"
        assert extents(world)[0] == (0, 4, True)


def test_without_memory() -> None:
    with process(memory(NONE, failures=(Failure(kind="alloc", nth=2),))) as world:
        assert lock(world, 0, 4) == "EAGAIN"
        assert rss(world) == (1, 0)
        assert usage(world) == 1


def test_a_monitor_is_asked() -> None:
    with process(memory(NONE, flags=("read", "uffd_missing", "write"))) as world:
        assert lock(world, 0, 4) == "userfault"


def test_a_huge_page_is_locked_as_a_whole_or_split() -> None:
    with process(memory(NONE, pmd="huge")) as world:
        assert lock(world, 0, NR) == ""
        assert is_huge(world)
        assert mlocked(world) == NR
        assert unlock(world, 0, NR) == ""
        assert mlocked(world) == 0
    with process(memory(NONE, pmd="huge")) as world:
        assert lock(world, 0, 4) == ""
        assert not is_huge(world)
        assert mlocked(world) == 0, "the range does not map all of the folio"
        assert unlock(world, 0, NR) == ""


def test_huge_faults_fill_a_range() -> None:
    with process(memory(NONE, orders=(4,), pmd="none")) as world:
        assert lock(world, 0, NR) == ""
        assert is_huge(world)
        assert mlocked(world) == NR


@pytest.mark.parametrize(("first", "length", "expected"), [(0, 8, 8), (0, 4, 4), (0, 6, 4), (2, 4, 0)])
def test_a_large_folio_is_mlocked_where_all_of_it_is(first: int, length: int, expected: int) -> None:
    with process(memory("22222222" + "." * (NR - 8))) as world:
        assert lock(world, first, length) == ""
        assert mlocked(world) == expected
        assert unlock(world, 0, 8) == ""
        assert mlocked(world) == 0


def test_over_several_tables() -> None:
    with process(memory("." * 3 * NR, ranges=3)) as world:
        assert lock(world, 8, 2 * NR) == ""
        assert rss(world) == (2 * NR, 0)
        assert mlocked(world) == 2 * NR
        assert unlock(world, NR, NR) == ""
        assert mlocked(world) == NR


def both_ways(world: World) -> list[object]:
    store(world, 0, 5)
    return [lock(world, 0, 8), rss(world), lock(world, 4, 8), unlock(world, 2, 4), extents(world), mlocked(world), load(world, 3)]


def whole(world: World) -> list[object]:
    return [lock(world, 0, NR), mlocked(world), unlock(world, 0, NR), mlocked(world)]


def halves(world: World) -> list[object]:
    return [lock(world, 0, 6), mlocked(world)]


SMALL = memory("aw.a2222" + "." * (NR - 8))
ALLOW = "return folio_within_range(folio, vma, start, end) and step == folio_nr_pages(folio)"
RESET = "current.machine.write(vma, VmAreaStruct.vm_flags, newflags, ONCE)"
HUGE = memory(NONE, pmd="huge")


@pytest.mark.parametrize(
    ("catches", "function", "old", "new", "s", "do"),
    [
        ("CONSERVATION", mlock_vma._mlock_or_munlock, "if vma.vm_flags & VM_LOCKED:", "if True:", SMALL, both_ways),
        ("LOCKDEP", mlock_vma._apply_vma_lock_flags, "mmap_write_unlock(mm)", "pass", SMALL, both_ways),
        ("LOCKDEP", mlock_vma.mlock_pte_range, "pte_unmap_unlock(pte, ptl)", "pass", SMALL, both_ways),
        ("LOCKDEP", mlock_vma.mlock_pte_range, "spin_unlock(ptl)", "pass", HUGE, whole),
        ("LOCKDEP", populate.__dict__["__mm_populate"], "mmap_read_unlock(mm)", "pass", SMALL, both_ways),
        ("LOCKDEP", populate.follow_page_mask, "pte_unmap_unlock(pte, ptl)", "pass", SMALL, both_ways),
        (
            "answer",
            populate.populate_vma_page_range,
            "if error := _populate_page(vma, address, write=write):",
            "if error := '':",
            SMALL,
            both_ways,
        ),
        ("answer", mlock_vma.allow_mlock_munlock, ALLOW, "return True", SMALL, halves),
        ("answer", mlock_vma.mlock_vma_pages_range, RESET, "pass", SMALL, both_ways),
    ],
)
def test_a_seeded_mistake_is_caught(
    catches: str, function: Callable[..., object], old: str, new: str, s: Scenario, do: Callable[[World], list[object]]
) -> None:
    assert catches in notices(s, do, function, old, new)


def test_reclaim_does_not_look_at_a_mlocked_folio() -> None:
    """It would count as mlocked once more each time."""
    everything = [Step(op=op, page=0, length=24) for op in ("age", "munlock")]
    r = done(system("l" * 24, *everything, flags=("locked", "read", "write")))
    assert r.world.system.node_stat["nr_mlock"] == 0
