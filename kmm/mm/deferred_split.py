"""The deferred-split queue, and the shrinker that works it off (mm/huge_memory.c)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import PLAIN
from kmm.mm import system
from kmm.mm.folio import (
    Folio,
    Page,
    PG_partially_mapped,
    folio_get,
    folio_set_flag,
    folio_test_mlocked,
    folio_test_partially_mapped,
    folio_test_swapcache,
    folio_trylock,
    folio_unlock,
)
from kmm.mm.geometry import HPAGE_PMD_NR, HPAGE_PMD_ORDER
from kmm.mm.system import Sysctl
from kmm.mm.vmstat import count_mthp_stat, count_vm_event, mod_mthp_stat


def deferred_split_folio(folio: Folio, *, partially_mapped: bool) -> None:
    """Queue a folio for splitting under memory pressure.

    :param partially_mapped: some of its pages are not mapped any more
    """
    if folio.order <= 1 or (not partially_mapped and not current.machine.read(system.this.sysctl, Sysctl.shrink_underused, PLAIN)):
        return
    if folio_test_swapcache(folio):
        return
    if partially_mapped and not folio_set_flag(folio, PG_partially_mapped):
        if folio.order == HPAGE_PMD_ORDER():
            count_vm_event("thp_deferred_split_page")
        count_mthp_stat(folio.order, "split_deferred")
        mod_mthp_stat(folio.order, "nr_anon_partially_mapped", 1)
    if folio not in system.this.deferred_split:
        system.this.deferred_split.append(folio)


def folio_unqueue_deferred_split(folio: Folio) -> None:
    """Take a folio that is being freed off the queue."""
    queue = system.this.deferred_split
    if folio.order > 1 and folio in queue:
        queue.remove(folio)
        if folio_test_partially_mapped(folio):
            mod_mthp_stat(folio.order, "nr_anon_partially_mapped", -1)


def deferred_split_scan() -> int:
    """The shrinker: split every queued folio that is partially mapped, or that holds more zeros than khugepaged would fill in. May sleep.

    A partially mapped folio that cannot be split stays in the queue; another one leaves it.

    :returns: number of folios split
    :source: mm/huge_memory.c, v6.18
    """
    queue = system.this.deferred_split
    folios = queue[:]
    queue.clear()
    for folio in folios:
        folio_get(folio)
    return sum(_shrink(folio) for folio in folios)


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
    if not split and folio_test_partially_mapped(folio) and folio not in system.this.deferred_split:
        system.this.deferred_split.append(folio)
    folio_put(folio)
    return split


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
