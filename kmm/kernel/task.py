"""Tasks and CPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kmm.kernel.locks import Lock


class Cpu:
    """One CPU: its TLB and its pending work.

    :param number: from 0
    """

    __slots__ = ("number", "tlb")

    def __init__(self, number: int) -> None:
        self.number = number
        self.tlb: dict[int, dict[int, int]] = {}
        """Address-space id to (virtual address to page-table entry); a huge entry stands at each page that it maps."""


class Task:
    """One thread of control.

    :param name: as in an observation
    :param cpu: where it runs
    :param active_mm: id of the address space that the CPU has loaded
    :param may_block: false for an operation that is given up when it would block
    """

    __slots__ = ("active_mm", "cpu", "held", "irqs_off", "kmaps", "lock_ops", "may_block", "name", "rcu_depth")

    def __init__(self, name: str, cpu: Cpu, active_mm: int, *, may_block: bool = True) -> None:
        self.name = name
        self.cpu = cpu
        self.active_mm = active_mm
        self.may_block = may_block
        self.held: list[tuple[Lock, str]] = []
        self.rcu_depth = 0
        self.irqs_off = False
        self.kmaps: list[object] = []
        self.lock_ops: list[tuple[str, str]] = []
