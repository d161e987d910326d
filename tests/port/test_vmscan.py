"""Reference 12.9, 12.10 and 12.12: the reverse map, who uses a folio, and swapping it out."""

from __future__ import annotations

import attrs
import pytest

from kmm.mm.folio import (
    Folio,
    PG_dirty,
    PG_locked,
    PG_lru,
    PG_referenced,
    PG_swapbacked,
    PG_swapcache,
    folio_get,
    folio_trylock,
    folio_unlock,
)
from kmm.mm.mm_types import VM_DROPPABLE, VM_LOCKED, VM_SEQ_READ, AnonVma, VmAreaStruct
from kmm.mm.page_alloc import folio_put
from kmm.mm.page_vma_mapped import PVMW_SYNC, page_vma_mapped_walk
from kmm.mm.pte import PMD_NONE, PTE_NONE, pmd_t
from kmm.mm.rmap_walk import folio_test_ksm, folio_vma_walk, rmap_walk, vma_address
from kmm.mm.system import Injected
from kmm.mm.vmscan import folio_referenced, isolate_for_reclaim, reclaim_pages, swap_out_folio
from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.build import World
from kmm.scenario.model import Scenario
from kmm.scenario.quiescence import slots_in_use
from tests.helpers import folio_of, make, running
from tests.port.reclaiming import address, bits, counters, drain, entries, ptes, ptes_of, said, slot, slot_of, two_ranges, zero

HUGE = make("........", pmd="huge")
KSM = ("mergeable", "read", "write")


def mapped_at(world: World, folio: Folio, flags: int = 0) -> list[tuple[int, int]]:
    """(address space, page) of each mapping that the reverse map finds; -1: by a huge entry."""
    found: list[tuple[int, int]] = []

    def one(folio: Folio, vma: VmAreaStruct, addr: int) -> bool:
        walk = folio_vma_walk(folio, vma, addr, flags)
        for _ in page_vma_mapped_walk(walk):
            page = (walk.address - world.system.base) // 4096
            found.append((vma.vm_mm.ident, -1 if walk.pte is None else page))
        return True

    assert folio_trylock(folio)
    rmap_walk(folio, one)
    folio_unlock(folio)
    assert world.task.held == []
    assert world.task.rcu_depth == 0
    return found


@pytest.mark.parametrize("flags", [0, PVMW_SYNC])
@pytest.mark.parametrize(
    ("pages", "index", "found"),
    [
        ("aaaaaaaa", 3, [(1, 3)]),
        ("atsaaaaa", 1, [(1, 1), (2, 1), (3, 1)]),
        ("SSSSaaaa", 2, [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1), (2, 2), (2, 3)]),
        ("3.33..33", 0, [(1, 0), (1, 2), (1, 3), (1, 6), (1, 7)]),
        ("KaKaaaaa", 2, [(1, 0), (1, 2), (2, 0), (2, 2)]),
    ],
)
def test_the_reverse_map(flags: int, pages: str, index: int, found: list[tuple[int, int]]) -> None:
    with running(make(pages, flags=KSM)) as world:
        assert mapped_at(world, folio_of(world, index), flags) == found
        assert said(world) == []


def test_the_reverse_map_of_a_huge_page() -> None:
    with running(HUGE) as world:
        assert mapped_at(world, world.system.folios[0]) == [(1, -1)]


def test_an_empty_pmd_entry_is_stepped_over() -> None:
    with running(make("aaaaaaaa")) as world:
        folio = folio_of(world, 0)
        slot(world)._val = PMD_NONE
        assert mapped_at(world, folio) == []
    with running(HUGE) as world:
        folio = world.system.folios[0]
        slot(world)._val = PMD_NONE
        assert mapped_at(world, folio, PVMW_SYNC) == []
        assert [op for op in world.task.lock_ops if op[1] == "pmd_lock"] == [("spin_lock", "pmd_lock"), ("spin_unlock", "pmd_lock")]


def test_an_absent_pmd_page_is_stepped_over() -> None:
    with running(make("saaaaaaa")) as world:
        folio = folio_of(world, 0)
        world.mm._pmds[0] = None
        assert mapped_at(world, folio) == [(2, 0)]


