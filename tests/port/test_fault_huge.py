"""Faults that a huge entry answers, and those on one (reference 12.4)."""

from __future__ import annotations

import pytest

from kmm.kernel.stop import Deadlock
from kmm.mm.folio import Folio, PG_locked
from kmm.mm.mm_types import MMF_VM_HUGEPAGE, VM_UFFD_WP, AnonVma
from kmm.mm.pte import HUGE_ZERO_PFN, pmd_pfn, pmd_t, pte_none
from kmm.mm.swapfile import add_to_swap_cache
from kmm.mm.system import SwapSlot
from kmm.scenario.build import World
from kmm.scenario.model import Failure, Vma
from kmm.scenario.quiescence import pmd_of, slots_in_use
from tests.port.faulting import (
    NR,
    address,
    at_rest,
    bits,
    deposited,
    events,
    exclusive,
    folio,
    is_huge,
    load,
    memory,
    process,
    pte,
    rss,
    stats,
    store,
    stores,
    tables,
    usage,
)

HUGE = (4,)
RESULTS = ("thp_fault_alloc", "thp_fault_fallback", "thp_fault_fallback_charge")
STATS = ("anon_fault_alloc", "anon_fault_fallback", "anon_fault_fallback_charge")


def pmd_bits(world: World) -> str:
    """What the huge entry says: present, young, dirty, write, uffd-wp."""
    value = pmd_of(world.mm)
    return "".join(letter if value & bit else "-" for letter, bit in zip("pydwu", (1, 1 << 5, 1 << 6, 1 << 1, 1 << 10), strict=True))


def huge_folio(world: World) -> Folio:
    return world.system.mem_map[pmd_pfn(pmd_of(world.mm))].folio


def protect(world: World, *, exclusive: bool = False) -> Folio:
    """A huge page that was written becomes read-only, as fork leaves it, and no CPU remembers."""
    page = world.mm._pmds[0]
    assert page is not None
    page.slot._val = pmd_t(page.slot._val & ~0x2)
    world.system.machine.cpus[1].tlb.clear()
    world.system.machine.tlb_flushes.clear()
    folio = huge_folio(world)
    folio.pages[0]._flags = int(exclusive)
    return folio


@pytest.mark.parametrize("pmd", ["none", "absent"])
def test_a_read_maps_the_huge_zero_page(pmd: str) -> None:
    with process(memory(pmd=pmd, orders=HUGE, anon_vma=False)) as world:
        assert [load(world, page) for page in range(NR)] == [""] * NR
        assert (pmd_pfn(pmd_of(world.mm)), pmd_bits(world)) == (HUGE_ZERO_PFN, "py---")
        assert (deposited(world), tables(world), rss(world), usage(world)) == (1, 1, (0, 0), 0)
        assert world.vma._anon_vma is not None
        assert (events(world, *RESULTS), world.system.folios) == ([0, 0, 0], [])


def test_a_read_maps_a_huge_page_where_the_huge_zero_page_is_not_wanted() -> None:
    with process(memory(pmd="none", orders=HUGE)) as world:
        world.system.sysctl._use_zero_page = False
        assert (load(world, 3), huge_folio(world).order, pmd_bits(world)) == ("", 4, "pydw-")


def test_a_write_maps_a_huge_page() -> None:
    with process(memory(pmd="none", orders=HUGE)) as world:
        assert store(world, 5, 77) == ""
        new = huge_folio(world)
        assert (new.order, new._refcount, new._mapcount, new._entire_mapcount, new._index) == (4, 1, 1, 1, 0)
        assert [page._contents for page in new.pages] == [0] * 5 + [77] + [0] * 10
        assert (pmd_bits(world), deposited(world), tables(world), rss(world), usage(world)) == ("pydw-", 1, 1, (NR, 0), NR)
        assert (events(world, *RESULTS), stats(world, 4, *STATS)) == ([1, 0, 0], [1, 0, 0])
        assert (world.mm.memcg.events["thp_fault_alloc"], world.system.node_stat["nr_anon_thps"]) == (1, 1)
        assert (list(world.system.per_cpu[1]._lru_add), new in world.system.deferred_split._split_queue) == ([], True)


def test_what_was_written_is_read_through_the_huge_entry() -> None:
    with process(memory(pmd="none", orders=HUGE)) as world:
        assert stores(world, range(NR)) == [""] * NR
        assert [load(world, page) for page in range(NR)] == [""] * NR
        assert [page._contents for page in huge_folio(world).pages] == list(range(1000, 1000 + NR))


