"""Pages that collapse meets in the field: KSM, lazyfree, mlock, markers, migration, devices. Expected values are the reference's."""

from __future__ import annotations

from typing import Final

import attrs
import pytest

from kmm.mm.folio import PageAnonExclusive, PG_lru, PG_mlocked, PG_swapbacked, PG_unevictable
from kmm.mm.khugepaged.types import ScanResult
from kmm.mm.pte import (
    is_migration_entry,
    pte_dirty,
    pte_protnone,
    pte_uffd_wp,
    pte_write,
    pte_young,
)
from kmm.mm.variant import Variant
from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.build import build
from kmm.scenario.model import Driver, Event, Failure, Scenario
from kmm.scenario.page import Kind, PageState
from kmm.scenario.run import Run
from refactors import reviewed, v12
from tests.helpers import KHUGEPAGED, MADVISE, direct, folio_of, go, is_huge, make, mapped, reports, statuses, table, traces

pytestmark = pytest.mark.parametrize("variant", [v12.VARIANT, reviewed.VARIANT], ids=lambda variant: variant.name)

MERGEABLE: Final = ("mergeable", "read", "write")
LOCKED: Final = ("locked", "read", "write")
WP: Final = ("read", "uffd_wp", "write")
FAULT: Final = direct(3, is_khugepaged=False)
OWN_KSM: Final = (("E", PageState(kind=Kind.PRESENT, young=True, ksm=True)),)
"""E: merged by KSM with pages of this address space only."""


def clean(s: Scenario, variant: Variant) -> Run:
    r = go(s, variant)
    assert reports(r) == []
    return r


def new_folio(r: Run) -> tuple[str, int, int]:
    """Label, order and flags of the only folio that the run made and kept."""
    (folio,) = [f for f in r.world.system.folios if f.label.startswith("new@") and not f.freed_by]
    return folio.label, folio.order, folio._flags


# KSM (5.3, note h; 5.5; 12.15)


def test_a_ksm_page_that_occurs_twice_is_locked_by_ourselves(variant: Variant) -> None:
    s = make("aEaEaaaa", direct(3), letters=OWN_KSM, flags=MERGEABLE)
    r = clean(s, variant)
    assert r.result == "SCAN_PAGE_LOCK"
    assert traces(r, "mm_collapse_huge_page_isolate")[0][:3] == ("page 1", 0, 3)
    again = make("EEaaaaaa", KHUGEPAGED, letters=OWN_KSM, flags=MERGEABLE)
    assert statuses(clean(again, variant), "mm_collapse_huge_page_isolate")[0].name == "SCAN_PAGE_LOCK"


def test_a_ksm_page_that_occurs_twice_is_shared_below_pmd_order(variant: Variant) -> None:
    r = clean(make("EEaaaaaa", direct(2), orders=(2,), letters=OWN_KSM, flags=MERGEABLE), variant)
    assert r.result == "SCAN_EXCEED_SHARED_PTE"
    assert r.world.system.mthp_stats[2, "collapse_exceed_shared_pte"] == 1


@pytest.mark.parametrize("order", [2, 3])
def test_a_ksm_page_that_is_mapped_once_collapses(variant: Variant, order: int) -> None:
    r = clean(make("Eaaaaaaa", direct(order), orders=(order,), letters=OWN_KSM, flags=MERGEABLE), variant)
    assert r.result == "SCAN_SUCCEED"


def test_a_ksm_page_of_two_address_spaces_is_one_shared_page(variant: Variant) -> None:
    assert clean(make("Kaaaaaaa", direct(3), flags=MERGEABLE), variant).result == "SCAN_SUCCEED"
    assert clean(make("Kaaaaaaa", direct(3), flags=MERGEABLE, shared=0), variant).result == "SCAN_EXCEED_SHARED_PTE"
    assert clean(make("Kaaaaaaa", direct(2), flags=MERGEABLE, orders=(2,)), variant).result == "SCAN_EXCEED_SHARED_PTE"