def test_a_folio_that_moved_is_found_where_it_is_now() -> None:
    with running(make("aaaaaaaa")) as world:
        folio = folio_of(world, 1)
        entries_ = ptes(world)
        entries_[5], entries_[1] = entries_[1], PTE_NONE
        vma = world.mm._vmas[0]
        left = VmAreaStruct(world.mm, vma._vm_start, address(world, 4), vma._vm_flags, vma._anon_vma, 0)
        moved = VmAreaStruct(world.mm, address(world, 4), vma._vm_end, vma._vm_flags, vma._anon_vma, 0)
        world.mm._vmas = (left, moved)
        assert vma._anon_vma is not None
        vma._anon_vma._rb_root = (left, moved)
        assert mapped_at(world, folio) == [(1, 5)]


def test_vma_address() -> None:
    with running(make("aaaaaaaa")) as world:
        vma = VmAreaStruct(world.mm, address(world, 2), address(world, 6), 0, None, 10)
        assert vma_address(vma, 10, 1) == address(world, 2)
        assert vma_address(vma, 13, 1) == address(world, 5)
        assert vma_address(vma, 14, 1) is None
        assert vma_address(vma, 9, 1) is None
        assert vma_address(vma, 8, 4) == address(world, 2)
        assert vma_address(vma, 8, 2) is None


def test_only_forks_of_an_anon_vma_are_asked() -> None:
    with running(make("taaaaaaa")) as world:
        folio = folio_of(world, 0)
        parent, child = world.system.mms[0]._vmas[0]._anon_vma, world.system.mms[1]._vmas[0]._anon_vma
        assert parent is not None
        assert child is not None
        folio._mapping = child
        assert mapped_at(world, folio) == [(2, 0)]
        world.system.mms[2]._vmas[0]._anon_vma = AnonVma("grandchild", parent, child)
        assert mapped_at(world, folio) == [(2, 0), (3, 0)]


def test_a_merged_page_is_known_by_its_mapping() -> None:
    with running(make("Kaaaaaaa", flags=KSM)) as world:
        assert [folio_test_ksm(folio_of(world, i)) for i in (0, 1)] == [True, False]


@pytest.mark.parametrize(("pages", "mappings"), [("a", 1), ("o", 0), ("s", 1), ("f", 0), ("Y", 1), ("T", 0), ("3", 1), ("K", 1)])
def test_folio_referenced_counts_and_clears(pages: str, mappings: int) -> None:
    with running(make(pages * 8, flags=KSM)) as world:
        folio = folio_of(world, 0)
        shared = pages in "sK"
        assert folio_referenced(folio, is_locked=False).mappings == mappings * (1 + shared) * (8 if pages == "K" else 1)
        assert folio_referenced(folio, is_locked=False).mappings == 0
        assert "young" not in bits(world, 0)
        assert world.system.machine.tlb_flushes == []
        assert not folio._flags & PG_locked
        assert address(world, 0) not in world.mm._secondary_young
        assert said(world) == []


def test_folio_referenced_flushes_a_huge_entry() -> None:
    with running(HUGE) as world:
        folio = world.system.folios[0]
        assert folio_referenced(folio, is_locked=False).mappings == 1
        assert folio_referenced(folio, is_locked=False).mappings == 0
        assert world.system.machine.tlb_flushes == [(address(world, 0), address(world, 8))]


def test_folio_referenced_leaves_some_out() -> None:
    with running(make("akaaaaaa")) as world:
        assert folio_referenced(folio_of(world, 1), is_locked=False).mappings == 1
        world.mm._vmas[0]._vm_flags |= VM_SEQ_READ
        assert folio_referenced(folio_of(world, 0), is_locked=False).mappings == 0
        world.mm._vmas[0]._vm_flags &= ~VM_SEQ_READ
        world.mm._mm_users = 0
        assert folio_referenced(folio_of(world, 0), is_locked=False).mappings == -1
        assert said(world) == []


