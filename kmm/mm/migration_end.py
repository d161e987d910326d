"""How a migration ends that was under way when the scenario began: whoever first waits for it makes it give up.

A migration that a task of the scenario makes is waited for by its folio lock.
"""

from __future__ import annotations

from collections.abc import Callable

from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.kernel.task import Task
from kmm.kernel.wait import smp_cond_load_acquire
from kmm.mm import system
from kmm.mm.folio import Folio, PG_locked
from kmm.mm.system import Migrations


def migration_ends(folio: Folio, undo: Callable[[], None]) -> None:
    """Return when nobody migrates the folio any more. May sleep.

    :param undo: puts the old page back
    """
    migrator = _claim(folio.pfn)
    if migrator is None:
        _wait_without_reference(folio)
    elif current.machine.scheduler is None:
        with system.this.running(migrator):
            undo()
    else:
        folio.lock_owner = current.task
        undo()


def _wait_without_reference(folio: Folio) -> None:
    """The last one who unlocks a folio that was migrated frees it; ``struct page`` stays."""
    task = current.task
    task.speculates = folio
    smp_cond_load_acquire(folio, Folio.flags, _is_unlocked)
    task.speculates = None


def _is_unlocked(flags: int) -> bool:
    return not flags & PG_locked


def _claim(pfn: int) -> Task | None:
    """The task that migrates the page, for the first one who asks."""

    def without(under_way: dict[int, Task]) -> dict[int, Task]:
        return {each: task for each, task in under_way.items() if each != pfn}

    return current.machine.rmw(system.this.migrations, Migrations.under_way, without, ONCE).get(pfn)
