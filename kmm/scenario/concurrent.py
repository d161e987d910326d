"""A scenario whose actors run beside the driver, as a program for the explorer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from kmm.explore import Body, ExploringMachine, Schedule, World, replay
from kmm.kernel.locks import at_quiescence
from kmm.kernel.record import Recorder
from kmm.kernel.task import Task
from kmm.mm import system
from kmm.mm.variant import Variant
from kmm.scenario.actors import task_names
from kmm.scenario.build import build
from kmm.scenario.drive import Run, drive
from kmm.scenario.ended import guarded
from kmm.scenario.errors import ScenarioError, StepError
from kmm.scenario.holders import Holder, as_khugepaged, as_nobody, as_thread
from kmm.scenario.model import DriverKind, Scenario
from kmm.scenario.operations import OPERATIONS, Actor
from kmm.scenario.place import OWNER_CPU
from kmm.scenario.quiescence import check_quiescence
from kmm.scenario.step import BY_RECLAIM, STEP_OPS, Takes, said
from kmm.scenario.steps import Steps

DONE: Final = "done"


class Concurrent:
    """Makes the same world again and again: the program that is explored.

    ``run`` is that of the world made last.

    :param outcome: the canonical bytes of a finished run
    :param record: keep the log of steps
    """

    def __init__(self, scenario: Scenario, variant: Variant, outcome: Callable[[Run], bytes], *, record: bool = False) -> None:
        self.record = record
        self.scenario = scenario
        self.variant = variant
        self.outcome = outcome
        self.run: Run

    def __call__(self) -> World:
        """A fresh start, with the steps before the actors done.

        :raises StepError: for one of them that cannot happen, and for an actor of no process or of nothing
        """
        scenario = self.scenario
        world = build(scenario, self.variant)
        system.this = this = world.system
        machine = this.machine
        assert isinstance(machine, ExploringMachine)
        self.run = run = Run(scenario, world)
        with this.running(world.task):
            steps = Steps(world)
            if scenario.driver.kind is DriverKind.STEPS:
                steps.perform(scenario.steps)
                run.steps = tuple(steps.outcomes)
            else:
                steps.enter()
            acting = tuple(_acting(scenario, steps))
        if self.record:
            machine.recorder = Recorder()
        tasks = _Tasks(run, acting)
        return World(machine, tuple(tasks.bodies()), lambda _: self.outcome(tasks.finished()))


def _acting(scenario: Scenario, steps: Steps) -> Iterator[Actor]:
    """The actors, before anybody runs."""
    this = steps.world.system
    for number, actor in enumerate(scenario.actors, 1):
        try:
            steps.check_process(actor)
            yield Actor(this, this.mms[actor.process - 1], actor, number).pick()
        except ScenarioError as error:
            raise StepError(f"{said(actor, number, 'actor')}: {error.problem}", error.remedy, number=number, part="actor") from None


def run_usual(scenario: Scenario, variant: Variant, *, record: bool = False) -> Run:
    """Run a scenario with actors under the usual schedule: the driver first, then one actor after the other.

    :param record: keep the log of steps
    """
    program = Concurrent(scenario, variant, lambda _: b"", record=record)
    replay(program, Schedule("sc", (), ()))
    return program.run


class _Tasks:
    """The tasks of one run, and how each ended."""

    def __init__(self, run: Run, acting: tuple[Actor, ...]) -> None:
        self.run = run
        self.acting = acting
        self.ends: list[str] = []
        self.actors = [""] * len(run.scenario.actors)

    def bodies(self) -> Iterator[Body]:
        """The driver, unless it did the steps, and the actors. The first actor that is a process runs on the owner's CPU, if it can."""
        world, scenario = self.run.world, self.run.scenario
        cpus = world.system.machine.cpus
        free = [cpu.number for cpu in cpus if cpu.number != OWNER_CPU]
        owner = [OWNER_CPU]
        if scenario.driver.kind is not DriverKind.STEPS:
            yield Body(world.task, self._driver(as_khugepaged if world.task.name == "khugepaged" else as_thread))
            (owner if world.task.cpu.number == OWNER_CPU else free).remove(world.task.cpu.number)
        for number, (actor, name) in enumerate(zip(scenario.actors, task_names(scenario), strict=True), 1):
            is_process = Takes.PROCESS in STEP_OPS[actor.op][0] and actor.op not in BY_RECLAIM
            cpu = (owner if is_process and owner else free).pop(0)
            task = Task(name, cpus[cpu], actor.process if is_process else 0)
            holder = as_thread if is_process and actor.op != "exit" else as_nobody
            yield Body(task, self._actor(task, self.acting[number - 1], holder))

    def _driver(self, holder: Holder) -> Callable[[], None]:
        run = self.run
        leave = holder(run.world.system, run.world.mm)

        def act() -> None:
            end = guarded(lambda: drive(run, run.scenario.driver), run)
            run.outcome = end or "returned"
            self._ended(run.world.task, end, leave)

        return act

    def _actor(self, task: Task, acting: Actor, holder: Holder) -> Callable[[], None]:
        number = acting.number
        leave = holder(acting.this, acting.mm)

        def operate() -> None:
            try:
                self.actors[number - 1] = OPERATIONS[acting.step.op](acting) or DONE
            except ScenarioError as error:
                self.actors[number - 1] = error.problem

        def act() -> None:
            end = guarded(operate, self.run)
            self.actors[number - 1] = end or self.actors[number - 1]
            self._ended(task, end, leave)

        return act

    def _ended(self, task: Task, end: str, leave: Callable[[], None]) -> None:
        """A task that returned lets go of the address space; one that did not goes on holding whatever it held."""
        end = end or guarded(leave, self.run)
        if end:
            self.ends.append(end)
        else:
            at_quiescence(task)

    def finished(self) -> Run:
        """The run; when every task returned, at rest."""
        self.run.actors = tuple(self.actors)
        if not self.ends:
            check_quiescence(self.run.world)
        return self.run
