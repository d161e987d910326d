"""Reference 5.6: what the callees do to state."""

from __future__ import annotations

from unittest import mock

import pytest

from kmm.kernel.locks import spin_unlock
from kmm.mm import swap
from kmm.mm.deferred_split import deferred_split_folio
from kmm.mm.folio import (
    PageAnonExclusive,
    PG_lru,
    PG_swapbacked,
    PG_swapcache,
    __folio_mark_uptodate,
    folio_expected_ref_count,
    folio_maybe_mapped_shared,
)
from kmm.mm.huge_memory import map_anon_folio_pmd_nopf
from kmm.mm.mm_types import VM_DROPPABLE
from kmm.mm.page_alloc import folio_put, new_folio
from kmm.mm.pgtable import (
    PmdSlot,
    PtePtr,
    clear_ptes,
    mm_inc_nr_ptes,
    pgtable_trans_huge_deposit,
    pmd_install,
    pmd_lock,
    pmd_pgtable,
    pmd_populate,
    pmdp_collapse_flush,
    pmdp_get,
    pte_offset_map_lock,
    pte_offset_map_ro_nolock,
    pte_unmap,
    pte_unmap_unlock,
    set_ptes,
    tlb_remove_table_sync_one,
    update_mmu_cache_range,
)
from kmm.mm.pte import FLAG_BITS, KERNPG_TABLE, PMD_NONE, pfn_pmd, pmd_mkhuge, pte_pfn
from kmm.mm.rmap import folio_add_new_anon_rmap, folio_remove_rmap_ptes
from kmm.mm.swap import folio_isolate_lru, folio_putback_lru, lru_add_drain, lru_add_drain_all
from kmm.mm.swapfile import free_swap_cache
from kmm.scenario.build import World
from kmm.scenario.model import Config
from kmm.scenario.quiescence import slots_in_use
from tests.helpers import folio_of, make, running, table


def slot(world: World) -> PmdSlot:
    """The owner's PMD slot."""
    page = world.mm._pmds[0]
    assert page is not None
    return page.slot


def said(world: World) -> list[str]:
    """What the sanitizers said so far."""
    return [f"{report.check}: {report.text}" for report in world.system.machine.reports]


FULL = make("a" * 8)


def test_pmdp_collapse_flush() -> None:
    with running(FULL) as world:
        before = pmdp_get(slot(world))
        assert pmdp_collapse_flush(world.vma, world.system.base, slot(world)) == before
        assert pmdp_get(slot(world)) == PMD_NONE
        base = world.system.base
        assert world.system.machine.tlb_flushes == [(base, base + 8 * 4096)]
        assert not any(cpu._tlb.get(1) for cpu in world.system.machine.cpus)


@pytest.mark.parametrize(("shift", "huge"), [(1, False), (0, True)])
def test_pmdp_collapse_flush_bugs(shift: int, huge: bool) -> None:
    with running(FULL) as world:
        if huge:
            slot(world)._val = pmd_mkhuge(slot(world)._val)
        with pytest.raises(BaseException, match="BUG in pmdp_collapse_flush"):
            pmdp_collapse_flush(world.vma, world.system.base + shift * 4096, slot(world))


def test_tlb_remove_table_sync_one_is_an_ipi_and_no_grace_period() -> None:
    with running(FULL) as world:
        lock = pmd_lock(world.mm, slot(world))
        world.system.machine.rcu_pending.append(lambda: pytest.fail("a grace period ended"))
        tlb_remove_table_sync_one()
        spin_unlock(lock)
        assert said(world) == []
        world.task.irqs_off = True
        tlb_remove_table_sync_one()
        assert said(world) == ["LOCKDEP: tlb_remove_table_sync_one sends an IPI with interrupts disabled"]


def test_mapping_a_table_opens_a_read_section() -> None:
    with running(FULL) as world:
        pte, _ = pte_offset_map_ro_nolock(world.mm, slot(world), world.system.base + 3 * 4096)
        assert pte is not None
        assert (pte.index, world.task.rcu_depth, world.task.held) == (3, 1, [])
        pte_unmap(pte)
        pte, ptl = pte_offset_map_lock(world.mm, slot(world), world.system.base)
        assert pte is not None
        assert (world.task.rcu_depth, world.task.held) == (1, [(ptl, "write")])
        pte_unmap_unlock(pte, ptl)
        assert (world.task.rcu_depth, world.task.held) == (0, [])


