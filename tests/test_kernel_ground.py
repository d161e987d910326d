"""The ground: locks and LOCKDEP, labels, the budget, the recorder, KASAN."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kmm.judge.observe import observe
from kmm.kernel import current
from kmm.kernel.access import ONCE, PLAIN, Field, Shared
from kmm.kernel.barrier import call_rcu, rcu_grace_period
from kmm.kernel.bug import BUG_ON, VM_BUG_ON, VM_WARN_ON_ONCE, WARN_ON_ONCE
from kmm.kernel.locks import (
    RwSem,
    SpinLock,
    at_quiescence,
    down_read,
    down_write,
    lockdep_assert_held,
    might_sleep,
    rcu_read_lock,
    rcu_read_unlock,
    spin_lock,
    spin_trylock,
    spin_unlock,
    up_read,
    up_write,
)
from kmm.kernel.machine import Machine
from kmm.kernel.record import Recorder
from kmm.kernel.ref import Ref
from kmm.kernel.stop import Bug, Deadlock, Hang, Label, WouldBlock, goto
from kmm.kernel.task import Task
from kmm.mm.khugepaged.types import ScanResult
from kmm.mm.mm_types import MmStruct
from kmm.mm.mmap import mmap_read_unlock
from kmm.mm.variant import Variant
from kmm.scenario.run import run
from refactors import v12
from tests.helpers import direct, make


class Thing(Shared):
    """Something shared."""

    __slots__ = ("_count", "_items")
    count: Field[int] = Field()
    items: Field[list[int]] = Field()

    def __init__(self) -> None:
        self.freed_by = ""
        self._count = 0
        self._items = [0, 0]


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine with one running task."""
    made = Machine(page_size=4096, ptes=8, lru_batch=31, debug_vm=True, split_ptlocks=True, tlb="broadcast", arch="x86", budget=1000)
    with made.running(Task("task", made.cpus[0], 1)):
        yield made


def said(machine: Machine) -> list[str]:
    """Reports as one text each."""
    return [f"{report.check}: {report.text}" for report in machine.reports]


def test_accesses(machine: Machine) -> None:
    thing = Thing()
    machine.write(thing, Thing.count, 3, PLAIN)
    assert (machine.read(thing, Thing.count, ONCE), thing.count) == (3, 3)
    assert machine.rmw(thing, Thing.count, lambda n: n * 2, ONCE) == 3
    assert machine.fetch_add(thing, Thing.count, -1) == 6
    assert machine.rmw_item(thing, Thing.items, 1, lambda n: n + 7, ONCE) == 0
    assert (thing.count, machine.read_item(thing, Thing.items, 1, PLAIN)) == (5, 7)
    assert machine.budget == 1000 - 8, "every access is a step"
    with pytest.raises(AttributeError):
        thing.count = 1  # type: ignore[misc]


def test_kasan_reports_and_goes_on(machine: Machine) -> None:
    thing = Thing()
    thing.freed_by = "kfree"
    assert thing.count == 0
    machine.write_item(thing, Thing.items, 0, 1, PLAIN)
    assert thing._items == [1, 0]
    expected = ["count", "items"]
    assert [text.split(" touches ")[1] for text in said(machine)] == [f"{name} of Thing, which kfree freed" for name in expected]


def test_budget(machine: Machine) -> None:
    thing = Thing()
    machine.budget = 2
    assert (thing.count, thing.count) == (0, 0)
    with pytest.raises(Hang, match=r"^HANG: the budget of accesses is used up$"):
        machine.read(thing, Thing.count, PLAIN)


def variant(collapse_huge_page: object) -> Variant:
    """A variant out of any function."""
    return Variant(name="test", collapse_huge_page=collapse_huge_page)  # type: ignore[arg-type]


def test_a_variant_that_spins_hangs() -> None:
    def spin(mm: MmStruct, *rest: object) -> None:
        while mm.mm_users:
            pass

    assert run(make("aaaaaaaa", direct(3)), variant(spin)).outcome == "HANG: the budget of accesses is used up"


