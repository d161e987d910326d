"""Waiting for the other CPUs: an IPI's answers and RCU's grace periods.

An IPI is answered by a CPU whose interrupts are enabled; one that is inside an IRQ-off section answers when it enables them, and that it
may disable them again makes no difference. A grace period waits for the read sections that are open when it begins; an IRQ-off section is
one. Either comes after the stores that each CPU had made by then have reached memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from kmm.explore.memory import Memory
from kmm.explore.place import READ, SHARE, Place
from kmm.explore.proc import Proc, Wait
from kmm.kernel.task import Task

if TYPE_CHECKING:
    from kmm.explore.run import Run


CALLBACKS: Final = "RCU callbacks"
"""Group of all callbacks: who asks every task asks them, and need not know which there are already."""


class Answers:
    """What one waiter still needs.

    :param rcu: it waits for read sections, not for IRQ-off sections only
    """

    __slots__ = ("after", "given", "open", "rcu", "seen")

    def __init__(self, rcu: bool) -> None:
        self.rcu = rcu
        self.open: list[Proc] = []
        """Inside a section that must end."""
        self.given: list[tuple[Proc, int]] = []
        """Has answered, when it had made so many stores."""
        self.after = 0
        """Events that the waiter comes after."""
        self.seen = 0
        """KCSAN: accesses that it comes after."""


class Grace:
    """Who waits for whom in one execution."""

    __slots__ = ("left", "memory", "open", "published", "run")

    def __init__(self, run: Run, memory: Memory) -> None:
        self.run = run
        self.memory = memory
        self.open: list[Answers] = []
        self.published = {False: 0, True: 0}
        """KCSAN: what sections that begin now come after: IRQ-off sections, and (true) read sections."""
        self.left: dict[tuple[Proc, bool], int] = {}
        """KCSAN: for each task and kind of section (true: a read section) what came before the end of its last one."""

    def toggle_irqs(self) -> None:
        """The running task is about to disable or enable interrupts."""
        task = self.run.me.task
        leaving, rcu = task.irqs_off, not task.rcu_depth
        me = self._step(["irqs", "rcu"] if rcu else ["irqs"], "irq enable" if leaving else "irq disable")
        if leaving:
            self._leave(me, irqs=True, rcu=rcu)
        else:
            self._enter(me, irqs=True, rcu=rcu)

    def toggle_rcu(self) -> None:
        """The running task is about to enter or leave its outermost read section."""
        task = self.run.me.task
        if task.irqs_off:
            return
        me = self._step(["rcu"], "rcu read unlock" if task.rcu_depth else "rcu read lock")
        if task.rcu_depth:
            self._leave(me, irqs=False, rcu=True)
        else:
            self._enter(me, irqs=False, rcu=True)

    def interrupt(self) -> None:
        """Send an IPI to every other CPU; wait for the answers."""
        answers = self._ask(["irqs", "stores"], "IPI", rcu=False, own=False)
        self._wait(answers, "IPI wait")

    def synchronize(self) -> None:
        """Wait for a grace period."""
        answers = self._ask(["rcu", "stores"], "synchronize_rcu", rcu=True, own=False)
        self._wait(answers, "grace period")

    def call(self, callback: Callable[[], None]) -> None:
        """Queue a callback: a task of its own that begins when a grace period has ended."""
        run, me = self.run, self.run.me
        answers = self._ask(["rcu", "stores"], "call_rcu", rcu=True, own=True)
        if run.closed:
            return
        me.callbacks += 1
        name = f"{me.name}/rcu{me.callbacks}"

        def start() -> None:
            run.trace.touch_all(proc, [], self._after(answers))
            proc.seen |= answers.seen
            proc.wait = None
            callback()

        proc = run.spawn(name, Task(name, me.task.cpu, me.task.active_mm), start)
        proc.primitive, proc.group = "rcu callback", CALLBACKS
        proc.mask, proc.seen = me.mask, me.seen
        proc.wait = Wait(lambda: self._ended(answers), lambda: [each.task for each in answers.open])

    def _step(self, names: list[str], primitive: str) -> Proc:
        run = self.run
        places = [place for name in names if (place := run.machine.state(run.me.group, name, writing=True)) is not None]
        if places:
            run.turn(places[0], SHARE, primitive)
            if not run.closed:
                run.trace.touch_all(run.me, [(place, SHARE) for place in places])
        return run.me

    def _ask(self, names: list[str], primitive: str, *, rcu: bool, own: bool) -> Answers:
        """Begin to wait for every other task, and with ``own`` for the running one."""
        run, me, memory = self.run, self.run.me, self.memory
        answers = Answers(rcu)
        run.turn(None, READ, primitive, Wait(lambda: memory.ready(me, None, release=True)))
        if run.closed:
            return answers
        others = [proc for proc in run.procs.values() if proc.glet is not None and (own or proc is not me)]
        places: list[tuple[Place, int]] = []
        for group in dict.fromkeys([*(proc.group for proc in others), CALLBACKS]):
            for name in names:
                place = run.machine.state(group, name, writing=False)
                if place is not None and group != me.group:
                    places.append((place, READ))
        run.trace.touch_all(me, places, memory.ordered(me, None, release=True))
        self.published[rcu] |= me.seen
        for proc in others:
            if not proc.done and (proc.task.irqs_off or (rcu and proc.task.rcu_depth > 0)):
                answers.open.append(proc)
            else:
                self._give(answers, proc, 0, self.left.get((proc, rcu), 0))
        self.open.append(answers)
        return answers

    def _enter(self, me: Proc, *, irqs: bool, rcu: bool) -> None:
        """A section begins: it comes after whoever began to wait for such sections before."""
        if irqs:
            me.seen |= self.published[False]
        if rcu:
            me.seen |= self.published[True]

    def _leave(self, me: Proc, *, irqs: bool, rcu: bool) -> None:
        """A section ends, and whoever waits for such sections goes on."""
        if irqs:
            self.left[me, False] = me.seen
        if rcu:
            self.left[me, True] = me.seen
        for answers in self.open:
            if me in answers.open and (rcu if answers.rcu else irqs):
                answers.open.remove(me)
                self._give(answers, me, me.mask, me.seen)

    def _give(self, answers: Answers, proc: Proc, after: int, seen: int) -> None:
        answers.given.append((proc, self.memory.made(proc)))
        answers.after |= after
        answers.seen |= seen

    def _ended(self, answers: Answers) -> bool:
        return not answers.open and all(self.memory.arrived(proc, stores) for proc, stores in answers.given)

    def _after(self, answers: Answers) -> int:
        mask = answers.after
        for proc, stores in answers.given:
            mask |= self.memory.arrivals(proc, stores)
        return mask

    def _wait(self, answers: Answers, primitive: str) -> None:
        run, me = self.run, self.run.me
        run.turn(None, READ, primitive, Wait(lambda: self._ended(answers), lambda: [each.task for each in answers.open]))
        if not run.closed:
            run.trace.touch_all(me, [], self._after(answers))
            me.seen |= answers.seen
            me.fence = me.seen
