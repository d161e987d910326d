"""Reference 5.6, 12.10 and 12.20: splitting huge entries and large folios, and the deferred-split queue."""

from __future__ import annotations

import attrs
import pytest

from kmm.kernel.locks import spin_unlock
from kmm.mm.deferred_split import deferred_split_scan
from kmm.mm.folio import (
    Folio,
    PG_anon_exclusive,
    PG_dirty,
    PG_lru,
    PG_mlocked,
    PG_swapcache,
    PG_unevictable,
    folio_get,
    folio_trylock,
    folio_unlock,
)
from kmm.mm.page_alloc import folio_put, new_folio
from kmm.mm.pgtable import pmd_lock, pmdp_get
from kmm.mm.pte import FLAG_BITS, make_pmd_migration_entry, pmd_mkold, pmd_t
from kmm.mm.split import split_folio_to_list, split_huge_pmd, split_huge_pmd_locked
from kmm.mm.swap_alloc import folio_alloc_swap
from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.model import Scenario
from kmm.scenario.quiescence import slots_in_use
from tests.helpers import folio_of, make, running, table
from tests.port.reclaiming import address, bits, counters, drain, enqueue, entries, said, slot, split, zero

HUGE = make("........", pmd="huge")
MAPPED = {"present", "write", "dirty", "soft_dirty"}
NOTIFIED = [(0, 8 * 4096), (-1, -1)]


def test_split_huge_pmd_maps_the_same_pages_by_a_table() -> None:
    with running(HUGE) as world:
        folio = world.system.folios[0]
        page = slot(world).page
        assert page is not None
        deposited = page._deposited
        split_huge_pmd(world.vma, slot(world), address(world, 5))
        assert entries(world) == [f"page 0[{i}]" for i in range(8)]
        assert bits(world, 3) == {*MAPPED, "young"}
        assert table(world) is deposited[0]
        assert (folio._entire_mapcount, folio._mapcount, folio._refcount) == (0, 8, 8)
        assert [page._mapcount for page in folio.pages] == [1] * 8
        assert all(page._flags & PG_anon_exclusive for page in folio.pages)
        assert folio._flags & PG_dirty
        assert world.system.vm_events == {"thp_split_pmd": 1}
        assert (world.system.node_stat["nr_anon_thps"], world.system.node_stat["nr_anon_mapped"]) == (0, 8)
        assert world.system.notifier_windows == NOTIFIED
        assert world.mm._pgtables_bytes == 4096
        assert folio not in world.system.deferred_split._split_queue
        assert said(world) == []


@pytest.mark.parametrize("lost", [{"write"}, {"young"}, {"dirty"}, {"dirty", "soft_dirty"}])
def test_split_huge_pmd_keeps_the_bits(lost: set[str]) -> None:
    with running(HUGE) as world:
        slot(world)._val = pmd_t(slot(world)._val & ~sum(FLAG_BITS[bit] for bit in lost))
        split_huge_pmd(world.vma, slot(world), address(world, 0))
        assert bits(world, 0) == {*MAPPED, "young"} - lost
        assert said(world) == []


def test_split_huge_pmd_uffd_wp() -> None:
    with running(HUGE) as world:
        slot(world)._val = pmd_t(slot(world)._val & ~2 | 1 << 10)
        split_huge_pmd(world.vma, slot(world), address(world, 0))
        assert bits(world, 7) == {*MAPPED, "young", "uffd_wp"} - {"write"}


def test_split_huge_pmd_of_a_shared_page_makes_nothing_exclusive() -> None:
    with running(HUGE) as world:
        slot(world)._val = pmd_t(slot(world)._val & ~2)
        world.system.folios[0].pages[0]._flags = 0
        split_huge_pmd(world.vma, slot(world), address(world, 0))
        assert not any(page._flags & PG_anon_exclusive for page in world.system.folios[0].pages)


