"""Interrupts of the running CPU."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.report import kernel_function


def local_irq_save() -> bool:
    """Disable interrupts; the value is for :func:`local_irq_restore`.

    :returns: ``unsigned long flags``: whether they were disabled before
    """
    task = current.task
    was_off = task.irqs_off
    if not was_off:
        _toggle(off=True)
    return was_off


def local_irq_restore(flags: bool) -> None:
    """Put interrupts back to what ``flags`` says. Enabling them lets pending ones in.

    :param flags: ``unsigned long``
    """
    task = current.task
    if not task.irqs_off:
        current.machine.report("LOCKDEP", f"{kernel_function()} restores interrupts that are not disabled")
    elif not flags:
        _toggle(off=False)


def local_irq_disable() -> None:
    """Disable interrupts."""
    if not current.task.irqs_off:
        _toggle(off=True)


def local_irq_enable() -> None:
    """Enable interrupts."""
    if current.task.irqs_off:
        _toggle(off=False)


def _toggle(*, off: bool) -> None:
    task, scheduler = current.task, current.machine.scheduler
    if scheduler is not None:
        scheduler.irqs_toggled()
    task.irqs_off = off