@pytest.mark.parametrize(("kind", "results"), [("alloc", [0, 1, 0]), ("charge", [0, 1, 1])])
def test_without_a_huge_page_small_ones_have_to_do(kind: str, results: list[int]) -> None:
    with process(memory(pmd="none", orders=HUGE, failures=(Failure(kind=kind, nth=1),))) as world:
        assert store(world, 5, 77) == ""
        assert (is_huge(world), folio(world, 5).order, tables(world), deposited(world)) == (False, 0, 1, 0)
        assert (events(world, *RESULTS), stats(world, 4, *STATS)) == (results, results)
        assert (usage(world), rss(world)) == (1, (1, 0))


def test_below_a_huge_page_the_next_order_is_tried() -> None:
    with process(memory(pmd="none", orders=(2, 4), failures=(Failure(kind="alloc", nth=1),))) as world:
        assert (store(world, 5, 77), folio(world, 5).order) == ("", 2)
        assert (stats(world, 2, *STATS), stats(world, 4, *STATS)) == ([1, 0, 0], [0, 1, 0])


def test_a_table_keeps_huge_pages_away() -> None:
    with process(memory(pmd="table", orders=HUGE)) as world:
        assert (store(world, 5, 77), is_huge(world), events(world, *RESULTS)) == ("", False, [0, 0, 0])


def test_a_vma_that_does_not_cover_the_range_has_no_huge_page() -> None:
    """Nor does that count as a fallback, or bring the process onto khugepaged's list."""
    with process(memory(pmd="none", orders=HUGE, vmas=(Vma(pages="." * 15, start=1),))) as world:
        assert (store(world, 5, 77), is_huge(world), events(world, *RESULTS)) == ("", False, [0, 0, 0])
        assert world.mm._flags & MMF_VM_HUGEPAGE == 0


@pytest.mark.parametrize("write", [False, True])
def test_a_huge_fault_brings_the_process_onto_the_list_of_khugepaged(write: bool) -> None:
    with process(memory(pmd="none", orders=HUGE)) as world:
        assert (store(world, 5, 77) if write else load(world, 5)) == ""
        assert world.mm._flags & MMF_VM_HUGEPAGE
        assert [slot._mm for slot in world.system.khugepaged_scan._mm_head] == [world.mm]
        assert world.mm._mm_count == 2


def test_a_huge_page_takes_the_place_of_the_huge_zero_page() -> None:
    with process(memory(pmd="none", orders=HUGE)) as world:
        assert (load(world, 3), store(world, 5, 77)) == ("", "")
        assert (huge_folio(world).order, pmd_bits(world)) == (4, "pydw-")
        assert (deposited(world), tables(world), rss(world), usage(world)) == (1, 1, (NR, 0), NR)
        base, size = world.system.base, NR * 4096
        assert world.system.machine.tlb_flushes == [(base, base + size)]
        assert world.system.notifier_windows == [(0, size), (-1, -1)]
        assert events(world, *RESULTS) == [1, 0, 0]


def test_the_huge_zero_page_is_split_without_a_huge_page() -> None:
    with process(memory(pmd="none", orders=HUGE, failures=(Failure(kind="alloc", nth=1),))) as world:
        assert (load(world, 3), store(world, 5, 77)) == ("", "")
        assert [bits(world, page) for page in range(NR)] == ["py---s"] * 5 + ["pydw--"] + ["py---s"] * 10
        assert (deposited(world), tables(world), rss(world)) == (0, 1, (1, 0))
        assert events(world, *RESULTS, "thp_split_pmd") == [0, 1, 0, 1]


def test_an_exclusive_huge_page_is_used_as_it_is() -> None:
    """Without its lock: somebody may well have it."""
    with process(memory(pmd="none", orders=HUGE), expect=("LOCKDEP",)) as world:
        assert store(world, 5, 77) == ""
        new = protect(world, exclusive=True)
        new._flags |= PG_locked
        assert (store(world, 6, 78), huge_folio(world), pmd_bits(world)) == ("", new, "pydw-")
        assert (world.system.machine.tlb_flushes, events(world, "thp_split_pmd")) == ([], [0])


