"""References to an address space (include/linux/sched/mm.h, kernel/fork.c)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.report import kernel_function
from kmm.mm.mm_types import MmStruct


def mmget(mm: MmStruct) -> None:
    """Become one more user of the mappings."""
    current.machine.fetch_add(mm, MmStruct.mm_users, 1)


def mmgrab(mm: MmStruct) -> None:
    """Take a reference that keeps the structure, not the mappings."""
    current.machine.fetch_add(mm, MmStruct.mm_count, 1)


def mmdrop(mm: MmStruct) -> None:
    """Drop a reference of ``mm_count``; the last one frees the structure."""
    left = current.machine.fetch_add(mm, MmStruct.mm_count, -1) - 1
    if left == 0:
        current.machine.free(mm, "mmdrop")
    elif left < 0:
        current.machine.report("REFCOUNT", f"{kernel_function()} drops mm_count of {mm.name} below zero")