def test_folio_referenced_does_not_wait_for_the_reverse_map() -> None:
    with running(make("aaaaaaaa")) as world:
        anon_vma = world.mm._vmas[0]._anon_vma
        assert anon_vma is not None
        anon_vma.rwsem.writer = world.somebody
        assert folio_referenced(folio_of(world, 0), is_locked=False).mappings == -1
        assert "young" in bits(world, 0)
        anon_vma.rwsem.writer = None


def test_folio_referenced_mlocks_what_was_missed() -> None:
    with running(make("aaaa2222")) as world:
        world.mm._vmas[0]._vm_flags |= VM_LOCKED
        for index in (0, 4):
            found = folio_referenced(folio_of(world, index), is_locked=False)
            assert found.seen == VM_LOCKED
        drain()
        assert world.system.node_stat["nr_mlock"] == 5
        assert said(world) == []


@pytest.mark.parametrize(
    ("letter", "entry"),
    [("a", "swap+"), ("o", "swap+"), ("r", "swap+"), ("c", "swap+"), ("n", "swap"), ("u", "swap+"), ("N", "swap+"), ("h", "swap+")],
)
def test_a_small_page_is_swapped_out(letter: str, entry: str) -> None:
    flags = ("read", "uffd_wp", "write") if letter == "u" else ("read", "write")
    with running(make(f"{letter}.......", flags=flags)) as world:
        folio = folio_of(world, 0)
        contents = folio.pages[0]._contents
        assert swap_out_folio(folio, force=True) == ""
        assert entries(world)[0] == entry
        assert slot_of(world, 0).count == 1
        assert slot_of(world, 0)._cached is None
        assert slot_of(world, 0).contents == contents
        assert counters(world.mm) == (0, 1)
        assert folio.freed_by == "folio_put"
        assert world.system.vm_events == {"pswpout": 1}
        assert world.mm.memcg.events == {"pswpout": 1}
        assert world.mm.memcg._usage == 0
        assert world.system.notifier_windows == [(0, 4096), (-1, -1)]
        assert bool(ptes(world)[0] & 4) == (letter == "u")
        assert bool(ptes(world)[0] & 2) == (letter not in "cuN" or bool(ALPHABET[letter].soft_dirty))
        assert said(world) == []


def test_a_page_of_zeros_is_not_written() -> None:
    with running(make("aaaaaaaa")) as world:
        folio = folio_of(world, 2)
        folio.pages[0]._contents = world.system.shadow[1, 2] = 0
        assert swap_out_folio(folio, force=True) == ""
        assert world.system.vm_events == {"swpout_zero": 1}
        assert slot_of(world, 2).zeromap
        assert said(world) == []


@pytest.mark.parametrize(("pages", "count"), [("saaaaaaa", 2), ("taaaaaaa", 3)])
def test_every_mapping_of_a_shared_page_becomes_an_entry_of_one_slot(pages: str, count: int) -> None:
    with running(make(pages)) as world:
        assert swap_out_folio(folio_of(world, 0), force=True) == ""
        assert [entries(world, ident)[0] for ident in range(1, count + 1)] == ["swap"] * count
        assert slot_of(world, 0).count == count
        assert [counters(mm)[1] for mm in world.system.mms] == [1] * count
        assert said(world) == []


def test_a_merged_page_is_swapped_out_everywhere() -> None:
    with running(make("KaKaaaaa", flags=KSM)) as world:
        assert swap_out_folio(folio_of(world, 0), force=True) == ""
        assert slot_of(world, 0).count == 4
        assert entries(world)[2] == entries(world, 2)[0] == "swap"
        assert said(world) == []


