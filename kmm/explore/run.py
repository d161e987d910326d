"""One execution of a program: its tasks, and the hand-over between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from greenlet import getcurrent, greenlet

from kmm.explore.place import READ, Place
from kmm.explore.proc import Proc, Wait
from kmm.explore.sharing import Sharing
from kmm.explore.trace import Trace
from kmm.kernel import current
from kmm.kernel.report import kernel_function
from kmm.kernel.stop import Abandoned, Deadlock, Hang, Stop
from kmm.kernel.task import Task

if TYPE_CHECKING:
    from kmm.explore.machine import ExploringMachine
    from kmm.explore.program import World

MAX_STEPS: Final = 20_000
"""Steps of one execution after which its tasks count as hanging."""


class Strategy(Protocol):
    """Decides which task makes the next step."""

    def choose(self, run: Run) -> Proc | None:
        """One of ``run.enabled()``, which is not empty; ``None`` gives the execution up."""


class Search(Strategy, Protocol):
    """A strategy that knows which executions to make."""

    blocked: int

    def next(self, run: Run) -> bool:
        """Learn from a finished execution; whether there is another one to make."""

    def reset(self) -> None:
        """Begin again."""


class Run:
    """One execution.

    :param sharing: what is known of the program, and where to add
    :param buffered: stores go through store buffers
    :param kcsan: look for data races
    :param naming: steps know the kernel functions that make them
    """

    __slots__ = (
        "buffered",
        "closed",
        "gave_up",
        "hub",
        "kcsan",
        "machine",
        "me",
        "naming",
        "procs",
        "sharing",
        "starting",
        "strategy",
        "trace",
        "world",
    )

    def __init__(
        self,
        world: World,
        strategy: Strategy,
        sharing: Sharing,
        *,
        buffered: bool = False,
        kcsan: bool = True,
        naming: bool = False,
    ) -> None:
        self.world = world
        self.machine: ExploringMachine = world.machine
        self.strategy = strategy
        self.sharing = sharing
        self.buffered = buffered
        self.kcsan = kcsan
        self.naming = naming
        self.trace = Trace()
        self.procs: dict[str, Proc] = {}
        self.hub: greenlet = getcurrent()
        self.starting = False
        self.closed = False
        """No more steps: what tasks still do while they are unwound is not part of the execution."""
        self.gave_up = False
        for body in world.bodies:
            self.spawn(body.task.name, body.task, body.run)
        self.me: Proc = next(iter(self.procs.values()))

    def spawn(self, name: str, task: Task, run: Callable[[], object]) -> Proc:
        """Make a task. It does not run yet."""
        proc = self.add(name, task)

        def start() -> None:
            try:
                run()
            except Stop as stop:
                proc.end = str(stop)
            except Abandoned:
                pass
            except Exception as error:
                proc.end = f"{type(error).__name__}: {error}"
            proc.done = True

        proc.glet = greenlet(start, self.hub)
        return proc

    def add(self, name: str, task: Task) -> Proc:
        """Make a proc that has no code."""
        if name in self.procs:
            raise ValueError(f"two tasks are called {name}: give each its own name")
        proc = self.procs[name] = Proc(name, len(self.procs), task)
        return proc

    def enabled(self) -> list[Proc]:
        """Everything that can make a step now, in order of creation."""
        return [proc for proc in self.procs.values() if not proc.done and (proc.wait is None or proc.wait.ready())]

    def execute(self) -> None:
        """Run every task to its end, or until none can go on."""
        with self.machine.running(self.me.task):
            self.machine.attach(self, self.sharing, buffered=self.buffered, kcsan=self.kcsan)
            try:
                self._start()
                while (proc := self._choose()) is not None:
                    self._go(proc)
                self._end()
            finally:
                self.closed = True
                self._unwind(Abandoned())
                self.machine.detach()
                for proc in self.procs.values():
                    proc.forget()

    def turn(self, place: Place | None, kind: int, primitive: str, wait: Wait | None = None) -> Proc:
        """Announce the running task's next step; return when it is its turn. The value is the running task."""
        me = self.me
        if self.closed:
            return me
        me.place, me.kind, me.primitive, me.wait = place, kind, primitive, wait
        if self.naming:
            me.function = kernel_function()
        if self.starting:
            self.hub.switch()
        else:
            proc = self._choose()
            if proc is not me:
                if proc is None:
                    self.hub.switch()
                else:
                    self._go(proc)
        me.wait = None
        return me

    def pause(self, what: str, ready: Callable[[], bool]) -> None:
        """Wait for what no other task was known to touch. If it goes on after all, the execution teaches that and does not count."""
        me = self.turn(None, READ, what, Wait(ready))
        if not self.closed:
            self.trace.touch_all(me, [])

    def _choose(self) -> Proc | None:
        """Who goes on; stores that a CPU holds back are written back on the way."""
        before, choose = self.trace.before, self.strategy.choose
        while not self.gave_up and len(before) < MAX_STEPS:
            proc = choose(self)
            if proc is None:
                self.gave_up = bool(self.enabled())
                return None
            if proc.act is None:
                return proc
            proc.act()
        return None

    def _go(self, proc: Proc) -> None:
        self.me = proc
        current.task = task = proc.task
        current.cpu = task.cpu
        assert proc.glet is not None
        proc.glet.switch()

    def _start(self) -> None:
        """Run every task up to its first step."""
        self.starting = True
        for proc in list(self.procs.values()):
            self._go(proc)
        self.starting = False
        self.me = next(iter(self.procs.values()))

    def _end(self) -> None:
        if self.gave_up:
            return
        self.closed = True
        stuck = [proc for proc in self.procs.values() if not proc.done and proc.glet is not None]
        if not stuck:
            return
        if len(self.trace.before) >= MAX_STEPS:
            self._unwind(Hang("HANG: the execution does not end"))
            return
        for proc in stuck:
            if proc.wait is not None and proc.wait.races is not None:
                proc.wait.races()
        text = deadlock(stuck)
        self.machine.report("LOCKDEP", text)
        self._unwind(Deadlock(text))

    def _unwind(self, stop: BaseException) -> None:
        for proc in self.procs.values():
            if proc.glet is not None and not proc.glet.dead:
                self.me = proc
                current.task, current.cpu = proc.task, proc.task.cpu
                proc.glet.throw(stop)
                if not proc.done:
                    proc.done, proc.end = True, str(stop)


def deadlock(stuck: list[Proc]) -> str:
    """A deadlock in one sentence: who waits for what, and who has it."""
    waits = []
    for proc in stuck:
        what = proc.place.name if proc.place is not None else proc.primitive
        held = sorted(task.name for task in proc.wait.holders()) if proc.wait is not None and proc.wait.holders is not None else []
        waits.append(f"{proc.name} waits for {what}" + (f", held by {' and '.join(held)}" if held else ""))
    return f"DEADLOCK: {'; '.join(waits)}"