@pytest.mark.parametrize(("order", "left"), [(3, 0), (2, 1)])
def test_a_zero_page_that_ksm_placed_leaves_both_counters(variant: Variant, order: int, left: int) -> None:
    s = make("ZaaaaaaZ", direct(order), orders=(order,), flags=MERGEABLE, none=7)
    assert (build(s, variant).mm._ksm_zero_pages, build(s, variant).system.node_stat["ksm_zero_pages"]) == (2, 2)
    r = clean(s, variant)
    assert r.result == "SCAN_SUCCEED"
    assert (r.world.mm._ksm_zero_pages, r.world.system.node_stat["ksm_zero_pages"]) == (left, left)


def test_an_ordinary_zero_page_has_no_dirty_bit_and_no_counter(variant: Variant) -> None:
    s = make("zaaaaaZZ", direct(2), orders=(2,), flags=MERGEABLE, none=7)
    entries = table(build(s, variant))._entries
    assert [pte_dirty(entries[i]) for i in (0, 6, 7)] == [False, True, True]
    assert clean(s, variant).world.mm._ksm_zero_pages == 2


def test_a_zero_page_that_ksm_placed_counts_as_a_hole(variant: Variant) -> None:
    assert clean(make("ZZZaaaaa", none=3, flags=MERGEABLE), variant).result == "SCAN_SUCCEED"
    assert clean(make("ZZZaaaaa", none=2, flags=MERGEABLE), variant).result == "SCAN_EXCEED_NONE_PTE"


def test_dontneed_of_a_zero_page_that_ksm_placed(variant: Variant) -> None:
    r = clean(make("aaaaaaaZ", direct(3), flags=MERGEABLE, events=(Event(op="zap", before="mmap_read_lock", page=7),)), variant)
    assert (r.result, r.world.mm._ksm_zero_pages, r.world.system.node_stat["ksm_zero_pages"]) == ("SCAN_SUCCEED", 0, 0)


# Lazyfree (5.6, folio_add_new_anon_rmap)


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("letter", "FL")
def test_a_lazyfree_page_becomes_swap_backed_but_in_a_droppable_vma(variant: Variant, letter: str, order: int) -> None:
    for flags, swapbacked in ((("read", "write"), True), (("droppable", "read", "write"), False)):
        r = clean(make(letter * 8, direct(order), orders=(order,), flags=flags), variant)
        assert r.result == "SCAN_SUCCEED"
        assert bool(new_folio(r)[2] & PG_swapbacked) == swapbacked


# Mlock (5.6, folio_add_lru_vma and folio_remove_rmap_ptes; section 5, state effect; 12.14)


def test_mlocked_pages_become_an_mlocked_folio(variant: Variant) -> None:
    r = clean(make("llllllll", direct(3), flags=LOCKED), variant)
    label, order, flags = new_folio(r)
    assert (label, order) == ("new@1:0", 3)
    assert flags & (PG_mlocked | PG_unevictable | PG_lru) == PG_mlocked | PG_unevictable | PG_lru
    assert r.world.system.node_stat["nr_mlock"] == 8, "as many pages as before"
    assert [cpu._mlock_fbatch for cpu in r.world.system.per_cpu] == [(), ()], "a large folio carries out the batch"


def test_the_sources_of_a_locked_vma_stay_in_the_lru_batch(variant: Variant) -> None:
    r = clean(make("llllllll", direct(3), flags=LOCKED), variant)
    batch = list(r.world.system.per_cpu[0]._lru_add)
    assert sorted(folio.label for folio in batch) == [f"page {i}" for i in range(8)]
    assert {(folio._refcount, folio._mapcount, folio._flags & PG_mlocked, folio.freed_by) for folio in batch} == {(1, 0, 0, "")}
    unlocked = clean(make("aaaaaaaa", direct(3)), variant)
    assert list(unlocked.world.system.per_cpu[0]._lru_add) == [], "without mlock the new folio drains it"