@pytest.mark.parametrize("scenario", [make("33333333"), HUGE])
def test_a_large_folio_is_swapped_out_whole(scenario: Scenario) -> None:
    with running(scenario) as world:
        assert swap_out_folio(world.system.folios[0], force=True) == ""
        offsets = sorted(slots_in_use(world.system))
        assert offsets[0] % 8 == 0
        assert offsets == list(range(offsets[0], offsets[0] + 8))
        assert [slot_of(world, i).contents for i in range(8)] == list(range(1, 9))
        assert entries(world) == ["swap+"] * 8
        assert counters(world.mm) == (0, 8)
        assert {k: v for k, v in world.system.mthp_stats.items() if v} == {(3, "swpout"): 1}
        assert (world.system.vm_events["thp_swpout"], world.system.vm_events["pswpout"]) == (1, 8)
        assert world.mm.memcg.events == {"thp_swpout": 1, "pswpout": 8}
        assert "thp_split_page" not in world.system.vm_events
        assert said(world) == []


def test_a_large_shared_folio_is_swapped_out_whole() -> None:
    with running(make("SSSSaaaa")) as world:
        assert swap_out_folio(folio_of(world, 0), force=True) == ""
        assert [slot_of(world, i).count for i in range(4)] == [2] * 4
        assert entries(world, 2)[:4] == ["swap"] * 4
        assert world.system.mthp_stats[2, "swpout"] == 1
        assert said(world) == []


@pytest.mark.parametrize(("pages", "pmd", "order"), [("33333333", "table", 3), ("........", "huge", 3), ("2222aaaa", "table", 2)])
def test_without_slots_in_a_row_it_is_split(pages: str, pmd: str, order: int) -> None:
    with running(make(pages, pmd=pmd)) as world:
        world.system.injected = Injected(swap_slots=frozenset({1}))
        assert swap_out_folio(world.system.folios[0], force=True) == ""
        assert entries(world)[: 1 << order] == ["swap+"] * (1 << order)
        stats = {k: v for k, v in world.system.mthp_stats.items() if v and k[1] != "split_deferred"}
        assert stats == {(order, "split"): 1, (order, "swpout_fallback"): 1}
        assert world.system.vm_events.get("thp_swpout_fallback", 0) == (order == 3)
        assert world.mm.memcg.events.get("thp_swpout_fallback", 0) == (order == 3)
        assert world.system.vm_events["pswpout"] == 1 << order
        assert said(world) == []


def test_the_split_pages_come_last_first() -> None:
    with running(make("2222aaaa")) as world:
        world.system.injected = Injected(swap_slots=frozenset({1}))
        swap_out_folio(folio_of(world, 0), force=True)
        assert [slot_of(world, i).contents for i in range(4)] == [1, 2, 3, 4]
        first, *others = [ptes(world)[i] for i in range(4)]
        assert sorted(others) == others
        assert first > others[-1]  # the offset is stored inverted


def test_no_slot_at_all() -> None:
    with running(make("aaaa2222")) as world:
        world.system.injected = Injected(swap_slots=frozenset({1, 2, 3, 4, 5, 6}))
        assert swap_out_folio(folio_of(world, 0), force=True) == "no swap slot"
        assert swap_out_folio(folio_of(world, 4), force=True) == "no swap slot"
        drain()
        assert entries(world) == [*(f"page {i}" for i in range(4)), "page 4", "page 4[1]", "page 4[2]", "page 4[3]"]
        assert all(folio_of(world, i)._flags & PG_lru for i in range(8))
        assert slots_in_use(world.system) == {}
        assert said(world) == []


def test_a_partially_mapped_folio_is_split_first() -> None:
    with running(make("333333..")) as world:
        assert swap_out_folio(world.system.folios[0], force=True) == ""
        drain()
        assert entries(world) == ["swap+"] * 6 + [".", "."]
        assert world.system.vm_events == {"thp_split_page": 1, "pswpout": 6}
        assert (3, "swpout_fallback") not in world.system.mthp_stats
        assert len(slots_in_use(world.system)) == 6
        assert all(folio.freed_by for folio in world.system.folios)
        assert said(world) == []


@pytest.mark.parametrize(
    ("letter", "why"), [("p", "pinned"), ("k", "locked"), ("x", "off the LRU"), ("b", "off the LRU"), ("l", "mlocked")]
)
def test_what_stays(letter: str, why: str) -> None:
    with running(make(f"{letter}aaaaaaa", flags=("locked", "read", "write") if letter == "l" else ("read", "write"))) as world:
        folio = folio_of(world, 0)
        before = ptes(world)[0], folio._refcount
        assert swap_out_folio(folio, force=True) == why
        drain()
        assert (ptes(world)[0], folio._refcount - (letter == "b")) == (before[0], before[1] - 2 * (letter == "b"))
        assert world.system.vm_events.get("pswpout") is None
        assert said(world) == []