@pytest.mark.parametrize("value", [PMD_NONE, 1 << 9, int(pmd_mkhuge(pfn_pmd(1, KERNPG_TABLE)))])
def test_no_table_maps_to_null(value: int) -> None:
    with running(FULL) as world:
        slot(world)._val = type(PMD_NONE)(value)
        assert pte_offset_map_ro_nolock(world.mm, slot(world), world.system.base)[0] is None
        assert pte_offset_map_lock(world.mm, slot(world), world.system.base)[0] is None
        assert (world.task.rcu_depth, world.task.held, said(world)) == (0, [], [])


def test_a_bad_pmd_is_reported_and_cleared() -> None:
    with running(FULL) as world:
        slot(world)._val = type(slot(world)._val)(0x21)
        assert pte_offset_map_ro_nolock(world.mm, slot(world), world.system.base)[0] is None
        assert pmdp_get(slot(world)) == PMD_NONE
        assert said(world) == ["DEBUG_VM: bad pmd 0x21"]


def test_pte_offset_map_lock_through_a_local_copy() -> None:
    with running(FULL) as world:
        copy = PmdSlot(pmdp_collapse_flush(world.vma, world.system.base, slot(world)))
        pte, ptl = pte_offset_map_lock(world.mm, copy, world.system.base)
        assert pte is not None
        assert pte.table is pmd_pgtable(pmdp_get(copy))
        pte_unmap_unlock(pte, ptl)


def test_deposit() -> None:
    with running(make("." * 8)) as world:
        found = table(world)
        lock = pmd_lock(world.mm, slot(world))
        pgtable_trans_huge_deposit(world.mm, slot(world), found)
        spin_unlock(lock)
        page = world.mm._pmds[0]
        assert page is not None
        assert page._deposited == (found,)
        assert (world.mm._pgtables_bytes, said(world)) == (4096, [])
        pgtable_trans_huge_deposit(world.mm, slot(world), found)
        assert said(world) == ["LOCKDEP: pgtable_trans_huge_deposit runs without pmd_lock held for any"]
    with running(FULL) as world:
        lock = pmd_lock(world.mm, slot(world))
        pgtable_trans_huge_deposit(world.mm, slot(world), table(world))
        spin_unlock(lock)
        assert said(world) == ["DEBUG_VM: pgtable_trans_huge_deposit: table1 is not empty"]


@pytest.mark.parametrize("split", [True, False])
def test_locks_are_split_or_one(split: bool) -> None:
    with running(make("a" * 8, config=Config(split_ptlocks=split))) as world:
        lock = pmd_lock(world.mm, slot(world))
        spin_unlock(lock)
        pte, ptl = pte_offset_map_lock(world.mm, slot(world), world.system.base)
        assert pte is not None
        pte_unmap_unlock(pte, ptl)
        assert (lock is ptl) == (not split)
        assert (ptl is world.mm.page_table_lock) == (not split)


def test_populate_accounts_nothing_and_install_does() -> None:
    with running(make("." * 8)) as world:
        found = table(world)
        slot(world)._val = PMD_NONE
        pmd_populate(world.mm, slot(world), found)
        assert (slot(world)._val, world.mm._pgtables_bytes) == (pfn_pmd(found.pfn, KERNPG_TABLE), 4096)
        assert pmd_install(world.mm, slot(world), found) is found, "there is one already: the caller keeps its own"
        slot(world)._val = PMD_NONE
        assert pmd_install(world.mm, slot(world), found) is None
        assert world.mm._pgtables_bytes == 2 * 4096
        mm_inc_nr_ptes(world.mm)
        assert world.mm._pgtables_bytes == 3 * 4096


@pytest.mark.parametrize("flags", [("read", "write"), ("read",)])
@pytest.mark.parametrize("underused", [True, False])
def test_map_anon_folio_pmd_nopf(flags: tuple[str, ...], underused: bool) -> None:
    with running(make("." * 8, flags=flags)) as world:
        this = world.system
        this.sysctl._shrink_underused = underused
        folio = new_folio("new", 3, 0)
        anon = list(world.mm._rss_stat)
        map_anon_folio_pmd_nopf(folio, slot(world), world.vma, this.base)
        value = slot(world)._val
        bits = {name for name in ("present", "write", "dirty", "young") if value & FLAG_BITS[name]}
        assert bits == {"present", "dirty", "young"} | ({"write"} if "write" in flags else set())
        assert pmd_mkhuge(value) == value
        assert (folio._refcount, folio._mapcount, folio._entire_mapcount) == (1, 1, 1)
        assert [PageAnonExclusive(page) for page in folio.pages] == [True] + [False] * 7
        assert folio._flags & PG_lru
        assert world.mm._rss_stat == anon, "the caller's"
        assert this.vm_events == {}
        assert list(this.deferred_split._split_queue) == ([folio] if underused else [])
        assert (this.node_stat["nr_anon_mapped"], this.node_stat["nr_anon_thps"], this.mthp_stats) == (8, 1, {(3, "nr_anon"): 1})