def test_split_of_the_huge_zero_page() -> None:
    with running(make("........", pmd="huge_zero")) as world:
        split_huge_pmd(world.vma, slot(world), address(world, 0))
        assert entries(world) == ["zero"] * 8
        assert counters(world.mm) == (0, 0)
        assert world.system.machine.tlb_flushes == [(address(world, 0), address(world, 8))]
        assert said(world) == []


@pytest.mark.parametrize(("bits_", "kind"), [((), 24), (("exclusive",), 25), (("write", "exclusive"), 26)])
def test_split_of_a_huge_migration_entry(bits_: tuple[str, ...], kind: int) -> None:
    with running(make("........", pmd="migration")) as world:
        slot(world)._val = make_pmd_migration_entry(world.system.folios[0].pfn, *bits_)
        split_huge_pmd(world.vma, slot(world), address(world, 0))
        assert entries(world) == ["migration"] * 8
        assert {pte >> 59 for pte in table(world)._entries} == {kind}
        assert counters(world.mm) == (8, 0)
        assert world.system.machine.tlb_flushes == []
        assert said(world) == []


def test_nothing_to_split() -> None:
    with running(make("aaaaaaaa")) as world:
        before = pmdp_get(slot(world))
        split_huge_pmd(world.vma, slot(world), address(world, 0))
        assert (pmdp_get(slot(world)), world.system.vm_events) == (before, {})
        assert world.system.notifier_windows == NOTIFIED


def test_freeze_leaves_migration_entries_unless_the_page_may_be_pinned() -> None:
    with running(HUGE) as world:
        folio = world.system.folios[0]
        folio_get(folio)
        ptl = pmd_lock(world.mm, slot(world))
        split_huge_pmd_locked(world.vma, address(world, 0), slot(world), freeze=True)
        spin_unlock(ptl)
        assert entries(world) == ["migration"] * 8
        assert {pte >> 59 for pte in table(world)._entries} == {26}
        assert (folio._mapcount, folio._refcount) == (0, 1)
    with running(HUGE) as world:
        folio = world.system.folios[0]
        folio._refcount += 1
        folio._pincount = 1
        ptl = pmd_lock(world.mm, slot(world))
        split_huge_pmd_locked(world.vma, address(world, 0), slot(world), freeze=True)
        spin_unlock(ptl)
        assert entries(world)[7] == "page 0[7]"
        assert said(world) == []


@pytest.mark.parametrize(("scenario", "order"), [(HUGE, 3), (make("33333333"), 3), (make("2222aaaa"), 2), (make("TTTTaaaa"), 2)])
def test_split_folio(scenario: Scenario, order: int) -> None:
    nr = 1 << order
    with running(scenario) as world:
        folio = world.system.folios[0]
        usage = world.mm.memcg._usage
        young = "TTTT" not in scenario.pages
        contents = [page._contents for page in folio.pages]
        assert split(folio) == ""
        names = ["page 0", *(f"page 0[{i}]" for i in range(1, nr))]
        assert entries(world)[:nr] == names
        made = [world.system.mem_map[folio.pfn + i].folio for i in range(nr)]
        assert made[0] is folio
        assert [each.order for each in made] == [0] * nr
        assert [each._refcount for each in made] == [1] * nr
        assert [each._index for each in made] == list(range(nr))
        assert [each.pages[0]._contents for each in made] == contents
        assert all(each._flags & PG_lru for each in made)
        assert all(each.pages[0]._flags & PG_anon_exclusive for each in made)
        assert world.mm.memcg._usage == usage
        assert bits(world, 1) == (MAPPED | {"young"} if young else MAPPED)
        assert {k: v for k, v in world.system.mthp_stats.items() if v and k[1] != "split_deferred"} == {(order, "split"): 1}
        assert world.system.vm_events.get("thp_split_page", 0) == (order == 3)
        assert folio not in world.system.deferred_split._split_queue
        assert said(world) == []


