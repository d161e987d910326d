"""What several tasks share is visible to the search: schedules that differ in the order of independent steps only come to the same.

A Python list that two tasks change, or a number that depends on who came first, makes two of them differ.
"""

from __future__ import annotations

import importlib
import pkgutil
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final, cast
from unittest import mock

import attrs
import pytest

import kmm.mm
from kmm.explore import ExploringMachine, Schedule, explore, replay
from kmm.explore.budget import Budget
from kmm.explore.explore import Explorer, once
from kmm.explore.proc import Proc
from kmm.explore.run import Run as Execution
from kmm.explore.sample import SAMPLERS, sampler
from kmm.explore.trace import Trace
from kmm.judge.observe import observe
from kmm.kernel import current
from kmm.kernel.access import Field, Shared
from kmm.kernel.locks import Lock
from kmm.mm import deferred_split, fbatch, memcontrol, migration_end, swapfile, system
from kmm.mm.khugepaged.mm_slot import KhugepagedScan
from kmm.mm.mm_types import AnonVma
from kmm.mm.percpu import RANGE
from kmm.mm.system import DeferredSplit, SwapSlot, System
from kmm.scenario.build import build
from kmm.scenario.concurrent import Concurrent
from kmm.scenario.drive import Run
from kmm.scenario.model import Failure, Scenario
from refactors import v12
from tests.concurrent.making import alone, beside
from tests.port.merging import EQUAL, MERGEABLE
from tests.test_sanitizers import recompiled

SAMPLES: Final = 40

PAIRS: Final = {
    "fault, fault": alone("store:0", "store:0", pages="........"),
    "fault, fault elsewhere": alone("store:0", "store:1", pages="........"),
    "fault, zero page": alone("store:0", "load:0", pages="........"),
    "swap-in, swap-in": alone("load:0", "load:0", pages="wwaaaaaa"),
    "swap-in, swap-in from the cache": alone("load:0", "store:0", pages="vwaaaaaa"),
    "swap-in, zap": alone("load:0", "madvise:0-1:dontneed", pages="wvaaaaaa"),
    "swap-out, swap-out": alone("swapout:0", "swapout:1"),
    "swap-out, load": alone("swapout:0", "load:0"),
    "swap-out, store": alone("swapout:0", "store:0"),
    "swap-out, mlock": alone("swapout:0", "mlock:0-1"),
    "swap-out, unmap": alone("swapout:3", "munmap:0-1"),
    "fork, store": alone("fork", "store:0"),
    "fork, fork": alone("fork", "fork", pages="aaaa...."),
    "fork, pin": alone("fork", "pin:0"),
    "zap, load": alone("madvise:0-1:dontneed", "load:0"),
    "zap, store": alone("madvise:0-1:dontneed", "store:0"),
    "zap, zap": alone("madvise:0-3:dontneed", "madvise:2-5:dontneed"),
    "drain, fault": alone("drain", "store:0", pages="........"),
    "drain, drain": alone("drain", "drain", pages="bbbbbbbb"),
    "drain, free": alone("drain", "madvise:0-1:free"),
    "drain, munlock": alone("drain", "munlock:0-1", pages="llllaaaa", flags=("locked", "read", "write")),
    "two wait for a migration": alone("load:0", "store:0", pages="Maaaaaaa"),
    "shrink, zap": alone("shrink", "madvise:0-3:dontneed", pages="3333aaaa"),
    "shrink, zap of the rest": alone("shrink", "madvise:0-2:dontneed", pages="333.aaaa"),
    "swap-in, swap-in of another process": alone("load:0", "load@2:0", pages="yaaaaaaa"),
    "three: fault, drain, zap": alone("store:0", "drain", "madvise:0-1:dontneed", pages=".aaaaaaa"),
    "shrink, split": alone("split:0", "shrink", pages="3333aaaa"),
    "age, secondary young": alone("age:0", "age:0", pages="YYaaaaaa"),
    "limit, charge": alone("cgroup:memory.max=4096", "store:0", pages="........"),
    "khugepaged ends, khugepaged": alone("sysfs:enabled=never", "khugepaged"),
    "khugepaged, fork": alone("khugepaged", "fork"),
    "khugepaged, exit": alone("khugepaged", "exit"),
    "protect, store": alone("mprotect:0-3:read", "store:0"),
    "move, load": alone("mremap:0-1>6", "load:0", pages="aaaaaa.."),
    "KSM, store": alone("ksm:0-1", "store:1", pages="EEaaaaaa", flags=MERGEABLE, letters=(("E", EQUAL),)),
    "KSM, KSM": alone("ksm:0-1", "ksm:0-1", pages="EEaaaaaa", flags=MERGEABLE, letters=(("E", EQUAL),)),
    "memory failure, load": alone("memory_failure:0", "load:0"),
    "memory failure, swap-out": alone("memory_failure:0", "swapout:0"),
    "collapse, store": beside("store:0"),
    "collapse, fault": beside("store:7", pages="aaaaaaa."),
    "collapse, zap": beside("madvise:0-1:dontneed"),
    "collapse, swap-out": beside("swapout:0"),
    "collapse, failing for it only": attrs.evolve(beside("store:7", pages="aaaaaaa."), failures=(Failure(kind="alloc", nth=1),)),
}


