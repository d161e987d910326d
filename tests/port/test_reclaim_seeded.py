"""One-line bugs in splitting and reclaim, each caught by a sanitizer, and none speaks about unchanged code."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Final

import attrs
import pytest

from kmm.kernel.report import CHECKS
from kmm.mm import (
    madvise_reclaim,
    migration_ptes,
    pgtable,
    pgtable_generic,
    rmap_large,
    split,
    split_pmd,
    swap,
    swap_alloc,
    swapfile,
    unmap,
    vmscan,
)
from kmm.mm.folio import folio_get
from kmm.mm.madvise_reclaim import madvise_cold_range, madvise_free_single_vma, madvise_pageout_range
from kmm.mm.page_alloc import folio_put
from kmm.mm.pte import FLAG_BITS, pte_t
from kmm.mm.split import split_huge_pmd
from kmm.mm.system import Injected, page_at
from kmm.mm.vmscan import swap_out_folio
from kmm.scenario.build import World
from kmm.scenario.model import Scenario
from kmm.scenario.quiescence import first
from tests.helpers import folio_of, make, running
from tests.port.reclaiming import address, bits, drain, madvise_free_range, ptes, said, slot, zero
from tests.port.reclaiming import split as split_it
from tests.seeded import replace_line
from tests.test_sanitizers import recompiled

HUGE: Final = make("........", pmd="huge")
SMALL: Final = make("aaaaaaaa")
SHARED: Final = make("saaaaaaa")
LARGE: Final = make("33333333")
PART: Final = make("333333..")
LAZY: Final = make("Laaaaaaa")
HALF: Final = make("2222aaaa")
CACHED: Final = make("vaaaaaaa")


def user_writes(world: World, index: int, token: int) -> None:
    """The owner's CPU writes a page: through its TLB if that says dirty, else it sets the entry's bits."""
    tlb = world.system.machine.cpus[1].tlb.setdefault(1, {})
    entry = tlb.get(address(world, index), 0)
    if not entry & FLAG_BITS["dirty"]:
        entry = ptes(world)[index] | FLAG_BITS["dirty"] | FLAG_BITS["young"]
        ptes(world)[index] = pte_t(entry)
        tlb[address(world, index)] = entry
    page_at(entry >> 12 & 0xFFFFFFFFFF)._contents = world.system.shadow[1, index] = token


def swap_all(world: World) -> None:
    """Reclaim every folio, used or not."""
    for folio in [each for each in world.system.folios if not each.freed_by]:
        swap_out_folio(folio, force=True)
    drain()


def swap_notified(world: World) -> None:
    """A secondary MMU is told before and after."""
    swap_out_folio(folio_of(world, 0), force=True)
    assert world.system.notifier_windows == [(0, 4096), (-1, -1)], "the window is missing or stays open"


def swap_a_shared_page(world: World) -> None:
    """No entry of a slot that two refer to may be exclusive."""
    swap_all(world)
    assert all(not pte & 8 for pte in (ptes(world)[0], ptes(world, 2)[0])), "an entry of a shared slot is exclusive"


def split_pmd_(world: World) -> None:
    """Split the huge entry only."""
    split_huge_pmd(world.vma, slot(world), address(world, 0))


def split_folio_(world: World) -> None:
    """Split the first folio."""
    split_it(world.system.folios[0])
    drain()


def split_zeros(world: World) -> None:
    """A locked VMA keeps its pages of zeros; others get the zero page."""
    zero(world, world.system.folios[0], 1)
    split_folio_(world)


def fallback(world: World) -> None:
    """There are no slots for the whole folio."""
    world.system.injected = Injected(swap_slots=frozenset({1}))
    swap_all(world)


def free_write_reclaim(world: World) -> None:
    """MADV_FREE, a write after it, then reclaim."""
    madvise_free_range(world.vma, address(world, 0), address(world, 4))
    drain()
    user_writes(world, 1, 77)
    swap_all(world)


def free_and_reclaim(world: World) -> None:
    """MADV_FREE of a part, then reclaim."""
    madvise_free_range(world.vma, address(world, 0), address(world, 3))
    swap_all(world)


def free_cached(world: World) -> None:
    """MADV_FREE of a page whose data is in the swap cache."""
    madvise_free_range(world.vma, address(world, 0), address(world, 1))


def cold_part(world: World) -> None:
    """MADV_COLD of a part."""
    madvise_cold_range(world.vma, address(world, 2), address(world, 6))
    assert "young" not in bits(world, 2), "the page stays young"


def pageout_part(world: World) -> None:
    """MADV_PAGEOUT of a part."""
    madvise_pageout_range(world.vma, address(world, 2), address(world, 6))
    drain()


def pinned(world: World) -> None:
    """A pinned page is exclusive and stays where it is, whoever asks."""
    folio = folio_of(world, 0)
    folio_get(folio)
    folio._pincount = 1
    before = ptes(world)[0]
    swap_out_folio(folio, force=True)
    drain()
    assert ptes(world)[0] == before, "a pinned page is unmapped"


def swap_twice(world: World) -> None:
    """A page that stayed in the swap cache because it was in use is written again by whoever used it, and swapped out again."""
    folio = folio_of(world, 0)
    folio_get(folio)
    swap_out_folio(folio, force=True)
    drain()
    folio.pages[0]._contents = world.system.shadow[1, 0] = 55
    folio_put(folio)
    swap_out_folio(folio, force=True)


def give_up_one(world: World) -> None:
    """The owner gives one swapped page up."""
    swap_all(world)
    madvise_free_range(world.vma, address(world, 1), address(world, 2))


NOTHING: Final = ""


@attrs.frozen
class Bug:
    """One line changed.

    :param check: the first sanitizer that reports; empty: the action itself fails
    """

    check: str
    where: Callable[..., object]
    old: str
    new: str
    scenario: Scenario
    action: Callable[[World], None]


def private(module: object, name: str) -> Callable[..., object]:
    """A function of a module."""
    found = vars(module)[name]
    assert inspect.isfunction(found)
    return found


BUGS: Final = [
    Bug(NOTHING, unmap.try_to_unmap_one, "mmu_notifier_invalidate_range_start(window)", "pass", SMALL, swap_notified),
    Bug(NOTHING, unmap.try_to_unmap_one, "mmu_notifier_invalidate_range_end(window)", "pass", SMALL, swap_notified),
    Bug("TRANSPARENCY", private(unmap, "_leave_swap_entry"), "swap_duplicate(offset)", "pass", SHARED, swap_all),
    Bug("CONSERVATION", private(unmap, "_leave_swap_entry"), "add_mm_counter(mm, MM_SWAPENTS, 1)", "pass", SMALL, swap_all),
    Bug("CONSERVATION", private(unmap, "_leave_swap_entry"), "add_mm_counter(mm, MM_ANONPAGES, -1)", "pass", SMALL, swap_all),
    Bug("TRANSPARENCY", private(unmap, "_unmap_ptes"), "folio_put_refs(folio, nr)", "folio_put_refs(folio, nr + 1)", SMALL, swap_all),
    Bug(
        "TLB",
        private(unmap, "_unmap_ptes"),
        "flush_tlb_range(vma, address, address + nr * PAGE_SIZE())",
        "pass",
        SMALL,
        swap_all,
    ),
    Bug(
        "TRANSPARENCY",
        private(unmap, "_unmap_ptes"),
        "if any(pte_dirty(each) for each in old):",
        "if False:",
        LAZY,
        swap_all,
    ),
    Bug(
        "TRANSPARENCY",
        private(unmap, "_drop_lazyfree"),
        "if folio_test_dirty(folio) and not vma.vm_flags & VM_DROPPABLE:",
        "if False:",
        SMALL,
        free_write_reclaim,
    ),
    Bug("TRANSPARENCY", madvise_free_single_vma, "if walk.flush:", "if False:", SMALL, free_write_reclaim),
    Bug(
        NOTHING,
        private(unmap, "_leave_swap_entry"),
        "entry = swp_entry_to_pte(offset, exclusive=exclusive, uffd_wp=pte_uffd_wp(pte), soft_dirty=pte_soft_dirty(pte))",
        "entry = swp_entry_to_pte(offset, exclusive=True, uffd_wp=pte_uffd_wp(pte), soft_dirty=pte_soft_dirty(pte))",
        SHARED,
        swap_a_shared_page,
    ),
    Bug(
        NOTHING,
        rmap_large.folio_maybe_dma_pinned,
        "return folio_ref_count(folio) > 0 and current.machine.read(folio, _pincount, ONCE) > 0",
        "return False",
        SMALL,
        pinned,
    ),
    Bug(
        "TRANSPARENCY",
        private(swap_alloc, "swap_writeout"),
        "contents = [current.machine.read(page, _contents, PLAIN) for page in folio.pages]",
        "contents = [current.machine.read(folio.pages[0], _contents, PLAIN) for page in folio.pages]",
        LARGE,
        swap_all,
    ),
    Bug("TRANSPARENCY", private(vmscan, "_add_to_swap"), "folio_set_flag(folio, PG_dirty)", "pass", make("cccccccc"), swap_all),
    Bug("TRANSPARENCY", private(vmscan, "_pageout"), "swap_writeout(folio)", "folio_clear_flag(folio, PG_dirty)", SMALL, swap_twice),
    Bug("KASAN", swapfile.forget_slots, "for i in range(1 << folio.order):", "for i in range(1):", LARGE, give_up_one),
    Bug("REFCOUNT", swapfile.add_to_swap_cache, "folio_ref_add(folio, 1 << folio.order)", "folio_ref_add(folio, 1)", LARGE, swap_all),
    Bug(
        "REFCOUNT",
        private(split_pmd, "_split_present"),
        "folio_ref_add(folio, HPAGE_PMD_NR() - 1)",
        "folio_ref_add(folio, HPAGE_PMD_NR())",
        HUGE,
        split_pmd_,
    ),
    Bug("REFCOUNT", private(split_pmd, "_fill"), "folio_remove_rmap_pmd(unmaps, vma)", "pass", HUGE, split_pmd_),
    Bug("REFCOUNT", rmap_large.folio_add_anon_rmap_ptes, "machine.fetch_add(folio, _folio_mapcount, nr)", "pass", HUGE, split_pmd_),
    Bug("PAGE_TABLE_CHECK", pgtable_generic.pmdp_invalidate, "page_table_check.pmd_clear(old)", "pass", HUGE, split_pmd_),
    Bug(
        "CONSERVATION",
        pgtable.pgtable_trans_huge_withdraw,
        "return current.machine.rmw(pmdp.page, PmdPage.deposited, _without_first, ONCE)[0]",
        "return pmdp.page.deposited[0]",
        HUGE,
        split_pmd_,
    ),
    Bug(
        "PAGE_TABLE_CHECK",
        private(split, "_split_frozen"),
        "folio_ref_unfreeze(tail, _cache_refs(tail) + 1)",
        "folio_ref_unfreeze(tail, _cache_refs(tail))",
        LARGE,
        split_folio_,
    ),
    Bug("REFCOUNT", private(split, "_unmap_and_split"), "folio_put(tail)", "pass", PART, split_folio_),
    Bug("CONSERVATION", private(split, "_tail"), "machine.write(tail, Folio.memcg, folio.memcg, PLAIN)", "pass", LARGE, split_folio_),
    Bug(
        "CONSERVATION",
        private(split, "_unmap_and_split"),
        "remove_migration_ptes(each, each, anon_vma, use_shared_zeropage=True)",
        "pass",
        LARGE,
        split_folio_,
    ),
    Bug(
        "TRANSPARENCY",
        private(split, "_tail"),
        "machine.write(own, Page.contents, machine.read(page, Page.contents, PLAIN), PLAIN)",
        "pass",
        LARGE,
        split_folio_,
    ),
    Bug("LOCKDEP", private(split, "_unmap_and_split"), "folio_unlock(tail)", "pass", LARGE, split_folio_),
    Bug("LOCKDEP", private(split, "_split_mapped"), "anon_vma_unlock_write(anon_vma)", "pass", LARGE, split_folio_),
    Bug(
        "CONSERVATION",
        private(migration_ptes, "_try_to_map_unused_to_zeropage"),
        "add_mm_counter(vma.vm_mm, MM_ANONPAGES, -1)",
        "pass",
        LARGE,
        split_zeros,
    ),
    Bug(
        "TRANSPARENCY",
        private(migration_ptes, "_try_to_map_unused_to_zeropage"),
        "if current.machine.read(page, _contents, PLAIN) != 0:",
        "if current.machine.read(page, _contents, PLAIN) == 0:",
        LARGE,
        split_zeros,
    ),
    Bug(
        "TLB",
        pgtable_generic.ptep_clear_flush,
        "flush_tlb_range(vma, address, address + current.machine.page_size)",
        "pass",
        LARGE,
        split_zeros,
    ),
    Bug("REFCOUNT", private(split, "_lru_add_split_folio"), "folio_get(tail)", "folio_get(tail), folio_get(tail)", HALF, fallback),
    Bug(
        "CONSERVATION",
        private(madvise_reclaim, "_free_nonpresent"),
        "free_swap_and_cache(pte_to_swp_offset(pte))",
        "pass",
        CACHED,
        free_cached,
    ),
    Bug("KASAN", swapfile.filemap_get_folio, "folio_get(folio)", "pass", CACHED, free_cached),
    Bug("REFCOUNT", swap.folio_mark_lazyfree, "folio_get(folio)", "folio_get(folio), folio_get(folio)", SMALL, free_and_reclaim),
    Bug(
        NOTHING,
        private(madvise_reclaim, "_cold_ptes"),
        "if not pageout and sum(ptep_test_and_clear_young(walk.pte + i) for i in range(nr)):",
        "if False:",
        SMALL,
        cold_part,
    ),
    Bug(
        "REFCOUNT",
        private(madvise_reclaim, "_deactivate"),
        "if pageout and isolate_for_reclaim(folio):",
        "if isolate_for_reclaim(folio) and pageout:",
        SMALL,
        cold_part,
    ),
]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: f"{bug.where.__name__}: {bug.old}")
def test_the_bug_is_caught(bug: Bug) -> None:
    with running(bug.scenario) as world:
        bug.action(world)
        assert said(world) == []
    with recompiled(bug.where, lambda source: replace_line(source, bug.old, bug.new)), running(bug.scenario) as world:
        if not bug.check:
            with pytest.raises(AssertionError):
                bug.action(world)
            return
        bug.action(world)
        said(world)
        found = first(world.system.machine.reports, CHECKS)
        assert found is not None
        assert found.check == bug.check
