"""khugepaged's visit to one address space: progress, the cursor, and what ends it (reference, section 3.2)."""

from __future__ import annotations

import pytest

from kmm.kernel.ref import Ref
from kmm.mm.khugepaged.scan import collapse_single_pmd
from kmm.mm.khugepaged.types import CollapseControl, ScanResult
from kmm.mm.mm_types import MMF_DISABLE_THP_COMPLETELY, VmAreaStruct
from kmm.mm.variant import Variant
from kmm.scenario.model import Vma
from tests.areas import (
    FULL,
    HOLES,
    NR,
    PINNED,
    areas,
    cursor,
    full_scans,
    huge,
    khugepaged,
    listed,
    said,
    visit,
    with_single,
)


def test_progress_is_that_of_the_whole_pmd_whatever_was_looked_at() -> None:
    with khugepaged(areas(f"{HOLES}|{HOLES}")) as world:
        assert visit(world) == (1 + 2 * NR, "EXCEED_NONE_PTE")
        assert (cursor(world)[0], full_scans(world)) == ("", 1)
    assert said(world) == []


def test_a_pmd_without_table_counts_as_much() -> None:
    with khugepaged(areas(f"{HOLES}|{HOLES}", pmd="none")) as world:
        assert visit(world) == (1 + 2 * NR, "PMD_NONE")


@pytest.mark.parametrize(("pages", "pmds"), [(1, 1), (NR + 1, 1), (NR + 2, 2), (2 * NR + 1, 2), (2 * NR + 2, 3)])
def test_the_budget_is_looked_at_behind_a_pmd(pages: int, pmds: int) -> None:
    with khugepaged(areas(f"{HOLES}|{HOLES}|{HOLES}|{HOLES}")) as world:
        assert visit(world, pages) == (1 + pmds * NR, "EXCEED_NONE_PTE")
        assert (cursor(world), full_scans(world)) == (("mm1", pmds), 0)
    assert said(world) == []


def test_the_next_visit_goes_on_at_the_cursor() -> None:
    with khugepaged(areas(f"{PINNED}|{HOLES}|kaaaaaaa")) as world:
        assert [visit(world, 1) for _ in range(5)] == [
            (1 + NR, "PAGE_COUNT"),
            (1 + NR, "EXCEED_NONE_PTE"),
            (1 + NR, "PAGE_LOCK"),
            (1, "FAIL"),
            (1 + NR, "PAGE_COUNT"),
        ]
        assert full_scans(world) == 1
    assert said(world) == []


def test_an_attempt_loses_the_lock_and_ends_the_visit() -> None:
    with khugepaged(areas(f"{HOLES}|{FULL}|{HOLES}")) as world:
        assert visit(world) == (1 + 2 * NR, "SUCCEED")
        assert (cursor(world), huge(world.mm)) == (("mm1", 2), [False, True, False])
        assert not world.mm.mmap_lock.readers
        assert visit(world) == (1 + NR, "EXCEED_NONE_PTE")
    assert said(world) == []


def test_a_vma_that_may_not_collapse_counts_one() -> None:
    vmas = (Vma(pages=FULL, start=0, flags=("nohugepage", "read", "write")), Vma(pages=HOLES, start=NR))
    with khugepaged(areas(f"{FULL}|{HOLES}", vmas=vmas)) as world:
        assert visit(world) == (1 + 1 + NR, "EXCEED_NONE_PTE")
        assert huge(world.mm) == [False, False]
    assert said(world) == []


def test_vmas_inside_one_pmd() -> None:
    """The first one moves the cursor behind it and counts nothing; the second one ends before the cursor."""
    vmas = (Vma(pages="aaaa", start=4), Vma(pages="aaaa", start=8), Vma(pages="." * 16, start=16))
    with khugepaged(areas("." * 32, vmas=vmas, ptes=16, orders=(2, 4))) as world:
        assert visit(world) == (1 + 0 + 1 + 16, "EXCEED_NONE_PTE")
    assert said(world) == []