class Anything(set[str]):
    """Has every name."""

    def __contains__(self, name: object) -> bool:
        return True

    def __bool__(self) -> bool:
        return True


class EveryObject(dict[str, set[str]]):
    """Of every object every field counts as shared: tasks may switch before each access, not only where they are known to meet."""

    def get(self, key: str, default: object = None) -> set[str]:
        return Anything()


class Otherwise:
    """The steps of a trace in another order, in which what depends on another step still comes after it.

    :param rng: only ``random()`` is called
    """

    def __init__(self, rng: random.Random, trace: Trace) -> None:
        self.rng = rng
        self.before = trace.before
        self.events: dict[str, list[int]] = {}
        for event, who in enumerate(trace.who):
            self.events.setdefault(who, []).append(event)
        self.made: Counter[str] = Counter()
        self.done = 0

    def choose(self, run: Execution) -> Proc | None:
        """Any whose next step nothing keeps back."""
        for who in run.trace.who[self.made.total() :]:
            self.done |= 1 << self.events[who][self.made[who]]
            self.made[who] += 1
        free = [proc for proc in run.enabled() if self._is_next(proc.name)]
        return free[int(self.rng.random() * len(free))] if free else None

    def _is_next(self, who: str) -> bool:
        events = self.events.get(who, [])
        number = self.made[who]
        return number < len(events) and not self.before[events[number]] & ~self.done


def differing(s: Scenario, samples: int = SAMPLES) -> list[Run]:
    """Two runs that had the same trace, but not the same observation; none, if there are no such."""
    program = Concurrent(s, v12.VARIANT, lambda run: observe(run).canonical())
    explorer = Explorer(program, "sc", Budget(None, None), 1)
    explorer.sharing.fields = EveryObject()
    profile, traces = explorer.learn(), set()
    for number in range(samples):
        strategy = sampler(list(SAMPLERS)[number % len(SAMPLERS)], 0, number, profile)
        run, outcome = once(program, strategy, explorer.sharing, memory="sc")
        first = program.run
        traces.add(run.trace.canonical())
        other, again = once(program, Otherwise(random.Random(number), run.trace), explorer.sharing, memory="sc")
        if other.trace.canonical() != run.trace.canonical() or again != outcome:
            return [first, program.run]
    assert len(traces) > 1, "one task does not notice the other"
    return []


@pytest.mark.parametrize("name", PAIRS)
def test_equivalent_schedules_come_to_the_same(name: str) -> None:
    assert [observe(run) for run in differing(PAIRS[name])] == []


