"""Steps, trace events and entries in kernel words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from kmm.mm.folio import Folio
from kmm.mm.khugepaged.types import SCAN_STATUS, ScanResult
from kmm.mm.mm_types import MmStruct
from kmm.mm.pte import (
    FLAG_BITS,
    SWP_DEVICE_READ,
    SWP_DEVICE_WRITE,
    SWP_HWPOISON,
    SWP_MIGRATION_READ,
    SWP_MIGRATION_READ_EXCLUSIVE,
    SWP_MIGRATION_WRITE,
    non_swap_entry,
    pte_marker_get,
    pte_swp_exclusive,
    pte_swp_soft_dirty,
    pte_swp_type,
    pte_swp_uffd_wp_any,
    pte_t,
    pte_to_swp_offset,
    swp_entry_pfn,
)

_PRINT: Final = {
    "mm_khugepaged_scan_pmd": "mm={}, scan_pfn={}, referenced={}, none_or_zero={}, status={}, unmapped={}",
    "mm_collapse_huge_page": "mm={}, isolated={}, status={} order={}",
    "mm_collapse_huge_page_isolate": "scan_pfn={}, none_or_zero={}, referenced={}, status={} order={}",
    "mm_collapse_huge_page_swapin": "mm={}, swapped_in={}, referenced={}, ret={}, order={}",
}
"""How each event's fields are printed at v12."""
_PFN_FIELD: Final = {"mm_khugepaged_scan_pmd": 1, "mm_collapse_huge_page_isolate": 0}
_NO_PFN: Final = hex((1 << 64) - 1)
_OBJECT: Final = re.compile(r"<kmm\.[\w.]+\.(\w+) object at 0x[0-9a-f]+>")
_ENTRY: Final = re.compile(r"\.entries\[\d+\](?: =|:) (0x[0-9a-f]+|\d+)$")
_SWP_TYPES: Final = {
    SWP_HWPOISON: "hwpoison entry",
    SWP_MIGRATION_READ: "migration entry to read",
    SWP_MIGRATION_READ_EXCLUSIVE: "migration entry to read, exclusive",
    SWP_MIGRATION_WRITE: "migration entry to write",
    SWP_DEVICE_READ: "device entry to read",
    SWP_DEVICE_WRITE: "device entry to write",
}
_TLB: Final = re.compile(r"(\.tlb(?: =|:)) (\{.*\})$")


def trace_line(name: str, fields: Sequence[object], *, pfns: bool = True) -> str:
    """A trace event as the kernel prints it, without the time and the task.

    :param fields: as emitted, or as observed
    :param pfns: print a folio as its frame number; otherwise as its name
    """
    texts = [_field(name, i, field, pfns) for i, field in enumerate(fields)]
    pattern = _PRINT.get(name)
    if pattern is None or pattern.count("{}") != len(texts):
        return f"{name}: {', '.join(texts)}"
    return f"{name}: {pattern.format(*texts)}"


def _field(event: str, i: int, field: object, pfns: bool) -> str:
    if i == _PFN_FIELD.get(event):
        if isinstance(field, Folio):
            return hex(field.pfn) if pfns else field.label
        return _NO_PFN if field is None else str(field)
    if isinstance(field, MmStruct):
        return field.name
    if isinstance(field, ScanResult):
        return SCAN_STATUS[field]
    if i == 0 and isinstance(field, int):
        return f"mm{field}"
    return str(int(field)) if isinstance(field, bool) else str(field)


def _entries(tlb: str) -> str:
    found = len(re.findall(r"\d+: \d+", tlb))
    return f"{found} translation{'' if found == 1 else 's'}"


def step_text(text: str) -> str:
    """A logged step, free of addresses of this process, with the bits of an entry spelled out."""
    plain = _OBJECT.sub(r"\1", text)
    tlb = _TLB.search(plain)
    if tlb:
        return f"{plain[: tlb.end(1)]} {_entries(tlb[2])}"
    entry = _ENTRY.search(plain)
    return f"{plain} ({entry_words(int(entry[1], 0))})" if entry else plain


def entry_words(value: int) -> str:
    """What a page-table entry holds."""
    pte = pte_t(value)
    if not value:
        return "none"
    if value & 0x101:
        return " ".join([f"pfn {(value >> 12) & 0xFFFFFFFFFF:#x}", *flag_words(value)])
    if non_swap_entry(pte):
        return f"{swp_type_word(pte_swp_type(pte))}, pfn {swp_entry_pfn(pte):#x}" if not pte_marker_get(pte) else "a marker"
    bits = {"exclusive": pte_swp_exclusive(pte), "uffd_wp": pte_swp_uffd_wp_any(pte), "soft_dirty": pte_swp_soft_dirty(pte)}
    return " ".join([f"swap offset {pte_to_swp_offset(pte)}", *(name for name, held in bits.items() if held)])


def swp_type_word(kind: int) -> str:
    """What an entry of a type that is no swap device's stands for."""
    return _SWP_TYPES.get(kind, f"entry of type {kind}")


def flag_words(value: int) -> list[str]:
    """Names of the bits of a present entry that are set."""
    return [name for name, bit in FLAG_BITS.items() if value & bit]
