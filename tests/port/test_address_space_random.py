"""Random sequences of steps by several processes, most of them on address spaces: no sanitizer has anything to say."""

from __future__ import annotations

import random
from typing import Final

import attrs
import pytest

from kmm.mm import move_tables, vma, zap
from kmm.scenario.model import Config, Driver, DriverKind, Geometry, Process, Scenario, Tunables, Vma
from kmm.scenario.run import Run, run
from kmm.scenario.step import ADVICE, STEP_OPS, Step, Takes
from refactors import v12
from tests.test_sanitizers import Change, changed

OPS: Final = (
    *("mremap", "mprotect", "madvise", "store") * 4,
    *("munmap", "mmap", "mlock", "load", "fork", "khugepaged") * 2,
    *("munlock", "exit", "swapout", "split", "age", "drain", "shrink", "pin"),
)
LETTERS: Final = {("read", "write"): "aaawzrcohs.bnxpyvmgPH", ("locked", "read", "write"): "al.", ("read",): "rnhzsw."}
VALUES: Final = {
    "mprotect": ("read", "read write", "read write", "none"),
    "madvise": (*ADVICE, "collapse", "dontneed"),
    "mmap": ("", "", "read", "hugepage read write"),
}
HUGE: Final = ("huge", "none", "huge_zero", "table")


def system(seed: int) -> Scenario:
    """A small system and what happens in it."""
    r = random.Random(seed)
    of = Geometry(ptes=8, lru_batch=r.choice((1, 3)), ranges=r.choice((2, 3)))
    (vmas, pmd), (others, their_pmd) = _memory(r, of), _memory(r, of)
    return Scenario(
        geometry=of,
        config=Config(split_ptlocks=r.random() < 0.8, highpte=r.random() < 0.2, pt_reclaim=r.random() < 0.5),
        tunables=Tunables.default(of).with_orders(of, *r.choice(((3,), (2, 3), (2,), ()))),
        vmas=vmas,
        pmd=pmd,
        processes=(Process(vmas=others, pmd=their_pmd),),
        driver=Driver(kind=DriverKind.STEPS),
        steps=tuple(_step(r, of) for _ in range(12)),
    )


def _memory(r: random.Random, of: Geometry) -> tuple[tuple[Vma, ...], str]:
    """One VMA somewhere, of runs of a letter; or huge entries."""
    if r.random() < 0.25:
        return (Vma(pages="." * of.pages, flags=("read", "write")),), " ".join(r.choice(HUGE) for _ in range(of.ranges))
    flags = r.choice(tuple(LETTERS))
    blocks = [r.choice(LETTERS[flags]) * 4 if r.random() < 0.7 or "write" not in flags else "2222" for _ in range(of.pages // 4)]
    first = r.randrange(len(blocks))
    upto = r.randrange(first, len(blocks)) + 1
    pages = "".join(blocks[first:upto])
    return (Vma(pages=pages, flags=flags, start=None if len(pages) == of.pages else first * 4),), "table"


def _step(r: random.Random, of: Geometry) -> Step:
    op = r.choice(OPS)
    takes = STEP_OPS[op][0]
    length = r.choice((1, 2, 4, of.ptes // 2, of.ptes, of.ptes, of.pages))
    by = r.choice((1, 4))
    places = range(0, of.pages - length + 1, by)
    return Step(
        op=op,
        process=r.randrange(1, 4) if Takes.PROCESS in takes else 1,
        page=r.choice(places) if Takes.PAGE in takes else None,
        length=length if Takes.PAGE in takes else 1,
        to=r.choice(places) if Takes.TO in takes else None,
        value=r.choice(VALUES.get(op, ("",))),
    )


def done(s: Scenario) -> Run:
    """A run of the steps without those that cannot happen."""
    while True:
        r = run(s, v12.VARIANT)
        if not r.outcome.startswith("impossible"):
            return r
        at = len(r.steps)
        s = attrs.evolve(s, steps=(*s.steps[:at], *s.steps[at + 1 :], *(() if len(s.steps) > 1 else (Step(op="drain"),))))


def said(seeds: range) -> list[str]:
    """What the sanitizers say about these systems."""
    runs = {seed: done(system(seed)) for seed in seeds}
    odd = [f"{seed}: {r.outcome}" for seed, r in runs.items() if r.outcome != "returned"]
    return odd + [f"{seed}: {each.check}: {each.text}" for seed, r in runs.items() for each in r.world.system.machine.reports]


def test_nothing_is_said() -> None:
    assert said(range(300)) == []


@pytest.mark.full
def test_nothing_is_said_about_many_more() -> None:
    assert said(range(300, 6000)) == []


def test_every_operation_succeeds_and_most_fail_now_and_then() -> None:
    runs = [done(system(seed)) for seed in range(200)]
    good = {step.op for r in runs for step, outcome in zip(r.scenario.steps, r.steps, strict=False) if outcome == "done"}
    bad = {step.op for r in runs for step, outcome in zip(r.scenario.steps, r.steps, strict=False) if outcome != "done"}
    assert good == set(OPS)
    assert bad >= {"mremap", "mprotect", "madvise", "mmap", "mlock", "munlock", "load", "store"}


@pytest.mark.parametrize(
    ("function", "old", "new"),
    [
        (vma._merge, "current.machine.write(a, VmAreaStruct.vm_end, b.vm_end, ONCE)", "pass"),
        (vma.split_vma, "pgoff = vma.vm_pgoff + (address - vma.vm_start) // PAGE_SIZE()", "pgoff = vma.vm_pgoff"),
        (zap._zap_pte, "gathered.flush = True", "pass"),
        (move_tables.try_realign_addr, "pmc.new_addr &= HPAGE_PMD_MASK()", "pass"),
    ],
)
def test_seeded_mistakes_are_found(function: object, old: str, new: str) -> None:
    with changed(Change("", function, old, new, system(0))):
        assert said(range(300))
