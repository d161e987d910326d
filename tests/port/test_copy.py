"""Reference 5.5: ``__collapse_huge_page_copy`` and its two halves."""

from __future__ import annotations

from unittest import mock

import pytest

from kmm.mm.folio import PG_lru, PG_partially_mapped
from kmm.mm.khugepaged import copy
from kmm.mm.ksm import ksm_might_unmap_zero_page
from kmm.mm.mm_types import MmStruct
from kmm.mm.pgtable import PtePtr, clear_ptes
from kmm.mm.pte import pte_mkdirty
from kmm.mm.rmap import page_number
from kmm.mm.swap import folio_putback_lru
from kmm.scenario.build import World
from kmm.scenario.model import Failure
from kmm.scenario.quiescence import slots_in_use
from kmm.scenario.run import run
from refactors import v12
from tests.helpers import MADVISE, direct, folio_of, go, is_huge, make, mapped, reports, running, table, traces

HUGE = "new@1:0"


def contents(pages: str) -> list[int]:
    """What the new folio holds: page i was filled with i + 1, holes read as zero."""
    return [0 if c in ".z" else i + 1 for i, c in enumerate(pages)]


@pytest.mark.parametrize("pages", ["aaaaaaaa", "a.z.a.za", "2222s.hw", "33333333", "z......a"])
def test_every_page_is_copied_and_every_hole_cleared(pages: str) -> None:
    r = go(make(pages, direct(3)))
    assert reports(r) == []
    assert [page._contents for folio in r.world.system.folios if folio.label == HUGE for page in folio.pages] == contents(pages)


@pytest.mark.parametrize(("order", "offset"), [(2, 0), (2, 4), (2, 8), (3, 8)])
def test_a_smaller_range_leaves_the_others_alone(order: int, offset: int) -> None:
    pages = "a" * 16
    r = go(make(pages, direct(order, offset), orders=(order,)))
    inside = range(offset, offset + (1 << order))
    assert mapped(r) == [f"new@1:{offset}" if i in inside else f"page {i}" for i in range(16)]
    assert [page._contents for page in folio_of(r, offset).pages] == [i + 1 for i in inside]
    assert reports(r) == []


@pytest.mark.parametrize("poisoned", range(8))
@pytest.mark.parametrize("pages", ["aaaaaaaa", "2222aaaa", "33333333", "hsaaaaaa"])
def test_poison_stops_the_copy_and_puts_everything_back(pages: str, poisoned: int) -> None:
    r = go(make(pages, direct(3), failures=(Failure(kind="poison", page=poisoned),)))
    before = go(make(pages, direct(3), failures=(Failure(kind="alloc"),)))
    assert r.result == "SCAN_COPY_MC"
    assert mapped(r) == mapped(before)
    assert reports(r) == []
    assert r.world.system.poison_queued == [folio_of(r, poisoned).pages[poisoned & ((1 << folio_of(r, poisoned).order) - 1)].name]
    assert r.world.mm._rss_stat == before.world.mm._rss_stat


def test_nothing_behind_the_first_poisoned_page_is_read() -> None:
    r = go(make("aaaaaaaa", direct(3), failures=(Failure(kind="poison", page=2), Failure(kind="poison", page=5))))
    assert r.result == "SCAN_COPY_MC"
    assert r.world.system.poison_queued == [folio_of(r, 2).pages[0].name]


@pytest.mark.parametrize(("order", "offset"), [(2, 4), (3, 0)])
def test_each_entry_is_cleared_at_its_own_address(order: int, offset: int) -> None:
    """A batch of a large folio is cleared at once; holes are passed over; the zero page is cleared alone."""
    pages = "2222az.a" if order == 3 else "aaaaaaza"
    cleared: list[tuple[int, int, int]] = []

    def note(mm: MmStruct, addr: int, ptep: PtePtr, nr: int) -> None:
        cleared.append((page_number(addr), ptep.index, nr))
        clear_ptes(mm, addr, ptep, nr)

    def note_one(mm: MmStruct, addr: int, ptep: PtePtr) -> None:
        note(mm, addr, ptep, 1)

    with mock.patch.object(copy, "clear_ptes", note), mock.patch.object(copy, "pte_clear", note_one):
        r = go(make(pages, direct(order, offset), orders=(2, 3)))
    assert r.result == "SCAN_SUCCEED"
    expected = {3: [(0, 4), (4, 1), (5, 1), (7, 1)], 2: [(4, 1), (5, 1), (6, 1), (7, 1)]}[order]
    assert cleared == [(at, at, nr) for at, nr in expected]


def test_large_sources_go_back_to_the_lru_in_the_order_of_their_pages() -> None:
    with mock.patch.object(copy, "folio_putback_lru", wraps=folio_putback_lru) as putback:
        r = go(make("22222222", direct(3)))
    assert r.result == "SCAN_SUCCEED"
    assert [call.args[0].label for call in putback.call_args_list] == ["page 0", "page 4"]


def test_a_poisoned_hole_is_not_read() -> None:
    assert is_huge(go(make("aaa.aaaa", direct(3), failures=(Failure(kind="poison", page=3),))))


def test_the_table_is_back_before_the_sources_are_released() -> None:
    r = run(make("aaaaaaaa", direct(3), failures=(Failure(kind="poison", page=7),)), v12.VARIANT, record=True)
    recorder = r.world.system.machine.recorder
    assert recorder is not None
    steps = [step.text for step in recorder.steps]
    failed = next(i for i, step in enumerate(steps) if step.startswith("trace mm_collapse_huge_page_isolate"))
    back = next(i for i, step in enumerate(steps) if i > failed and step.startswith("pmd.val"))
    released = next(i for i, step in enumerate(steps) if i > failed and ".flags" in step)
    assert back < released


