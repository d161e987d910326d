"""A secondary MMU, as a guest's: its tables, and what it does when the primary tables change (virt/kvm/kvm_main.c)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ONCE, PLAIN, Field, Shared
from kmm.kernel.barrier import smp_wmb
from kmm.kernel.locks import SpinLock, lockdep_assert_held, spin_lock, spin_unlock
from kmm.mm.mm_types import MmStruct
from kmm.mm.tlb import wait_for_instructions

SPTE_WRITE: Final = 1 << 1


class SecondaryMmu(Shared):
    """``struct kvm``: the part of it that follows an address space.

    :param ident: of the address space

    ``mmu_lock`` protects everything: ``in_progress``, how many invalidations are under way; ``in_progress_range``, [start, end) bytes
    that cover them; ``invalidate_seq``, how many are over, which a fault reads without the lock; ``sptes``, address to frame and write bit
    as in an entry of the primary tables.
    """

    __slots__ = ("_in_progress", "_in_progress_range", "_invalidate_seq", "_sptes", "ident", "mmu_lock")

    in_progress: Field[int] = Field()
    in_progress_range: Field[tuple[int, int]] = Field()
    invalidate_seq: Field[int] = Field()
    sptes: Field[dict[int, int]] = Field()

    def __init__(self, ident: int) -> None:
        self.freed_by = ""
        self.ident = ident
        self.mmu_lock = SpinLock("mmu_lock", f"mmu_lock of mm{ident}")
        self._in_progress = 0
        self._in_progress_range = (0, 0)
        self._invalidate_seq = 0
        self._sptes: dict[int, int] = {}

    @property
    def name(self) -> str:
        """By its address space."""
        return f"secondary MMU of mm{self.ident}"


def mmu_notifier_register(mm: MmStruct) -> None:
    """Give an address space a secondary MMU, if it has none: before any task uses it.

    :source: mm/mmu_notifier.c, v6.18
    """
    if mm.secondary is None:
        mm.secondary = SecondaryMmu(mm.ident)
        mm.has_notifiers = True


def kvm_mmu_notifier_invalidate_range_start(kvm: SecondaryMmu, mm: MmStruct, start: int, end: int) -> None:
    """Forget [start, end) bytes; until the end of the invalidation nothing there may be mapped again. May sleep.

    :source: virt/kvm/kvm_main.c, v6.18
    """
    machine = current.machine
    spin_lock(kvm.mmu_lock)
    under_way = kvm.in_progress
    machine.write(kvm, SecondaryMmu.in_progress, under_way + 1, ONCE)
    first, upto = kvm.in_progress_range
    covers = (min(first, start), max(upto, end)) if under_way else (start, end)
    machine.write(kvm, SecondaryMmu.in_progress_range, covers, PLAIN)
    kvm_unmap_gfn_range(kvm, mm, lambda address: start <= address < end)
    spin_unlock(kvm.mmu_lock)


def kvm_mmu_notifier_invalidate_range_end(kvm: SecondaryMmu) -> None:
    """One invalidation is over: who has looked at the primary tables before must look again.

    :source: virt/kvm/kvm_main.c, v6.18
    """
    machine = current.machine
    spin_lock(kvm.mmu_lock)
    machine.write(kvm, SecondaryMmu.invalidate_seq, kvm.invalidate_seq + 1, ONCE)
    smp_wmb()
    machine.write(kvm, SecondaryMmu.in_progress, kvm.in_progress - 1, ONCE)
    spin_unlock(kvm.mmu_lock)


def mmu_invalidate_retry_gfn(kvm: SecondaryMmu, address: int, seq: int) -> bool:
    """What was found in the primary tables at an address may be wrong by now.

    :param seq: ``invalidate_seq`` from before the look
    :source: include/linux/kvm_host.h, v6.18
    """
    lockdep_assert_held(kvm.mmu_lock)
    start, end = kvm.in_progress_range
    return (kvm.in_progress > 0 and start <= address < end) or kvm.invalidate_seq != seq


def kvm_unmap_gfn_range(kvm: SecondaryMmu, mm: MmStruct, gone: Callable[[int], bool]) -> None:
    """Drop translations, and flush: nobody who runs on this MMU uses them any more. Under ``mmu_lock``.

    :source: arch/x86/kvm/mmu/mmu.c, v6.18
    """
    lockdep_assert_held(kvm.mmu_lock)
    sptes = kvm.sptes
    dropped = frozenset(address for address in sptes if gone(address))
    if not dropped:
        return
    left = {address: spte for address, spte in sptes.items() if address not in dropped}
    current.machine.write(kvm, SecondaryMmu.sptes, left, ONCE)
    wait_for_instructions()
    current.machine.rmw(mm, MmStruct.secondary_young, lambda young: young - dropped, ONCE)


def kvm_mmu_notifier_release(mm: MmStruct) -> None:
    """The address space ends: everything goes.

    :source: virt/kvm/kvm_main.c, v6.18
    """
    kvm = mm.secondary
    if kvm is not None:
        spin_lock(kvm.mmu_lock)
        kvm_unmap_gfn_range(kvm, mm, lambda _: True)
        spin_unlock(kvm.mmu_lock)
