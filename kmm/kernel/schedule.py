"""What locks, barriers, interrupts and RCU ask of whoever decides which task runs next. A sequential machine has nobody to ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from kmm.kernel.access import Field, Order, Shared
    from kmm.kernel.locks import Lock

T = TypeVar("T")


class Scheduler(Protocol):
    """One run of several tasks: each method returns when the running task may go on, with the operation done."""

    def acquire(self, lock: Lock, mode: str) -> None:
        """Wait until ``lock`` can be had for ``mode``, and take it."""

    def trylock(self, lock: Lock, mode: str) -> bool:
        """Take ``lock`` for ``mode`` if it can be had now."""

    def release(self, lock: Lock, mode: str) -> None:
        """Give ``lock`` up."""

    def downgrade(self, lock: Lock) -> None:
        """Hold ``lock`` for reading that was held for writing."""

    def wait(self, obj: Shared, field: Field[T], condition: Callable[[T], bool], fn: Callable[[T], T] | None, order: Order) -> T:
        """Wait until ``condition`` holds of one field, and in the same step replace it by ``fn`` of it; the value is the old one."""

    def write_barrier(self) -> None:
        """Keep earlier stores before later ones."""

    def barrier(self) -> None:
        """Keep earlier accesses before later ones."""

    def irqs_toggled(self) -> None:
        """The running task is about to disable or enable its CPU's interrupts."""

    def rcu_toggled(self) -> None:
        """The running task is about to enter or leave its outermost RCU read section."""

    def interrupt_others(self) -> None:
        """Interrupt every other CPU and wait until each has answered."""

    def call_rcu(self, callback: Callable[[], None]) -> None:
        """Run ``callback`` as a task of its own after a grace period."""

    def synchronize_rcu(self) -> None:
        """Wait for a grace period."""