@pytest.mark.full
@pytest.mark.parametrize("name", PAIRS)
def test_many_equivalent_schedules_come_to_the_same(name: str) -> None:
    assert [observe(run) for run in differing(PAIRS[name], 200)] == []


ADD = "batch = machine.rmw(system.this.per_cpu[current.cpu.number], field, add, RELEASE)"
ADDS_UNSEEN = "cpu = system.this.per_cpu[current.cpu.number]; batch = getattr(cpu, field.slot); setattr(cpu, field.slot, add(batch))"
TAKE = "machine.rmw(cpu, field, _nothing, ACQUIRE)"
TAKES_UNSEEN = "(getattr(cpu, field.slot), setattr(cpu, field.slot, ()))[0]"
COUNT = "return current.machine.read(system.this.swap[offset], _count, ONCE)"
FREE = "current.machine.fetch_add(system.this.swap[offset], _count, -1) <= 0"
FREES_UNSEEN = "setattr(system.this.swap[offset], '_count', system.this.swap[offset]._count - 1)"
MINE = "return this.per_cpu[0 if current.machine.scheduler is None else current.cpu.number]"
DRIVER = "return current.machine.scheduler is None or current.cpu.number == this.driver_cpu"
ONE_FAILS = attrs.evolve(alone("store:0", "store:1", pages="........"), failures=(Failure(kind="alloc", nth=1),))

INVISIBLE: Final = (
    (fbatch.fbatch_add, ADD, ADDS_UNSEEN, PAIRS["drain, fault"]),
    (fbatch.fbatch_take, TAKE, TAKES_UNSEEN, PAIRS["drain, munlock"]),
    (swapfile.__dict__["__swap_count"], COUNT, "return system.this.swap[offset]._count", PAIRS["swap-in, swap-in"]),
    (swapfile.swap_free, FREE, FREES_UNSEEN, PAIRS["swap-in, swap-in"]),
    (system.numbers, MINE, "return this.per_cpu[0]", alone("swapout:0-1", "swapout:2-3")),
    (system.injects, DRIVER, "return True", ONE_FAILS),
)


@pytest.mark.parametrize(("function", "old", "new", "s"), INVISIBLE, ids=lambda value: getattr(value, "__name__", ""))
def test_invisible_state_is_found(function: Callable[..., object], old: str, new: str, s: Scenario) -> None:
    def edit(source: str) -> str:
        assert source.count(old) == 1
        return source.replace(old, new)

    with recompiled(function, edit):
        assert differing(s)


CHARGE = "usage = machine.fetch_add(memcg, MemCgroup.usage, nr_pages) + nr_pages"
CHARGES_IN_TWO = "usage = memcg.usage + nr_pages; machine.write(memcg, MemCgroup.usage, usage, ONCE)"
FREES_IN_TWO = "current.machine.write(system.this.swap[offset], _count, __swap_count(offset) - 1, ONCE)"
QUEUED = "if folio_try_get(folio):"
TWO_STEPS: Final = (
    ("CONSERVATION", memcontrol._try_charge, CHARGE, CHARGES_IN_TWO, PAIRS["fault, fault elsewhere"]),
    ("CONSERVATION", swapfile.swap_free, FREE, FREES_IN_TWO, PAIRS["swap-in, swap-in of another process"]),
    ("KASAN", swapfile.filemap_get_folio, "folio_get(folio)", "pass", PAIRS["swap-in, zap"]),
    ("KASAN", deferred_split._take_queue, QUEUED, "if folio not in taken:", PAIRS["shrink, zap of the rest"]),
    ("DEBUG_VM", migration_end._claim, ".get(pfn)", ".get(pfn, current.task)", PAIRS["two wait for a migration"]),
)