def test_what_mlock_counts(variant: Variant) -> None:
    """Off the LRU, an unevictable source is stranded; drained at once, it is munlocked and rescued."""

    def unevictable(lru_batch: int) -> dict[str, int]:
        events = clean(make("llllllll", direct(3), flags=LOCKED, lru_batch=lru_batch), variant).world.system.vm_events
        return {name.removeprefix("unevictable_pgs_"): n for name, n in events.items() if name.startswith("unevictable")}

    assert unevictable(31) == {"mlocked": 8, "culled": 8, "stranded": 8}
    assert unevictable(1) == {"mlocked": 8, "culled": 8, "munlocked": 8, "rescued": 8}


def test_mlock_counts_the_pages_that_were_holes(variant: Variant) -> None:
    r = clean(make("llll....", direct(3), flags=("locked", "lockonfault", "read", "write")), variant)
    assert (r.result, r.world.system.node_stat["nr_mlock"]) == ("SCAN_SUCCEED", 8)


def test_mlock_of_a_part(variant: Variant) -> None:
    r = clean(make("aallllll", direct(2), orders=(2,), flags=LOCKED), variant)
    assert (r.result, r.world.system.node_stat["nr_mlock"]) == ("SCAN_SUCCEED", 8)
    assert folio_of(r, 0)._flags & PG_mlocked


def test_a_refusal_leaves_mlocked_pages_mlocked(variant: Variant) -> None:
    r = clean(make("lllllllp", direct(3), flags=LOCKED), variant)
    assert (r.result, r.world.system.node_stat["nr_mlock"]) == ("SCAN_PAGE_COUNT", 7)
    assert all(folio_of(r, i)._flags & PG_mlocked for i in range(7))


# Markers and poison (4.1 a, 4.2, 5.2)


@pytest.mark.parametrize("letter", "gPH")
def test_markers_and_poison_end_a_pmd_attempt_after_the_allocation(variant: Variant, letter: str) -> None:
    r = clean(make("aaaa" + letter + "aaa", KHUGEPAGED), variant)
    (scan,) = traces(r, "mm_khugepaged_scan_pmd")
    assert (scan[5], scan[3], r.result) == (1, 0, "SCAN_FAIL")
    assert r.world.system.vm_events == {"thp_collapse_alloc": 1}
    assert statuses(r, "mm_collapse_huge_page")[0].name == "SCAN_FAIL"
    assert mapped(r)[4] == "swap"


@pytest.mark.parametrize("letter", "gPH")
def test_below_pmd_order_they_count_as_swap_and_the_walk_goes_on(variant: Variant, letter: str) -> None:
    r = clean(make("a" + letter + "a" * 14, orders=(2,), none=15, swap=1), variant)
    assert [status.name for status in statuses(r, "mm_collapse_huge_page")] == ["SCAN_EXCEED_SWAP_PTE", *["SCAN_SUCCEED"] * 3]
    assert r.world.system.mthp_stats[2, "collapse_exceed_swap_pte"] == 1
    assert r.result == "SCAN_SUCCEED"


@pytest.mark.parametrize("letter", "gPH")
def test_a_pmd_attempt_that_fails_ends_the_walk(variant: Variant, letter: str) -> None:
    r = clean(make("a" + letter + "a" * 14, orders=(2, 3, 4), none=15, swap=1), variant)
    assert traces(r, "mm_collapse_huge_page") == [(r.world.mm, False, ScanResult.SCAN_FAIL, 4)]


def test_markers_count_against_the_swap_limit(variant: Variant) -> None:
    assert clean(make("ggaaaaaa", swap=1), variant).result == "SCAN_EXCEED_SWAP_PTE"
    assert clean(make("gHPaaaaa", swap=2), variant).result == "SCAN_EXCEED_SWAP_PTE"


@pytest.mark.parametrize("driver", [KHUGEPAGED, MADVISE])
@pytest.mark.parametrize("orders", [(3,), (2, 3), (2,)])
def test_a_uffd_wp_marker_is_refused_by_the_scan(variant: Variant, driver: Driver, orders: tuple[int, ...]) -> None:
    r = clean(make("aaaaaaaU", driver, orders=orders, flags=WP), variant)
    assert (r.result, traces(r, "mm_collapse_huge_page")) == ("SCAN_PTE_UFFD_WP", [])