@pytest.mark.parametrize(("pages", "grown"), [("aaaaaaaa", 0), ("aaaa....", 4), ("aazz....", 6), ("aaaawwww", 4), ("aa.zwwww", 6)])
def test_fact_12_anonymous_pages_grow_by_what_was_filled(pages: str, grown: int) -> None:
    r = go(make(pages, direct(3, is_khugepaged=False)))
    present = sum(c == "a" for c in pages)
    assert r.world.mm._rss_stat == [present + grown, 0]
    assert r.world.mm._pgtables_bytes == 4096


def test_zero_pages_leave_the_table() -> None:
    r = go(make("zzzzaaaa", direct(3)))
    (page,) = r.world.mm._pmds
    assert page is not None
    (deposited,) = page._deposited
    assert not any(deposited._entries)


def test_a_zero_page_of_ksm_is_counted_out() -> None:
    def ksm(world: World) -> None:
        entries = table(world)._entries
        entries[0] = pte_mkdirty(entries[0])
        world.system.node_stat["ksm_zero_pages"] = 1
        world.mm._ksm_zero_pages = 1

    after = go(make("zzaaaaaa", direct(3)), poke=ksm).world
    assert (after.system.node_stat["ksm_zero_pages"], after.mm._ksm_zero_pages) == (0, 0)
    with running(make("zaaaaaaa")) as world:
        ksm_might_unmap_zero_page(world.mm, table(world)._entries[0])
        assert "ksm_zero_pages" not in world.system.node_stat
        assert world.mm._ksm_zero_pages == 0


def test_a_new_huge_folio_is_queued_whole() -> None:
    r = go(make("3" * 8 + "a" * 8, direct(4)))
    assert is_huge(r)
    assert [f.label for f in r.world.system.deferred_split._split_queue] == [HUGE], "the source is gone"


def test_mappings_of_others_keep_a_source() -> None:
    shared = go(make("SSSS" + "a" * 4, direct(3), shared=4))
    assert is_huge(shared)
    source = next(f for f in shared.world.system.folios if f.label == "page 0")
    assert (source._mapcount, source._refcount) == (4, 4)
    assert source._flags & PG_lru
    assert not source._flags & PG_partially_mapped


def test_partially_mapped_source() -> None:
    """The source maps half of its pages into the range and the sibling keeps two pages of the other half."""

    def drop(world: World) -> None:
        entries = world.system.mms[1]._pmds[0]
        assert entries is not None
        folio = folio_of(world, 0)
        sibling = world.system.tables[entries.slot._val >> 12 & 0xFFFFFFFFFF]
        for i in (2, 3):
            sibling._entries[i] = type(sibling._entries[i])(0)
            folio.pages[i]._mapcount -= 1
            folio.pages[i].ptc_count -= 1
            world.system.shadow[2, i] = 0
        folio._mapcount -= 2
        folio._refcount -= 2
        folio._mm_ids[3] -= 2
        world.system.mms[1]._rss_stat[0] -= 2

    r = go(make("SSSSaaaa", direct(3), shared=4), poke=drop)
    source = next(f for f in r.world.system.folios if f.label == "page 0")
    assert reports(r) == []
    assert source._flags & PG_partially_mapped
    assert source in r.world.system.deferred_split._split_queue
    stats = r.world.system.mthp_stats
    assert (stats[2, "split_deferred"], stats[2, "nr_anon_partially_mapped"]) == (1, 1)
    assert "thp_deferred_split_page" not in r.world.system.vm_events, "counted at PMD order only"


def test_swap_cache_of_a_source_is_freed() -> None:
    r = go(make("hhhhhhhh", direct(3)))
    assert slots_in_use(r.world.system) == {}
    assert [f.label for f in r.world.system.folios if not f.freed_by] == [HUGE]


def test_a_shared_swap_slot_survives() -> None:
    r = go(make("yaaaaaaa", MADVISE))
    assert is_huge(r)
    assert {offset: slot._count for offset, slot in slots_in_use(r.world.system).items()} == {1: 1}
    assert reports(r) == []


def test_small_sources_are_freed_when_the_new_folio_drains_the_batch() -> None:
    r = go(make("aaaaaaaa", direct(3)))
    assert all(f.freed_by for f in r.world.system.folios if f.label != HUGE)
    assert all(cpu._lru_add == () for cpu in r.world.system.per_cpu)
    assert r.world.system.mms[0].memcg._usage == 8


def test_siblings_keep_their_data() -> None:
    r = go(make("stsatsaa", MADVISE))
    assert is_huge(r)
    assert reports(r) == []
    for ident, indexes in ((2, (0, 1, 2, 4, 5)), (3, (1, 4))):
        assert [r.world.system.shadow[ident, i] for i in indexes] == [i + 1 for i in indexes]


def test_batches_of_a_large_source_end_with_the_range() -> None:
    r = go(make("2222" + "2222" + "a" * 8, direct(3), orders=(3,)))
    assert mapped(r)[:8] == ["new@1:0"] * 8
    assert reports(r) == []


def test_status_of_the_attempt() -> None:
    r = go(make("aaaaaaaa", direct(3), failures=(Failure(kind="poison", page=0),)))
    assert traces(r, "mm_collapse_huge_page") == [(r.world.mm, False, 29, 3)]
