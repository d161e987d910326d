"""Tasks and CPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from kmm.kernel.access import Field, Shared

if TYPE_CHECKING:
    from kmm.kernel.locks import Lock


Translations: TypeAlias = dict[int, dict[int, int]]
"""Address-space id to (virtual address to page-table entry); a huge entry stands at each page that it maps."""


class Cpu(Shared):
    """One CPU.

    :param number: from 0
    """

    __slots__ = ("_accessing", "_tlb", "number")

    tlb: Field[Translations] = Field()
    accessing: Field[bool] = Field()
    """An instruction of a user is under way."""

    def __init__(self, number: int) -> None:
        self.freed_by = ""
        self.number = number
        self._tlb: Translations = {}
        self._accessing = False

    @property
    def name(self) -> str:
        """How reports call it."""
        return f"CPU {self.number}"


class Task:
    """One thread of control.

    :param name: as in an observation
    :param cpu: where it runs
    :param active_mm: id of the address space that the CPU has loaded
    :param may_block: false for an operation that is given up when it would block
    """

    __slots__ = ("active_mm", "cpu", "held", "irqs_off", "kmaps", "lock_ops", "may_block", "name", "rcu_depth", "speculates")

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
        self.speculates: object = None
        """What the task touches knowing that it may be free: memory of a type that never goes away."""