def test_a_uffd_wp_marker_that_appears_later_is_a_protected_zero_page(variant: Variant) -> None:
    """12.4: the read fault keeps the protection; in an armed VMA isolate then refuses the hole."""
    r = clean(make("aaaaaaaU", direct(3), flags=WP), variant)
    assert r.result == "SCAN_EXCEED_NONE_PTE"
    assert mapped(r)[7] == "zero"
    assert pte_uffd_wp(table(r.world)._entries[7])
    r = clean(make("aaaaaaaU", direct(3), flags=("read", "uffd_missing", "uffd_wp", "write")), variant)
    assert (r.result, mapped(r)[7]) == ("SCAN_PAGE_LOCK", "swap"), "user space is asked, the lock was dropped"


# Migration (5.2; 12.4 migration entry; 12.11)


def test_a_migration_entry_is_waited_for(variant: Variant) -> None:
    r = clean(make("aaaaaaaM", MADVISE), variant)
    assert traces(r, "mm_collapse_huge_page_swapin")[0][1:4] == (1, 0, 1), "it counts as swapped in"
    assert (r.errno, is_huge(r)) == ("", True)
    assert r.world.system.node_stat["nr_isolated_anon"] == 0


def test_the_page_comes_back_into_the_batch_of_the_cpu_that_migrated_it(variant: Variant) -> None:
    """lru_add_drain is for this CPU only: khugepaged, on another, finds one reference too many."""
    r = clean(make("aaaaaaaM", direct(3)), variant)
    assert r.result == "SCAN_PAGE_COUNT"
    assert [folio.label for folio in list(r.world.system.per_cpu[1]._lru_add)] == ["page 7"]
    assert clean(make("aaaaaaaM", direct(3), lru_batch=1), variant).result == "SCAN_SUCCEED", "a batch of one is no batch"


def test_a_migration_that_begins_again_is_not_looked_at(variant: Variant) -> None:
    r = clean(make("aaaaaaaM", MADVISE, failures=(Failure(kind="migration_again", page=7),)), variant)
    assert [status.name for status in statuses(r, "mm_collapse_huge_page_isolate")] == ["SCAN_PTE_NON_PRESENT"]
    assert is_migration_entry(table(r.world)._entries[7])
    assert r.world.system.node_stat["nr_isolated_anon"] == 1, "by the migration"


def test_below_pmd_order_nobody_waits(variant: Variant) -> None:
    r = clean(make("aaaMaaaa", direct(2), orders=(2,)), variant)
    assert (r.result, is_migration_entry(table(r.world)._entries[3])) == ("SCAN_EXCEED_SWAP_PTE", True)
    assert clean(make("aaaaaaaM", direct(2), orders=(2,)), variant).result == "SCAN_SUCCEED", "it lies outside"


_M: Final = ALPHABET["M"]


@pytest.mark.parametrize(
    ("state", "bits"),
    [
        (_M, {"young", "dirty", "write", "exclusive", "soft_dirty"}),
        (attrs.evolve(_M, young=False, dirty=False, soft_dirty=False), {"write", "exclusive"}),
        (attrs.evolve(_M, dirty=False), {"young", "write", "exclusive", "soft_dirty"}),
        (attrs.evolve(_M, write=False, soft_dirty=False, dirty=False), {"young", "exclusive"}),
        (attrs.evolve(_M, write=False, exclusive=False), {"young", "dirty", "soft_dirty"}),
        (attrs.evolve(_M, write=False, uffd_wp=True), {"young", "dirty", "exclusive", "soft_dirty", "uffd_wp"}),
        (PageState(kind=Kind.MIGRATION), set()),
    ],
)
def test_the_entry_comes_back_as_it_was(variant: Variant, state: PageState, bits: set[str]) -> None:
    """After the wait the attempt is refused, so that the entry can be looked at. Dirty makes soft-dirty on x86."""
    r = clean(make("Xaaaaaaa", direct(3), letters=(("X", state),), flags=WP), variant)
    assert r.result == ("SCAN_PTE_UFFD_WP" if state.uffd_wp else "SCAN_PAGE_COUNT")
    pte, folio = table(r.world)._entries[0], folio_of(r, 0)
    with r.world.system.running(r.world.task):
        exclusive = PageAnonExclusive(folio.pages[0])
    found = {
        "young": pte_young(pte),
        "dirty": pte_dirty(pte),
        "write": pte_write(pte),
        "exclusive": exclusive,
        "soft_dirty": bool(pte & 0x800),
        "uffd_wp": pte_uffd_wp(pte),
    }
    assert {name for name, is_set in found.items() if is_set} == bits
    assert (folio._mapcount, folio._refcount) == (1, 2)