def test_split_of_a_folio_of_two_processes() -> None:
    with running(make("SSSSaaaa")) as world:
        assert split(world.system.folios[0]) == ""
        expected = ["page 0", "page 0[1]", "page 0[2]", "page 0[3]"]
        assert entries(world)[:4] == entries(world, 2)[:4] == expected
        assert [world.system.mem_map[world.system.folios[0].pfn + i].folio._mapcount for i in range(4)] == [2] * 4
        assert not any(world.system.mem_map[world.system.folios[0].pfn + i]._flags & PG_anon_exclusive for i in range(4))
        assert "write" not in bits(world, 2) | bits(world, 2, 2)
        assert said(world) == []


def test_a_page_that_nothing_maps_is_freed_by_the_split() -> None:
    with running(make("333333..")) as world:
        folio = world.system.folios[0]
        assert split(folio) == ""
        gone = [world.system.mem_map[folio.pfn + i].folio for i in (6, 7)]
        assert [each.freed_by for each in gone] == ["folio_put"] * 2
        assert world.mm.memcg._usage == 6
        assert world.system.mthp_stats[3, "nr_anon_partially_mapped"] == 0
        assert said(world) == []


@pytest.mark.parametrize("scenario", [HUGE, make("33333333")])
def test_a_page_of_zeros_becomes_the_zero_page(scenario: Scenario) -> None:
    with running(scenario) as world:
        folio = world.system.folios[0]
        zero(world, folio, 2, 5)
        assert split(folio) == ""
        assert [i for i, entry in enumerate(entries(world)) if entry == "zero"] == [2, 5]
        assert counters(world.mm) == (6, 0)
        assert world.mm.memcg._usage == 6
        assert bits(world, 2) == {"present", "young", "special", "soft_dirty"}
        assert said(world) == []


@pytest.mark.parametrize("scenario", [HUGE, make("33333333"), make("SSSSaaaa")])
def test_an_unexpected_reference_refuses_the_split(scenario: Scenario) -> None:
    with running(scenario) as world:
        folio = world.system.folios[0]
        before = slot(world)._val, world.system.mms[0]._rss_stat[:]
        folio_get(folio)
        folio._pincount = 1
        assert split(folio) == "EAGAIN"
        assert (slot(world)._val, world.system.mms[0]._rss_stat) == before
        assert world.system.mthp_stats[folio.order, "split_failed"] == 1
        assert world.system.vm_events.get("thp_split_page_failed", 0) == (folio.order == 3)
        assert "thp_split_page" not in world.system.vm_events
        assert said(world) == []


