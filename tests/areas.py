"""Worlds of several PMD ranges and processes, in which khugepaged and MADV_COLLAPSE are called as the kernel calls them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import attrs

from kmm.kernel.locks import at_quiescence, spin_lock, spin_unlock
from kmm.kernel.ref import Ref
from kmm.kernel.task import Task
from kmm.mm.khugepaged import enter
from kmm.mm.khugepaged.daemon import khugepaged_pass, start_stop_khugepaged
from kmm.mm.khugepaged.scan_mm_slot import collapse_scan_mm_slot
from kmm.mm.khugepaged.types import CollapseControl, ScanResult
from kmm.mm.mm_types import MmStruct
from kmm.mm.pte import pmd_trans_huge
from kmm.mm.sched_mm import mmdrop
from kmm.mm.variant import CollapseSinglePmd, Variant
from kmm.scenario.build import World, build
from kmm.scenario.mm_slots import check_mm_slots
from kmm.scenario.model import Driver, DriverKind, Failure, Geometry, Process, Scenario, Tunables, Vma
from kmm.scenario.place import DRIVER_CPU, OWNER_CPU
from kmm.scenario.quiescence import check_quiescence, pmd_of
from kmm.scenario.step import Step
from refactors import v12

NR: Final = 8
"""Pages of a range in these worlds; a map of three ranges is written ``aaaaaaaa|........|aaaaaaaa``."""
PMD: Final = NR * 4096
BASE: Final = 16 * PMD

HOLES: Final = "." * NR
FULL: Final = "a" * NR
PINNED: Final = "aaapaaaa"
"""Maps of one range; khugepaged refuses the last one, since somebody has a reference to a page."""

khugepaged_enter = vars(enter)["__khugepaged_enter"]
khugepaged_exit = vars(enter)["__khugepaged_exit"]


def areas(
    *maps: str,
    vmas: tuple[Vma, ...] | None = None,
    orders: tuple[int, ...] | None = None,
    none: int | None = None,
    pmd: str = "table",
    failures: tuple[Failure, ...] = (),
    flags: tuple[str, ...] = ("read", "write"),
    ptes: int = NR,
) -> Scenario:
    """One process for each map; all of a map is one VMA.

    :param vmas: those of the first process, in place of one
    """
    pages = [text.replace("|", "") for text in maps]
    ranges = len(pages[0]) // ptes
    geometry = Geometry(ptes=ptes, ranges=ranges)
    tunables = attrs.evolve(Tunables.default(geometry), max_ptes_none=ptes - 1 if none is None else none).with_orders(
        geometry, *(orders or (geometry.pmd_order,))
    )
    whole = [(Vma(pages=text, flags=flags),) for text in pages]
    return Scenario(
        geometry=geometry,
        tunables=tunables,
        vmas=whole[0] if vmas is None else vmas,
        pmd=pmd,
        processes=tuple(Process(vmas=each) for each in whole[1:]),
        driver=Driver(kind=DriverKind.STEPS),
        steps=(Step(op="khugepaged"),),
        failures=failures,
    )


@contextmanager
def khugepaged(s: Scenario, variant: Variant = v12.VARIANT, *, pages: int = 8 * NR, enter: bool = True) -> Iterator[World]:
    """A world in which khugepaged runs, and the block is its task.

    :param pages: ``pages_to_scan``
    :param enter: every process is on its list
    """
    world = build(s, variant)
    this = world.system
    this.sysctl._khugepaged_pages_to_scan = pages
    task = Task("khugepaged", this.machine.cpus[DRIVER_CPU], 0)
    with this.running(task):
        start_stop_khugepaged()
        for mm in this.mms if enter else []:
            khugepaged_enter(mm)
        yield world
        at_quiescence(task)
        check_quiescence(world)
        check_mm_slots(this)


def clean(world: World) -> bool:
    """No sanitizer has anything to say about the system at rest."""
    check_quiescence(world)
    check_mm_slots(world.system)
    return not world.system.machine.reports


def said(world: World) -> list[str]:
    """Which sanitizers spoke."""
    return [report.check for report in world.system.machine.reports]


def scanned(world: World) -> list[str]:
    """Every PMD that was scanned, in order: address space and status."""
    events = world.system.machine.trace_events
    return [
        f"{fields[0].name} {status.name.removeprefix('SCAN_')}"
        for name, fields in events
        if name == "mm_khugepaged_scan_pmd" and isinstance(fields[0], MmStruct)
        for status in fields
        if isinstance(status, ScanResult)
    ]


def passes(world: World, times: int) -> list[list[str]]:
    """Let khugepaged make turns; what each of them scanned."""
    out = []
    for _ in range(times):
        before = len(scanned(world))
        assert khugepaged_pass(), "khugepaged sleeps"
        out.append(scanned(world)[before:])
    return out


def huge(mm: MmStruct) -> list[bool]:
    """Which ranges a huge page maps."""
    return [pmd_trans_huge(pmd_of(mm, number)) for number in range(len(mm._pmds))]


def cursor(world: World) -> tuple[str, int]:
    """Where khugepaged is: the address space (empty: nowhere), and the range."""
    scan = world.system.khugepaged_scan
    return (scan._mm_slot._mm.name if scan._mm_slot is not None else "", max(scan.address - BASE, 0) // PMD)


def listed(world: World) -> list[str]:
    """The address spaces on khugepaged's list."""
    return [slot._mm.name for slot in world.system.khugepaged_scan._mm_head]


def full_scans(world: World) -> int:
    """How often khugepaged reached the end of its list."""
    return world.system.khugepaged_scan._full_scans


def visit(world: World, pages: int = 1000) -> tuple[int, str]:
    """One visit; its progress and result."""
    result = Ref(ScanResult.SCAN_SUCCEED)
    spin_lock(world.system.khugepaged_mm_lock)
    progress = collapse_scan_mm_slot(pages, result, CollapseControl(is_khugepaged=True))
    spin_unlock(world.system.khugepaged_mm_lock)
    return progress, result.value.name.removeprefix("SCAN_")


def set_orders(world: World, mask: int) -> None:
    """The administrator sets which orders are ``always``."""
    world.system.sysctl._huge_anon_orders_always = mask
    assert start_stop_khugepaged() == ""


def exits(world: World, mm: MmStruct) -> None:
    """The last user of an empty address space goes."""
    task = Task("owner", world.system.machine.cpus[OWNER_CPU], mm.ident)
    with world.system.running(task):
        mm._mm_users = 0
        enter.khugepaged_exit(mm)
        mm._vmas = ()
        mmdrop(mm)
    world.system.shadow.clear()


def with_single(single: CollapseSinglePmd) -> Variant:
    """v12 with another ``collapse_single_pmd``."""
    return attrs.evolve(v12.VARIANT, collapse_single_pmd=single)
