"""Processes that load and store, one page after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from kmm.kernel.locks import at_quiescence
from kmm.kernel.task import Task
from kmm.mm.folio import Folio
from kmm.mm.mm_types import MmStruct
from kmm.mm.pgtable import PtePage
from kmm.mm.pte import pte_dirty, pte_pfn, pte_present, pte_special, pte_t, pte_uffd_wp, pte_write, pte_young
from kmm.mm.uaccess import user_load, user_store
from kmm.scenario.build import World, build
from kmm.scenario.model import Config, Driver, DriverKind, Failure, Geometry, Scenario, Tunables, Vma
from kmm.scenario.page import PageState
from kmm.scenario.place import OWNER_CPU
from kmm.scenario.quiescence import check_quiescence, pmd_of, table_of
from kmm.scenario.step import Step
from refactors import v12

NR: Final = 16
"""Pages of a range: PMD order 4, so that there are two smaller large orders."""
SIZE: Final = 4096


def memory(
    pages: str = "." * NR,
    *,
    orders: tuple[int, ...] = (),
    flags: tuple[str, ...] = ("read", "write"),
    vmas: tuple[Vma, ...] | None = None,
    pmd: str = "table",
    anon_vma: bool = True,
    failures: tuple[Failure, ...] = (),
    config: Config | None = None,
    ranges: int = 1,
    **letters: PageState,
) -> Scenario:
    """One process.

    :param orders: those that are enabled always, 2 to 4
    :param letters: further letters
    """
    geometry = Geometry(ptes=NR, ranges=ranges)
    return Scenario(
        geometry=geometry,
        config=config or Config(),
        tunables=Tunables.default(geometry).with_orders(geometry, *orders),
        vmas=(Vma(pages=pages, flags=tuple(sorted(flags)), anon_vma=anon_vma),) if vmas is None else vmas,
        letters=tuple(letters.items()),
        pmd=pmd,
        driver=Driver(kind=DriverKind.STEPS),
        steps=(Step(op="khugepaged"),),
        failures=failures,
    )


@contextmanager
def process(s: Scenario, *, expect: tuple[str, ...] = ()) -> Iterator[World]:
    """A world in which the block is a task of the first process; at its end everything is at rest.

    :param expect: the sanitizers that speak
    """
    world = build(s, v12.VARIANT)
    task = Task("process", world.system.machine.cpus[OWNER_CPU], world.mm.ident)
    with world.system.running(task):
        yield world
        at_quiescence(task)
        check_quiescence(world)
    assert checks(world) == list(expect), world.system.machine.reports


def checks(world: World) -> list[str]:
    """The sanitizers that spoke, each once."""
    return list(dict.fromkeys(report.check for report in world.system.machine.reports))


def at_rest(world: World) -> bool:
    """No sanitizer has anything to say."""
    check_quiescence(world)
    return not world.system.machine.reports


def address(world: World, page: int) -> int:
    """Of a page."""
    return world.system.base + page * SIZE


def load(world: World, page: int, mm: MmStruct | None = None) -> str:
    """A process reads a page."""
    return user_load(mm or world.mm, address(world, page))


def store(world: World, page: int, token: int, mm: MmStruct | None = None) -> str:
    """A process writes a page."""
    return user_store(mm or world.mm, address(world, page), token)


def stores(world: World, pages: range, first_token: int = 1000) -> list[str]:
    """A process writes several pages; each gets a token of its own."""
    return [store(world, page, first_token + page) for page in pages]


def pte(world: World, page: int, mm: MmStruct | None = None) -> pte_t:
    """The entry of a page."""
    table = table_of(world.system, mm or world.mm, page // NR)
    assert isinstance(table, PtePage), "there is no table"
    return table._entries[page % NR]


def folio(world: World, page: int, mm: MmStruct | None = None) -> Folio:
    """The folio that an entry maps."""
    return world.system.mem_map[pte_pfn(pte(world, page, mm))].folio


def bits(world: World, page: int, mm: MmStruct | None = None) -> str:
    """What an entry says: present, young, dirty, write, uffd-wp, special."""
    value = pte(world, page, mm)
    tests = (pte_present, pte_young, pte_dirty, pte_write, pte_uffd_wp, pte_special)
    return "".join(letter if test(value) else "-" for letter, test in zip("pydwus", tests, strict=True))


def exclusive(world: World, page: int, mm: MmStruct | None = None) -> bool:
    """PageAnonExclusive of the page that an entry maps."""
    return bool(world.system.mem_map[pte_pfn(pte(world, page, mm))]._flags & 1)


def is_huge(world: World, number: int = 0) -> bool:
    """The PMD entry of a range is huge."""
    return bool(pmd_of(world.mm, number) & 1 << 7)


def rss(world: World, mm: MmStruct | None = None) -> tuple[int, int]:
    """MM_ANONPAGES and MM_SWAPENTS."""
    anon, swap = (mm or world.mm)._rss_stat
    return anon, swap


def tables(world: World) -> int:
    """pgtables_bytes, in tables."""
    return world.mm._pgtables_bytes // SIZE


def deposited(world: World, number: int = 0) -> int:
    """Tables that wait for a split."""
    page = world.mm._pmds[number]
    return 0 if page is None else len(page._deposited)


def stats(world: World, order: int, *names: str) -> list[int]:
    """Statistics of an order."""
    return [world.system.mthp_stats.get((order, name), 0) for name in names]


def events(world: World, *names: str) -> list[int]:
    """vm events."""
    return [world.system.vm_events.get(name, 0) for name in names]


def usage(world: World) -> int:
    """Pages that the cgroup is charged."""
    return world.mm.memcg._usage
