"""Who is on khugepaged's list: entering it and leaving it (reference, sections 2.2 and 2.5)."""

from __future__ import annotations

import attrs
import pytest

from kmm.kernel.stop import Bug
from kmm.kernel.task import Task
from kmm.mm.khugepaged.enter import hugepage_enabled, khugepaged_enter_vma, khugepaged_fork
from kmm.mm.khugepaged.mm_slot import KhugepagedMmSlot, KhugepagedScan, KhugepagedThread
from kmm.mm.mm_types import MMF_VM_HUGEPAGE, VM_HUGEPAGE, VM_NOHUGEPAGE
from kmm.mm.sched_mm import mmdrop
from kmm.scenario.model import Vma
from kmm.scenario.place import OWNER_CPU
from tests.areas import (
    FULL,
    HOLES,
    areas,
    cursor,
    exits,
    full_scans,
    khugepaged,
    khugepaged_enter,
    khugepaged_exit,
    listed,
    passes,
    said,
)


@pytest.mark.parametrize(
    ("always", "madvise", "inherit", "enabled", "expected"),
    [
        (0, 0, 0, "always", False),
        (8, 0, 0, "never", True),
        (4, 0, 0, "never", True),
        (0, 4, 0, "never", True),
        (0, 0, 8, "never", False),
        (0, 0, 8, "madvise", True),
        (0, 0, 4, "always", True),
    ],
)
def test_which_switches_make_khugepaged_run(always: int, madvise: int, inherit: int, enabled: str, expected: bool) -> None:
    with khugepaged(areas(FULL), enter=False) as world:
        sysctl = world.system.sysctl
        sysctl._huge_anon_orders_always, sysctl._huge_anon_orders_madvise = always, madvise
        sysctl._huge_anon_orders_inherit, sysctl._enabled = inherit, enabled
        assert hugepage_enabled() == expected


def test_registering() -> None:
    """Flag, slot at the tail, a reference; only the first one wakes khugepaged."""
    with khugepaged(areas(HOLES, HOLES), enter=False) as world:
        this = world.system
        first, second = this.mms
        khugepaged_enter(first)
        assert (listed(world), first._flags & MMF_VM_HUGEPAGE, first._mm_count) == (["mm1"], MMF_VM_HUGEPAGE, 2)
        assert this.khugepaged_thread._woken
        this.khugepaged_thread._woken = False
        khugepaged_enter(second)
        assert (listed(world), second._mm_count) == (["mm1", "mm2"], 2)
        assert not this.khugepaged_thread._woken
    assert said(world) == []


def test_registering_twice_is_once() -> None:
    with khugepaged(areas(HOLES)) as world:
        khugepaged_enter(world.mm)
        khugepaged_enter(world.mm)
        assert (listed(world), world.mm._mm_count, world.system.slot_allocations) == (["mm1"], 2, 1)
    assert said(world) == []


def test_without_a_slot_the_address_space_is_never_scanned() -> None:
    """At the v12 base the flag comes first (patch 01/15)."""
    with khugepaged(areas(FULL, failures=()), enter=False) as world:
        world.system.injected = attrs.evolve(world.system.injected, slot=frozenset({1}))
        khugepaged_enter(world.mm)
        assert (listed(world), world.mm._flags & MMF_VM_HUGEPAGE, world.mm._mm_count) == ([], MMF_VM_HUGEPAGE, 1)
        khugepaged_enter_vma(world.vma, world.vma._vm_flags)
        khugepaged_enter(world.mm)
        assert (listed(world), world.system.slot_allocations) == ([], 1)
    assert said(world) == []


def test_registering_an_address_space_without_users_is_a_bug() -> None:
    with khugepaged(areas(HOLES), enter=False) as world:
        world.mm._mm_users = 0
        with pytest.raises(Bug, match="collapse_test_exit"):
            khugepaged_enter(world.mm)
        world.mm._mm_users = 1
    assert said(world) == ["DEBUG_VM"]


