"""Reference 2.1, 2.3, 2.4 and 2.6."""

from __future__ import annotations

import attrs
import pytest

from kmm.mm.huge_memory import TVA_FORCED_COLLAPSE, TVA_KHUGEPAGED, thp_vma_allowable_orders
from kmm.mm.khugepaged.alloc import collapse_find_target_node, collapse_scan_abort
from kmm.mm.khugepaged.limits import (
    collapse_allowable_orders,
    collapse_max_ptes_none,
    collapse_test_exit,
    collapse_test_exit_or_disable,
)
from kmm.mm.khugepaged.types import CollapseControl
from kmm.mm.mm_types import (
    MMF_DISABLE_THP_COMPLETELY,
    MMF_DISABLE_THP_EXCEPT_ADVISED,
    VM_HUGEPAGE,
    VM_NOHUGEPAGE,
    VM_READ,
    VmAreaStruct,
)
from kmm.mm.sysfs import sysfs_write
from tests.helpers import make, running

MAX_PTES_NONE = {
    0: (0, 0, 0, 0, 0, 0, 0, 0),
    63: (0, 0, 1, 3, 7, 15, 31, 63),
    127: (0, 1, 3, 7, 15, 31, 63, 127),
    255: (1, 3, 7, 15, 31, 63, 127, 255),
    256: (1, 3, 7, 15, 31, 63, 127, 256),
    511: (1, 3, 7, 15, 31, 63, 127, 511),
}


@pytest.mark.parametrize(("sysctl", "row"), MAX_PTES_NONE.items())
def test_max_ptes_none(sysctl: int, row: tuple[int, ...]) -> None:
    with running(make("." * 512, none=sysctl)):
        assert tuple(collapse_max_ptes_none(order, False) for order in range(2, 10)) == row
        assert {collapse_max_ptes_none(order, True) for order in range(2, 10)} == {511}


def test_occupied_pages_needed_are_more_than_half() -> None:
    with running(make("." * 512, none=255)):
        needed = [(1 << order) - collapse_max_ptes_none(order, False) for order in range(2, 9)]
    assert needed == [3, 5, 9, 17, 33, 65, 129]


def test_max_ptes_none_reads_the_tunable_afresh() -> None:
    with running(make("." * 512, none=511)):
        assert collapse_max_ptes_none(9, False) == 511
        assert not sysfs_write("max_ptes_none", "100")
        assert collapse_max_ptes_none(9, False) == 100


@pytest.mark.parametrize(("name", "value", "errno"), [("max_ptes_none", "511", ""), ("max_ptes_none", "512", "EINVAL")])
@pytest.mark.parametrize("limit", ["none", "swap", "shared"])
def test_sysfs_limits(name: str, value: str, errno: str, limit: str) -> None:
    with running(make("." * 512)):
        assert sysfs_write(f"max_ptes_{limit}", value) == errno


@pytest.mark.parametrize(
    ("users", "flags", "gone", "gone_or_disabled"),
    [
        (1, 0, False, False),
        (0, 0, True, True),
        (1, MMF_DISABLE_THP_COMPLETELY, False, True),
        (1, MMF_DISABLE_THP_EXCEPT_ADVISED, False, False),
    ],
)
def test_exit_or_disable(users: int, flags: int, gone: bool, gone_or_disabled: bool) -> None:
    with running(make("." * 8)) as world:
        world.mm._mm_users, world.mm._flags = users, flags
        assert collapse_test_exit(world.mm) == gone
        assert collapse_test_exit_or_disable(world.mm) == gone_or_disabled


PMD, ALL = 1 << 4, 0b11100


