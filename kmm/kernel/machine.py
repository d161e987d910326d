"""The Machine: the world of one run, and the only hand that touches shared state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from kmm.kernel import current
from kmm.kernel.access import ONCE, Field, Order, Shared
from kmm.kernel.record import Recorder
from kmm.kernel.report import Report, kernel_function
from kmm.kernel.schedule import Scheduler
from kmm.kernel.stop import Hang
from kmm.kernel.task import Cpu, Task

T = TypeVar("T")

CPUS = 2


class Machine:
    """One run's hardware and what it reports.

    :param page_size: bytes
    :param ptes: entries of a PTE table
    :param lru_batch: folios in a per-CPU LRU batch
    :param debug_vm: CONFIG_DEBUG_VM
    :param split_ptlocks: one lock a table
    :param tlb: ``broadcast`` or ``ipi``
    :param arch: ``x86`` or ``walking``
    :param highpte: page tables are mapped before they are touched, and unmapped after
    :param pt_reclaim: MADV_DONTNEED of a whole table frees it
    :param vmemmap: frame numbers are address arithmetic; otherwise sparse memory is of the classic kind
    :param budget: accesses that a task may make before it counts as hanging
    """

    __slots__ = (
        "arch",
        "at_point",
        "budget",
        "cpus",
        "debug_vm",
        "highpte",
        "lru_batch",
        "page_size",
        "pmd_order",
        "pt_reclaim",
        "ptes",
        "rcu_pending",
        "recorder",
        "reports",
        "scheduler",
        "split_ptlocks",
        "task_traces",
        "tlb",
        "tlb_flushes",
        "trace_events",
        "vmemmap",
        "warnings",
    )

    def __init__(
        self,
        *,
        page_size: int,
        ptes: int,
        lru_batch: int,
        debug_vm: bool,
        split_ptlocks: bool,
        tlb: str,
        arch: str,
        budget: int,
        highpte: bool = False,
        pt_reclaim: bool = True,
        vmemmap: bool = True,
    ) -> None:
        self.page_size = page_size
        self.ptes = ptes
        self.pmd_order = ptes.bit_length() - 1
        self.lru_batch = lru_batch
        self.debug_vm = debug_vm
        self.split_ptlocks = split_ptlocks
        self.tlb = tlb
        self.arch = arch
        self.highpte = highpte
        self.pt_reclaim = pt_reclaim
        self.vmemmap = vmemmap
        self.budget = budget
        self.cpus = tuple(Cpu(i) for i in range(CPUS))
        self.reports: list[Report] = []
        self.warnings: list[tuple[str, str]] = []
        self.trace_events: list[tuple[str, tuple[object, ...]]] = []
        self.task_traces: dict[str, list[tuple[str, tuple[object, ...]]]] = {}
        """Of several tasks: the trace events of each, in its order."""
        self.tlb_flushes: list[tuple[int, int]] = []
        self.rcu_pending: list[Callable[[], None]] = []
        self.recorder: Recorder | None = None
        self.at_point: Callable[[str], None] | None = None
        self.scheduler: Scheduler | None = None

    @contextmanager
    def running(self, task: Task) -> Iterator[None]:
        """Run ``task`` on this machine for the time of the block."""
        before = getattr(current, "machine", self), getattr(current, "task", task), getattr(current, "cpu", task.cpu)
        current.machine, current.task, current.cpu = self, task, task.cpu
        try:
            yield
        finally:
            current.machine, current.task, current.cpu = before

    def read(self, obj: Shared, field: Field[T], order: Order) -> T:
        """Read one field."""
        self.budget = left = self.budget - 1
        if left < 0 or obj.freed_by:
            self.check(obj, field.name)
        value: T = getattr(obj, field.slot)
        return value

    def write(self, obj: Shared, field: Field[T], value: T, order: Order) -> None:
        """Write one field."""
        self.budget = left = self.budget - 1
        if left < 0 or obj.freed_by:
            self.check(obj, field.name)
        if self.recorder is not None:
            self.recorder.write(obj.name, field.name, value)
        setattr(obj, field.slot, value)

    def rmw(self, obj: Shared, field: Field[T], fn: Callable[[T], T], order: Order) -> T:
        """Replace one field by ``fn`` of it in one step; the value is the old one."""
        self.budget = left = self.budget - 1
        if left < 0 or obj.freed_by:
            self.check(obj, field.name)
        old: T = getattr(obj, field.slot)
        new = fn(old)
        if self.recorder is not None:
            self.recorder.write(obj.name, field.name, new)
        setattr(obj, field.slot, new)
        return old

    def fetch_add(self, obj: Shared, field: Field[int], n: int, order: Order = ONCE) -> int:
        """Add atomically; the value is the old one."""
        self.budget = left = self.budget - 1
        if left < 0 or obj.freed_by:
            self.check(obj, field.name)
        old: int = getattr(obj, field.slot)
        if self.recorder is not None:
            self.recorder.write(obj.name, field.name, old + n)
        setattr(obj, field.slot, old + n)
        return old

    def read_item(self, obj: Shared, field: Field[list[T]], index: int, order: Order) -> T:
        """Read one element of an array field."""
        self.budget = left = self.budget - 1
        if left < 0 or obj.freed_by:
            self.check(obj, field.name)
        array: list[T] = getattr(obj, field.slot)
        return array[index]

    def write_item(self, obj: Shared, field: Field[list[T]], index: int, value: T, order: Order) -> None:
        """Write one element of an array field."""
        self.budget = left = self.budget - 1
        if left < 0 or obj.freed_by:
            self.check(obj, field.name)
        if self.recorder is not None:
            self.recorder.write(obj.name, f"{field.name}[{index}]", value)
        array: list[T] = getattr(obj, field.slot)
        array[index] = value

    def rmw_item(self, obj: Shared, field: Field[list[T]], index: int, fn: Callable[[T], T], order: Order) -> T:
        """Replace one element of an array field in one step; the value is the old one."""
        self.budget = left = self.budget - 1
        if left < 0 or obj.freed_by:
            self.check(obj, field.name)
        array: list[T] = getattr(obj, field.slot)
        old = array[index]
        array[index] = new = fn(old)
        if self.recorder is not None:
            self.recorder.write(obj.name, f"{field.name}[{index}]", new)
        return old

    def free(self, obj: Shared, function: str) -> None:
        """The memory of ``obj`` is given back by ``function``: whoever touches it from now on errs."""
        obj.freed_by = function

    def check(self, obj: Shared, field: str) -> None:
        """What an access must pass: the budget, and KASAN.

        :raises Hang: when the budget is used up
        """
        if self.budget < 0:
            raise Hang("HANG: the budget of accesses is used up")
        if current.task.speculates is not obj:
            self.report("KASAN", f"{kernel_function()} touches {field} of {obj.name}, which {obj.freed_by} freed")

    def report(self, check: str, text: str) -> None:
        """Record a violation once."""
        report = Report(check, text)
        if report not in self.reports:
            self.reports.append(report)
            if self.recorder is not None:
                self.recorder.note(f"{check}: {text}")

    def warn(self, function: str, condition: str) -> None:
        """WARN: record it once."""
        if (function, condition) not in self.warnings:
            self.warnings.append((function, condition))
            self.report("DEBUG_VM", f"WARNING in {function}: {condition}")

    def trace(self, name: str, *fields: object) -> None:
        """Emit a trace event."""
        self.trace_events.append((name, fields))
        if self.recorder is not None:
            self.recorder.note(f"trace {name} {fields}")

    def sleeping_point(self, name: str) -> None:
        """A named point at which the running task may sleep, just before it is passed."""
        if self.at_point is not None:
            self.at_point(name)
