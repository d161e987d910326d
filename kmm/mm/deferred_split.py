"""The deferred-split queue, and the shrinker that works it off (mm/huge_memory.c)."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ONCE, PLAIN
from kmm.kernel.locks import lockdep_assert_held, spin_lock, spin_unlock
from kmm.mm import system
from kmm.mm.folio import (
    Folio,
    Page,
    PG_partially_mapped,
    folio_clear_flag,
    folio_set_flag,
    folio_test_mlocked,
    folio_test_partially_mapped,
    folio_test_swapcache,
    folio_try_get,
    folio_trylock,
    folio_unlock,
)
from kmm.mm.geometry import HPAGE_PMD_NR, HPAGE_PMD_ORDER
from kmm.mm.system import DeferredSplit, Sysctl
from kmm.mm.vmstat import count_mthp_stat, count_vm_event, mod_mthp_stat

_deferred_list: Final = Folio.deferred_list


def deferred_split_folio(folio: Folio, *, partially_mapped: bool) -> None:
    """Queue a folio for splitting under memory pressure.

    :param partially_mapped: some of its pages are not mapped any more
    """
    if folio.order <= 1 or (not partially_mapped and not current.machine.read(system.this.sysctl, Sysctl.shrink_underused, PLAIN)):
        return
    if folio_test_swapcache(folio):
        return
    queue = system.this.deferred_split
    spin_lock(queue.split_queue_lock)
    if partially_mapped and not folio_set_flag(folio, PG_partially_mapped):
        if folio.order == HPAGE_PMD_ORDER():
            count_vm_event("thp_deferred_split_page")
        count_mthp_stat(folio.order, "split_deferred")
        mod_mthp_stat(folio.order, "nr_anon_partially_mapped", 1)
    if not current.machine.read(folio, _deferred_list, ONCE):
        current.machine.write(folio, _deferred_list, True, ONCE)
        _set_queue((*queue.split_queue, folio))
    spin_unlock(queue.split_queue_lock)


def folio_unqueue_deferred_split(folio: Folio) -> None:
    """Take a folio that is being freed off the queue. Nobody can put it there any more, so that one that is not there needs no lock."""
    if folio.order <= 1 or not current.machine.read(folio, _deferred_list, ONCE):
        return
    lock = system.this.deferred_split.split_queue_lock
    spin_lock(lock)
    unqueue_locked(folio)
    spin_unlock(lock)


def unqueue_locked(folio: Folio) -> None:
    """Take a folio off the list that it may be on: the queue, or what the shrinker has taken from it. Under ``split_queue_lock``."""
    queue = system.this.deferred_split
    lockdep_assert_held(queue.split_queue_lock)
    if not current.machine.read(folio, _deferred_list, ONCE):
        return
    if folio_clear_flag(folio, PG_partially_mapped):
        mod_mthp_stat(folio.order, "nr_anon_partially_mapped", -1)
    _set_queue(tuple([each for each in queue.split_queue if each is not folio]))
    current.machine.write(folio, _deferred_list, False, ONCE)


def _set_queue(folios: tuple[Folio, ...]) -> None:
    current.machine.write(system.this.deferred_split, DeferredSplit.split_queue, folios, PLAIN)


def deferred_split_scan() -> int:
    """The shrinker: split every queued folio that is partially mapped, or that holds more zeros than khugepaged would fill in. May sleep.

    A partially mapped folio that cannot be split goes back to the queue; another one leaves it.

    :returns: number of folios split
    :source: mm/huge_memory.c, v6.18
    """
    lock = system.this.deferred_split.split_queue_lock
    spin_lock(lock)
    folios = _take_queue()
    spin_unlock(lock)
    return sum(_shrink(folio) for folio in folios)


def _take_queue() -> list[Folio]:
    """The queued folios, with a reference each; one that somebody frees meanwhile is only taken off."""
    queued = system.this.deferred_split.split_queue
    taken = []
    for folio in queued:
        if folio_try_get(folio):
            taken.append(folio)
        else:
            unqueue_locked(folio)
    _set_queue(())
    return taken


def _shrink(folio: Folio) -> bool:
    from kmm.mm.page_alloc import folio_put
    from kmm.mm.split import split_folio

    split = False
    partially_mapped = folio_test_partially_mapped(folio)
    if (partially_mapped or (not folio_test_mlocked(folio) and thp_underused(folio))) and folio_trylock(folio):
        split = not split_folio(folio)
        if split and not partially_mapped:
            count_vm_event("thp_underused_split_page")
        folio_unlock(folio)
    if not split:
        _requeue(folio)
    folio_put(folio)
    return split


def _requeue(folio: Folio) -> None:
    """What was not split: back into the queue, or off the list."""
    queue = system.this.deferred_split
    spin_lock(queue.split_queue_lock)
    queued = queue.split_queue
    if not folio_test_partially_mapped(folio):
        current.machine.write(folio, _deferred_list, False, ONCE)
    elif folio not in queued and current.machine.read(folio, _deferred_list, ONCE):
        _set_queue((*queued, folio))
    spin_unlock(queue.split_queue_lock)


def thp_underused(folio: Folio) -> bool:
    """More of its pages are all zeros than khugepaged would fill in; with the default limit none is."""
    read = current.machine.read
    max_ptes_none = read(system.this.sysctl, Sysctl.khugepaged_max_ptes_none, PLAIN)
    if max_ptes_none == HPAGE_PMD_NR() - 1:
        return False
    zero = filled = 0
    for page in folio.pages:
        if read(page, Page.contents, PLAIN) == 0:
            zero += 1
            if zero > max_ptes_none:
                return True
        else:
            filled += 1
            if filled >= HPAGE_PMD_NR() - max_ptes_none:
                return False
    return False
