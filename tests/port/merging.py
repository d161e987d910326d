"""Pages with contents that are said, and steps on them."""

from __future__ import annotations

from typing import Final

import attrs

from kmm.mm.pte import pte_pfn, pte_t
from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.drive import Run
from kmm.scenario.model import Driver, DriverKind, Geometry, Scenario, Tunables, Vma
from kmm.scenario.page import PageState
from kmm.scenario.quiescence import tables_of
from kmm.scenario.run import run
from kmm.scenario.step import Step
from refactors import v12

GEOMETRY: Final = Geometry(ptes=8)
MERGEABLE: Final = ("mergeable", "read", "write")
EQUAL: Final = attrs.evolve(ALPHABET["a"], contents=7)
LETTERS: Final[tuple[tuple[str, PageState], ...]] = (
    ("0", attrs.evolve(EQUAL, contents=0)),
    ("B", attrs.evolve(EQUAL, order=2)),
    ("E", EQUAL),
    ("G", attrs.evolve(ALPHABET["n"], contents=7, pins=1)),
    ("J", attrs.evolve(ALPHABET["h"], dirty=False)),
    ("X", attrs.evolve(EQUAL, pins=1)),
    ("e", attrs.evolve(ALPHABET["s"], contents=7)),
)
"""0 are zeros, J is clean in the swap cache; the others are equal: E private, X pinned, G pinned and not exclusive, B large, e shared."""


def steps(pages: str, *each: Step, flags: tuple[str, ...] = MERGEABLE) -> Scenario:
    """One table in which KSM may merge."""
    return Scenario(
        geometry=GEOMETRY,
        tunables=Tunables.default(GEOMETRY).with_orders(GEOMETRY, 3),
        vmas=(Vma(pages=pages, flags=flags),),
        letters=tuple(each for each in LETTERS if each[0] in pages),
        driver=Driver(kind=DriverKind.STEPS),
        steps=each,
    )


def ksm(page: int = 0, length: int = 8, *, zero: bool = False, process: int = 1) -> Step:
    """ksmd looks at pages."""
    return Step(op="ksm", process=process, page=page, length=length, value="use_zero_pages" if zero else "")


def failure(page: int = 0, length: int = 1, *, early: bool = False) -> Step:
    """The memory of pages fails."""
    return Step(op="memory_failure", page=page, length=length, value="early_kill" if early else "")


def load(page: int, length: int = 1, process: int = 1) -> Step:
    """The process reads pages."""
    return Step(op="load", process=process, page=page, length=length)


def store(page: int, process: int = 1) -> Step:
    """The process writes a page."""
    return Step(op="store", process=process, page=page)


def clean(s: Scenario) -> Run:
    """A run of which no sanitizer says anything."""
    r = run(s, v12.VARIANT)
    assert r.impossible is None
    assert r.outcome == "returned"
    assert [f"{each.check}: {each.text}" for each in r.world.system.machine.reports] == []
    return r


def ptes(r: Run, process: int = 1) -> list[pte_t]:
    """The entries of a process."""
    (table,) = tables_of(r.world.system, r.world.system.mms[process - 1])
    return table._entries


def frames(r: Run, process: int = 1) -> list[int]:
    """The frames of the entries."""
    return [pte_pfn(pte) for pte in ptes(r, process)]
