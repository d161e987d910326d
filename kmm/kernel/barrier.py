"""Barriers and inter-processor interrupts."""

from __future__ import annotations

from collections.abc import Callable

from kmm.kernel import current
from kmm.kernel.report import kernel_function


def smp_wmb() -> None:
    """Order earlier stores before later ones. A sequential run has nothing to order; the log keeps it."""
    recorder = current.machine.recorder
    if recorder is not None:
        recorder.note("smp_wmb")


def smp_call_function() -> None:
    """Interrupt every other CPU and wait until each has answered: allowed under a spinlock, not with interrupts disabled.

    In a sequential run no CPU is inside an IRQ-off section.
    """
    if current.task.irqs_off:
        current.machine.report("LOCKDEP", f"{kernel_function()} sends an IPI with interrupts disabled")
    recorder = current.machine.recorder
    if recorder is not None:
        recorder.note("IPI to every other CPU")


def call_rcu(callback: Callable[[], None]) -> None:
    """Run ``callback`` after a grace period: here, when no task is inside an RCU read section any more."""
    current.machine.rcu_pending.append(callback)


def rcu_grace_period() -> None:
    """Let a grace period end."""
    machine = current.machine
    pending, machine.rcu_pending = machine.rcu_pending, []
    for callback in pending:
        callback()
