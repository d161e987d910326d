"""Reference 12.5 and 12.19: MADV_FREE, and what MADV_COLD and MADV_PAGEOUT do to a range."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from kmm.mm.folio import PG_dirty, PG_locked, PG_lru, PG_referenced, PG_swapbacked, PG_swapcache, folio_get
from kmm.mm.madvise_reclaim import madvise_cold_range, madvise_pageout_range
from kmm.mm.mm_types import VM_HUGETLB, VM_LOCKED, VM_PFNMAP, VmAreaStruct
from kmm.mm.page_alloc import folio_put
from kmm.mm.pte import FLAG_BITS, PMD_NONE, pte_swp_soft_dirty
from kmm.mm.swap import folio_mark_lazyfree, lru_add_drain
from kmm.mm.vmscan import swap_out_folio
from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.build import World
from kmm.scenario.quiescence import slots_in_use
from tests.helpers import folio_of, make, running
from tests.port.reclaiming import (
    address,
    bits,
    counters,
    drain,
    entries,
    madvise_free_range,
    ptes,
    ptes_of,
    said,
    slot,
    slot_of,
    two_ranges,
)

HUGE = make("........", pmd="huge")
KSM = ("mergeable", "read", "write")
Range = Callable[[VmAreaStruct, int, int], str]
ALL: list[Range] = [madvise_free_range, madvise_cold_range, madvise_pageout_range]


def advise(world: World, what: Range, first: int = 0, end: int = 8) -> str:
    """Advise pages [first, end) of the owner's VMA."""
    errno = what(world.vma, address(world, first), address(world, end))
    assert world.task.held == []
    assert world.task.rcu_depth == 0
    return errno


@pytest.mark.parametrize("what", ALL)
@pytest.mark.parametrize("flag", [VM_LOCKED, VM_PFNMAP, VM_HUGETLB])
def test_vmas_without_advice(what: Range, flag: int) -> None:
    with running(make("aaaaaaaa")) as world:
        before = ptes(world)[:]
        world.mm._vmas[0]._vm_flags |= flag
        assert advise(world, what) == "EINVAL"
        assert (ptes(world), world.system.vm_events, world.system.notifier_windows) == (before, {}, [])


@pytest.mark.parametrize("what", ALL)
def test_no_table(what: Range) -> None:
    with running(make("........", pmd="none")) as world:
        assert advise(world, what) == ""
        assert said(world) == []
    with running(make("........", pmd="absent")) as world:
        assert advise(world, what) == ""
    with running(make("........", pmd="huge_zero")) as world:
        before = slot(world)._val
        assert advise(world, what) == ""
        assert slot(world)._val == before


