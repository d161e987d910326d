"""Memory cgroups: charges, their limit, events and files (mm/memcontrol.c, mm/page_counter.c).

There is one cgroup. Nothing is reclaimed and nobody is killed at its limit, nor when the limit is set below what is charged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ONCE, PLAIN, Field, Shared
from kmm.mm import system
from kmm.mm.folio import Folio, folio_nr_pages
from kmm.mm.geometry import HPAGE_PMD_SIZE, PAGE_SIZE
from kmm.mm.kstrtox import c_string, memparse, strstrip
from kmm.mm.mm_types import MmStruct
from kmm.mm.vmstat import nr_swapcached

_memcg: Final = Folio.memcg

LONG_MAX: Final = (1 << 63) - 1

MEMORY_EVENTS: Final = ("low", "high", "max", "oom", "oom_kill", "oom_group_kill")
"""The lines of ``memory.events``; of them the model counts ``max``."""

MEMORY_STAT_EVENTS: Final = (
    "pswpout",
    "pglazyfree",
    "pglazyfreed",
    "thp_fault_alloc",
    "thp_collapse_alloc",
    "thp_swpout",
    "thp_swpout_fallback",
)
"""The events among the lines of ``memory.stat``: all of transparent huge pages, and the others that the model counts."""


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
    if _injected() or not _try_charge(mm.memcg, folio_nr_pages(folio)):
        return False
    current.machine.write(folio, _memcg, mm.memcg, PLAIN)
    return True


def _injected() -> bool:
    """The scenario wants this charge to be refused."""
    this = system.this
    if not system.injects():
        return False
    this.charges += 1
    return this.charges in this.injected.charge


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


def count_memcg_event_mm(mm: MmStruct, name: str) -> None:
    """Count an event in the cgroup of an address space."""
    mm.memcg.events[name] = mm.memcg.events.get(name, 0) + 1


def memory_current_read(memcg: MemCgroup) -> str:
    """Bytes that are charged."""
    return f"{memcg.usage * PAGE_SIZE()}\n"


def memory_max_show(memcg: MemCgroup) -> str:
    """The limit in bytes."""
    limit = memcg.max
    return "max\n" if limit is None else f"{limit * PAGE_SIZE()}\n"


def memory_events_show(memcg: MemCgroup) -> str:
    """What happened at the limits."""
    return "".join(f"{name} {memcg.events.get(name, 0)}\n" for name in MEMORY_EVENTS)


def memory_stat_show(memcg: MemCgroup) -> str:
    """Bytes by kind, and events. All memory is the one cgroup's."""
    stat = system.this.node_stat
    values = {
        "anon": stat.get("nr_anon_mapped", 0) * PAGE_SIZE(),
        "swapcached": nr_swapcached() * PAGE_SIZE(),
        "anon_thp": stat.get("nr_anon_thps", 0) * HPAGE_PMD_SIZE(),
        **{name: memcg.events.get(name, 0) for name in MEMORY_STAT_EVENTS},
    }
    return "".join(f"{name} {value}\n" for name, value in values.items())


MEMORY_FILES: Final[dict[str, Callable[[MemCgroup], str]]] = {
    "memory.current": memory_current_read,
    "memory.events": memory_events_show,
    "memory.max": memory_max_show,
    "memory.stat": memory_stat_show,
}
"""The files of a cgroup (version 2), and what shows them."""


def memory_max_write(memcg: MemCgroup, buf: str) -> str:
    """Set the limit: ``max``, or bytes with a suffix, rounded down to pages.

    :returns: the errno's name: EINVAL when something follows the number
    """
    text = strstrip(buf)
    limit: int | None = None
    if text != "max":
        size, behind = memparse(text)
        if behind:
            return "EINVAL"
        limit = size // PAGE_SIZE() if size // PAGE_SIZE() < LONG_MAX // PAGE_SIZE() else None
    current.machine.write(memcg, MemCgroup.max, limit, ONCE)
    return ""


def memory_write(memcg: MemCgroup, name: str, value: str) -> str:
    """Write to one of the files of a cgroup, as root and in one piece.

    :param name: one of :data:`MEMORY_FILES`
    :param value: a NUL ends it; nothing at all is accepted and changes nothing
    :returns: the errno's name: ENOENT, or EINVAL for a value that is refused and for a file that is only read
    """
    if name not in MEMORY_FILES:
        return "ENOENT"
    if not value:
        return ""
    return memory_max_write(memcg, c_string(value)) if name == "memory.max" else "EINVAL"