@pytest.mark.parametrize(
    ("enabled", "mode", "vm_flags", "khugepaged", "forced"),
    [
        ("always", "always", 0, ALL, PMD),
        ("never", "always", 0, ALL, PMD),
        ("never", "inherit", 0, 0, PMD),
        ("never", "inherit", VM_HUGEPAGE, 0, PMD),
        ("madvise", "inherit", 0, 0, PMD),
        ("madvise", "inherit", VM_HUGEPAGE, ALL, PMD),
        ("always", "inherit", 0, ALL, PMD),
        ("always", "madvise", 0, 0, PMD),
        ("never", "madvise", VM_HUGEPAGE, ALL, PMD),
        ("always", "never", VM_HUGEPAGE, 0, PMD),
        ("always", "always", VM_NOHUGEPAGE, 0, 0),
    ],
)
def test_allowable_orders_by_sysfs(enabled: str, mode: str, vm_flags: int, khugepaged: int, forced: int) -> None:
    s = make("." * 16)
    s = attrs.evolve(s, tunables=attrs.evolve(s.tunables, enabled=enabled, hugepages=(mode,) * 3))
    with running(s) as world:
        assert collapse_allowable_orders(world.vma, vm_flags, True) == khugepaged
        assert collapse_allowable_orders(world.vma, vm_flags, False) == forced


@pytest.mark.parametrize(
    ("mm_flags", "vm_flags", "khugepaged", "forced"),
    [
        (MMF_DISABLE_THP_COMPLETELY, 0, 0, 0),
        (MMF_DISABLE_THP_COMPLETELY, VM_HUGEPAGE, 0, 0),
        (MMF_DISABLE_THP_EXCEPT_ADVISED, 0, 0, PMD),
        (MMF_DISABLE_THP_EXCEPT_ADVISED, VM_HUGEPAGE, ALL, PMD),
    ],
)
def test_allowable_orders_by_prctl(mm_flags: int, vm_flags: int, khugepaged: int, forced: int) -> None:
    with running(make("." * 16, orders=(2, 3, 4))) as world:
        world.mm._flags = mm_flags
        assert collapse_allowable_orders(world.vma, vm_flags, True) == khugepaged
        assert collapse_allowable_orders(world.vma, vm_flags, False) == forced


@pytest.mark.parametrize("bit", [14, 18, 10, 28, 22])
def test_special_vmas_have_no_orders(bit: int) -> None:
    with running(make("." * 16, orders=(2, 3, 4))) as world:
        for kind in (TVA_KHUGEPAGED, TVA_FORCED_COLLAPSE):
            assert thp_vma_allowable_orders(world.vma, 1 << bit, kind, ALL) == 0


@pytest.mark.parametrize(
    ("first", "end", "orders"),
    [(0, 16, 0b11100), (1, 16, 0b01100), (0, 15, 0b01100), (9, 16, 0b00100), (5, 8, 0), (1, 33, 0b11100), (13, 17, 0), (13, 32, 0b11100)],
)
def test_allowable_orders_by_extent(first: int, end: int, orders: int) -> None:
    with running(make("." * 16)) as world:
        base, vma = world.system.base, world.vma
        part = VmAreaStruct(world.mm, base + first * 4096, base + end * 4096, VM_READ, vma._anon_vma, first)
        assert thp_vma_allowable_orders(part, 0, TVA_FORCED_COLLAPSE, ALL) == orders


def test_no_orders_without_anon_vma() -> None:
    with running(make("." * 16, anon_vma=False, orders=(2, 3, 4))) as world:
        assert collapse_allowable_orders(world.vma, VM_READ, True) == 0
        assert collapse_allowable_orders(world.vma, VM_READ, False) == 0


@pytest.mark.parametrize(
    ("load", "target", "mask"),
    [([0, 0, 0, 0], 0, {0, 1, 2, 3}), ([3, 5, 0, 0], 1, {1}), ([4, 0, 4, 0], 0, {0, 2}), ([0, 1, 2, 2], 2, {2, 3})],
)
def test_target_node(load: list[int], target: int, mask: set[int]) -> None:
    cc = CollapseControl(is_khugepaged=True)
    cc.node_load = load
    assert collapse_find_target_node(cc) == target
    assert cc.alloc_nmask == mask
    assert not collapse_scan_abort(1, cc), "node reclaim is off"