def test_free_makes_pages_old_and_clean_and_lazyfree() -> None:
    with running(make("aocaaaaa")) as world:
        assert advise(world, madvise_free_range, 0, 4) == ""
        assert [bits(world, i) & {"young", "dirty"} for i in range(5)] == [set()] * 4 + [{"young", "dirty"}]
        assert "write" in bits(world, 0)
        assert "soft_dirty" in bits(world, 0)
        assert world.system.notifier_windows == [(0, 4 * 4096), (-1, -1)]
        assert world.system.machine.tlb_flushes == [(address(world, 0), address(world, 4))]
        assert not any(0 <= (at - world.system.base) // 4096 < 4 for at in world.system.machine.cpus[1]._tlb[1])
        folios = [folio_of(world, i) for i in range(4)]
        assert [folio._refcount for folio in folios] == [2] * 4
        assert all(folio._flags & PG_swapbacked for folio in folios)
        drain()
        assert not any(folio._flags & PG_swapbacked for folio in folios)
        assert folio_of(world, 4)._flags & PG_swapbacked
        assert all(folio._flags & PG_lru for folio in folios)
        assert world.system.vm_events == {"pglazyfree": 4}
        assert world.mm.memcg.events == {"pglazyfree": 4}
        assert said(world) == []


def test_freed_pages_are_dropped_only_while_they_are_clean() -> None:
    with running(make("aaaaaaaa")) as world:
        advise(world, madvise_free_range, 0, 2)
        drain()
        ptes(world)[1] = type(ptes(world)[1])(ptes(world)[1] | FLAG_BITS["dirty"])
        folio_of(world, 1).pages[0]._contents = world.system.shadow[1, 1] = 99
        again = folio_of(world, 1)
        assert [swap_out_folio(folio_of(world, 0)), swap_out_folio(again)] == ["", "mapped"]
        drain()
        assert entries(world)[:2] == [".", "page 1"]
        assert swap_out_folio(again, force=True) == ""
        assert slot_of(world, 1).contents == 99
        assert said(world) == []


@pytest.mark.parametrize(("letter", "slots"), [("w", 0), ("v", 0), ("y", 1)])
def test_free_gives_swapped_pages_up(letter: str, slots: int) -> None:
    with running(make(f"{letter}aaaaaaa")) as world:
        assert advise(world, madvise_free_range, 0, 1) == ""
        assert entries(world)[0] == "."
        assert counters(world.mm) == (7, 0)
        assert len(slots_in_use(world.system)) == slots
        assert all(folio.freed_by for folio in world.system.folios if folio.label == "page 0")
        assert said(world) == []


@pytest.mark.parametrize(("letter", "stays"), [("g", True), ("U", True), ("z", True), ("Z", True), ("M", True), ("P", False), ("H", False)])
def test_free_and_entries_that_are_neither_pages_nor_swap(letter: str, stays: bool) -> None:
    with running(make(f"{letter}aaaaaaa", flags=("mergeable", "read", "uffd_wp", "write"))) as world:
        before = ptes(world)[0]
        assert advise(world, madvise_free_range, 0, 1) == ""
        assert ptes(world)[0] == (before if stays else 0)
        assert said(world) == []


def test_free_leaves_the_swap_cache() -> None:
    with running(make("hhaaaaaa")) as world:
        folio = folio_of(world, 0)
        assert advise(world, madvise_free_range, 0, 1) == ""
        drain()
        assert not folio._flags & (PG_swapcache | PG_swapbacked | PG_dirty)
        assert folio_of(world, 1)._flags & PG_swapcache
        assert len(slots_in_use(world.system)) == 1
        assert said(world) == []


def test_free_of_a_shared_page_in_the_swap_cache_does_nothing() -> None:
    letters = (("A", attrs.evolve(ALPHABET["h"], exclusive=False, mapped_by=1)),)
    with running(make("Aaaaaaaa", letters=letters)) as world:
        before = ptes(world)[0]
        assert advise(world, madvise_free_range, 0, 1) == ""
        assert ptes(world)[0] == before
        assert folio_of(world, 0)._flags & PG_swapbacked
        assert not folio_of(world, 0)._flags & PG_locked
        assert said(world) == []


def test_free_of_a_locked_dirty_page_does_nothing() -> None:
    with running(make("kkaaaaaa")) as world:
        folio_of(world, 0)._flags |= PG_dirty
        assert advise(world, madvise_free_range, 0, 2) == ""
        assert bits(world, 0) & {"dirty"} == {"dirty"}
        assert bits(world, 1) & {"dirty"} == set()
        assert said(world) == []


def test_free_of_merged_pages_does_nothing() -> None:
    with running(make("KKaaaaaa", flags=KSM)) as world:
        before = ptes(world)[:2]
        assert advise(world, madvise_free_range, 0, 2) == ""
        drain()
        assert ptes(world)[:2] == before
        assert folio_of(world, 0)._flags & PG_swapbacked
        assert said(world) == []


def test_a_shared_page_is_forgotten_by_the_one_who_said_so() -> None:
    with running(make("saaaaaaa")) as world:
        folio = folio_of(world, 0)
        assert advise(world, madvise_free_range, 0, 1) == ""
        drain()
        assert swap_out_folio(folio, force=True) == "mapped"
        drain()
        assert (entries(world)[0], entries(world, 2)[0]) == (".", "page 0")
        assert folio._flags & PG_swapbacked
        assert swap_out_folio(folio, force=True) == ""
        assert entries(world, 2)[0] == "swap"
        assert said(world) == []


@pytest.mark.parametrize("what", ALL)
@pytest.mark.parametrize(("pages", "pmd"), [("33333333", "table"), ("........", "huge")])
def test_a_large_folio_of_which_all_is_in_the_range_stays_whole(what: Range, pages: str, pmd: str) -> None:
    with running(make(pages, pmd=pmd)) as world:
        folio = world.system.folios[0]
        folio._flags |= PG_referenced
        assert advise(world, what) == ""
        assert "thp_split_page" not in world.system.vm_events
        if what is madvise_pageout_range:
            assert entries(world) == ["swap+"] * 8
            assert world.system.mthp_stats[3, "swpout"] == 1
        else:
            assert folio.order == 3
            assert not folio._flags & PG_referenced
            young = slot(world)._val if pmd == "huge" else ptes(world)[5]
            assert not young & FLAG_BITS["young"]
            assert bool(young & FLAG_BITS["dirty"]) == (what is madvise_cold_range)
            assert bool(folio._flags & PG_swapbacked) == (what is madvise_cold_range)
            assert not world.system.machine.cpus[1].tlb.get(1)
        assert said(world) == []


@pytest.mark.parametrize("what", ALL)
@pytest.mark.parametrize(("pages", "pmd"), [("33333333", "table"), ("........", "huge"), ("333333..", "table")])
def test_a_large_folio_of_which_a_part_is_in_the_range_is_split(what: Range, pages: str, pmd: str) -> None:
    with running(make(pages, pmd=pmd)) as world:
        assert advise(world, what, 2, 6) == ""
        drain()
        assert world.system.vm_events["thp_split_page"] == 1
        there = ["page 0", *(f"page 0[{i}]" for i in range(1, 8))]
        if "." in pages and pmd == "table":
            there[6:] = [".", "."]
        if what is madvise_pageout_range:
            there[2:6] = ["swap+"] * 4
        assert entries(world) == there
        if what is madvise_free_range:
            assert world.system.vm_events["pglazyfree"] == 4
            assert [bool(folio_of(world, i)._flags & PG_swapbacked) for i in range(6)] == [True, True, False, False, False, False]
        if what is madvise_cold_range:
            assert ["young" in bits(world, i) for i in range(6)] == [True, True, False, False, False, False]
        assert said(world) == []


@pytest.mark.parametrize("what", ALL)
def test_a_part_of_a_folio_that_cannot_be_split_is_left_out(what: Range) -> None:
    with running(make("2222aaaa")) as world:
        folio = folio_of(world, 0)
        folio_get(folio)
        assert advise(world, what, 2, 5) == ""
        folio_put(folio)
        drain()
        assert entries(world)[:4] == [f"page 0[{i}]" for i in range(4)]
        assert all(bits(world, i) >= {"young", "dirty"} for i in range(4))
        assert (entries(world)[4] == "swap+") == (what is madvise_pageout_range)
        assert what is madvise_pageout_range or "young" not in bits(world, 4)
        assert world.system.mthp_stats[2, "split_failed"] == 1
        assert said(world) == []


@pytest.mark.parametrize("what", ALL)
def test_a_part_of_a_shared_folio_is_left_out(what: Range) -> None:
    with running(make("SSSSaaaa")) as world:
        before = ptes(world)[:4]
        assert advise(world, what, 2, 8) == ""
        assert ptes(world)[:4] == before
        assert (2, "split") not in world.system.mthp_stats
        drain()
        assert said(world) == []


@pytest.mark.parametrize("what", ALL)
def test_a_locked_folio_of_which_a_part_is_in_the_range_is_left_out(what: Range) -> None:
    letters = (("A", attrs.evolve(ALPHABET["k"], order=2)),)
    with running(make("AAAAaaaa", letters=letters)) as world:
        assert advise(world, what, 0, 2) == ""
        assert entries(world)[0] == "page 0[0]"
        assert bits(world, 0) >= {"young", "dirty"}
        assert said(world) == []


@pytest.mark.parametrize("what", [madvise_cold_range, madvise_pageout_range])
def test_cold_and_pageout_leave_alone_what_others_map(what: Range) -> None:
    with running(make("staaSSSS")) as world:
        before = ptes(world)[:2] + ptes(world)[4:]
        assert advise(world, what) == ""
        assert ptes(world)[:2] + ptes(world)[4:] == before
        assert said(world) == []


def test_cold_forgets_that_pages_were_used() -> None:
    with running(make("afxaaaaa")) as world:
        assert advise(world, madvise_cold_range, 0, 4) == ""
        assert ["young" in bits(world, i) for i in range(5)] == [False, False, True, False, True]
        assert bits(world, 0) >= {"dirty", "write"}
        assert not folio_of(world, 1)._flags & PG_referenced
        assert world.system.machine.tlb_flushes == [(address(world, 0), address(world, 4))]
        assert said(world) == []


def test_cold_of_old_pages_flushes_nothing() -> None:
    with running(make("oooooooo")) as world:
        assert advise(world, madvise_cold_range) == ""
        assert world.system.machine.tlb_flushes == []


def test_pageout_swaps_out_used_pages_too() -> None:
    with running(make("apkxbwza", lru_batch=31)) as world:
        assert advise(world, madvise_pageout_range) == ""
        drain()
        assert entries(world) == ["swap+", "page 1", "page 2", "page 3", "swap+", "swap+", "zero", "swap+"]
        assert [slot_of(world, i).contents for i in (0, 4, 7)] == [1, 5, 8]
        assert pte_swp_soft_dirty(ptes(world)[0])
        assert said(world) == []


@pytest.mark.parametrize("what", ALL)
def test_several_tables(what: Range) -> None:
    with running(two_ranges("aaaaaaaaaaaaaaaa")) as world:
        assert advise(world, what, 6, 10) == ""
        drain()
        both = [*ptes_of(world, 0), *ptes_of(world, 1)]
        if what is madvise_pageout_range:
            assert [i for i, pte in enumerate(both) if not pte & 1] == [6, 7, 8, 9]
        else:
            assert [i for i, pte in enumerate(both) if not pte & FLAG_BITS["young"]] == [6, 7, 8, 9]
            pages = [(6, 8), (8, 10)]
            assert world.system.machine.tlb_flushes == [(address(world, first), address(world, end)) for first, end in pages]
        assert said(world) == []


def test_the_lazyfree_batch() -> None:
    with running(make("aaaaaaaa", lru_batch=3)) as world:
        folios = [folio_of(world, i) for i in range(8)]
        for folio in folios[:2]:
            folio_mark_lazyfree(folio)
        assert [folio._refcount for folio in folios[:2]] == [2, 2]
        assert said(world) == []
        folio_mark_lazyfree(folios[2])  # full: carried out
        assert [folio._refcount for folio in folios[:3]] == [1] * 3
        assert not any(folio._flags & PG_swapbacked for folio in folios[:3])
        folio_mark_lazyfree(folios[3])
        folios[3]._flags &= ~PG_lru
        lru_add_drain()  # taken off the LRU meanwhile: left alone
        assert folios[3]._flags & PG_swapbacked
        folios[3]._flags |= PG_lru
        folio_mark_lazyfree(folios[4])
        lru_add_drain()
        assert not folios[4]._flags & PG_swapbacked
        assert world.system.vm_events == {"pglazyfree": 4}
        assert said(world) == []


@pytest.mark.parametrize("letter", ["x", "h", "l", "F"])
def test_what_is_not_marked_lazyfree(letter: str) -> None:
    with running(make(f"{letter}aaaaaaa", flags=("locked", "read", "write") if letter == "l" else ("read", "write"))) as world:
        folio_mark_lazyfree(folio_of(world, 0))
        assert [cpu._lru_lazyfree for cpu in world.system.per_cpu] == [(), ()]
        assert said(world) == []


def test_a_huge_page_that_another_process_maps_is_left_alone() -> None:
    with running(HUGE) as world:
        folio = world.system.folios[0]
        folio._mm_ids = [1, 1, 2, 1]
        folio._mapcount = folio._entire_mapcount = 2
        before = slot(world)._val
        for what in ALL:
            assert advise(world, what) == ""
            assert advise(world, what, 2, 5) == ""
        assert slot(world)._val == before != PMD_NONE