def test_a_large_folio_with_another_reference_stays() -> None:
    with running(make("33333333")) as world:
        folio = world.system.folios[0]
        folio_get(folio)
        assert swap_out_folio(folio, force=True) == "in use"
        folio_put(folio)
        assert entries(world)[0] == "page 0[0]"
        assert said(world) == []


def test_a_small_page_with_another_reference_is_unmapped_and_stays_in_the_swap_cache() -> None:
    with running(make("aaaaaaaa")) as world:
        folio = folio_of(world, 0)
        folio_get(folio)
        assert swap_out_folio(folio, force=True) == "in use"
        drain()
        assert entries(world)[0] == "swap+"
        assert folio._flags & (PG_swapcache | PG_dirty | PG_lru) == PG_swapcache | PG_dirty | PG_lru
        assert slot_of(world, 0)._cached is folio
        folio_put(folio)
        assert said(world) == []
        assert swap_out_folio(folio, force=True) == ""
        assert slot_of(world, 0).contents == 1
        assert said(world) == []


def test_a_page_that_turns_out_to_be_pinned_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kmm.mm.vmscan.folio_maybe_dma_pinned", lambda _: False)
    with running(make("paaaaaaa")) as world:
        folio = folio_of(world, 0)
        before = ptes(world)[0]
        assert swap_out_folio(folio, force=True) == "mapped"
        drain()
        assert ptes(world)[0] == before
        assert counters(world.mm) == (8, 0)
        assert slots_in_use(world.system)[folio._swap]._count == 0
        assert said(world) == []


def test_used_pages_stay_until_they_are_not() -> None:
    with running(make("aofYaaaa")) as world:
        folios = [folio_of(world, i) for i in range(4)]
        assert [swap_out_folio(folio) for folio in folios] == ["referenced", "", "", "referenced"]
        assert folios[0]._flags & PG_referenced
        drain()
        assert [swap_out_folio(folio) for folio in (folios[0], folios[3])] == ["", ""]
        assert entries(world)[:4] == ["swap+"] * 4
        assert said(world) == []


def test_a_locked_vma_keeps_its_pages() -> None:
    with running(make("aaaa2222")) as world:
        world.mm._vmas[0]._vm_flags |= VM_LOCKED
        before = ptes(world)[:]
        assert swap_out_folio(folio_of(world, 0), force=True) == "mlocked"
        assert swap_out_folio(folio_of(world, 4), force=True) == "mlocked"
        drain()
        assert ptes(world) == before
        assert world.system.node_stat["nr_mlock"] == 5
        assert said(world) == []


@pytest.mark.parametrize("letter", ["F", "L"])
@pytest.mark.parametrize("order", [0, 2])
def test_a_lazyfree_page_is_dropped_unless_it_was_written_again(letter: str, order: int) -> None:
    letters = (("A", attrs.evolve(ALPHABET[letter], order=order)),)
    nr = 1 << order
    with running(make("A" * nr + "a" * (8 - nr), letters=letters)) as world:
        folio = folio_of(world, 0)
        assert swap_out_folio(folio, force=True) == ("" if letter == "F" else "mapped")
        drain()
        if letter == "F":
            assert entries(world)[:nr] == ["."] * nr
            assert counters(world.mm) == (8 - nr, 0)
            assert world.system.vm_events == {"pglazyfreed": nr}
            assert len(world.system.machine.tlb_flushes) == 1
        else:
            assert folio._flags & (PG_swapbacked | PG_dirty) == PG_swapbacked | PG_dirty
            assert counters(world.mm) == (8, 0)
            assert "pglazyfreed" not in world.system.vm_events
        assert slots_in_use(world.system) == {}
        assert said(world) == []