def test_spinlock(machine: Machine) -> None:
    lock = SpinLock("pte_lock")
    assert spin_trylock(lock)
    assert not spin_trylock(lock)
    with pytest.raises(Deadlock, match=r"DEADLOCK: .* waits for pte_lock"):
        spin_lock(lock)
    assert said(machine) == ["LOCKDEP: test_spinlock takes pte_lock, which its task already holds"]
    spin_unlock(lock)
    spin_unlock(lock)
    assert said(machine)[1:] == ["LOCKDEP: test_spinlock releases pte_lock (write), which its task does not hold"]


def test_rwsem(machine: Machine) -> None:
    sem = RwSem("mmap_lock")
    down_read(sem)
    other = Task("other", machine.cpus[1], 0, may_block=False)
    with machine.running(other):
        down_read(sem)
        up_read(sem)
        with pytest.raises(WouldBlock, match=r"mmap_lock is held"):
            down_write(sem)
        up_read(sem)
    assert said(machine) == ["LOCKDEP: test_rwsem releases mmap_lock (read), which its task does not hold"]
    up_read(sem)
    down_write(sem)
    with machine.running(other), pytest.raises(WouldBlock):
        down_read(sem)
    up_write(sem)
    assert (sem.writer, sem.readers) == (None, [])


def test_lockdep_order(machine: Machine) -> None:
    mmap, anon, pmd, pte = RwSem("mmap_lock"), RwSem("anon_vma"), SpinLock("pmd_lock"), SpinLock("pte_lock")
    down_write(mmap)
    down_write(anon)
    spin_lock(pmd)
    spin_lock(pte)
    assert said(machine) == []
    spin_unlock(pmd)
    spin_lock(pmd)
    assert said(machine) == ["LOCKDEP: test_lockdep_order takes pmd_lock inside pte_lock: wrong order"]


def test_lockdep_held(machine: Machine) -> None:
    sem = RwSem("mmap_lock")
    down_read(sem)
    lockdep_assert_held(sem)
    assert said(machine) == []
    lockdep_assert_held(sem, "write")
    assert said(machine) == ["LOCKDEP: test_lockdep_held runs without mmap_lock held for write"]


def test_sleeping_where_one_must_not(machine: Machine) -> None:
    lock = SpinLock("pte_lock")
    might_sleep()
    assert said(machine) == []
    spin_lock(lock)
    might_sleep()
    spin_unlock(lock)
    rcu_read_lock()
    might_sleep()
    rcu_read_unlock()
    sleeps = "LOCKDEP: test_sleeping_where_one_must_not may sleep inside"
    assert said(machine) == [f"{sleeps} a spinlock", f"{sleeps} an RCU read section"]


def test_rcu(machine: Machine) -> None:
    done: list[str] = []
    call_rcu(lambda: done.append("callback"))
    assert done == []
    rcu_grace_period()
    rcu_grace_period()
    assert done == ["callback"]
    rcu_read_unlock()
    assert said(machine) == ["LOCKDEP: test_rcu leaves an RCU read section that it never entered"]


def test_at_quiescence(machine: Machine) -> None:
    down_read(RwSem("mmap_lock"))
    rcu_read_lock()
    current.task.irqs_off = True
    at_quiescence(current.task)
    assert said(machine) == [
        "LOCKDEP: task returns with mmap_lock held for read",
        "LOCKDEP: task returns inside an RCU read section",
        "LOCKDEP: task returns with interrupts disabled",
    ]


def test_labels() -> None:
    """A jump leaves its block, and only its own."""
    passed: list[str] = []
    with Label("outer") as outer:
        with Label("inner") as inner:
            if not passed:
                passed.append("before")
                goto(inner)
            passed.append("skipped")
        passed.append("inner:")
        with Label("inner"):
            goto(outer)
        passed.append("skipped")
    passed.append("outer:")
    assert passed == ["before", "inner:", "outer:"]


