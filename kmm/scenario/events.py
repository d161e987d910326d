"""Events: whole operations of others, just before a sleeping point is passed."""

from __future__ import annotations

from kmm.kernel.barrier import rcu_grace_period
from kmm.kernel.stop import WouldBlock
from kmm.kernel.task import Task
from kmm.mm import one_table, sysfs
from kmm.mm.gup import try_pin
from kmm.scenario.build import World
from kmm.scenario.model import Event
from kmm.scenario.place import OWNER_CPU


class Events:
    """Fires the events of a run and keeps what became of each.

    ``outcomes`` has ``done``, ``refused`` (it would have blocked), ``nothing`` (nothing to act on), an errno, or ``not reached``
    for each event, in the scenario's order.
    """

    def __init__(self, world: World, events: tuple[Event, ...]) -> None:
        self.world = world
        self.events = events
        self.passed: dict[str, int] = {}
        self.outcomes = ["not reached"] * len(events)
        self.task = Task("event", world.system.machine.cpus[OWNER_CPU], world.mm.ident, may_block=False)

    def at_point(self, name: str) -> None:
        """A sleeping point is about to be passed."""
        self.passed[name] = count = self.passed.get(name, 0) + 1
        for i, event in enumerate(self.events):
            if event.before == name and event.nth == count:
                self.outcomes[i] = self._fire(event)

    def _fire(self, event: Event) -> str:
        with self.world.system.running(self.task):
            try:
                outcome = self._operation(event)
            except WouldBlock:
                return "refused"
            if not self.world.task.rcu_depth:
                rcu_grace_period()
            return outcome

    def _operation(self, event: Event) -> str:
        mm = self.world.mm
        page = -1 if event.page is None else event.page
        match event.op:
            case "sysfs":
                return sysfs.sysfs_write(event.name, event.value) or "done"
            case "munmap":
                done = one_table.munmap(mm)
            case "replace_vma":
                done = one_table.munmap(mm, replacement_flags=self.world.vma._vm_flags, first=max(page, 0))
            case "free_table":
                done = one_table.madvise_dontneed_table(mm)
            case "zap":
                done = one_table.madvise_dontneed_page(mm, page)
            case "pin":
                done = try_pin(mm, self.world.system.base + page * self.world.system.machine.page_size)
            case "prctl":
                one_table.prctl_thp_disable(mm, except_advised=event.value == "except_advised")
                done = True
            case _:
                one_table.mmput(mm)
                done = True
        return "done" if done else "nothing"