def test_a_lazyfree_page_with_another_reference_stays() -> None:
    with running(make("Faaaaaaa")) as world:
        folio = folio_of(world, 0)
        folio_get(folio)
        assert swap_out_folio(folio, force=True) == "mapped"
        assert not folio._flags & PG_swapbacked
        folio_put(folio)
        assert entries(world)[0] == "page 0"
        assert said(world) == []


def test_a_droppable_page_is_dropped_though_it_was_written() -> None:
    with running(make("Laaaaaaa")) as world:
        world.mm._vmas[0]._vm_flags |= VM_DROPPABLE
        assert swap_out_folio(folio_of(world, 0), force=True) == ""
        assert entries(world)[0] == "."
        assert said(world) == []


@pytest.mark.parametrize(("dirty", "gone"), [(False, True), (True, False)])
def test_a_huge_lazyfree_page_is_dropped_whole(dirty: bool, gone: bool) -> None:
    with running(HUGE) as world:
        folio = world.system.folios[0]
        folio._flags &= ~PG_swapbacked
        world.system.lazyfree = dict(world.system.shadow)
        if not dirty:
            slot(world)._val = pmd_t(slot(world)._val & ~0x40)
        before = slot(world)._val
        assert (swap_out_folio(folio, force=True) == "") == gone
        assert slot(world)._val == (PMD_NONE if gone else before)
        assert world.mm._pgtables_bytes == (0 if gone else 4096)
        assert counters(world.mm) == ((0, 0) if gone else (8, 0))
        assert bool(folio._flags & PG_swapbacked) == (not gone)
        assert "thp_split_pmd" not in world.system.vm_events
        assert said(world) == []


def test_a_huge_lazyfree_page_with_another_reference_stays() -> None:
    with running(HUGE) as world:
        folio = world.system.folios[0]
        folio._flags &= ~PG_swapbacked
        slot(world)._val = before = pmd_t(slot(world)._val & ~0x40)
        folio_get(folio)
        assert swap_out_folio(folio, force=True) == "mapped"
        folio_put(folio)
        assert slot(world)._val == before
        assert said(world) == []


def test_a_clean_page_in_the_swap_cache_is_not_written() -> None:
    letters = (("C", attrs.evolve(ALPHABET["h"], dirty=False)),)
    with running(make("Caaaaaaa", letters=letters)) as world:
        assert swap_out_folio(folio_of(world, 0), force=True) == ""
        assert world.system.vm_events == {}
        assert slot_of(world, 0).contents == 1
        assert said(world) == []


def test_reclaim_pages_takes_them_in_order_and_counts_pages() -> None:
    with running(make("aapa2222")) as world:
        folios = [folio_of(world, i) for i in (0, 1, 2, 4)]
        assert all(isolate_for_reclaim(folio) for folio in folios)
        assert reclaim_pages(folios) == 6
        drain()
        assert entries(world) == ["swap+", "swap+", "page 2", "page 3", "swap+", "swap+", "swap+", "swap+"]
        offsets = [slot_of(world, i) for i in (0, 1)]
        assert [each.contents for each in offsets] == [1, 2]
        assert sorted(slots_in_use(world.system))[0] == min(slots_in_use(world.system))
        assert folios[2]._flags & PG_lru
        assert said(world) == []


def test_several_ranges() -> None:
    with running(two_ranges("aaaaaaaa33333333")) as world:
        folio = world.system.mem_map[ptes_of(world, 1)[0] >> 12 & 0xFFFFFFFFFF].folio
        assert swap_out_folio(folio, force=True) == ""
        assert counters(world.mm) == (8, 8)
        assert world.system.notifier_windows == [(8 * 4096, 16 * 4096), (-1, -1)]
        assert said(world) == []


def test_zeros_of_a_large_folio_are_written_unless_all_are_zeros() -> None:
    with running(make("2222aaaa")) as world:
        zero(world, world.system.folios[0], 0, 1, 2)
        swap_out_folio(world.system.folios[0], force=True)
        assert world.system.vm_events == {"pswpout": 4}
        assert not slot_of(world, 0).zeromap
        assert said(world) == []
