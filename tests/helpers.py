"""Short ways to write a scenario, to run it and to look at what came out."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import attrs

from kmm.kernel.ref import Ref
from kmm.mm.folio import Folio
from kmm.mm.khugepaged.types import CollapseControl, ScanResult
from kmm.mm.mm_types import MmStruct
from kmm.mm.mmap import mmap_read_unlock
from kmm.mm.pgtable import PtePage
from kmm.mm.pte import pte_none, pte_pfn, pte_present, pte_t
from kmm.mm.variant import Variant
from kmm.scenario.build import World, build
from kmm.scenario.model import Config, Driver, DriverKind, Event, Failure, Geometry, Scenario, Tunables, Vma
from kmm.scenario.page import PageState
from kmm.scenario.quiescence import table_of
from kmm.scenario.run import Run, run
from refactors import v12

KHUGEPAGED = Driver(kind=DriverKind.KHUGEPAGED)
MADVISE = Driver(kind=DriverKind.MADVISE)


def direct(order: int, offset: int = 0, *, is_khugepaged: bool = True, unmapped: int | None = None, mmap_locked: bool = True) -> Driver:
    """One attempt."""
    return Driver(
        kind=DriverKind.DIRECT, order=order, offset=offset, is_khugepaged=is_khugepaged, unmapped=unmapped, mmap_locked=mmap_locked
    )


def make(
    pages: str,
    driver: Driver = KHUGEPAGED,
    *,
    orders: tuple[int, ...] | None = None,
    none: int | None = None,
    swap: int | None = None,
    shared: int | None = None,
    flags: tuple[str, ...] = ("read", "write"),
    anon_vma: bool = True,
    pmd: str = "table",
    events: tuple[Event, ...] = (),
    failures: tuple[Failure, ...] = (),
    letters: tuple[tuple[str, PageState], ...] = (),
    config: Config | None = None,
    lru_batch: int = 31,
    contract: str = "checked",
) -> Scenario:
    """A scenario over ``pages``; without ``orders`` only PMD order is enabled, and the limits are the kernel's defaults."""
    geometry = Geometry(ptes=len(pages), lru_batch=lru_batch)
    tunables = Tunables.default(geometry)
    tunables = attrs.evolve(
        tunables,
        max_ptes_none=tunables.max_ptes_none if none is None else none,
        max_ptes_swap=tunables.max_ptes_swap if swap is None else swap,
        max_ptes_shared=tunables.max_ptes_shared if shared is None else shared,
    ).with_orders(geometry, *((geometry.pmd_order,) if orders is None else orders))
    return Scenario(
        geometry=geometry,
        config=Config() if config is None else config,
        tunables=tunables,
        vmas=(Vma(pages=pages, flags=tuple(sorted(flags)), anon_vma=anon_vma),),
        letters=letters,
        pmd=pmd,
        driver=driver,
        events=events,
        failures=failures,
        contract=contract,
    )


def go(s: Scenario, variant: Variant = v12.VARIANT, poke: Callable[[World], None] | None = None) -> Run:
    """Run ``s``; ``poke`` may first put the world into a state that no letter describes."""

    def poked(scenario: Scenario, chosen: Variant) -> World:
        world = build(scenario, chosen)
        if poke is not None:
            poke(world)
        return world

    with mock.patch("kmm.scenario.run.build", poked):
        return run(s, variant)


@contextmanager
def running(s: Scenario, variant: Variant = v12.VARIANT) -> Iterator[World]:
    """A world at rest in which kernel functions may be called one by one."""
    world = build(s, variant)
    with world.system.running(world.task):
        yield world


def traces(r: Run, name: str) -> list[tuple[object, ...]]:
    """Fields of every trace event of that name; a folio is its label."""
    events = r.world.system.machine.trace_events
    return [tuple(f.label if isinstance(f, Folio) else f for f in fields) for event, fields in events if event == name]


def statuses(r: Run, name: str) -> list[ScanResult]:
    """Results that the trace events of that name show."""
    events = r.world.system.machine.trace_events
    return [f for event, fields in events if event == name for f in fields if isinstance(f, ScanResult)]


def table(world: World) -> PtePage:
    """The owner's table."""
    found = table_of(world.system, world.mm)
    assert isinstance(found, PtePage), "the owner has no table"
    return found


def mapped(r: Run) -> list[str]:
    """What each entry maps: a folio's label, ``.``, ``swap`` or ``zero``."""
    return [_mapped(r.world, pte) for pte in table(r.world)._entries]


def _mapped(world: World, pte: pte_t) -> str:
    if pte_none(pte):
        return "."
    if not pte_present(pte):
        return "swap"
    page = world.system.mem_map.get(pte_pfn(pte))
    return "zero" if page is None else page.folio.label


def folio_of(r: Run | World, index: int) -> Folio:
    """The folio that an entry maps."""
    world = r.world if isinstance(r, Run) else r
    return world.system.mem_map[pte_pfn(table(world)._entries[index])].folio


def reports(r: Run) -> list[tuple[str, str]]:
    """What the sanitizers said."""
    return [(report.check, report.text) for report in r.world.system.machine.reports]


def is_huge(r: Run) -> bool:
    """The owner's PMD entry maps a huge page."""
    found = table_of(r.world.system, r.world.mm)
    return found is not None and not isinstance(found, PtePage)


class Script:
    """A variant whose ``collapse_huge_page`` only notes its attempts and gives the results that it is told."""

    def __init__(self, result: Callable[[int, int], ScanResult]) -> None:
        self.result = result
        self.attempts: list[tuple[int, int]] = []
        self.arguments: list[tuple[int, int]] = []
        self.locked: list[bool] = []

    def collapse_huge_page(
        self,
        mm: MmStruct,
        pmd_address: int,
        referenced: int,
        unmapped: int,
        cc: CollapseControl,
        mmap_locked: Ref[bool],
        order: int,
        offset: int,
    ) -> ScanResult:
        """One attempt."""
        self.attempts.append((order, offset))
        self.arguments.append((referenced, unmapped))
        self.locked.append(mmap_locked.value)
        if mmap_locked.value:
            mmap_read_unlock(mm)
        mmap_locked.value = False
        return self.result(order, offset)

    @property
    def variant(self) -> Variant:
        """The variant."""
        return Variant(name="script", collapse_huge_page=self.collapse_huge_page)


@contextmanager
def as_nobody() -> Iterator[None]:
    """May do what anybody may, even where root runs the tests. What is imported meanwhile must be readable for everybody."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield
    finally:
        os.seteuid(user)
