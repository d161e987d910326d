"""Do the steps of a scenario, one whole operation after the other."""

from __future__ import annotations

from typing import Final

from kmm.kernel.barrier import rcu_grace_period
from kmm.kernel.locks import at_quiescence
from kmm.kernel.task import Task
from kmm.mm.folio import Page
from kmm.mm.khugepaged.daemon import start_stop_khugepaged
from kmm.mm.khugepaged.enter import khugepaged_enter_vma
from kmm.mm.pgtable import PtePage
from kmm.mm.pte import is_zero_pfn, pte_pfn
from kmm.mm.system import Injected
from kmm.scenario.build import World
from kmm.scenario.errors import ScenarioError, StepError
from kmm.scenario.operations import OPERATIONS, Actor
from kmm.scenario.place import DRIVER_CPU, OWNER_CPU
from kmm.scenario.quiescence import table_of
from kmm.scenario.step import STEP_OPS, Step, Takes, said

MAX_PROCESSES: Final = 16


class Steps:
    """The run of the steps.

    ``outcomes`` has, for each step that was done, ``done``, or the name of the errno or of the signal.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.outcomes: list[str] = []
        self.rest = _Rest(world)

    def perform(self, steps: tuple[Step, ...]) -> None:
        """Do them all.

        :raises StepError: for a step that cannot happen
        """
        self.enter()
        for number, step in enumerate(steps, 1):
            self.rest.before(step)
            try:
                self.outcomes.append(self._one(step, number) or "done")
            except ScenarioError as error:
                raise StepError(f"{said(step, number)}: {error.problem}", error.remedy, number=number) from None
            self.rest.after(step)

    def enter(self) -> None:
        """khugepaged knows every process that it has a reason to know."""
        this = self.world.system
        with this.running(self._task("enter", OWNER_CPU, 0)):
            start_stop_khugepaged()
            for mm in this.mms:
                for vma in mm._vmas:
                    khugepaged_enter_vma(vma, vma._vm_flags)

    def _one(self, step: Step, number: int) -> str:
        this = self.world.system
        if step.op == "khugepaged":
            task = self._task("khugepaged", DRIVER_CPU, 0)
        else:
            self.check_process(step)
            own = Takes.PROCESS in STEP_OPS[step.op][0]
            task = self._task(f"process {step.process}" if own else step.op, OWNER_CPU, step.process if own else 0)
        with this.running(task):
            outcome = OPERATIONS[step.op](Actor(this, this.mms[step.process - 1], step, number))
            at_quiescence(task)
            rcu_grace_period()
        return outcome

    def check_process(self, step: Step) -> None:
        """Raise for an operation of a process that is not there.

        :raises ScenarioError: it cannot begin
        """
        mms = self.world.system.mms
        if Takes.PROCESS not in STEP_OPS[step.op][0]:
            return
        if step.process > len(mms):
            raise ScenarioError(f"there is no process {step.process}", "name one that is there, or fork it before")
        if not mms[step.process - 1]._mm_users:
            raise ScenarioError(f"process {step.process} has exited", "name another, or drop the step")
        if step.op == "fork" and len(mms) >= MAX_PROCESSES:
            raise ScenarioError(f"there are {len(mms)} processes", f"keep to {MAX_PROCESSES}")

    def _task(self, name: str, cpu: int, active_mm: int) -> Task:
        return Task(name, self.world.system.machine.cpus[cpu], active_mm)


class _Rest:
    """FIXPOINT: while only khugepaged works, nothing grows once it has seen everything twice, nor twice in one range."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.scans_before = world.system.khugepaged_scan.full_scans
        self.settled: int | None = None
        self.grown: set[tuple[int, int]] = set()
        self.holes: dict[tuple[int, int], int] = {}

    def before(self, step: Step) -> None:
        """Count the holes, unless they were counted behind the step before."""
        if step.op == "khugepaged" and not self.holes:
            self.holes = self._holes()

    def after(self, step: Step) -> None:
        this = self.world.system
        if step.op != "khugepaged":
            self.scans_before, self.settled, self.holes = this.khugepaged_scan.full_scans, None, {}
            self.grown.clear()
            return
        self._after_pass(self._holes())
        occupied = sum(sum(mm._rss_stat) for mm in this.mms)
        if self.settled is not None and occupied > self.settled:
            text = (
                f"khugepaged fills {occupied - self.settled} more holes after two full scans, and nobody has touched the memory meanwhile"
            )
            this.machine.report("FIXPOINT", text)
        if self.settled is not None or this.khugepaged_scan.full_scans >= self.scans_before + 2:
            self.settled = occupied

    def _after_pass(self, holes: dict[tuple[int, int], int]) -> None:
        """A range that grew in an earlier pass does not grow in this one; a failure that the scenario injects may put it off."""
        this = self.world.system
        for (ident, number), left in holes.items():
            filled = self.holes[ident, number] - left
            if filled > 0 and (ident, number) in self.grown and this.injected == Injected():
                first, ptes = number * this.machine.ptes, this.machine.ptes
                text = (
                    f"khugepaged fills {filled} holes of mm{ident}, pages {first} to {first + ptes - 1}, which an earlier pass left when "
                    "it filled others, and nobody has touched the memory meanwhile"
                )
                this.machine.report("FIXPOINT", text)
            if filled > 0:
                self.grown.add((ident, number))
        self.holes = holes

    def _holes(self) -> dict[tuple[int, int], int]:
        """Process and range to the number of pages that have no memory. Nobody in the model looks."""
        this = self.world.system
        ranges = ((mm, number) for mm in this.mms for number in range(len(mm._pmds)))
        return {(mm.ident, number): _holes_of(table_of(this, mm, number), this.machine.ptes) for mm, number in ranges}


def _holes_of(table: PtePage | Page | None, ptes: int) -> int:
    if isinstance(table, PtePage):
        return sum(not pte or bool(pte & 0x101 and is_zero_pfn(pte_pfn(pte))) for pte in table._entries)
    return ptes if table is None else 0
