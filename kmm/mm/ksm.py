"""Kernel same-page merging: merged pages and the zero pages that KSM places (mm/ksm.c, include/linux/ksm.h)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.mm.mm_types import MmStruct
from kmm.mm.pte import ZERO_PFN, pte_dirty, pte_pfn, pte_present, pte_t
from kmm.mm.vmstat import node_stat_mod


def is_ksm_zero_pte(pte: pte_t) -> bool:
    """A zero page that KSM placed: it has the dirty bit, which no other zero page has."""
    return pte_present(pte) and pte_pfn(pte) == ZERO_PFN and pte_dirty(pte)


def ksm_might_unmap_zero_page(mm: MmStruct, pte: pte_t) -> None:
    """A zero page goes; if KSM placed it, both counters know."""
    if is_ksm_zero_pte(pte):
        node_stat_mod("ksm_zero_pages", -1)
        current.machine.fetch_add(mm, MmStruct.ksm_zero_pages, -1)


def ksm_map_zero_page(mm: MmStruct) -> None:
    """KSM places a zero page."""
    node_stat_mod("ksm_zero_pages", 1)
    current.machine.fetch_add(mm, MmStruct.ksm_zero_pages, 1)
