"""Drive the collapse path: a scan by khugepaged or MADV_COLLAPSE, several passes, or one attempt."""

from __future__ import annotations

import attrs

from kmm.kernel.access import PLAIN
from kmm.kernel.locks import down_read
from kmm.kernel.ref import Ref
from kmm.mm.geometry import HPAGE_PMD_ORDER, HPAGE_PMD_SIZE
from kmm.mm.huge_memory import thp_vma_suitable_order
from kmm.mm.khugepaged.limits import collapse_allowable_orders, collapse_test_exit
from kmm.mm.khugepaged.scan import collapse_single_pmd, madvise_collapse_errno
from kmm.mm.khugepaged.types import CollapseControl, ScanResult
from kmm.mm.mm_types import MmStruct, VmAreaStruct
from kmm.mm.mmap import mmap_read_unlock
from kmm.mm.swap import lru_add_drain_all
from kmm.scenario.build import World
from kmm.scenario.checks import GAP
from kmm.scenario.errors import StepError
from kmm.scenario.model import Driver, DriverKind, Scenario
from kmm.scenario.page import UNMAPPED, Kind


@attrs.define
class Run:
    """A finished run.

    :param outcome: ``returned``, or what ended the task
    :param result: name of the SCAN code; ``not scanned``; empty when the task did not return
    :param errno: MADV_COLLAPSE only: 0 as the empty string
    :param mmap_locked: the out-flag on return
    :param events: what became of each event
    :param steps: what became of each step
    :param actors: what became of each actor
    :param impossible: the step that could not happen
    :param applicable: false when the variant does not do what the scenario asks for
    """

    scenario: Scenario
    world: World
    outcome: str = "returned"
    result: str = ""
    errno: str = ""
    mmap_locked: bool | None = None
    events: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    actors: tuple[str, ...] = ()
    impossible: StepError | None = None
    applicable: bool = True


def drive(out: Run, driver: Driver) -> None:
    """Do what the driver says, and leave in ``out`` what came of it."""
    if driver.kind is DriverKind.DIRECT:
        _attempt(out, driver)
        return
    if driver.kind is DriverKind.STEPS:
        _do_steps(out)
        return
    _visit_table(out, driver)
    collapsed = out.result == ScanResult.SCAN_SUCCEED.name
    for number in range(2, driver.passes + 1):
        before = _occupied(out)
        lru_add_drain_all()
        out.errno = ""
        _visit_table(out, driver)
        if collapsed and _occupied(out) > before and not out.scenario.events and not out.scenario.failures:
            filled = _occupied(out) - before
            text = f"pass {number} fills {filled} holes that the pass before left, and nobody has touched the memory meanwhile"
            out.world.system.machine.report("FIXPOINT", text)
        collapsed = collapsed or out.result == ScanResult.SCAN_SUCCEED.name


def _do_steps(out: Run) -> None:
    from kmm.scenario.steps import Steps

    steps = Steps(out.world)
    try:
        steps.perform(out.scenario.steps)
    finally:
        out.steps = tuple(steps.outcomes)


def _occupied(out: Run) -> int:
    """Pages that the owner has, in memory or in swap."""
    return sum(out.world.mm._rss_stat)


def _visit_table(out: Run, driver: Driver) -> None:
    mm = out.world.mm
    down_read(mm.mmap_lock)
    vma = _visit(out) if driver.kind is DriverKind.KHUGEPAGED else _advise(out)
    if vma is None:
        mmap_read_unlock(mm)
        out.result = "not scanned"
    else:
        _scan(out, vma, is_khugepaged=driver.kind is DriverKind.KHUGEPAGED)


def _visit(out: Run) -> VmAreaStruct | None:
    """The VMA in which khugepaged's loop over VMAs comes to the table; none if the address space has no user any more."""
    base = out.world.system.base
    if collapse_test_exit(out.world.mm):
        return None
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
