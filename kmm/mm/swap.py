"""LRU lists and their per-CPU batches (mm/swap.c, mm/vmscan.c)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.mm import system
from kmm.mm.folio import Folio, PG_lru, folio_clear_flag, folio_get, folio_set_flag, folio_test_large
from kmm.mm.mm_types import VmAreaStruct
from kmm.mm.page_alloc import folio_put


def folio_add_lru(folio: Folio) -> None:
    """Put a folio into this CPU's LRU-add batch. A full batch and a large folio move the whole batch to the lists."""
    batch = system.this.lru_add[current.cpu.number]
    folio_get(folio)
    batch.append(folio)
    if len(batch) >= current.machine.lru_batch or folio_test_large(folio):
        _move_lru(batch)


def folio_add_lru_vma(folio: Folio, vma: VmAreaStruct) -> None:
    """:func:`folio_add_lru` for a folio of ``vma`` (mlocked VMAs are not modelled)."""
    folio_add_lru(folio)


def _move_lru(batch: list[Folio]) -> None:
    folios = batch[:]
    batch.clear()
    for folio in folios:
        folio_set_flag(folio, PG_lru)
    for folio in folios:
        folio_put(folio)


def lru_add_drain() -> None:
    """Move this CPU's batch to the lists."""
    _move_lru(system.this.lru_add[current.cpu.number])


def lru_add_drain_all() -> None:
    """Move every CPU's batch to the lists."""
    for batch in system.this.lru_add:
        _move_lru(batch)


def folio_isolate_lru(folio: Folio) -> bool:
    """Take a folio off its list, with a reference; false when it is on none."""
    if not folio_clear_flag(folio, PG_lru):
        return False
    folio_get(folio)
    return True


def folio_putback_lru(folio: Folio) -> None:
    """Give an isolated folio back, and its reference."""
    folio_add_lru(folio)
    folio_put(folio)
