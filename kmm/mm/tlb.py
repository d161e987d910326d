"""TLBs: what each CPU remembers of the page tables, and how long an instruction may go on using it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kmm.kernel import current
from kmm.kernel.access import ONCE, RELEASE
from kmm.kernel.barrier import smp_call_function
from kmm.kernel.task import Cpu, Translations
from kmm.kernel.wait import smp_cond_load_acquire


def tlb_lookup(ident: int, page: int) -> int | None:
    """The entry that this CPU remembers for a page.

    :param ident: number of the address space
    :param page: its address in bytes
    """
    return current.machine.read(current.cpu, Cpu.tlb, ONCE).get(ident, {}).get(page)


def tlb_fill(ident: int, page: int, entry: int | None) -> None:
    """Remember an entry for a page; ``None``: forget what was remembered."""

    def fill(tlb: Translations) -> Translations:
        mine = tlb.setdefault(ident, {})
        if entry is None:
            mine.pop(page, None)
        else:
            mine[page] = entry
        return tlb

    current.machine.rmw(current.cpu, Cpu.tlb, fill, ONCE)


def flush_everywhere(ident: int, start: int, end: int) -> None:
    """Every CPU forgets [start, end) bytes; return when no instruction uses them any more.

    What an instruction under way has looked up in the tables it may still put into its TLB: so that is looked at again when it is
    over. Where a flush is an interrupt, a CPU also leaves the IRQ-off section that it may be in.
    """

    def forget(tlb: Translations) -> Translations:
        mine = tlb.get(ident)
        if mine:
            for address in [a for a in mine if start <= a < end]:
                del mine[address]
        return tlb

    machine = current.machine
    for cpu in machine.cpus:
        machine.rmw(cpu, Cpu.tlb, forget, ONCE)
    if machine.scheduler is not None:
        wait_for_instructions()
        for cpu in machine.cpus:
            machine.rmw(cpu, Cpu.tlb, forget, ONCE)


def wait_for_instructions() -> None:
    """Return when no CPU uses any more what it looked up in TLB or tables before."""
    machine = current.machine
    if machine.scheduler is None:
        return
    if machine.tlb == "ipi":
        smp_call_function()
    for cpu in machine.cpus:
        if cpu is not current.cpu:
            smp_cond_load_acquire(cpu, Cpu.accessing, _idle)


def _idle(accessing: bool) -> bool:
    return not accessing


@contextmanager
def instruction() -> Iterator[None]:
    """One instruction of a user: its translation and its access are over before a flush that concerns them returns."""
    machine = current.machine
    if machine.scheduler is None:
        yield
        return
    machine.rmw(current.cpu, Cpu.accessing, _yes, ONCE)
    try:
        yield
    finally:
        machine.rmw(current.cpu, Cpu.accessing, _no, RELEASE)


def _yes(_: bool) -> bool:
    return True


def _no(_: bool) -> bool:
    return False
