"""Memory cgroups: charges and events (mm/memcontrol.c). One cgroup without limit; a refused charge is injected."""

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
    """

    __slots__ = ("_usage", "events", "label")

    usage: Field[int] = Field()

    def __init__(self, label: str) -> None:
        self.freed_by = ""
        self.label = label
        self.events: dict[str, int] = {}
        self._usage = 0

    @property
    def name(self) -> str:
        """The label."""
        return self.label


def mem_cgroup_charge(folio: Folio, mm: MmStruct) -> bool:
    """Charge the folio's pages to the cgroup of ``mm``; false when refused."""
    this = system.this
    this.charges += 1
    if this.charges in this.injected.charge:
        return False
    current.machine.fetch_add(mm.memcg, MemCgroup.usage, folio_nr_pages(folio))
    current.machine.write(folio, _memcg, mm.memcg, PLAIN)
    return True


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