@pytest.mark.parametrize(("order", "queued"), [(0, False), (2, True)])
def test_deferred_split(order: int, queued: bool) -> None:
    with running(FULL) as world:
        folio = new_folio("folio", order, 0)
        deferred_split_folio(folio, partially_mapped=True)
        deferred_split_folio(folio, partially_mapped=True)
        assert list(world.system.deferred_split._split_queue) == [folio] * queued
        expected = {(2, "split_deferred"): 1, (2, "nr_anon_partially_mapped"): 1} if queued else {}
        assert world.system.mthp_stats == expected
        folio_put(folio)
        assert list(world.system.deferred_split._split_queue) == []
        assert world.system.mthp_stats.get((2, "nr_anon_partially_mapped"), 0) == 0


def test_deferred_split_of_the_swap_cache_and_at_pmd_order() -> None:
    with running(FULL) as world:
        cached = new_folio("cached", 2, 0)
        cached._flags |= PG_swapcache
        deferred_split_folio(cached, partially_mapped=True)
        assert list(world.system.deferred_split._split_queue) == []
        deferred_split_folio(new_folio("huge", 3, 0), partially_mapped=True)
        assert world.system.vm_events == {"thp_deferred_split_page": 1}


@pytest.mark.parametrize(("order", "mapcount", "entire", "exclusive"), [(0, 1, 0, 1), (2, 4, 0, 4), (3, 1, 1, 1)])
def test_new_anon_rmap(order: int, mapcount: int, entire: int, exclusive: int) -> None:
    with running(make("." * 8)) as world:
        folio = new_folio("new", order, 0)
        folio_add_new_anon_rmap(folio, world.vma, world.system.base + (4096 << 2) * (order < 3), exclusive=True)
        assert (folio._mapcount, folio._entire_mapcount, folio._mapping) == (mapcount, entire, world.vma._anon_vma)
        assert [page._mapcount for page in folio.pages] == [int(order == 2)] * (1 << order)
        assert sum(PageAnonExclusive(page) for page in folio.pages) == exclusive
        assert folio._index == (4 if order < 3 else 0)
        assert folio._flags & PG_swapbacked
        assert world.system.node_stat["nr_anon_mapped"] == 1 << order
        assert world.system.node_stat.get("nr_anon_thps", 0) == (order == 3)
        assert not folio_maybe_mapped_shared(folio)


def test_new_anon_rmap_special_cases() -> None:
    with running(make("." * 8)) as world:
        world.vma._vm_flags |= VM_DROPPABLE
        folio = new_folio("new", 2, 0)
        folio_add_new_anon_rmap(folio, world.vma, world.system.base, exclusive=False)
        assert not folio._flags & PG_swapbacked, "it stays lazyfree"
        assert not any(PageAnonExclusive(page) for page in folio.pages)
        assert said(world) == ["DEBUG_VM: WARNING in folio_add_new_anon_rmap: !exclusive && !folio_test_locked(folio)"]
        with pytest.raises(BaseException, match="BUG in folio_add_new_anon_rmap: address outside the vma"):
            folio_add_new_anon_rmap(new_folio("new", 2, 0), world.vma, world.system.base + 6 * 4096, exclusive=True)


def test_remove_rmap() -> None:
    with running(make("2222a...")) as world:
        folio, anon = folio_of(world, 0), list(world.mm._rss_stat)
        folio_remove_rmap_ptes(folio, folio.pages[1], 2, world.vma)
        assert ([page._mapcount for page in folio.pages], folio._mapcount, folio._refcount) == ([1, 0, 0, 1], 2, 4)
        assert (world.system.node_stat["nr_anon_mapped"], world.mm._rss_stat) == (3, anon)
        assert list(world.system.deferred_split._split_queue) == [folio]
        small = folio_of(world, 4)
        folio_remove_rmap_ptes(small, small.pages[0], 1, world.vma)
        assert (small._mapcount, world.system.node_stat["nr_anon_mapped"]) == (0, 2)


def test_mapped_shared() -> None:
    with running(make("as..SSSS")) as world:
        assert [folio_maybe_mapped_shared(folio_of(world, i)) for i in (0, 1, 4)] == [False, True, True]
        large = folio_of(world, 4)
        assert folio_expected_ref_count(large) == large._refcount == 8


