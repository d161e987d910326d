"""Barriers and inter-processor interrupts."""

from __future__ import annotations

from collections.abc import Callable

from kmm.kernel import current
from kmm.kernel.locks import might_sleep
from kmm.kernel.report import kernel_function


def smp_wmb() -> None:
    """Order earlier stores before later ones. A sequential run has nothing to order; the log keeps it."""
    machine = current.machine
    if machine.recorder is not None:
        machine.recorder.note("smp_wmb")
    if machine.scheduler is not None:
        machine.scheduler.write_barrier()


def smp_mb() -> None:
    """Order earlier accesses before later ones."""
    machine = current.machine
    if machine.recorder is not None:
        machine.recorder.note("smp_mb")
    if machine.scheduler is not None:
        machine.scheduler.barrier()


def smp_rmb() -> None:
    """Order earlier loads before later ones: no model here moves a load, so that only the log keeps it."""
    recorder = current.machine.recorder
    if recorder is not None:
        recorder.note("smp_rmb")


def smp_call_function() -> None:
    """Interrupt every other CPU and wait until each has answered: allowed under a spinlock, not with interrupts disabled.

    In a sequential run no CPU is inside an IRQ-off section.
    """
    if current.task.irqs_off:
        current.machine.report("LOCKDEP", f"{kernel_function()} sends an IPI with interrupts disabled")
    machine = current.machine
    if machine.recorder is not None:
        machine.recorder.note("IPI to every other CPU")
    if machine.scheduler is not None:
        machine.scheduler.interrupt_others()


def call_rcu(callback: Callable[[], None]) -> None:
    """Run ``callback`` after a grace period: in a sequential run, when no task is inside an RCU read section any more."""
    machine = current.machine
    if machine.scheduler is not None:
        machine.scheduler.call_rcu(callback)
    else:
        machine.rcu_pending.append(callback)


def synchronize_rcu() -> None:
    """Wait for a grace period: for the read sections that are open now. Sleeps."""
    might_sleep()
    scheduler = current.machine.scheduler
    if scheduler is not None:
        scheduler.synchronize_rcu()


def rcu_grace_period() -> None:
    """Let a grace period end."""
    machine = current.machine
    pending, machine.rcu_pending = machine.rcu_pending, []
    for callback in pending:
        callback()
