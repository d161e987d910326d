"""Processes that load and store at random, while reclaim and khugepaged work: after each step every sanitizer looks."""

from __future__ import annotations

import random
from collections import Counter
from typing import Final

import pytest

from kmm.kernel.locks import at_quiescence
from kmm.kernel.stop import Stop
from kmm.kernel.task import Task
from kmm.mm.deferred_split import deferred_split_scan
from kmm.mm.khugepaged.daemon import khugepaged_pass, start_stop_khugepaged
from kmm.mm.khugepaged.enter import khugepaged_enter_vma
from kmm.mm.mm_types import MmStruct
from kmm.mm.swap import lru_add_drain_all
from kmm.mm.vmscan import swap_out_folio
from kmm.scenario.alphabet import MEANING
from kmm.scenario.build import World, build
from kmm.scenario.errors import ScenarioError
from kmm.scenario.model import Config, Failure, Scenario
from kmm.scenario.place import DRIVER_CPU, OWNER_CPU
from kmm.scenario.quiescence import check_quiescence
from refactors import v12
from tests.port.faulting import NR, load, memory, store

PAGES: Final = 2 * NR
LETTERS: Final = [letter for letter in MEANING if letter not in "3456789"]
FLAGS: Final = (
    ("mergeable", "read", "write"),
    ("mergeable", "mixedmap", "read", "uffd_wp", "write"),
    ("locked", "mergeable", "read", "uffd_wp", "write"),
    ("read", "uffd_missing", "write"),
    ("read",),
)
PMDS: Final = ("table", "none", "absent", "huge", "huge_zero", "migration")
CONFIGS: Final = (Config(), Config(highpte=True), Config(split_ptlocks=False), Config(arch="walking"))
ORDERS: Final = ((), (2,), (2, 3), (4,), (2, 4))
OPS: Final = ("load", "load", "store", "store", "store", "store", "swap", "swap", "khugepaged", "drain", "shrink")


def scenario(draw: random.Random) -> Scenario:
    """Two ranges; the second one is full of letters."""
    pages, pmd = "", draw.choice(PMDS)
    while len(pages) < NR:
        letter = draw.choice(LETTERS) if draw.random() < 0.6 else "."
        pages += letter * 4 if letter in "2ST" and len(pages) % 4 == 0 else "" if letter in "2ST" else letter
    failures = [Failure(kind=kind, nth=draw.randint(1, 4)) for kind in ("alloc", "charge") if draw.random() < 0.3]
    if draw.random() < 0.3:
        failures.append(Failure(kind="swapin_retry", page=draw.randint(NR, PAGES - 1)))
    return memory(
        "." * NR + pages,
        orders=draw.choice(ORDERS),
        flags=draw.choice(FLAGS),
        pmd=f"{pmd} table",
        failures=tuple(failures),
        config=draw.choice(CONFIGS),
        ranges=2,
    )


def act(world: World, op: str, draw: random.Random, mm: MmStruct, token: int) -> str:
    """One step; what became of it."""
    page = draw.randint(0, PAGES - 1)
    if op == "load":
        return load(world, page, mm)
    if op == "store":
        return store(world, page, token, mm)
    if op == "swap":
        live = [folio for folio in world.system.folios if not folio.freed_by]
        return swap_out_folio(draw.choice(live), force=True) if live else "nothing there"
    if op == "khugepaged":
        return str(khugepaged_pass())
    if op == "shrink":
        return str(deferred_split_scan())
    lru_add_drain_all()
    return "drained"


def settle(world: World) -> None:
    """khugepaged knows every process."""
    with world.system.running(Task("start", world.system.machine.cpus[OWNER_CPU], 0)):
        start_stop_khugepaged()
        for mm in world.system.mms:
            for vma in mm._vmas:
                khugepaged_enter_vma(vma, vma._vm_flags)


def live(world: World, draw: random.Random, seen: Counter[str]) -> None:
    """Some steps, or as many as it takes until a task waits for ever."""
    cpus = world.system.machine.cpus
    for token in range(1000, 1000 + draw.randint(5, 30)):
        op, mm = draw.choice(OPS), draw.choice(world.system.mms)
        task = Task(op, cpus[DRIVER_CPU], 0) if op == "khugepaged" else Task(op, cpus[OWNER_CPU], mm.ident)
        with world.system.running(task):
            try:
                seen[f"{op}: {act(world, op, draw, mm, token)}"] += 1
            except Stop:
                return
            at_quiescence(task)
            check_quiescence(world)
        assert world.system.machine.reports == [], (op, token)


def lives(seeds: range) -> Counter[str]:
    """What happened in all of them."""
    seen: Counter[str] = Counter()
    for seed in seeds:
        draw = random.Random(seed)
        try:
            world = build(scenario(draw), v12.VARIANT)
        except ScenarioError:
            continue
        world.system.sysctl._use_zero_page = draw.random() < 0.7
        settle(world)
        live(world, draw, seen)
        seen.update(world.system.vm_events)
        seen.update({f"{name} of order {order}": n for (order, name), n in world.system.mthp_stats.items()})
    return seen


WANTED: Final = (
    "load: ",
    "load: SIGBUS",
    "store: ",
    "store: SIGSEGV",
    "store: userfault",
    "store: OOM",
    "pgreuse",
    "cow_ksm",
    "pswpin",
    "thp_fault_alloc",
    "thp_fault_fallback",
    "thp_fault_fallback_charge",
    "thp_split_pmd",
    "anon_fault_alloc of order 2",
    "anon_fault_alloc of order 3",
    "anon_fault_fallback of order 3",
    "anon_fault_fallback_charge of order 2",
)


def test_nothing_breaks() -> None:
    seen = lives(range(250))
    assert [what for what in WANTED if not seen[what]] == []


@pytest.mark.full
def test_nothing_breaks_in_many_lives() -> None:
    seen = lives(range(1000, 6000))
    wanted = (*WANTED, "swpin of order 2", "swpin of order 3", "swpin_fallback of order 2", "swpin_fallback_charge of order 2")
    assert [what for what in wanted if not seen[what]] == []
