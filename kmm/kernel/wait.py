"""Waiting until a field of a shared object has a wanted value."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from kmm.kernel import current
from kmm.kernel.access import ACQUIRE, ONCE, Field, Order, Shared
from kmm.kernel.report import kernel_function
from kmm.kernel.stop import Deadlock, WouldBlock

T = TypeVar("T")


def smp_cond_load_acquire(obj: Shared, field: Field[T], condition: Callable[[T], bool]) -> T:
    """Wait until ``condition`` holds of the field; the value is what was seen then.

    :raises Deadlock: when it never will
    """
    return _wait(obj, field, condition, None, ACQUIRE)


def wait_and_set(obj: Shared, field: Field[T], condition: Callable[[T], bool], fn: Callable[[T], T], order: Order = ONCE) -> T:
    """Wait until ``condition`` holds of the field and in the same step replace it by ``fn`` of it: a bit lock that sleeps.

    The value is the old one.

    :raises Deadlock: when it never will
    """
    return _wait(obj, field, condition, fn, order)


def _wait(obj: Shared, field: Field[T], condition: Callable[[T], bool], fn: Callable[[T], T] | None, order: Order) -> T:
    machine = current.machine
    if machine.scheduler is not None:
        return machine.scheduler.wait(obj, field, condition, fn, order)
    value = machine.read(obj, field, order)
    if not condition(value):
        if not current.task.may_block:
            raise WouldBlock(f"{obj.name}.{field.name} is not there yet")
        raise Deadlock(f"DEADLOCK: {kernel_function()} waits for {obj.name}.{field.name}")
    return value if fn is None else machine.rmw(obj, field, fn, order)
