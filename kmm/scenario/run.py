"""Run a scenario against a variant."""

from __future__ import annotations

import re
import sys
import traceback
from types import TracebackType

import attrs

from kmm.kernel.access import PLAIN
from kmm.kernel.locks import at_quiescence, down_read
from kmm.kernel.record import Recorder
from kmm.kernel.ref import Ref
from kmm.kernel.stop import Label, NotApplicable, Stop
from kmm.mm.geometry import HPAGE_PMD_ORDER, HPAGE_PMD_SIZE
from kmm.mm.huge_memory import thp_vma_suitable_order
from kmm.mm.khugepaged.limits import collapse_allowable_orders
from kmm.mm.khugepaged.scan import collapse_single_pmd, madvise_collapse_errno
from kmm.mm.khugepaged.types import CollapseControl, ScanResult
from kmm.mm.mm_types import MmStruct, VmAreaStruct
from kmm.mm.mmap import mmap_read_unlock
from kmm.mm.variant import Variant
from kmm.scenario.build import World, build
from kmm.scenario.events import Events
from kmm.scenario.model import GAP, Driver, DriverKind, Scenario
from kmm.scenario.page import UNMAPPED, Kind
from kmm.scenario.quiescence import check_quiescence


@attrs.define
class Run:
    """A finished run.

    :param outcome: ``returned``, or what ended the task
    :param result: name of the SCAN code; ``not scanned``; empty when the task did not return
    :param errno: MADV_COLLAPSE only: 0 as the empty string
    :param mmap_locked: the out-flag on return
    :param events: what became of each event
    :param applicable: false when the variant does not do what the scenario asks for
    """

    scenario: Scenario
    world: World
    outcome: str = "returned"
    result: str = ""
    errno: str = ""
    mmap_locked: bool | None = None
    events: tuple[str, ...] = ()
    applicable: bool = True


def run(scenario: Scenario, variant: Variant, *, record: bool = False, budget_factor: int = 1) -> Run:
    """Run ``scenario`` once. Everything the variant does, crashes included, is part of the value.

    :param record: keep the log of steps, for an explanation
    :param budget_factor: how many times the usual budget of accesses the task has
    """
    world = build(scenario, variant)
    machine = world.system.machine
    machine.budget *= budget_factor
    if record:
        machine.recorder = Recorder()
    out = Run(scenario, world)
    events = Events(world, scenario.events) if scenario.events else None
    if events is not None:
        machine.at_point = events.at_point
    with world.system.running(world.task):
        try:
            _drive(out, scenario.driver)
        except KeyboardInterrupt:
            raise
        except NotApplicable:
            out.applicable = False
        except Stop as stop:
            out.outcome = str(stop)
        except BaseException as error:
            out.outcome = _crash(error)
        machine.at_point = None
        machine.budget = sys.maxsize
        if events is not None:
            out.events = tuple(events.outcomes)
        if out.outcome == "returned" and out.applicable:
            at_quiescence(world.task)
            check_quiescence(world)
    return out


def _crash(error: BaseException) -> str:
    """What an exception of the variant's code is, in the observation's words."""
    where = _innermost(error.__traceback__)
    if isinstance(error, Label):
        return f"goto out of its block in {where}"
    if isinstance(error, UnboundLocalError):
        return f"uninitialised use in {where}: {error}"
    text = re.sub(r" at 0x[0-9a-f]+", "", str(error))
    return f"{type(error).__name__} in {where}: {text}"


def _innermost(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)
    return f"{frames[-1].name}:{frames[-1].lineno}" if frames else "?"


def _drive(out: Run, driver: Driver) -> None:
    if driver.kind is DriverKind.DIRECT:
        _attempt(out, driver)
        return
    mm = out.world.mm
    down_read(mm.mmap_lock)
    vma = _visit(out) if driver.kind is DriverKind.KHUGEPAGED else _advise(out)
    if vma is None:
        mmap_read_unlock(mm)
        out.result = "not scanned"
    else:
        _scan(out, vma, is_khugepaged=driver.kind is DriverKind.KHUGEPAGED)


