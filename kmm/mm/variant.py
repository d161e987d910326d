"""The variant under test: one version of the code between the drivers and the callees."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import attrs

from kmm.kernel.ref import Ref
from kmm.mm.khugepaged.types import CollapseControl, ScanResult
from kmm.mm.mm_types import MmStruct, VmAreaStruct

CollapseHugePage: TypeAlias = Callable[[MmStruct, int, int, int, CollapseControl, Ref[bool], int, int], ScanResult]
"""mm, pmd_address, referenced, unmapped, cc, mmap_locked, order, offset (pages)."""
CollapseScanBitmap: TypeAlias = Callable[[MmStruct, int, int, int, CollapseControl, Ref[bool], int], int]
"""mm, address, referenced, unmapped, cc, mmap_locked, enabled_orders; gives collapsed pages."""
CollapseScanPmd: TypeAlias = Callable[[MmStruct, VmAreaStruct, int, Ref[bool], CollapseControl], ScanResult]
"""mm, vma, start_addr, mmap_locked, cc."""
CollapseSinglePmd: TypeAlias = Callable[[int, VmAreaStruct, Ref[bool], CollapseControl], ScanResult]
"""addr, vma, mmap_locked, cc."""
CollapseScanMmSlot: TypeAlias = Callable[[int, Ref[ScanResult], CollapseControl], int]
"""pages, result, cc; gives progress."""
MadviseCollapse: TypeAlias = Callable[[VmAreaStruct, int, int, Ref[bool]], str]
"""vma, start, end, lock_dropped; gives the errno's name."""


@attrs.frozen(kw_only=True)
class Variant:
    """One version of the collapse path; a link that is left out is the one in :mod:`kmm.mm.khugepaged`.

    :param name: as in a verdict
    :param collapse_huge_page: with v12's signature
    """

    name: str
    collapse_huge_page: CollapseHugePage
    collapse_scan_mm_slot: CollapseScanMmSlot | None = None
    madvise_collapse: MadviseCollapse | None = None
    collapse_single_pmd: CollapseSinglePmd | None = None
    collapse_scan_pmd: CollapseScanPmd | None = None
    collapse_scan_bitmap: CollapseScanBitmap | None = None
