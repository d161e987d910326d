"""Which orders may be tried, and how many holes a range may have."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import PLAIN
from kmm.mm import system
from kmm.mm.geometry import BIT, HPAGE_PMD_NR, HPAGE_PMD_ORDER, THP_ORDERS_ALL_ANON
from kmm.mm.huge_memory import TVA_FORCED_COLLAPSE, TVA_KHUGEPAGED, thp_vma_allowable_orders
from kmm.mm.mm_types import MMF_DISABLE_THP_COMPLETELY, MmStruct, VmAreaStruct
from kmm.mm.mmap import vma_is_anonymous
from kmm.mm.system import Sysctl


def collapse_test_exit(mm: MmStruct) -> bool:
    """The last user of the address space is gone."""
    return mm.mm_users == 0


def collapse_test_exit_or_disable(mm: MmStruct) -> bool:
    """Gone, or THP was disabled for the process."""
    return collapse_test_exit(mm) or bool(mm.flags & MMF_DISABLE_THP_COMPLETELY)


def collapse_max_ptes_none(order: int, full_scan: bool) -> int:
    """Holes that a range of ``order`` may have, in pages. The tunable is read afresh at each call.

    :param full_scan: no limit but one present page
    :source: mm/khugepaged.c, v12 06/15
    """
    if full_scan:
        return HPAGE_PMD_NR() - 1
    none = current.machine.read(system.this.sysctl, Sysctl.khugepaged_max_ptes_none, PLAIN)
    if order == HPAGE_PMD_ORDER():
        return none
    return min(none, HPAGE_PMD_NR() // 2 - 1) >> (HPAGE_PMD_ORDER() - order)


def collapse_allowable_orders(vma: VmAreaStruct, vm_flags: int, is_khugepaged: bool) -> int:
    """Orders that may be collapsed in the VMA, as a mask: MADV_COLLAPSE has PMD order only.

    :source: mm/khugepaged.c, v12 11/15 and 14/15
    """
    orders = THP_ORDERS_ALL_ANON() if is_khugepaged and vma_is_anonymous(vma) else BIT(HPAGE_PMD_ORDER())
    tva_type = TVA_KHUGEPAGED if is_khugepaged else TVA_FORCED_COLLAPSE
    return thp_vma_allowable_orders(vma, vm_flags, tva_type, orders)