def test_the_rest_of_a_vma_counts_nothing() -> None:
    """At the cursor, not before it: a VMA and a half."""
    vmas = (Vma(pages=HOLES + "....", start=0),)
    with khugepaged(areas(f"{HOLES}|{HOLES}", vmas=vmas)) as world:
        assert visit(world, NR + 1) == (1 + NR, "EXCEED_NONE_PTE")
        assert cursor(world) == ("mm1", 1)
        assert visit(world) == (1, "FAIL")
        assert full_scans(world) == 1


def test_who_has_the_mmap_lock_for_writing_is_passed_over() -> None:
    with khugepaged(areas(FULL, HOLES)) as world:
        world.mm.mmap_lock.writer = world.somebody
        assert visit(world) == (0, "FAIL")
        assert cursor(world)[0] == "mm2"
        world.mm.mmap_lock.writer = None
        assert visit(world) == (1 + NR, "EXCEED_NONE_PTE")
        assert full_scans(world) == 1
    assert said(world) == []


def test_a_process_without_thp_is_passed_over() -> None:
    with khugepaged(areas(FULL, HOLES)) as world:
        world.mm._flags |= MMF_DISABLE_THP_COMPLETELY
        assert visit(world) == (1, "FAIL")
        assert (cursor(world)[0], listed(world)) == ("mm2", ["mm1", "mm2"])
    assert said(world) == []


def disabling(flag: int, users: int) -> Variant:
    """After the first PMD the process has ``flag`` or lost its users."""

    def single(addr: int, vma: VmAreaStruct, mmap_locked: Ref[bool], cc: CollapseControl) -> ScanResult:
        result = collapse_single_pmd(addr, vma, mmap_locked, cc)
        vma._vm_mm._flags |= flag
        vma._vm_mm._mm_users = users
        return result

    return with_single(single)


def test_thp_disabled_between_two_pmds_ends_the_visit_but_not_the_slot() -> None:
    with khugepaged(areas(f"{HOLES}|{HOLES}"), disabling(MMF_DISABLE_THP_COMPLETELY, 1)) as world:
        assert visit(world) == (1 + NR, "EXCEED_NONE_PTE")
        assert (cursor(world), full_scans(world)) == (("mm1", 1), 0)
        assert visit(world) == (1, "FAIL")
        assert full_scans(world) == 1
    assert said(world) == []


def test_thp_disabled_between_two_vmas_counts_one() -> None:
    vmas = (Vma(pages=HOLES, start=0), Vma(pages=HOLES, start=NR, flags=("dontdump", "read", "write")))
    with khugepaged(areas(f"{HOLES}|{HOLES}", vmas=vmas), disabling(MMF_DISABLE_THP_COMPLETELY, 1)) as world:
        assert visit(world) == (1 + NR + 1, "EXCEED_NONE_PTE")
        assert (cursor(world), full_scans(world)) == (("mm1", 1), 0)
    assert said(world) == []


def test_an_exit_during_the_visit_frees_the_slot() -> None:
    with khugepaged(areas(f"{HOLES}|{HOLES}", HOLES * 2), disabling(0, 0)) as world:
        assert visit(world) == (1 + NR, "EXCEED_NONE_PTE")
        assert (listed(world), cursor(world)[0], world.mm._mm_count) == (["mm2"], "mm2", 1)
    assert said(world) == []


def test_the_end_of_the_list_is_a_full_scan() -> None:
    with khugepaged(areas(HOLES, HOLES)) as world:
        assert [(visit(world), cursor(world)[0], full_scans(world)) for _ in range(3)] == [
            ((1 + NR, "EXCEED_NONE_PTE"), "mm2", 0),
            ((1 + NR, "EXCEED_NONE_PTE"), "", 1),
            ((1 + NR, "EXCEED_NONE_PTE"), "mm2", 1),
        ]