@pytest.mark.parametrize(("check", "function", "old", "new", "s"), TWO_STEPS, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_not_one_step_or_holds_no_reference_is_found(
    check: str, function: Callable[..., object], old: str, new: str, s: Scenario
) -> None:
    def edit(source: str) -> str:
        assert source.count(old) == 1
        return source.replace(old, new)

    assert check not in said(s)
    with recompiled(function, edit):
        assert check in said(s)


def said(s: Scenario) -> set[str]:
    """The sanitizers that speak in some schedule."""
    seen: set[str] = set()

    def look(run: Run) -> bytes:
        seen.update(report.check for report in run.world.system.machine.reports)
        return b""

    explore(Concurrent(s, v12.VARIANT, look), budget=400)
    return seen


def test_a_failure_is_the_drivers() -> None:
    """Whoever allocates first, the first allocation of the collapse fails, and the fault's does not."""
    results, actors = set(), set()

    def look(run: Run) -> bytes:
        results.add(run.result)
        actors.add(run.actors)
        return b""

    assert explore(Concurrent(PAIRS["collapse, failing for it only"], v12.VARIANT, look)).complete
    assert results == {"SCAN_FAIL", "SCAN_PAGE_LRU"}, "there is no memory, or the new page is in a batch"
    assert actors == {("done",)}


def test_each_cpu_takes_numbers_of_its_own() -> None:
    program = Concurrent(alone("store:0", "store:1", pages="........"), v12.VARIANT, lambda run: b"")
    replay(program, Schedule("sc", (), ()))
    made = [folio for folio in program.run.world.system.folios if folio.maker]
    assert len(made) == 2
    assert made[0].maker != made[1].maker
    assert all(folio.maker == f" of CPU {folio.pfn // RANGE}" for folio in made)


UNDER_A_LOCK: Final[tuple[tuple[Field[object], bool, Callable[[Shared], Lock]], ...]] = tuple(
    (cast("Field[object]", field), reads, lock)
    for field, reads, lock in (
        (DeferredSplit.split_queue, True, lambda _: system.this.deferred_split.split_queue_lock),
        (AnonVma.rb_root, True, lambda anon_vma: cast(AnonVma, anon_vma).rwsem),
        (SwapSlot.cached, False, lambda _: system.this.swap_cache_lock),
        (KhugepagedScan.mm_slot, True, lambda _: system.this.khugepaged_mm_lock),
        (KhugepagedScan.mm_slots_hash, True, lambda _: system.this.khugepaged_mm_lock),
        (KhugepagedScan.mm_head, False, lambda _: system.this.khugepaged_mm_lock),
        (KhugepagedScan.full_scans, False, lambda _: system.this.khugepaged_mm_lock),
    )
)
"""Fields that change under one lock; and whether they are read only under it."""


class Watch:
    """Looks at who has the lock."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.without: list[str] = []

    def look(self, obj: Shared, field: Field[object], *, writing: bool) -> None:
        """At one access."""
        for guarded, reads, lock in UNDER_A_LOCK:
            if guarded is field and (writing or reads) and current.machine.scheduler is not None:
                self.seen.add(field.name)
                if not any(held is lock(obj) for held, _ in current.task.held):
                    self.without.append(f"{current.task.name}: {field.name}")


@contextmanager
def watched() -> Iterator[Watch]:
    """Every access of the block's machines passes here first."""
    watch = Watch()
    plain = {name: getattr(ExploringMachine, name) for name in ("read", "write", "rmw")}

    def through(name: str) -> Callable[..., object]:
        def access(machine: ExploringMachine, obj: Shared, field: Field[object], *rest: object) -> object:
            watch.look(obj, field, writing=name != "read")
            return plain[name](machine, obj, field, *rest)

        return access

    with ExitStack() as patches:
        for name in plain:
            patches.enter_context(mock.patch.object(ExploringMachine, name, through(name)))
        yield watch


LOCKING: Final = (
    PAIRS["khugepaged, exit"],
    PAIRS["khugepaged, fork"],
    PAIRS["swap-out, mlock"],
    PAIRS["swap-in, swap-in from the cache"],
    PAIRS["shrink, zap"],
    PAIRS["collapse, fault"],
)


def test_what_is_under_a_lock_is_touched_under_it() -> None:
    with watched() as watch:
        for s in LOCKING:
            program = Concurrent(s, v12.VARIANT, lambda run: b"")
            explorer = Explorer(program, "sc", Budget(None, None), 1)
            explorer.sharing.fields = EveryObject()
            profile = explorer.learn()
            for number in range(8):
                once(program, sampler("pct", 0, number, profile), explorer.sharing, memory="sc")
    assert watch.without == []
    assert watch.seen == {field.name for field, _, _ in UNDER_A_LOCK}


@pytest.mark.parametrize("function", [deferred_split.deferred_split_scan, swapfile.delete_from_swap_cache])
def test_a_lock_that_is_not_taken_is_missed(function: Callable[..., object]) -> None:
    def edit(source: str) -> str:
        assert source.count("    spin_lock(lock)\n") == source.count("    spin_unlock(lock)\n") == 1
        return source.replace("    spin_lock(lock)\n", "").replace("    spin_unlock(lock)\n", "")

    s = PAIRS["shrink, zap"] if function is deferred_split.deferred_split_scan else alone("store:0", "store:1", pages="vvaaaaaa")
    with watched() as watch, recompiled(function, edit):
        replay(Concurrent(s, v12.VARIANT, lambda run: b""), Schedule("sc", (), ()))
    assert watch.without


NOT_FIELDS: Final = {
    "Page": {"folio", "index", "pfn", "ptc_count"},
    "Folio": {"label", "lock_owner", "maker", "nid", "order", "pages", "pfn", "zone_device"},
    "AnonVma": {"label", "parent", "root", "rwsem"},
    "VmAreaStruct": {"vmlock_dep_map"},
    "MmStruct": {"has_notifiers", "ident", "memcg", "mmap_lock", "page_table_lock", "secondary"},
    "KhugepagedMmSlot": {"label"},
    "Ksm": {"ksm_thread_mutex", "stable_node"},
    "KhugepagedScan": {"address"},
    "KhugepagedThread": {"collapse_control"},
    "PerCpu": {"next_pfn", "next_swap", "next_table_pfn", "number"},
    "SecondaryMmu": {"ident", "mmu_lock"},
    "Sysctl": set(),
    "SwapSlot": {"offset"},
    "DeferredSplit": {"split_queue_lock"},
    "Migrations": set(),
    "PidNamespace": set(),
    "MemCgroup": {"events", "label"},
    "PtePage": {"label", "maker", "pfn", "ptl"},
    "MappedPtePage": set(),
    "PmdSlot": {"label", "page"},
    "PmdPage": {"ptl", "slot"},
}
"""What of a shared object is no field: names and locks; what stays as it was made; what one task has for itself, as it says there
(``order`` and ``pages`` of a folio, ``lock_owner``, ``address`` of khugepaged's cursor, the numbers of a CPU); and what only the harness
and statistics look at (``ptc_count``, ``events``)."""


def test_what_is_no_field_is_known() -> None:
    """A new attribute is either reached through the machine, or one of the kinds above."""
    for module in pkgutil.walk_packages(kmm.mm.__path__, "kmm.mm."):
        importlib.import_module(module.name)
    for cls in _below(Shared):
        if cls.__module__.startswith("kmm.mm."):
            slots = {name for name in cls.__dict__["__slots__"] if not name.startswith("_")}
            assert slots <= NOT_FIELDS.get(cls.__name__, set()), cls.__name__
    this = build(PAIRS["fork, store"], v12.VARIANT).system
    containers = {name for name in System.__slots__ if isinstance(getattr(this, name), dict | list | set)}
    assert containers == {
        "folios",
        "lazyfree",
        "leaving",
        "mem_map",
        "mms",
        "mthp_stats",
        "node_stat",
        "notifier_windows",
        "poison_queued",
        "poisoned",
        "shadow",
        "swap",
        "tables",
        "vm_events",
    }


def _below(cls: type[object]) -> Iterator[type[object]]:
    for each in cls.__subclasses__():
        yield each
        yield from _below(each)
