"""Faults where nothing is mapped: of which order the new folio is (reference 12.4)."""

from __future__ import annotations

from unittest import mock

import pytest

from kmm.mm.anon_fault import pte_range_none
from kmm.mm.folio import PG_mlocked, PG_swapbacked
from kmm.mm.mm_types import (
    MMF_DISABLE_THP_COMPLETELY,
    MMF_DISABLE_THP_EXCEPT_ADVISED,
)
from kmm.mm.pgtable import PtePtr
from kmm.mm.pte import pte_none
from kmm.scenario.model import Failure, Vma
from tests.port.faulting import (
    NR,
    bits,
    exclusive,
    folio,
    memory,
    process,
    pte,
    rss,
    stats,
    store,
    stores,
    usage,
)


@pytest.mark.parametrize(("page", "first"), [(4, 4), (5, 4), (7, 4), (0, 0), (15, 12)])
def test_a_large_folio_lies_where_it_is_aligned(page: int, first: int) -> None:
    with process(memory(orders=(2,))) as world:
        assert store(world, page, 77) == ""
        new = folio(world, page)
        assert [n for n in range(NR) if not pte_none(pte(world, n))] == list(range(first, first + 4))
        assert (new.order, new._refcount, new._mapcount, new._index) == (2, 4, 4, first)
        assert [each._contents for each in new.pages] == [77 if n == page else 0 for n in range(first, first + 4)]
        assert {bits(world, n) for n in range(first, first + 4)} == {"pydw--"}
        assert all(exclusive(world, n) for n in range(first, first + 4))
        assert stats(world, 2, "anon_fault_alloc", "anon_fault_fallback", "nr_anon") == [1, 0, 1]
        assert (rss(world), usage(world), list(world.system.per_cpu[1]._lru_add)) == ((4, 0), 4, [])


def test_the_highest_order_that_fits_is_taken() -> None:
    with process(memory(orders=(2, 3))) as world:
        assert stores(world, range(NR)) == [""] * NR
        assert [folio(world, page).order for page in range(NR)] == [3] * NR
        assert (stats(world, 3, "anon_fault_alloc"), stats(world, 2, "anon_fault_alloc")) == ([2], [0])


@pytest.mark.parametrize(
    ("pages", "page", "order"),
    [
        ("a...............", 4, 2),
        ("a...............", 1, 0),
        ("....a..z........", 5, 0),
        (".......w........", 3, 2),
        ("........g.......", 5, 3),
        ("............g...", 9, 2),
    ],
)
def test_only_an_empty_block_gets_a_large_folio(pages: str, page: int, order: int) -> None:
    """What is occupied is no fallback, as far as the statistics know."""
    with process(memory(pages, orders=(2, 3))) as world:
        assert store(world, page, 77) == ""
        assert folio(world, page).order == order
        assert stats(world, 2, "anon_fault_fallback") + stats(world, 3, "anon_fault_fallback") == [0, 0]


@pytest.mark.parametrize(("page", "order"), [(2, 0), (3, 0), (4, 2), (7, 2), (8, 2), (11, 2), (12, 0), (13, 0)])
def test_a_large_folio_stays_inside_the_vma(page: int, order: int) -> None:
    with process(memory(vmas=(Vma(pages="." * 12, start=2),), orders=(2, 3))) as world:
        assert store(world, page, 77) == ""
        assert folio(world, page).order == order


def test_without_memory_for_a_large_folio_a_smaller_one_has_to_do() -> None:
    with process(memory(orders=(2, 3), failures=(Failure(kind="alloc", nth=1),))) as world:
        assert store(world, 0, 77) == ""
        assert folio(world, 0).order == 2
        assert stats(world, 3, "anon_fault_alloc", "anon_fault_fallback", "anon_fault_fallback_charge") == [0, 1, 0]
        assert stats(world, 2, "anon_fault_alloc", "anon_fault_fallback", "anon_fault_fallback_charge") == [1, 0, 0]