def test_a_reference_that_comes_after_the_first_look_undoes_the_split(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(make("33333333")) as world:
        folio = world.system.folios[0]
        monkeypatch.setattr("kmm.mm.split.folio_ref_count", lambda each: each._refcount - 1)
        folio_get(folio)
        folio._pincount = 0
        assert split(folio) == "EAGAIN"
        assert entries(world) == [f"page 0[{i}]" for i in range(8)]
        assert bits(world, 0) == {*MAPPED, "young"}
        folio_put(folio)
        assert said(world) == []


def test_nothing_maps_it() -> None:
    with running(make("aaaaaaaa")) as world:
        folio = new_folio("alone", 2, 0)
        folio._mapping = folio_of(world, 0)._mapping
        assert split(folio) == "EBUSY"
        assert world.system.mthp_stats == {(2, "split_failed"): 1}


def test_split_for_reclaim_puts_the_others_on_the_list() -> None:
    with running(make("2222aaaa")) as world:
        folio = world.system.folios[0]
        folio._flags &= ~PG_lru
        folio_get(folio)
        assert folio_trylock(folio)
        others: list[Folio] = []
        assert split_folio_to_list(folio, others) == ""
        folio_unlock(folio)
        assert [each.label for each in others] == ["page 0[1]", "page 0[2]", "page 0[3]"]
        assert [each._refcount for each in others] == [2] * 3
        assert not any(each._flags & PG_lru for each in others)
        for each in (folio, *others):
            folio_put(each)
        assert said(world) == []


def test_split_in_the_swap_cache() -> None:
    with running(make("2222aaaa")) as world:
        folio = world.system.folios[0]
        assert folio_alloc_swap(folio)
        assert folio._refcount == 8
        assert split(folio) == ""
        made = [world.system.mem_map[folio.pfn + i].folio for i in range(4)]
        assert [each._swap - folio._swap for each in made] == [0, 1, 2, 3]
        assert [slots_in_use(world.system)[each._swap]._cached is each for each in made] == [True] * 4
        assert all(each._flags & PG_swapcache for each in made)
        assert [each._refcount for each in made] == [2] * 4
        assert said(world) == []


def test_split_of_an_mlocked_folio() -> None:
    letters = (("A", attrs.evolve(ALPHABET["l"], order=3)),)
    with running(make("AAAAAAAA", letters=letters, flags=("locked", "read", "write"))) as world:
        folio = world.system.folios[0]
        zero(world, folio, 1)
        assert split(folio) == ""
        assert entries(world)[1] == "page 0[1]"  # a locked page stays
        drain()
        made = [world.system.mem_map[folio.pfn + i].folio for i in range(8)]
        assert all(each._flags & (PG_mlocked | PG_unevictable) == PG_mlocked | PG_unevictable for each in made)
        assert world.system.node_stat["nr_mlock"] == 8
        assert said(world) == []


def test_the_shrinker_splits_what_is_partially_mapped() -> None:
    with running(make("333333..")) as world:
        assert [f.label for f in world.system.deferred_split._split_queue] == ["page 0"]
        assert deferred_split_scan() == 1
        assert list(world.system.deferred_split._split_queue) == []
        assert world.system.vm_events == {"thp_split_page": 1}
        assert entries(world) == ["page 0", *(f"page 0[{i}]" for i in range(1, 6)), ".", "."]
        assert deferred_split_scan() == 0
        assert said(world) == []


def test_the_shrinker_keeps_a_partially_mapped_folio_that_it_cannot_split() -> None:
    with running(make("333333..")) as world:
        folio = world.system.folios[0]
        folio_get(folio)
        folio._pincount = 1
        assert deferred_split_scan() == 0
        assert list(world.system.deferred_split._split_queue) == [folio]
        assert world.system.mthp_stats[3, "split_failed"] == 1
        assert said(world) == []


@pytest.mark.parametrize(
    ("zeros", "limit", "splits"), [(4, 3, True), (3, 3, False), (8, 7, False), (1, 0, True), (0, 0, False), (8, 6, True)]
)
def test_the_shrinker_splits_an_underused_folio(zeros: int, limit: int, splits: bool) -> None:
    with running(make("........", pmd="huge", none=limit)) as world:
        folio = world.system.folios[0]
        enqueue(world, folio)
        zero(world, folio, *range(8 - zeros, 8))
        assert deferred_split_scan() == splits
        assert list(world.system.deferred_split._split_queue) == []
        assert world.system.vm_events.get("thp_underused_split_page", 0) == splits
        if splits:
            assert entries(world).count("zero") == zeros
            assert counters(world.mm) == (8 - zeros, 0)
        assert said(world) == []


def test_the_shrinker_leaves_locked_and_mlocked_folios_alone() -> None:
    with running(make("........", pmd="huge", none=0)) as world:
        folio = world.system.folios[0]
        enqueue(world, folio)
        zero(world, folio, 0)
        folio._flags |= PG_mlocked
        assert deferred_split_scan() == 0
        folio._flags &= ~PG_mlocked
        enqueue(world, folio)
        with world.system.running(world.somebody):
            assert folio_trylock(folio)
        assert deferred_split_scan() == 0
        assert list(world.system.deferred_split._split_queue) == []
        assert said(world) == []


def test_old_pages_stay_old() -> None:
    with running(HUGE) as world:
        slot(world)._val = pmd_mkold(slot(world)._val)
        assert split(world.system.folios[0]) == ""
        assert bits(world, 4) == MAPPED
