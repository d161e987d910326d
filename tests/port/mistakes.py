"""One line of the port is changed, and a process does something: who notices?"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from kmm.kernel.barrier import rcu_grace_period
from kmm.kernel.locks import at_quiescence
from kmm.kernel.stop import Stop
from kmm.kernel.task import Task
from kmm.scenario.build import World, build
from kmm.scenario.model import Scenario
from kmm.scenario.place import OWNER_CPU
from kmm.scenario.quiescence import check_quiescence
from refactors import v12
from tests.port.faulting import checks
from tests.test_sanitizers import Change, changed


def notices(s: Scenario, do: Callable[[World], object], function: object, old: str, new: str) -> list[str]:
    """Who notices that a line of a function is another: the sanitizers, and ``answer`` when what the process gets is different.

    Without the change nobody speaks.
    """
    answer, silent = _done(s, do)
    assert silent == []
    with changed(Change("", function, old, new, s)):
        other, found = _done(s, do)
    return found + ["answer"] * (other is not None and other != answer)


def _done(s: Scenario, do: Callable[[World], object]) -> tuple[object, list[str]]:
    """What the process gets, nothing where it cannot go on; and who speaks."""
    world = build(s, v12.VARIANT)
    task = Task("process", world.system.machine.cpus[OWNER_CPU], world.mm.ident)
    answer: object = None
    with world.system.running(task):
        with suppress(Stop):
            answer = do(world)
        at_quiescence(task)
        rcu_grace_period()
        check_quiescence(world)
    return answer, checks(world)
