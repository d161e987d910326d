"""Sizes that depend on the run; the names are the kernel's macros."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current

KHUGEPAGED_MIN_MTHP_ORDER: Final = 2


def PAGE_SIZE() -> int:
    """Bytes of a page."""
    return current.machine.page_size


def PTRS_PER_PTE() -> int:
    """Entries of a PTE table."""
    return current.machine.ptes


def HPAGE_PMD_ORDER() -> int:
    """Order of a folio that fills a table."""
    return current.machine.pmd_order


def HPAGE_PMD_NR() -> int:
    """Pages behind one PMD entry."""
    return current.machine.ptes


def HPAGE_PMD_SIZE() -> int:
    """Bytes behind one PMD entry."""
    return current.machine.ptes * current.machine.page_size


def HPAGE_PMD_MASK() -> int:
    """Clears the offset inside a PMD."""
    return -HPAGE_PMD_SIZE()


def THP_ORDERS_ALL_ANON() -> int:
    """Orders that an anonymous THP may have, as a bit mask."""
    return (1 << (HPAGE_PMD_ORDER() + 1)) - 1 - 0b11


def ALIGN_DOWN(value: int, size: int) -> int:
    """``value`` rounded down to a multiple of ``size`` (a power of two)."""
    return value & -size


RECLAIM_DISTANCE: Final = 30


def node_distance(a: int, b: int) -> int:
    """Distance of two NUMA nodes: 10 to itself, 20 between 0 and 1 and between 2 and 3, 40 otherwise."""
    return 10 if a == b else 20 if a // 2 == b // 2 else 40


def BIT(n: int) -> int:
    """``1 << n``."""
    return 1 << n
