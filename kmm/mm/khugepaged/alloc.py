"""The folio that a collapse fills."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import PLAIN
from kmm.kernel.ref import NULL
from kmm.mm import system
from kmm.mm.folio import Folio
from kmm.mm.geometry import HPAGE_PMD_ORDER, RECLAIM_DISTANCE, node_distance
from kmm.mm.khugepaged.types import MAX_NUMNODES, CollapseControl, ScanResult
from kmm.mm.memcontrol import count_memcg_folio_events, mem_cgroup_charge
from kmm.mm.mm_types import MmStruct
from kmm.mm.page_alloc import __folio_alloc, folio_put
from kmm.mm.system import Sysctl
from kmm.mm.vmstat import count_mthp_stat, count_vm_event

GFP_TRANSHUGE: Final = "GFP_TRANSHUGE"
GFP_TRANSHUGE_LIGHT: Final = "GFP_TRANSHUGE_LIGHT"


def collapse_scan_abort(nid: int, cc: CollapseControl) -> bool:
    """With node reclaim: the page's node is too far from one that has pages already."""
    if not current.machine.read(system.this.sysctl, Sysctl.node_reclaim_mode, PLAIN):
        return False
    if cc.node_load[nid]:
        return False
    return any(cc.node_load[i] and node_distance(nid, i) > RECLAIM_DISTANCE for i in range(MAX_NUMNODES))


def collapse_find_target_node(cc: CollapseControl) -> int:
    """First node with the highest load; all nodes that tie are added to ``alloc_nmask``."""
    most = max(cc.node_load)
    target = cc.node_load.index(most)
    cc.alloc_nmask.update(nid for nid in range(MAX_NUMNODES) if cc.node_load[nid] == most)
    return target


def alloc_hugepage_khugepaged_gfpmask() -> str:
    """Flags of khugepaged's allocations."""
    return GFP_TRANSHUGE if current.machine.read(system.this.sysctl, Sysctl.defrag, PLAIN) else GFP_TRANSHUGE_LIGHT


def alloc_charge_folio(mm: MmStruct, cc: CollapseControl, order: int) -> tuple[ScanResult, Folio]:
    """Allocate and charge a folio of ``order``. May sleep.

    :returns: the result, and the folio when it is SUCCEED
    :source: mm/khugepaged.c, v12 04/15
    """
    gfp = alloc_hugepage_khugepaged_gfpmask() if cc.is_khugepaged else GFP_TRANSHUGE
    node = collapse_find_target_node(cc)
    folio = __folio_alloc(gfp, order, node, frozenset(cc.alloc_nmask))
    if folio is None:
        if order == HPAGE_PMD_ORDER():
            count_vm_event("thp_collapse_alloc_failed")
        count_mthp_stat(order, "collapse_alloc_failed")
        return ScanResult.SCAN_ALLOC_HUGE_PAGE_FAIL, NULL(Folio)
    if order == HPAGE_PMD_ORDER():
        count_vm_event("thp_collapse_alloc")
    count_mthp_stat(order, "collapse_alloc")
    if not mem_cgroup_charge(folio, mm):
        folio_put(folio)
        return ScanResult.SCAN_CGROUP_CHARGE_FAIL, NULL(Folio)
    count_memcg_folio_events(folio, "thp_collapse_alloc", 1)
    return ScanResult.SCAN_SUCCEED, folio
