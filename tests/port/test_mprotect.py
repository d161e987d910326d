"""mprotect: flags and entries of VMAs, upgrades to writable, huge pages whole and in part, holes; and its seeded mistakes."""

from __future__ import annotations

import pytest

from kmm.mm import mmu_gather, mprotect
from kmm.mm.mm_types import VM_EXEC, VM_READ, VM_WRITE
from kmm.mm.mprotect import do_mprotect
from kmm.mm.pgtable_bits import pmd_migration_set
from kmm.mm.pte import SWP_DEVICE_READ, SWP_MIGRATION_READ_EXCLUSIVE, pmd_migration_has, pmd_write, pte_swp_type
from kmm.scenario.build import World
from kmm.scenario.model import Scenario, Vma
from kmm.scenario.quiescence import pmd_of
from tests.port.faulting import NR, SIZE, address, bits, events, is_huge, load, memory, process, pte, rss, store
from tests.port.mistakes import notices

READ, BOTH, NONE = VM_READ, VM_READ | VM_WRITE, 0
ALL = "a" * NR


def protect(world: World, first: int, length: int, access: int) -> str:
    return do_mprotect(world.mm, address(world, first), length * SIZE, access)


def extents(world: World) -> list[tuple[int, int, int]]:
    """First page, one behind the last, and access flags of every VMA."""
    base, access = world.system.base, VM_READ | VM_WRITE | VM_EXEC
    return [((v._vm_start - base) // SIZE, (v._vm_end - base) // SIZE, v._vm_flags & access) for v in world.mm._vmas]


def test_what_may_not_be_written_faults_and_what_may_again_does_not() -> None:
    with process(memory(ALL)) as world:
        store(world, 3, 7)
        assert protect(world, 0, NR, READ) == ""
        assert bits(world, 3) == "pyd---"
        assert store(world, 3, 8) == "SIGSEGV"
        assert load(world, 3) == ""
        assert protect(world, 0, NR, BOTH) == ""
        assert bits(world, 3) == "pydw--", "exclusive: no fault is needed"
        before = events(world, "pgreuse")
        assert store(world, 3, 8) == ""
        assert events(world, "pgreuse") == before
        assert extents(world) == [(0, NR, BOTH)]


def test_without_access_nothing_is_read_and_nothing_is_lost() -> None:
    with process(memory(ALL)) as world:
        assert protect(world, 2, 2, NONE) == ""
        assert [load(world, page) for page in range(5)] == ["", "", "SIGSEGV", "SIGSEGV", ""]
        assert extents(world) == [(0, 2, BOTH), (2, 4, NONE), (4, NR, BOTH)]
        assert protect(world, 2, 2, READ) == ""
        assert load(world, 2) == ""
        assert bits(world, 2) == "pyd---"
        assert protect(world, 2, 2, BOTH) == ""
        assert extents(world) == [(0, NR, BOTH)]


@pytest.mark.parametrize(
    ("letter", "writable"),
    [("a", True), ("c", True), ("r", True), ("n", False), ("s", False), ("K", False), ("N", True), ("z", False), ("i", False)],
)
def test_only_a_page_that_is_exclusive_becomes_writable_without_a_fault(letter: str, writable: bool) -> None:
    """Whether it is dirty does not count."""
    extra = {"K": ("mergeable",), "i": ("mixedmap",)}.get(letter, ())
    with process(memory(letter * NR, flags=("read", "write", *extra))) as world:
        assert protect(world, 0, NR, READ) == ""
        assert "w" not in bits(world, 0)
        assert protect(world, 0, NR, BOTH) == ""
        assert ("w" in bits(world, 0)) == writable


def test_userfaultfd_wants_to_know_of_the_write() -> None:
    with process(memory("u" + "a" * (NR - 1), flags=("read", "uffd_wp", "write"))) as world:
        protect(world, 0, NR, READ)
        protect(world, 0, NR, BOTH)
        assert bits(world, 0) == "pyd-u-"
        assert bits(world, 1) == "pydw--"


@pytest.mark.parametrize(("letter", "kind"), [("M", SWP_MIGRATION_READ_EXCLUSIVE), ("D", SWP_DEVICE_READ)])
def test_a_page_that_is_away_comes_back_without_write(letter: str, kind: int) -> None:
    with process(memory(letter + "." * (NR - 1))) as world:
        protect(world, 0, NR, READ)
        assert pte_swp_type(pte(world, 0)) == kind
        protect(world, 0, NR, BOTH)
        assert pte_swp_type(pte(world, 0)) == kind


@pytest.mark.parametrize("letter", "wvqygPUH")
def test_other_entries_stay(letter: str) -> None:
    flags = ("read", "uffd_wp", "write") if letter in "Uq" else ("read", "write")
    with process(memory(letter + "." * (NR - 1), flags=flags)) as world:
        before = pte(world, 0)
        protect(world, 0, NR, READ)
        protect(world, 0, NR, BOTH)
        assert pte(world, 0) == before


def test_a_hole_ends_it_where_it_is() -> None:
    vmas = (Vma(pages="a" * 4, flags=("read", "write"), start=0), Vma(pages="a" * 4, flags=("read", "write"), start=8))
    with process(memory(vmas=vmas)) as world:
        assert protect(world, 0, 12, READ) == "ENOMEM"
        assert extents(world) == [(0, 4, READ), (8, 12, BOTH)]
        assert store(world, 1, 5) == "SIGSEGV", "what was done has been flushed"
        assert protect(world, 5, 2, READ) == "ENOMEM"
        assert protect(world, 4, 8, READ) == "ENOMEM", "the hole comes first: nothing is done"
        assert store(world, 9, 5) == ""


def test_a_huge_page_is_changed_as_a_whole() -> None:
    with process(memory("." * NR, pmd="huge", orders=(4,))) as world:
        assert protect(world, 0, NR, READ) == ""
        assert is_huge(world)
        assert not pmd_write(pmd_of(world.mm))
        assert store(world, 1, 3) == "SIGSEGV"
        assert protect(world, 0, NR, NONE) == ""
        assert load(world, 1) == "SIGSEGV"
        assert is_huge(world)
        assert protect(world, 0, NR, BOTH) == ""
        assert is_huge(world)
        assert pmd_write(pmd_of(world.mm))
        assert store(world, 1, 3) == ""
        assert events(world, "thp_split_pmd") == [0]


def test_a_part_of_a_huge_page_splits_it() -> None:
    with process(memory("." * NR, pmd="huge", orders=(4,))) as world:
        assert protect(world, 4, 4, READ) == ""
        assert not is_huge(world)
        assert events(world, "thp_split_pmd") == [1]
        assert [bits(world, page)[3] for page in (3, 4, 7, 8)] == ["w", "-", "-", "w"]
        assert rss(world) == (NR, 0)


def test_the_huge_zero_page_does_not_become_writable() -> None:
    with process(memory("." * NR, pmd="huge_zero")) as world:
        protect(world, 0, NR, READ)
        protect(world, 0, NR, BOTH)
        assert is_huge(world)
        assert not pmd_write(pmd_of(world.mm))
        assert load(world, 0) == ""


def test_a_huge_page_that_is_being_migrated_loses_write() -> None:
    with process(memory("." * NR, pmd="migration")) as world:
        page = world.mm._pmds[0]
        assert page is not None
        page.slot._val = pmd_migration_set(page.slot._val, "write")
        assert pmd_migration_has(pmd_of(world.mm), "write")
        protect(world, 0, NR, READ)
        assert not pmd_migration_has(pmd_of(world.mm), "write")
        assert pmd_migration_has(pmd_of(world.mm), "exclusive")


def test_a_locked_vma_that_becomes_writable_is_copied_at_once() -> None:
    """Its zero pages, and pages shared with others, would fault at the first write."""
    with process(memory("." * NR, flags=("locked", "read"))) as world:
        load(world, 0)
        assert rss(world) == (0, 0)
        protect(world, 0, 4, BOTH)
        assert rss(world) == (4, 0)
        assert bits(world, 0) == "pydw--"


def test_over_several_tables() -> None:
    with process(memory("a" * 3 * NR, ranges=3)) as world:
        assert protect(world, 8, 2 * NR, READ) == ""
        assert [store(world, page, 9) for page in (7, 8, NR, 2 * NR + 7, 2 * NR + 8)] == ["", "SIGSEGV", "SIGSEGV", "SIGSEGV", ""]
        assert world.system.machine.tlb_flushes == [(address(world, 8), address(world, 2 * NR + 8))], "one flush for all"


def test_nothing_is_done_where_nothing_changes() -> None:
    with process(memory(ALL)) as world:
        before = len(world.system.machine.tlb_flushes)
        assert protect(world, 0, NR, BOTH) == ""
        assert len(world.system.machine.tlb_flushes) == before
        assert extents(world) == [(0, NR, BOTH)]


def there_and_back(world: World) -> list[str]:
    """A page is used, protected, used, and may be written again; then both processes that map page 1 look."""
    store(world, 0, 7)
    load(world, 1)
    outcomes = [protect(world, 0, NR, READ), store(world, 0, 8), protect(world, 0, NR, BOTH), store(world, 1, 9)]
    return outcomes + [load(world, 1, mm) for mm in world.system.mms]


def part(world: World) -> list[str]:
    return [protect(world, 4, 4, READ), store(world, 4, 1)]


def over_two_tables(world: World) -> list[str]:
    return [protect(world, 8, NR, READ), *(store(world, page, 1) for page in (7, 8, NR, NR + 7, NR + 8))]


SHARED = memory("as" + "." * (NR - 2))
HUGE = memory("." * NR, pmd="huge")
TWO = memory("a" * 2 * NR, ranges=2)
CAN = "return page is not None and folio_test_anon(page_folio(page)) and PageAnonExclusive(page)"


@pytest.mark.parametrize(
    ("catches", "function", "old", "new", "s"),
    [
        ("PAGE_TABLE_CHECK", mprotect.can_change_pte_writable, CAN, CAN.replace(" and PageAnonExclusive(page)", ""), SHARED),
        ("answer", mmu_gather.tlb_finish_mmu, "flush_tlb_mm_range(mm, start, end)", "pass", SHARED),
        ("TLB", mmu_gather.tlb_finish_mmu, "flush_tlb_mm_range(mm, start, end)", "pass", TWO),
        ("answer", mprotect._change_present, "entry = pte_modify(old, vma.vm_page_prot)", "entry = old", SHARED),
        ("LOCKDEP", mprotect.do_mprotect, "mmap_write_unlock(mm)", "pass", SHARED),
        ("LOCKDEP", mprotect.change_pte_range, "pte_unmap_unlock(pte, ptl)", "pass", SHARED),
        ("LOCKDEP", mprotect.change_huge_pmd, "spin_unlock(ptl)", "pass", HUGE),
        ("PAGE_TABLE_CHECK", mprotect.pmdp_invalidate_ad, "page_table_check.pmd_clear(old)", "pass", HUGE),
        ("answer", mprotect.change_protection, "start = upto", "start = end", TWO),
    ],
)
def test_a_seeded_mistake_is_caught(catches: str, function: object, old: str, new: str, s: Scenario) -> None:
    do = over_two_tables if s is TWO else there_and_back
    assert catches in notices(s, do, function, old, new)
