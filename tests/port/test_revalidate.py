"""Reference 2.7 and 2.8: is the range still what the scan saw?"""

from __future__ import annotations

from unittest import mock

import pytest

from kmm.mm.khugepaged import revalidate
from kmm.mm.khugepaged.revalidate import check_pmd_still_valid, find_pmd_or_thp_or_none, hugepage_vma_revalidate
from kmm.mm.khugepaged.types import CollapseControl, ScanResult
from kmm.mm.mm_types import MMF_DISABLE_THP_COMPLETELY, VM_NOHUGEPAGE, VmAreaStruct
from kmm.mm.mmap import mmap_read_lock, mmap_read_unlock
from kmm.mm.pgtable import PmdSlot
from kmm.mm.pte import KERNPG_TABLE, PMD_NONE, make_pmd_migration_entry, pfn_pmd, pmd_mkhuge, pmd_t
from kmm.scenario.build import World
from kmm.scenario.model import Event
from tests.helpers import direct, go, make, reports, running

S = ScanResult


def revalidated(world: World, address: int = 0, *, expect_anon: bool = True, order: int = 2, is_khugepaged: bool = True) -> ScanResult:
    """Revalidate at a page of the table."""
    mmap_read_lock(world.mm)
    cc = CollapseControl(is_khugepaged=is_khugepaged)
    result, _ = hugepage_vma_revalidate(world.mm, world.system.base + address * 4096, expect_anon, cc, order)
    mmap_read_unlock(world.mm)
    return result


def resize(world: World, first: int, end: int) -> None:
    """Let the VMA cover only some pages."""
    world.vma._vm_start = world.system.base + first * 4096
    world.vma._vm_end = world.system.base + end * 4096


def test_rows() -> None:
    s = make("a" * 8, orders=(2,))
    with running(s) as world:
        assert revalidated(world) == S.SCAN_SUCCEED
        assert revalidated(world, order=3) == S.SCAN_VMA_CHECK, "order 3 is not enabled"
        assert revalidated(world, order=3, is_khugepaged=False) == S.SCAN_SUCCEED, "sysfs does not matter there"
    with running(s) as world:
        world.mm._mm_users = 0
        assert revalidated(world) == S.SCAN_ANY_PROCESS
    with running(s) as world:
        world.mm._flags = MMF_DISABLE_THP_COMPLETELY
        world.mm._vmas = ()
        assert revalidated(world) == S.SCAN_ANY_PROCESS, "before the VMA is looked up"
    with running(s) as world:
        world.mm._vmas = ()
        assert revalidated(world) == S.SCAN_VMA_NULL
    with running(s) as world:
        resize(world, 8, 16)
        assert revalidated(world) == S.SCAN_ADDRESS_RANGE, "find_vma gives one above"
    with running(s) as world:
        world.vma._anon_vma = None
        assert revalidated(world) == S.SCAN_VMA_CHECK, "no orders without anon_vma"
    with running(s) as world:
        world.vma._vm_flags |= VM_NOHUGEPAGE
        assert revalidated(world) == S.SCAN_VMA_CHECK


def test_the_range_is_always_that_of_the_table() -> None:
    """Even where the order-2 range itself lies inside."""
    with running(make("a" * 8, orders=(2,))) as world:
        resize(world, 1, 8)
        assert revalidated(world, 4, order=2) == S.SCAN_ADDRESS_RANGE
        resize(world, 0, 8)
        assert revalidated(world, 4, order=2) == S.SCAN_SUCCEED


@pytest.mark.parametrize(("expect_anon", "result"), [(True, S.SCAN_PAGE_ANON), (False, S.SCAN_SUCCEED)])
def test_not_anonymous(expect_anon: bool, result: ScanResult) -> None:
    with running(make("a" * 8, orders=(2,))) as world, mock.patch.object(revalidate, "vma_is_anonymous", return_value=False):
        assert revalidated(world, expect_anon=expect_anon) == result


def test_the_vma_is_an_out_parameter() -> None:
    with running(make("a" * 8)) as world:
        mmap_read_lock(world.mm)
        found = hugepage_vma_revalidate(world.mm, world.system.base, True, CollapseControl(is_khugepaged=True), 3)
        mmap_read_unlock(world.mm)
        assert found == (S.SCAN_SUCCEED, world.vma)
        assert isinstance(world.vma, VmAreaStruct)


