"""LRU lists and their per-CPU batches (mm/swap.c, mm/vmscan.c)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.mm import system
from kmm.mm.fbatch import fbatch_add, fbatch_take
from kmm.mm.folio import (
    Folio,
    PG_lru,
    PG_mlocked,
    PG_referenced,
    PG_swapbacked,
    PG_unevictable,
    folio_clear_flag,
    folio_get,
    folio_nr_pages,
    folio_set_flag,
    folio_test_anon,
    folio_test_large,
    folio_test_lru,
    folio_test_swapbacked,
    folio_test_swapcache,
    folio_test_unevictable,
)
from kmm.mm.memcontrol import count_memcg_folio_events
from kmm.mm.mlock import mlock_drain_all, mlock_drain_local, mlock_new_folio
from kmm.mm.mm_types import VM_LOCKED, VM_SPECIAL, VmAreaStruct
from kmm.mm.page_alloc import folio_put
from kmm.mm.percpu import PerCpu
from kmm.mm.vmstat import count_vm_events


def folio_add_lru(folio: Folio) -> None:
    """Put a folio into this CPU's LRU-add batch. A full batch and a large folio move the whole batch to the lists."""
    folio_get(folio)
    _move_lru(fbatch_add(PerCpu.lru_add, folio, large=folio_test_large(folio)))


def folio_add_lru_vma(folio: Folio, vma: VmAreaStruct) -> None:
    """:func:`folio_add_lru` for a folio of ``vma``; in a locked one the folio is mlocked."""
    if vma.vm_flags & (VM_LOCKED | VM_SPECIAL) == VM_LOCKED:
        mlock_new_folio(folio)
    else:
        folio_add_lru(folio)


def _move_lru(folios: tuple[Folio, ...]) -> None:
    for folio in folios:
        _lru_add(folio)
    for folio in folios:
        folio_put(folio)


def _lru_add(folio: Folio) -> None:
    """Put a folio on the list where it belongs: mlocked ones go to the unevictable list.

    The LRU flag comes last: whoever clears it has the folio for himself until he sets it again.
    """
    machine = current.machine
    flags = machine.read(folio, Folio.flags, ONCE)
    if flags & PG_mlocked:
        if not folio_set_flag(folio, PG_unevictable):
            count_vm_events("unevictable_pgs_culled", folio_nr_pages(folio))
        machine.rmw(folio, Folio.mlock_count, _none, ONCE)
    elif flags & PG_unevictable:
        folio_clear_flag(folio, PG_unevictable)
        count_vm_events("unevictable_pgs_rescued", folio_nr_pages(folio))
    folio_set_flag(folio, PG_lru)


def _none(_: int) -> int:
    return 0


def folio_mark_lazyfree(folio: Folio) -> None:
    """Put a folio whose contents may be forgotten into this CPU's lazyfree batch. A full batch and a large folio carry it out."""
    if not _may_be_lazyfree(folio) or not folio_test_lru(folio):
        return
    folio_get(folio)
    _move_lazyfree(fbatch_add(PerCpu.lru_lazyfree, folio, large=folio_test_large(folio)))


def _may_be_lazyfree(folio: Folio) -> bool:
    if not folio_test_anon(folio) or not folio_test_swapbacked(folio):
        return False
    return not folio_test_swapcache(folio) and not folio_test_unevictable(folio)


def _move_lazyfree(folios: tuple[Folio, ...]) -> None:
    for folio in folios:
        _lru_lazyfree(folio)
    for folio in folios:
        folio_put(folio)


def _lru_lazyfree(folio: Folio) -> None:
    """The folio is not backed by swap from now on: reclaim may drop it while it is clean."""
    if not folio_clear_flag(folio, PG_lru):
        return
    if _may_be_lazyfree(folio):
        folio_clear_flag(folio, PG_referenced)
        folio_clear_flag(folio, PG_swapbacked)
        count_vm_events("pglazyfree", folio_nr_pages(folio))
        count_memcg_folio_events(folio, "pglazyfree", folio_nr_pages(folio))
    folio_set_flag(folio, PG_lru)


def lru_add_drain() -> None:
    """Move this CPU's batches to the lists, and carry out its mlock batch."""
    _drain(system.this.per_cpu[current.cpu.number])
    mlock_drain_local()


def lru_add_drain_all() -> None:
    """Move every CPU's batches to the lists, and carry out its mlock batch."""
    for cpu in system.this.per_cpu:
        _drain(cpu)
    mlock_drain_all()


def _drain(cpu: PerCpu) -> None:
    _move_lru(fbatch_take(cpu, PerCpu.lru_add))
    _move_lazyfree(fbatch_take(cpu, PerCpu.lru_lazyfree))


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
