"""Secondary MMUs: invalidate windows and young bits (mm/mmu_notifier.c)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.kernel.locks import might_sleep
from kmm.mm import system
from kmm.mm.mm_types import MmStruct
from kmm.mm.secondary_mmu import (
    kvm_mmu_notifier_invalidate_range_end,
    kvm_mmu_notifier_invalidate_range_start,
    kvm_mmu_notifier_release,
)


class MmuNotifierRange:
    """``struct mmu_notifier_range``: [start, end) bytes."""

    __slots__ = ("end", "mm", "start")

    def __init__(self, mm: MmStruct, start: int, end: int) -> None:
        self.mm = mm
        self.start = start
        self.end = end


def mmu_notifier_invalidate_range_start(window: MmuNotifierRange) -> None:
    """Secondary MMUs drop the range and refill it only after the end. May sleep."""
    might_sleep()
    base = system.this.base
    system.this.notifier_windows.append((window.start - base, window.end - base))
    system.recorder_note("mmu notifier start")
    kvm = window.mm.secondary
    if kvm is not None:
        kvm_mmu_notifier_invalidate_range_start(kvm, window.mm, window.start, window.end)


def mmu_notifier_invalidate_range_end(window: MmuNotifierRange) -> None:
    """End of the window."""
    system.this.notifier_windows.append((-1, -1))
    system.recorder_note("mmu notifier end")
    kvm = window.mm.secondary
    if kvm is not None:
        kvm_mmu_notifier_invalidate_range_end(kvm)


def mmu_notifier_release(mm: MmStruct) -> None:
    """The address space ends."""
    kvm_mmu_notifier_release(mm)


def mmu_notifier_clear_young(mm: MmStruct, start: int, end: int) -> bool:
    """Did a secondary MMU access [start, end) bytes since the last look? It forgets that it did."""
    if not mm.has_notifiers:
        return False

    def without(young: frozenset[int]) -> frozenset[int]:
        return frozenset([address for address in young if not start <= address < end])

    young = current.machine.rmw(mm, MmStruct.secondary_young, without, ONCE)
    return any(start <= address < end for address in young)


def mmu_notifier_test_young(mm: MmStruct, address: int) -> bool:
    """A secondary MMU has accessed the page."""
    return mm.has_notifiers and address in current.machine.read(mm, MmStruct.secondary_young, ONCE)
