"""BUG and WARN. The second argument of each is the C condition: its identity."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.report import kernel_function
from kmm.kernel.stop import Bug


def BUG_ON(condition: bool, text: str) -> None:
    """End the task if ``condition`` holds.

    :raises Bug: with the function and the condition
    """
    if condition:
        where = kernel_function()
        current.machine.report("DEBUG_VM", f"BUG_ON({text}) in {where}")
        raise Bug(f"BUG in {where}: {text}")


def WARN_ON_ONCE(condition: bool, text: str) -> bool:
    """Warn once per function and condition; the value is ``condition``."""
    if condition:
        current.machine.warn(kernel_function(), text)
    return condition


def VM_BUG_ON(condition: bool, text: str) -> None:
    """:func:`BUG_ON` with CONFIG_DEBUG_VM, else nothing."""
    if condition and current.machine.debug_vm:
        BUG_ON(True, text)


def VM_WARN_ON_ONCE(condition: bool, text: str) -> None:
    """:func:`WARN_ON_ONCE` with CONFIG_DEBUG_VM, else nothing."""
    if condition and current.machine.debug_vm:
        current.machine.warn(kernel_function(), text)
