"""Memory cgroups: charges, their limit and events (mm/memcontrol.c, mm/page_counter.c). One cgroup; nothing is reclaimed at its limit."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ONCE, PLAIN, Field, Shared
from kmm.mm import system
from kmm.mm.folio import Folio, folio_nr_pages
from kmm.mm.mm_types import MmStruct

_memcg: Final = Folio.memcg


class MemCgroup(Shared):
    """``struct mem_cgroup``.

    :param label: its name

    ``max`` is its limit in pages; ``None``: without one.
    """

    __slots__ = ("_max", "_usage", "events", "label")

    max: Field[int | None] = Field()
    usage: Field[int] = Field()

    def __init__(self, label: str) -> None:
        self.freed_by = ""
        self.label = label
        self.events: dict[str, int] = {}
        self._max: int | None = None
        self._usage = 0

    @property
    def name(self) -> str:
        """The label."""
        return self.label


def mem_cgroup_charge(folio: Folio, mm: MmStruct) -> bool:
    """Charge the folio's pages to the cgroup of ``mm``; false when refused."""
    this = system.this
    this.charges += 1
    if this.charges in this.injected.charge or not _try_charge(mm.memcg, folio_nr_pages(folio)):
        return False
    current.machine.write(folio, _memcg, mm.memcg, PLAIN)
    return True


def _try_charge(memcg: MemCgroup, nr_pages: int) -> bool:
    """Charge first, and take it back when that is above the limit."""
    machine = current.machine
    usage = machine.fetch_add(memcg, MemCgroup.usage, nr_pages) + nr_pages
    limit = machine.read(memcg, MemCgroup.max, ONCE)
    if limit is None or usage <= limit:
        return True
    machine.fetch_add(memcg, MemCgroup.usage, -nr_pages)
    memcg.events["max"] = memcg.events.get("max", 0) + 1
    return False


def mem_cgroup_migrate(old: Folio, new: Folio) -> None:
    """Hand the charge of a page to the one that takes its place."""
    current.machine.write(new, _memcg, current.machine.read(old, _memcg, PLAIN), PLAIN)
    current.machine.write(old, _memcg, None, PLAIN)


def mem_cgroup_uncharge(folio: Folio) -> None:
    """Give the folio's charge back."""
    memcg = current.machine.read(folio, _memcg, PLAIN)
    if memcg is not None:
        current.machine.fetch_add(memcg, MemCgroup.usage, -folio_nr_pages(folio), ONCE)
        current.machine.write(folio, _memcg, None, PLAIN)


def count_memcg_folio_events(folio: Folio, name: str, nr: int) -> None:
    """Count an event in the folio's cgroup."""
    memcg = current.machine.read(folio, _memcg, PLAIN)
    if memcg is not None:
        memcg.events[name] = memcg.events.get(name, 0) + nr
