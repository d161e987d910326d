"""Mlocked folios: their flag, their count, and the per-CPU batches in which both change (mm/mlock.c)."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.mm import system
from kmm.mm.fbatch import fbatch_add, fbatch_take
from kmm.mm.folio import (
    Folio,
    PG_lru,
    PG_mlocked,
    PG_unevictable,
    folio_clear_flag,
    folio_get,
    folio_nr_pages,
    folio_set_flag,
    folio_test_large,
    folio_test_mlocked,
    folio_test_unevictable,
)
from kmm.mm.mm_types import VM_LOCKED, VM_SPECIAL, VmAreaStruct
from kmm.mm.page_alloc import folio_put
from kmm.mm.percpu import PerCpu
from kmm.mm.vmstat import count_vm_events, node_stat_mod_folio

_LRU: Final = "lru"
_NEW: Final = "new"
_MUNLOCK: Final = "munlock"

_mlock_count: Final = Folio.mlock_count


def folio_evictable(folio: Folio) -> bool:
    """Reclaim may take it: nobody has it mlocked."""
    return not folio_test_mlocked(folio)


def mlock_folio(folio: Folio) -> None:
    """Mlock a folio that may be on the LRU."""
    _mark_mlocked(folio)
    _add(folio, _LRU)


def mlock_new_folio(folio: Folio) -> None:
    """Mlock a folio that is on no LRU yet; the batch puts it there."""
    _mark_mlocked(folio)
    _add(folio, _NEW)


def munlock_folio(folio: Folio) -> None:
    """Take one mlock back."""
    _add(folio, _MUNLOCK)


def mlock_vma_folio(folio: Folio, vma: VmAreaStruct) -> None:
    """A small folio was mapped into a VMA: mlock it where the VMA is locked."""
    if vma.vm_flags & (VM_LOCKED | VM_SPECIAL) == VM_LOCKED:
        mlock_folio(folio)


def munlock_vma_folio(folio: Folio, vma: VmAreaStruct) -> None:
    """A folio was unmapped from a VMA: munlock it where the VMA is locked, whatever is still mapped."""
    if vma.vm_flags & VM_LOCKED:
        munlock_folio(folio)


def mlock_drain_local() -> None:
    """Carry out this CPU's batch."""
    _mlock_folio_batch(fbatch_take(system.this.per_cpu[current.cpu.number], PerCpu.mlock_fbatch))


def mlock_drain_all() -> None:
    """Carry out every CPU's batch."""
    for cpu in system.this.per_cpu:
        _mlock_folio_batch(fbatch_take(cpu, PerCpu.mlock_fbatch))


def _mark_mlocked(folio: Folio) -> None:
    if not folio_set_flag(folio, PG_mlocked):
        node_stat_mod_folio(folio, "nr_mlock", folio_nr_pages(folio))
        count_vm_events("unevictable_pgs_mlocked", folio_nr_pages(folio))


def _add(folio: Folio, what: str) -> None:
    """Put a folio into this CPU's batch. A full batch and a large folio carry out the whole batch."""
    folio_get(folio)
    _mlock_folio_batch(fbatch_add(PerCpu.mlock_fbatch, (folio, what), large=folio_test_large(folio)))


def _mlock_folio_batch(folios: tuple[tuple[Folio, str], ...]) -> None:
    each = {_LRU: __mlock_folio, _NEW: __mlock_new_folio, _MUNLOCK: __munlock_folio}
    for folio, what in folios:
        each[what](folio)
    for folio, _ in folios:
        folio_put(folio)


def __mlock_folio(folio: Folio) -> None:
    """Move a folio to the unevictable list, or count one mlock more there."""
    if not folio_clear_flag(folio, PG_lru):
        return
    if folio_evictable(folio):
        if folio_clear_flag(folio, PG_unevictable):
            count_vm_events("unevictable_pgs_rescued", folio_nr_pages(folio))
    elif folio_test_unevictable(folio):
        current.machine.fetch_add(folio, _mlock_count, 1)
    else:
        _make_unevictable(folio)
    folio_set_flag(folio, PG_lru)


def __mlock_new_folio(folio: Folio) -> None:
    """Put a new folio on the unevictable list."""
    if not folio_evictable(folio):
        _make_unevictable(folio)
    folio_set_flag(folio, PG_lru)


def _make_unevictable(folio: Folio) -> None:
    folio_set_flag(folio, PG_unevictable)
    current.machine.rmw(folio, _mlock_count, _one, ONCE)
    count_vm_events("unevictable_pgs_culled", folio_nr_pages(folio))


def __munlock_folio(folio: Folio) -> None:
    """Count one mlock less, and with the last one move the folio back."""
    isolated = folio_clear_flag(folio, PG_lru)
    if not (isolated and folio_test_unevictable(folio) and _still_mlocked(folio)):
        _munlocked(folio, isolated)
    if isolated:
        folio_set_flag(folio, PG_lru)


def _still_mlocked(folio: Folio) -> bool:
    return current.machine.rmw(folio, _mlock_count, _one_less, ONCE) > 1


def _one(_: int) -> int:
    return 1


def _one_less(count: int) -> int:
    return max(count - 1, 0)


def _munlocked(folio: Folio, isolated: bool) -> None:
    nr = folio_nr_pages(folio)
    if folio_clear_flag(folio, PG_mlocked):
        node_stat_mod_folio(folio, "nr_mlock", -nr)
        moved = isolated or not folio_test_unevictable(folio)
        count_vm_events("unevictable_pgs_munlocked" if moved else "unevictable_pgs_stranded", nr)
    if isolated and folio_test_unevictable(folio) and folio_evictable(folio):
        folio_clear_flag(folio, PG_unevictable)
        count_vm_events("unevictable_pgs_rescued", nr)
