"""Batches of folios: one of each kind a CPU, filled by its own CPU, emptied by any (include/linux/pagevec.h, mm/swap.c).

The kernel keeps a batch under a lock of its CPU, and lets a work item there empty it for others. Here adding to a batch and taking all that
is in it are one atomic step each; whoever takes it comes after what the CPU did before, as its work item does.
"""

from __future__ import annotations

from typing import TypeVar

from kmm.kernel import current
from kmm.kernel.access import ACQUIRE, ONCE, RELEASE, Field
from kmm.mm import system
from kmm.mm.percpu import PerCpu

T = TypeVar("T")


def fbatch_add(field: Field[tuple[T, ...]], item: T, *, large: bool) -> tuple[T, ...]:
    """Put something into this CPU's batch.

    :param large: the whole batch is worked off at once
    :returns: what the caller has to work off: all of a batch that is full now, and is empty from now on; else nothing
    """
    machine = current.machine
    limit = 1 if large else machine.lru_batch

    def add(batch: tuple[T, ...]) -> tuple[T, ...]:
        return (*batch, item) if len(batch) + 1 < limit else ()

    batch = machine.rmw(system.this.per_cpu[current.cpu.number], field, add, RELEASE)
    return (*batch, item) if len(batch) + 1 >= limit else ()


def fbatch_take(cpu: PerCpu, field: Field[tuple[T, ...]]) -> tuple[T, ...]:
    """Take all that is in the batch of a CPU."""
    machine = current.machine
    return machine.rmw(cpu, field, _nothing, ACQUIRE) if machine.read(cpu, field, ONCE) else ()


def _nothing(_: tuple[T, ...]) -> tuple[T, ...]:
    return ()