def test_a_huge_page_that_nobody_else_has_becomes_exclusive() -> None:
    with process(memory(pmd="none", orders=HUGE)) as world:
        assert store(world, 5, 77) == ""
        new = protect(world)
        new._mapping = AnonVma("parent")
        assert (store(world, 6, 78), huge_folio(world), pmd_bits(world)) == ("", new, "pydw-")
        assert (new.pages[0]._flags, new._mapping, new._flags & PG_locked) == (1, world.vma._anon_vma, 0)


def test_a_huge_page_that_somebody_else_has_is_split_and_one_page_copied() -> None:
    with process(memory(pmd="none", orders=HUGE)) as world:
        assert stores(world, range(NR)) == [""] * NR
        shared = protect(world)
        shared._refcount += 1
        shared._pincount = 1
        assert (store(world, 6, 78), events(world, "thp_split_pmd")) == ("", [1])
        assert [folio(world, page) is shared for page in range(NR)] == [page != 6 for page in range(NR)]
        assert [exclusive(world, page) for page in range(NR)] == [page == 6 for page in range(NR)]
        assert (deposited(world), tables(world), rss(world), shared._mapcount) == (0, 1, (NR, 0), NR - 1)
        assert shared.pages[6]._contents == 1006


def test_the_swap_cache_gives_up_a_huge_page_for_a_write() -> None:
    with process(memory(pmd="none", orders=HUGE)) as world:
        assert store(world, 5, 77) == ""
        new = protect(world)
        for slot in range(64, 64 + NR):
            world.system.swap[slot] = SwapSlot(slot, 0, None, -1)
        add_to_swap_cache(new, 64)
        assert at_rest(world)
        assert (store(world, 6, 78), huge_folio(world), slots_in_use(world.system), new._refcount) == ("", new, {}, 1)


def test_a_huge_page_that_is_locked_for_good_is_waited_for() -> None:
    with process(memory(pmd="none", orders=HUGE), expect=("LOCKDEP",)) as world:
        assert store(world, 5, 77) == ""
        new = protect(world)
        new._flags |= PG_locked
        with pytest.raises(Deadlock, match="waits for the lock of new@1:0"):
            store(world, 6, 78)
        new._refcount -= 1
        world.mm.mmap_lock.readers.clear()


def test_a_monitor_is_asked_before_a_huge_page_is_written() -> None:
    with process(memory(pmd="none", orders=HUGE)) as world:
        assert store(world, 5, 77) == ""
        protect(world, exclusive=True)
        page = world.mm._pmds[0]
        assert page is not None
        page.slot._val = pmd_t(page.slot._val | 1 << 10)
        world.vma._vm_flags |= VM_UFFD_WP
        assert (load(world, 5), store(world, 6, 78), is_huge(world), pmd_bits(world)) == ("", "userfault", True, "pyd-u")


@pytest.mark.parametrize("write", [False, True])
def test_a_huge_page_that_migrates_is_waited_for(write: bool) -> None:
    """Its entry says neither that it was writable nor that it was exclusive."""
    with process(memory(pmd="migration", pages="." * NR)) as world:
        assert (store(world, 5, 77) if write else load(world, 5)) == ""
        assert (is_huge(world), pmd_bits(world)) == (True, "pydw-" if write else "py---")
        assert (world.system.migrations._under_way, world.system.node_stat["nr_isolated_anon"]) == ({}, 0)
        assert (rss(world), deposited(world), huge_folio(world)._refcount) == (
            (NR, 0),
            1,
            1 + (list(world.system.per_cpu[1]._lru_add) != []),
        )


def test_a_read_sets_nothing_that_the_hardware_sets() -> None:
    from kmm.mm.fault import handle_mm_fault

    with process(memory(pmd="huge", pages="." * NR)) as world:
        page = world.mm._pmds[0]
        assert page is not None
        page.slot._val = pmd_t(page.slot._val & ~0x60)
        assert (handle_mm_fault(world.mm, address(world, 3), write=False), pmd_bits(world)) == ("", "p--w-")
        assert (handle_mm_fault(world.mm, address(world, 3), write=True), pmd_bits(world)) == ("", "pydw-")


def test_small_orders_alone_make_no_huge_page() -> None:
    with process(memory(pmd="none", orders=(2, 3))) as world:
        assert (load(world, 0), store(world, 9, 77)) == ("", "")
        assert (is_huge(world), folio(world, 9).order, pte_none(pte(world, 7))) == (False, 3, True)