def test_a_refused_charge_is_counted_twice() -> None:
    with process(memory(orders=(2, 3), failures=tuple(Failure(kind="charge", nth=n) for n in (1, 2)))) as world:
        assert store(world, 0, 77) == ""
        assert folio(world, 0).order == 0
        assert stats(world, 3, "anon_fault_alloc", "anon_fault_fallback", "anon_fault_fallback_charge") == [0, 1, 1]
        assert stats(world, 2, "anon_fault_alloc", "anon_fault_fallback", "anon_fault_fallback_charge") == [0, 1, 1]
        assert (usage(world), rss(world)) == (1, (1, 0))


@pytest.mark.parametrize("kind", ["alloc", "charge"])
def test_without_memory_for_a_small_folio_the_process_is_out_of_memory(kind: str) -> None:
    with process(memory(failures=(Failure(kind=kind, nth=1),))) as world:
        assert store(world, 0, 77) == "OOM"
        assert (pte_none(pte(world, 0)), rss(world), usage(world)) == (True, (0, 0), 0)
        assert all(each.freed_by for each in world.system.folios)
        assert store(world, 0, 77) == ""


@pytest.mark.parametrize("kind", ["alloc", "charge"])
def test_where_memory_may_be_dropped_nobody_is_out_of_memory(kind: str) -> None:
    with process(memory(flags=("droppable", "read", "write"), failures=(Failure(kind=kind, nth=1),))) as world:
        assert (store(world, 0, 77), folio(world, 0)._flags & PG_swapbacked) == ("", 0)


@pytest.mark.parametrize(
    ("flags", "mm_flags", "order"),
    [
        ((), 0, 2),
        (("nohugepage",), 0, 0),
        ((), MMF_DISABLE_THP_COMPLETELY, 0),
        (("hugepage",), MMF_DISABLE_THP_COMPLETELY, 0),
        ((), MMF_DISABLE_THP_EXCEPT_ADVISED, 0),
        (("hugepage",), MMF_DISABLE_THP_EXCEPT_ADVISED, 2),
        (("temporary_stack",), 0, 0),
        (("uffd_wp",), 0, 0),
        (("mixedmap",), 0, 2),
        (("dontexpand",), 0, 2),
    ],
)
def test_who_may_have_large_folios(flags: tuple[str, ...], mm_flags: int, order: int) -> None:
    """A special VMA may, though khugepaged leaves it alone."""
    with process(memory(orders=(2,), flags=("read", "write", *flags))) as world:
        world.mm._flags |= mm_flags
        assert store(world, 0, 77) == ""
        assert folio(world, 0).order == order


@pytest.mark.parametrize(
    ("mode", "enabled", "advised", "order"),
    [
        ("madvise", "never", True, 2),
        ("madvise", "always", False, 0),
        ("inherit", "always", False, 2),
        ("inherit", "madvise", False, 0),
        ("inherit", "madvise", True, 2),
        ("inherit", "never", True, 0),
        ("never", "always", True, 0),
    ],
)
def test_sysfs_decides(mode: str, enabled: str, advised: bool, order: int) -> None:
    with process(memory(flags=("hugepage", "read", "write") if advised else ("read", "write"))) as world:
        sysctl = world.system.sysctl
        sysctl._enabled = enabled
        sysctl._huge_anon_orders_madvise = (mode == "madvise") << 2
        sysctl._huge_anon_orders_inherit = (mode == "inherit") << 2
        assert store(world, 0, 77) == ""
        assert folio(world, 0).order == order


def test_a_block_that_is_filled_meanwhile_is_left_alone() -> None:
    """A folio that comes too late is freed, and the access tried again."""
    with process(memory(orders=(2,))) as world:
        calls: list[int] = []

        def empty(ptep: PtePtr, nr: int) -> bool:
            calls.append(nr)
            return pte_range_none(ptep, nr) and len(calls) != 2

        with mock.patch("kmm.mm.anon_fault.pte_range_none", empty):
            assert store(world, 0, 77) == ""
        assert len(calls) == 4
        assert [each.freed_by for each in world.system.folios] == ["folio_put", ""]
        assert (rss(world), usage(world)) == ((4, 0), 4)


def test_a_locked_vma_mlocks_what_it_gets() -> None:
    with process(memory(flags=("locked", "read", "write"), orders=(2,))) as world:
        assert store(world, 0, 77) == ""
        assert folio(world, 0)._flags & PG_mlocked
        assert world.system.node_stat["nr_mlock"] == 4