def test_lru_batch() -> None:
    with running(make("." * 8, lru_batch=3)) as world:
        batch = list(world.system.per_cpu[0]._lru_add)
        folios = [new_folio(f"f{i}", 0, 0) for i in range(3)]
        swap.folio_add_lru(folios[0])
        swap.folio_add_lru(folios[1])
        assert [(f._refcount, bool(f._flags & PG_lru)) for f in folios[:2]] == [(2, False)] * 2
        swap.folio_add_lru(folios[2])
        assert [(f._refcount, bool(f._flags & PG_lru)) for f in folios] == [(1, True)] * 3, "the last entry drains it"
        assert batch == []


def test_a_large_folio_drains_the_batch() -> None:
    with running(make("." * 8)) as world:
        small, large = new_folio("small", 0, 0), new_folio("large", 2, 0)
        swap.folio_add_lru_vma(small, world.vma)
        swap.folio_add_lru_vma(large, world.vma)
        assert [(f._refcount, bool(f._flags & PG_lru)) for f in (small, large)] == [(1, True)] * 2


def test_a_folio_whose_last_reference_is_the_batch_s_is_freed_by_the_drain() -> None:
    with running(make("." * 8)) as world:
        folio = new_folio("folio", 0, 0)
        swap.folio_add_lru(folio)
        folio_put(folio)
        assert folio._refcount == 1
        world.system.per_cpu[1]._lru_add = (new_folio("other", 0, 0),)
        lru_add_drain()
        assert folio.freed_by
        assert len(world.system.per_cpu[1]._lru_add) == 1, "this CPU only"
        lru_add_drain_all()
        assert [cpu._lru_add for cpu in world.system.per_cpu] == [(), ()]


def test_isolate_and_put_back() -> None:
    with running(FULL) as world:
        folio = folio_of(world, 0)
        assert folio_isolate_lru(folio)
        assert (folio._refcount, folio._flags & PG_lru) == (2, 0)
        assert not folio_isolate_lru(folio)
        folio_putback_lru(folio)
        assert (folio._refcount, list(world.system.per_cpu[0]._lru_add)) == (2, [folio])


def test_free_swap_cache() -> None:
    with running(make("hh......")) as world:
        mapped, locked = folio_of(world, 0), folio_of(world, 1)
        free_swap_cache(mapped)
        assert mapped._flags & PG_swapcache, "still mapped"
        locked._mapcount = 0
        locked._flags |= 1
        free_swap_cache(locked)
        assert locked._flags & PG_swapcache, "the lock cannot be had"
        locked._flags &= ~1
        free_swap_cache(locked)
        assert not locked._flags & PG_swapcache
        assert sorted(slots_in_use(world.system)) == [1]


def test_set_ptes() -> None:
    with running(make("." * 8)) as world:
        folio = new_folio("new", 2, 0)
        entries = table(world)._entries
        set_ptes(world.mm, world.system.base, PtePtr(table(world), 4), type(entries[0])(folio.pfn << 12 | 1), 4)
        assert [pte_pfn(pte) for pte in entries] == [0] * 4 + [folio.pfn + i for i in range(4)]
        assert [page.ptc_count for page in folio.pages] == [1] * 4
        assert (folio._refcount, folio._mapcount) == (1, 0)


def test_entries_are_cleared_under_the_lock_of_their_table() -> None:
    with running(FULL) as world:
        lock = pmd_lock(world.mm, slot(world))
        clear_ptes(world.mm, world.system.base, PtePtr(table(world), 0), 2)
        spin_unlock(lock)
        assert said(world) == ["LOCKDEP: clear_ptes runs without pte_lock held for any"]


@pytest.mark.parametrize(
    ("arch", "active", "detached", "broken"),
    [("walking", 1, True, True), ("walking", 0, True, False), ("walking", 1, False, False), ("x86", 1, True, False)],
)
def test_update_mmu_cache_range(arch: str, active: int, detached: bool, broken: bool) -> None:
    """A-01: only when the CPU has the target's address space loaded."""
    with running(make("a" * 8, config=Config(arch=arch))) as world:
        ptep = PtePtr(table(world), 0)
        world.task.active_mm = active
        if detached:
            slot(world)._val = PMD_NONE
        update_mmu_cache_range(None, world.vma, world.system.base, ptep, 4)
        assert bool(said(world)) == broken


def test_mark_uptodate_orders_the_copy_first() -> None:
    with running(FULL), mock.patch("kmm.mm.folio.smp_wmb") as barrier:
        folio = new_folio("new", 2, 0)
        __folio_mark_uptodate(folio)
        assert barrier.call_count == 1
        assert folio._flags & 4


def test_put_below_zero() -> None:
    with running(FULL) as world:
        folio = new_folio("new", 0, 0)
        folio_put(folio)
        assert folio.freed_by
        folio_put(folio)
        assert [text.split(":")[0] for text in said(world)] == ["KASAN", "REFCOUNT"]