def test_a_vma_registers_its_address_space_if_it_may_collapse() -> None:
    with khugepaged(areas(HOLES), enter=False) as world:
        khugepaged_enter_vma(world.vma, world.vma._vm_flags | VM_NOHUGEPAGE)
        assert listed(world) == [], "the flags that it is about to get count"
        world.system.sysctl._huge_anon_orders_always = 0
        khugepaged_enter_vma(world.vma, world.vma._vm_flags)
        assert listed(world) == [], "no size is enabled"
        world.system.sysctl._huge_anon_orders_madvise = 1 << 2
        khugepaged_enter_vma(world.vma, world.vma._vm_flags)
        assert listed(world) == []
        khugepaged_enter_vma(world.vma, world.vma._vm_flags | VM_HUGEPAGE)
        assert listed(world) == ["mm1"], "any size will do (patch 14/15)"
    assert said(world) == []


def test_a_vma_without_anon_vma_does_not_register() -> None:
    s = areas(HOLES, vmas=(Vma(pages=HOLES, anon_vma=False),))
    with khugepaged(s, enter=False) as world:
        khugepaged_enter_vma(world.vma, world.vma._vm_flags)
        assert listed(world) == []


def test_a_child_is_registered_if_its_parent_is() -> None:
    with khugepaged(areas(HOLES, HOLES), enter=False) as world:
        parent, child = world.system.mms
        khugepaged_fork(child, parent)
        assert listed(world) == []
        khugepaged_enter(parent)
        khugepaged_fork(child, parent)
        assert listed(world) == ["mm1", "mm2"]
    assert said(world) == []


def test_exit_takes_an_address_space_off_the_list() -> None:
    with khugepaged(areas(HOLES, HOLES)) as world:
        mm = world.mm
        exits(world, mm)
        assert (listed(world), mm._flags & MMF_VM_HUGEPAGE, mm.freed_by) == (["mm2"], 0, "mmdrop")
        assert passes(world, 1) == [["mm2 EXCEED_NONE_PTE"]]
    assert said(world) == []


def test_exit_of_the_address_space_under_scan_leaves_the_slot_to_khugepaged() -> None:
    with khugepaged(areas(f"{HOLES}|{HOLES}", f"{HOLES}|{HOLES}"), pages=1) as world:
        mm = world.mm
        passes(world, 1)
        assert cursor(world) == ("mm1", 1)
        owner = Task("owner", world.system.machine.cpus[OWNER_CPU], 1)
        with world.system.running(owner):
            mm._mm_users = 0
            khugepaged_exit(mm)
            mm._vmas = ()
            mmdrop(mm)
        world.system.shadow.clear()
        assert [op for op, kind in owner.lock_ops if kind == "mmap_lock"] == ["down_write", "up_write"], "it waits for khugepaged"
        assert (listed(world), mm._mm_count, mm.freed_by) == (["mm1", "mm2"], 1, "")
        assert passes(world, 1) == [[]]
        assert (listed(world), mm.freed_by, cursor(world)[0], full_scans(world)) == (["mm2"], "mmdrop", "mm2", 0)
    assert said(world) == []


def test_before_khugepaged_starts() -> None:
    """A fresh machine: nothing on the list, no scan was finished, the thread does not run and nobody woke it."""
    with khugepaged(areas(FULL), enter=False) as world:
        scan, thread = KhugepagedScan(), KhugepagedThread()
        assert (scan.name, scan.mm_head, scan.mm_slot, scan.mm_slots_hash) == ("khugepaged_scan", (), None, {})
        assert (scan.full_scans, scan.address) == (0, 0)
        assert thread.name == "khugepaged_thread"
        assert thread.collapse_control.is_khugepaged
        assert [thread.running, thread.scanning, thread.should_stop, thread.woken] == [False] * 4
        assert (thread.waits, thread.timeout, thread.sleep_expire) == ("", 0, 0)
        assert KhugepagedMmSlot(world.mm).name == f"slot of mm{world.mm.ident}"
