"""What keeps an address space alive while a task works on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from kmm.kernel import current
from kmm.kernel.access import PLAIN
from kmm.kernel.locks import spin_lock, spin_unlock
from kmm.mm.exit import mmput
from kmm.mm.khugepaged.mm_slot import KhugepagedScan
from kmm.mm.khugepaged.scan_mm_slot import collect_mm_slot
from kmm.mm.mm_types import MmStruct
from kmm.mm.sched_mm import mmdrop
from kmm.mm.system import System

Holder: TypeAlias = Callable[[System, MmStruct], Callable[[], None]]
"""Takes hold of an address space before the tasks start; the value lets go of it, in the task."""


def as_thread(this: System, mm: MmStruct) -> Callable[[], None]:
    """A thread of the process uses the mappings: they stay while it runs."""
    mm._mm_users += 1
    return lambda: mmput(mm)


def as_khugepaged(this: System, mm: MmStruct) -> Callable[[], None]:
    """khugepaged has its cursor there: the structure stays, the mappings may end; who ends them waits for its locks."""
    scan = this.khugepaged_scan
    slot = scan._mm_slots_hash.get(mm.ident)
    if slot is None:
        mm._mm_count += 1
        return lambda: mmdrop(mm)
    scan._mm_slot = slot

    def leave() -> None:
        spin_lock(this.khugepaged_mm_lock)
        current.machine.write(scan, KhugepagedScan.mm_slot, None, PLAIN)
        collect_mm_slot(slot)
        spin_unlock(this.khugepaged_mm_lock)

    return leave


def as_nobody(this: System, mm: MmStruct) -> Callable[[], None]:
    """The kernel keeps nothing for this task."""
    return lambda: None
