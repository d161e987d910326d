"""Run a scenario against a variant."""

from __future__ import annotations

import re
import sys
import traceback
from types import TracebackType

import attrs

from kmm.kernel.locks import at_quiescence, down_read
from kmm.kernel.record import Recorder
from kmm.kernel.ref import Ref
from kmm.kernel.stop import Label, NotApplicable, Stop
from kmm.mm.khugepaged.limits import collapse_allowable_orders
from kmm.mm.khugepaged.scan import collapse_single_pmd, madvise_collapse_errno
from kmm.mm.khugepaged.types import CollapseControl, ScanResult
from kmm.mm.mmap import find_vma, mmap_read_unlock
from kmm.mm.variant import Variant
from kmm.scenario.build import World, build
from kmm.scenario.events import Events
from kmm.scenario.model import Driver, DriverKind, Scenario
from kmm.scenario.page import Kind
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
    else:
        _scan(out, is_khugepaged=driver.kind is DriverKind.KHUGEPAGED)


def _scan(out: Run, *, is_khugepaged: bool) -> None:
    """One table, as the daemon's loop or madvise_collapse visits it."""
    mm = out.world.mm
    base = out.world.system.base
    down_read(mm.mmap_lock)
    vma = find_vma(mm, base)
    if vma is None or not collapse_allowable_orders(vma, vma.vm_flags, is_khugepaged):
        mmap_read_unlock(mm)
        out.result = "not scanned"
        out.errno = "" if is_khugepaged else "EINVAL"
        return
    single = out.world.system.variant.collapse_single_pmd or collapse_single_pmd
    mmap_locked = Ref(True)
    result = single(base, vma, mmap_locked, CollapseControl(is_khugepaged=is_khugepaged))
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
    for letter in scenario.vmas[0].pages:
        page = alphabet[letter]
        if page.kind is Kind.SWAP:
            unmapped += 1
        elif page.kind is Kind.PRESENT:
            cc.node_load[page.node] += 1
            referenced += cc.is_khugepaged and (page.young or page.referenced)
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