def test_a_label_is_not_caught_by_accident() -> None:
    with Label("out") as out:
        try:
            goto(out)
        except Exception:
            pytest.fail("a label is no Exception")
    with pytest.raises(Label):
        goto(out)


def test_bug_and_warn(machine: Machine) -> None:
    BUG_ON(False, "x")
    assert WARN_ON_ONCE(True, "x")
    WARN_ON_ONCE(True, "x")
    VM_WARN_ON_ONCE(True, "y")
    assert machine.warnings == [("test_bug_and_warn", "x"), ("test_bug_and_warn", "y")], "once for each function and condition"
    with pytest.raises(Bug, match=r"^BUG in test_bug_and_warn: z$"):
        VM_BUG_ON(True, "z")
    machine.debug_vm = False
    VM_BUG_ON(True, "z")
    VM_WARN_ON_ONCE(True, "w")
    assert len(machine.warnings) == 2
    with pytest.raises(Bug):
        BUG_ON(True, "z")


def test_recorder(machine: Machine) -> None:
    machine.recorder = Recorder()
    thing, lock = Thing(), SpinLock("pte_lock")
    spin_lock(lock)
    machine.write(thing, Thing.count, 65536, PLAIN)
    machine.write_item(thing, Thing.items, 1, 5, PLAIN)
    spin_unlock(lock)
    machine.trace("event", 1)
    machine.report("KASAN", "sentence")
    assert [step.text for step in machine.recorder.steps] == [
        "spin_lock pte_lock",
        "Thing.count = 0x10000",
        "Thing.items[1] = 5",
        "spin_unlock pte_lock",
        "trace event (1,)",
        "KASAN: sentence",
    ]
    assert machine.recorder.steps[1].stack[0][2] == "test_recorder"


def test_a_recorded_run_is_the_same_run() -> None:
    s = make("aazs2222", direct(3))
    assert observe(run(s, v12.VARIANT, record=True)) == observe(run(s, v12.VARIANT))


def test_one_run_at_a_time(machine: Machine) -> None:
    other = Machine(page_size=4096, ptes=16, lru_batch=31, debug_vm=True, split_ptlocks=True, tlb="ipi", arch="x86", budget=9)
    with other.running(Task("other", other.cpus[1], 0)):
        assert (current.machine, current.cpu.number) == (other, 1)
    assert (current.machine, current.cpu.number) == (machine, 0)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ValueError("odd"), "ValueError in crash:1: odd"),
        (SystemExit(3), "SystemExit in crash:1: 3"),
        (UnboundLocalError("local 'x'"), "uninitialised use in crash:1: local 'x'"),
        (Label("out"), "goto out of its block in crash:1"),
        (RecursionError("deep"), "RecursionError in crash:1: deep"),
    ],
)
def test_a_crash_is_an_observation(error: BaseException, outcome: str) -> None:
    names: dict[str, object] = {"error": error}
    exec("def crash(*args): raise error", names)
    assert run(make("aaaaaaaa", direct(3)), variant(names["crash"])).outcome == outcome


@pytest.mark.parametrize("unlocks", [True, False])
@pytest.mark.parametrize("flag", [True, False])
def test_mmap_locked_must_tell_the_truth(unlocks: bool, flag: bool) -> None:
    def attempt(*arguments: object) -> ScanResult:
        mm, mmap_locked = arguments[0], arguments[5]
        assert isinstance(mm, MmStruct)
        assert isinstance(mmap_locked, Ref)
        if unlocks:
            mmap_read_unlock(mm)
        mmap_locked.value = flag
        return ScanResult.SCAN_FAIL

    reports = run(make("aaaaaaaa", direct(3)), variant(attempt)).world.system.machine.reports
    assert [report.check for report in reports][:1] == ([] if unlocks != flag else ["LOCKDEP"])
    lie = f"mmap_locked is {flag} on return, but the lock is {'not ' if unlocks else ''}held"
    assert [report.text for report in reports][:1] == ([] if unlocks != flag else [lie])