def _visit(out: Run) -> VmAreaStruct | None:
    """The VMA in which khugepaged's loop over VMAs comes to the table."""
    base = out.world.system.base
    for vma in _vmas(out):
        if collapse_allowable_orders(vma, vma.vm_flags, True) and thp_vma_suitable_order(vma, base, HPAGE_PMD_ORDER()):
            return vma
    return None


def _advise(out: Run) -> VmAreaStruct | None:
    """The VMA for which MADV_COLLAPSE of the table's range comes to the table; else the errno is set.

    A VMA without an allowed order ends the call, and so does one of which less than a page of a PMD is asked for; one in which the
    range ends where a PMD begins has nothing to do. A hole is remembered.
    """
    base, size = out.world.system.base, HPAGE_PMD_SIZE()
    end = base
    for vma in _vmas(out):
        out.errno = out.errno if vma.vm_start <= end else "ENOMEM"
        start, end = max(vma.vm_start, base), min(vma.vm_end, base + size)
        hstart, hend = -(-start // size) * size, end // size * size
        if not collapse_allowable_orders(vma, vma.vm_flags, False) or hend < hstart:
            out.errno = "EINVAL"
            return None
        if hstart < hend:
            return vma
    out.errno = out.errno if end == base + size else "ENOMEM"
    return None


def _vmas(out: Run) -> tuple[VmAreaStruct, ...]:
    return out.world.system.machine.read(out.world.mm, MmStruct.vmas, PLAIN)


def _scan(out: Run, vma: VmAreaStruct, *, is_khugepaged: bool) -> None:
    """One table, under the mmap read lock."""
    single = out.world.system.variant.collapse_single_pmd or collapse_single_pmd
    mmap_locked = Ref(True)
    result = single(out.world.system.base, vma, mmap_locked, CollapseControl(is_khugepaged=is_khugepaged))
    _returned(out, result, mmap_locked)
    if not is_khugepaged and result not in (ScanResult.SCAN_SUCCEED, ScanResult.SCAN_PMD_MAPPED):
        out.errno = madvise_collapse_errno(result)


def _attempt(out: Run, driver: Driver) -> None:
    """One call of collapse_huge_page."""
    world, scenario = out.world, out.scenario
    mm = world.mm
    cc = CollapseControl(is_khugepaged=driver.is_khugepaged)
    referenced, unmapped = _as_scanned(scenario, cc)
    if driver.mmap_locked:
        down_read(mm.mmap_lock)
    mmap_locked = Ref(driver.mmap_locked)
    result = world.system.variant.collapse_huge_page(
        mm,
        world.system.base + driver.misalign * scenario.geometry.page_size,
        referenced if driver.referenced is None else driver.referenced,
        unmapped if driver.unmapped is None else driver.unmapped,
        cc,
        mmap_locked,
        driver.order if driver.order is not None else scenario.geometry.pmd_order,
        driver.offset,
    )
    _returned(out, result, mmap_locked)


def _as_scanned(scenario: Scenario, cc: CollapseControl) -> tuple[int, int]:
    """What a scan of the whole table counts: (referenced, unmapped); the node load goes into ``cc``."""
    alphabet = scenario.alphabet()
    referenced = unmapped = 0
    for letter in scenario.pages:
        if letter == GAP:
            continue
        page = alphabet[letter]
        if page.kind in UNMAPPED:
            unmapped += 1
        elif page.kind is Kind.PRESENT:
            cc.node_load[page.node] += 1
            referenced += cc.is_khugepaged and (page.young or page.referenced or page.secondary_young)
    return referenced, unmapped


def _returned(out: Run, result: object, mmap_locked: Ref[bool]) -> None:
    world = out.world
    out.result = result.name if isinstance(result, ScanResult) else f"not a result: {result!r}"
    out.mmap_locked = mmap_locked.value
    held = any(lock is world.mm.mmap_lock for lock, _ in world.task.held)
    if held != bool(mmap_locked.value):
        world.system.machine.report(
            "LOCKDEP", f"mmap_locked is {mmap_locked.value} on return, but the lock is {'' if held else 'not '}held"
        )
    if held and mmap_locked.value:
        mmap_read_unlock(world.mm)
