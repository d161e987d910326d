"""Results, control block and trace names of mm/khugepaged.c at the v12 base."""

from __future__ import annotations

import enum
from typing import Final

from kmm.mm.folio import Folio, folio_pfn

MAX_NUMNODES: Final = 4


class ScanResult(enum.IntEnum):
    """``enum scan_result``, numeric order of the v12 base; behind it what later trees added."""

    SCAN_FAIL = 0
    SCAN_SUCCEED = 1
    SCAN_PMD_NULL = 2
    SCAN_PMD_NONE = 3
    SCAN_PMD_MAPPED = 4
    SCAN_EXCEED_NONE_PTE = 5
    SCAN_EXCEED_SWAP_PTE = 6
    SCAN_EXCEED_SHARED_PTE = 7
    SCAN_PTE_NON_PRESENT = 8
    SCAN_PTE_UFFD_WP = 9
    SCAN_PTE_MAPPED_HUGEPAGE = 10
    SCAN_LACK_REFERENCED_PAGE = 11
    SCAN_PAGE_NULL = 12
    SCAN_SCAN_ABORT = 13
    SCAN_PAGE_COUNT = 14
    SCAN_PAGE_LRU = 15
    SCAN_PAGE_LOCK = 16
    SCAN_PAGE_ANON = 17
    SCAN_PAGE_COMPOUND = 18
    SCAN_ANY_PROCESS = 19
    SCAN_VMA_NULL = 20
    SCAN_VMA_CHECK = 21
    SCAN_ADDRESS_RANGE = 22
    SCAN_DEL_PAGE_LRU = 23
    SCAN_ALLOC_HUGE_PAGE_FAIL = 24
    SCAN_CGROUP_CHARGE_FAIL = 25
    SCAN_TRUNCATED = 26
    SCAN_PAGE_HAS_PRIVATE = 27
    SCAN_STORE_FAILED = 28
    SCAN_COPY_MC = 29
    SCAN_PAGE_FILLED = 30
    SCAN_PAGE_LAZYFREE = 31


SCAN_STATUS: Final = (
    "failed",
    "succeeded",
    "pmd_null",
    "pmd_none",
    "page_pmd_mapped",
    "exceed_none_pte",
    "exceed_swap_pte",
    "exceed_shared_pte",
    "pte_non_present",
    "pte_uffd_wp",
    "pte_mapped_hugepage",
    "lack_referenced_page",
    "page_null",
    "scan_aborted",
    "not_suitable_page_count",
    "page_not_in_lru",
    "page_locked",
    "page_not_anon",
    "page_compound",
    "no_process_for_page",
    "vma_null",
    "vma_check_failed",
    "not_suitable_address_range",
    "could_not_delete_page_from_lru",
    "alloc_huge_page_failed",
    "ccgroup_charge_failed",
    "truncated",
    "page_has_private",
    "store_failed",
    "copy_poisoned_page",
    "page_filled",
    "page_lazyfree",
)
"""Trace strings, by result number."""


def trace_folio(folio: Folio | None) -> Folio | None:
    """What a trace event keeps of a folio: its frame number, which may take an access."""
    if folio is not None:
        folio_pfn(folio)
    return folio


class CollapseControl:
    """``struct collapse_control``: private to one caller.

    :param is_khugepaged: khugepaged's limits apply; otherwise MADV_COLLAPSE

    ``mthp_bitmap`` has a bit for each present page of the scanned table; ``alloc_nmask`` the nodes that may serve.
    """

    __slots__ = ("alloc_nmask", "is_khugepaged", "mthp_bitmap", "mthp_bitmap_stack", "node_load")

    def __init__(self, *, is_khugepaged: bool) -> None:
        self.is_khugepaged = is_khugepaged
        self.node_load = [0] * MAX_NUMNODES
        self.alloc_nmask: set[int] = set()
        self.mthp_bitmap = 0
        self.mthp_bitmap_stack: list[tuple[int, int]] = []
