"""The deferred-split queue (mm/huge_memory.c)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import PLAIN
from kmm.mm import system
from kmm.mm.folio import Folio, PG_partially_mapped, folio_set_flag, folio_test_partially_mapped, folio_test_swapcache
from kmm.mm.geometry import HPAGE_PMD_ORDER
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