BAD, NOT_PRESENT = pmd_t(0x21), pmd_t(1 << 9)
PMDS = [
    (PMD_NONE, S.SCAN_PMD_NONE),
    (pfn_pmd(1, KERNPG_TABLE), S.SCAN_SUCCEED),
    (pmd_mkhuge(pfn_pmd(1, KERNPG_TABLE)), S.SCAN_PMD_MAPPED),
    (make_pmd_migration_entry(1), S.SCAN_PMD_MAPPED),
    (NOT_PRESENT, S.SCAN_PMD_NULL),
    (BAD, S.SCAN_PMD_NULL),
]


@pytest.mark.parametrize(("value", "result"), PMDS)
def test_what_a_pmd_entry_says(value: pmd_t, result: ScanResult) -> None:
    with running(make("." * 8)) as world:
        page = world.mm._pmds[0]
        assert page is not None
        page.slot._val = value
        assert find_pmd_or_thp_or_none(world.mm, world.system.base) == (result, page.slot)
        assert check_pmd_still_valid(world.mm, world.system.base, page.slot) == result


def test_no_pmd_page_and_another_slot() -> None:
    with running(make("." * 8, pmd="absent")) as world:
        assert find_pmd_or_thp_or_none(world.mm, world.system.base)[0] == S.SCAN_PMD_NULL
    with running(make("." * 8)) as world:
        page = world.mm._pmds[0]
        assert page is not None
        assert check_pmd_still_valid(world.mm, world.system.base, PmdSlot(page.slot._val)) == S.SCAN_FAIL


EXITS = [
    ("mmap_read_lock", "exit", None, "SCAN_ANY_PROCESS"),
    ("mmap_read_lock", "prctl", None, "SCAN_ANY_PROCESS"),
    ("mmap_read_lock", "munmap", None, "SCAN_VMA_NULL"),
    ("mmap_read_lock", "replace_vma", 1, "SCAN_ADDRESS_RANGE"),
    ("mmap_read_lock", "replace_vma", None, "SCAN_VMA_CHECK"),
    ("mmap_read_lock", "sysfs", None, "SCAN_VMA_CHECK"),
    ("mmap_read_lock", "free_table", None, "SCAN_PMD_NONE"),
    ("mmap_write_lock", "exit", None, "SCAN_ANY_PROCESS"),
    ("mmap_write_lock", "prctl", None, "SCAN_ANY_PROCESS"),
    ("mmap_write_lock", "munmap", None, "SCAN_VMA_NULL"),
    ("mmap_write_lock", "replace_vma", 1, "SCAN_ADDRESS_RANGE"),
    ("mmap_write_lock", "replace_vma", None, "SCAN_VMA_CHECK"),
    ("mmap_write_lock", "sysfs", None, "SCAN_VMA_CHECK"),
    ("mmap_write_lock", "free_table", None, "SCAN_PMD_NONE"),
]


@pytest.mark.parametrize(("before", "op", "page", "result"), EXITS)
def test_changes_between_two_locks(before: str, op: str, page: int | None, result: str) -> None:
    name, value = ("hugepages-3", "never") if op == "sysfs" else ("", "")
    r = go(make("aaaawwaa", direct(3), events=(Event(op=op, before=before, page=page, name=name, value=value),)))
    assert (r.events, r.result) == (("done",), result)
    assert r.mmap_locked is False
    assert reports(r) == []


@pytest.mark.parametrize("before", ["vma_start_write", "anon_vma_lock_write"])
@pytest.mark.parametrize("op", ["munmap", "replace_vma", "free_table", "prctl"])
def test_what_would_block_is_refused(before: str, op: str) -> None:
    r = go(make("aaaaaaaa", direct(3), events=(Event(op=op, before=before),)))
    assert (r.events, r.result) == (("refused",), "SCAN_SUCCEED")


@pytest.mark.parametrize("before", ["vma_start_write", "anon_vma_lock_write"])
def test_a_pin_under_the_write_lock_is_seen(before: str) -> None:
    r = go(make("aaaaaaaa", direct(3), events=(Event(op="pin", before=before, page=5),)))
    assert (r.events, r.result) == (("done",), "SCAN_PAGE_COUNT")