def test_siblings_get_their_mapping_back_too(variant: Variant) -> None:
    shared = attrs.evolve(_M, write=False, exclusive=False, mapped_by=2)
    r = clean(make("Xaaaaaaa", direct(3), letters=(("X", shared),)), variant)
    assert folio_of(r, 0)._mapcount == 3
    assert [mm._rss_stat[0] for mm in r.world.system.mms] == [8, 1, 1]


# Devices (4.1 a and d; 5.3 d)


def test_a_page_that_only_a_device_reaches_moves_into_memory(variant: Variant) -> None:
    r = clean(make("aaaaaaaD", KHUGEPAGED), variant)
    assert traces(r, "mm_collapse_huge_page_swapin")[0][1] == 1
    assert is_huge(r)
    assert r.world.system.allocations == 2
    failed = clean(make("aaaaaaaD", KHUGEPAGED, failures=(Failure(kind="alloc", nth=2),)), variant)
    assert statuses(failed, "mm_collapse_huge_page")[0].name == "SCAN_FAIL"
    assert mapped(failed)[7] == "swap"


@pytest.mark.parametrize("orders", [(3,), (2, 3), (2,)])
def test_device_memory_is_no_normal_page(variant: Variant, orders: tuple[int, ...]) -> None:
    r = clean(make("aaaaaaad", orders=orders), variant)
    assert (r.result, traces(r, "mm_khugepaged_scan_pmd")[0][1]) == ("SCAN_PAGE_NULL", "page 6")
    assert clean(make("daaaaaaa", MADVISE), variant).errno == "EINVAL"
    assert traces(clean(make("daaaaaaa"), variant), "mm_khugepaged_scan_pmd")[0][1] is None
    assert clean(make("aaaaaaad", direct(3)), variant).result == "SCAN_PAGE_NULL"
    assert clean(make("aaaaaaad", direct(2), orders=(2,)), variant).result == "SCAN_SUCCEED"


# Secondary MMU and NUMA balancing (4.1 l; 4.1 value classes)


def test_young_in_a_secondary_mmu_counts_as_referenced(variant: Variant) -> None:
    assert clean(make("oooooooo"), variant).result == "SCAN_LACK_REFERENCED_PAGE"
    for at in (0, 3, 7):
        r = clean(make("o" * at + "Y" + "o" * (7 - at)), variant)
        assert (r.result, traces(r, "mm_khugepaged_scan_pmd")[0][2]) == ("SCAN_SUCCEED", 1)


def test_young_in_a_secondary_mmu_counts_at_its_page(variant: Variant) -> None:
    assert clean(make("ooooYooo", direct(2, 4), orders=(2,)), variant).result == "SCAN_SUCCEED"
    assert clean(make("ooooYooo", direct(2, 0), orders=(2,)), variant).result == "SCAN_LACK_REFERENCED_PAGE"
    r = clean(make("ooooYooo", orders=(2,)), variant)
    assert [status.name for status in statuses(r, "mm_collapse_huge_page")] == ["SCAN_LACK_REFERENCED_PAGE", "SCAN_SUCCEED"]


@pytest.mark.parametrize("order", [2, 3])
def test_pages_without_access_count_as_present(variant: Variant, order: int) -> None:
    s = make("NNNNNNNN", orders=(order,), none=0)
    assert all(pte_protnone(pte) for pte in table(build(s, variant))._entries)
    r = clean(s, variant)
    assert (r.result, traces(r, "mm_khugepaged_scan_pmd")[0][3]) == ("SCAN_SUCCEED", 0)
    if order == 2:
        assert not any(pte_protnone(pte) for pte in table(r.world)._entries), "the new entries are the VMA's"
