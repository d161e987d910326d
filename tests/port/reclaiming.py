"""What the tests of splitting and reclaim share."""

from __future__ import annotations

import attrs

from kmm.kernel.locks import at_quiescence
from kmm.mm.folio import Folio, folio_get, folio_trylock, folio_unlock
from kmm.mm.madvise_reclaim import madvise_free_single_vma
from kmm.mm.mm_types import MmStruct, VmAreaStruct
from kmm.mm.mmu_gather import MmuGather, tlb_finish_mmu
from kmm.mm.page_alloc import folio_put
from kmm.mm.pgtable import PmdSlot, PtePage
from kmm.mm.pte import FLAG_BITS, is_migration_entry, pte_none, pte_pfn, pte_present, pte_swp_exclusive, pte_t, pte_to_swp_offset
from kmm.mm.split import split_folio
from kmm.mm.swap import lru_add_drain_all
from kmm.mm.system import SwapSlot
from kmm.scenario.build import World
from kmm.scenario.model import Driver, DriverKind, Scenario, Vma
from kmm.scenario.quiescence import check_quiescence, slots_in_use, table_of
from kmm.scenario.step import Step
from tests.helpers import make


def said(world: World) -> list[str]:
    """What the sanitizers say about the system at rest."""
    at_quiescence(world.task)
    check_quiescence(world)
    return [f"{report.check}: {report.text}" for report in world.system.machine.reports]


def madvise_free_range(vma: VmAreaStruct, start: int, end: int) -> str:
    """MADV_FREE of a part of one VMA, with the flush."""
    tlb = MmuGather(vma.vm_mm)
    error = madvise_free_single_vma(tlb, vma, start, end)
    tlb_finish_mmu(tlb)
    return error


def slot(world: World, ident: int = 1, number: int = 0) -> PmdSlot:
    """A PMD slot of an address space."""
    page = world.system.mms[ident - 1]._pmds[number]
    assert page is not None
    return page.slot


def entries(world: World, ident: int = 1) -> list[str]:
    """What the entries of an address space's table hold.

    ``.``, a small folio's label, a page of a large one, ``zero``, ``swap``, ``swap+`` (exclusive) or ``migration``.
    """
    return [_entry(world, pte) for pte in ptes(world, ident)]


def ptes(world: World, ident: int = 1) -> list[pte_t]:
    """The entries of an address space's table."""
    table = table_of(world.system, world.system.mms[ident - 1], 0)
    assert isinstance(table, PtePage)
    return table._entries


def _entry(world: World, pte: pte_t) -> str:
    if pte_none(pte):
        return "."
    if pte_present(pte):
        page = world.system.mem_map.get(pte_pfn(pte))
        return "zero" if page is None else page.name if page.folio.order else page.folio.label
    if is_migration_entry(pte):
        return "migration"
    return "swap+" if pte_swp_exclusive(pte) else "swap"


def bits(world: World, index: int, ident: int = 1) -> set[str]:
    """Names of the bits of a present entry."""
    return {name for name, bit in FLAG_BITS.items() if ptes(world, ident)[index] & bit}


def slot_of(world: World, index: int, ident: int = 1) -> SwapSlot:
    """The swap slot that an entry refers to."""
    return slots_in_use(world.system)[pte_to_swp_offset(ptes(world, ident)[index])]


def split(folio: Folio) -> str:
    """Split a folio as its callers do: with a reference, and locked."""
    folio_get(folio)
    assert folio_trylock(folio)
    errno = split_folio(folio)
    folio_unlock(folio)
    folio_put(folio)
    return errno


def drain() -> None:
    """Nothing is in a batch any more."""
    lru_add_drain_all()


def enqueue(world: World, folio: Folio) -> None:
    """It is in the deferred-split queue."""
    queue = world.system.deferred_split
    queue._split_queue, folio._deferred_list = (*queue._split_queue, folio), True


def address(world: World, index: int) -> int:
    """First byte of a page."""
    return world.system.base + index * world.system.machine.page_size


def counters(mm: MmStruct) -> tuple[int, int]:
    """Anonymous pages and swap entries."""
    return mm._rss_stat[0], mm._rss_stat[1]


def zero(world: World, folio: Folio, *pages: int) -> None:
    """Some pages of a folio, mapped from page 0 on, hold zeros."""
    for i in pages:
        folio.pages[i]._contents = 0
        for mm in world.system.mms:
            world.system.shadow[mm.ident, folio._index + i] = 0


def two_ranges(pages: str) -> Scenario:
    """A VMA over two PMD ranges of eight pages each."""
    base = make("aaaaaaaa")
    return attrs.evolve(
        base,
        geometry=attrs.evolve(base.geometry, ranges=2),
        vmas=(Vma(pages=pages, flags=("read", "write")),),
        driver=Driver(kind=DriverKind.STEPS),
        steps=(Step(op="shrink"),),
    )


def ptes_of(world: World, number: int) -> list[pte_t]:
    """The entries of the first address space's table of a range."""
    table = table_of(world.system, world.mm, number)
    assert isinstance(table, PtePage)
    return table._entries
