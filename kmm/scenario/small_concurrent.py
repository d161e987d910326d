"""Families of scenarios with actors: what others may do while a small table is collapsed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product
from typing import Final

import attrs

from kmm.scenario.families import Family
from kmm.scenario.model import Driver, DriverKind, Geometry, Scenario, Tunables, Vma
from kmm.scenario.search import EXHAUSTIVE, SAMPLED
from kmm.scenario.spec import parse_actor

GEOMETRY: Final = Geometry(ptes=8)
QUICK: Final = (
    "load:0",
    "store:0",
    "gup:0:write",
    "gup_fast:0",
    "madvise:0-7:dontneed",
    "madvise:0-3:free",
    "munmap:0-3",
    "mprotect:0-7:read",
    "mremap:0-1>4",
    "fork",
    "prctl:yes",
    "sysfs:khugepaged/max_ptes_none=0",
    "sysfs:hugepages-16kB/enabled=never",
)
"""One of each kind that has few schedules, where it meets the collapse."""
ACTORS: Final = (*QUICK, "load:3", "mlock:0-7", "madvise:0-7:collapse", "exit", "swapout:0", "age:0", "drain")
"""One of each kind."""
MAPS: Final = ("aaa.aaaa", "waaaaaaa")
"""A hole that may be filled; a page to swap in."""
_BOTH: Final = (DriverKind.KHUGEPAGED, DriverKind.MADVISE)


def beside(actors: tuple[str, ...], pages: str, orders: tuple[int, ...], kind: DriverKind) -> Scenario:
    """A collapse of one table of 8 PTEs, and actors beside it, in their short form."""
    return Scenario(
        geometry=GEOMETRY,
        tunables=Tunables.default(GEOMETRY).with_orders(GEOMETRY, *orders),
        vmas=(Vma(pages=pages),),
        driver=Driver(kind=kind),
        actors=tuple([parse_actor(each, GEOMETRY.pages) for each in actors]),
    )


def _one(actors: tuple[str, ...], maps: tuple[str, ...], kinds: tuple[DriverKind, ...]) -> Iterator[Scenario]:
    for kind, pages, orders, actor in product(kinds, maps, ((3,), (2,)), actors):
        yield beside((actor,), pages, orders, kind)


def _two() -> Iterator[Scenario]:
    for pair in combinations(ACTORS, 2):
        yield beside(pair, MAPS[0], (2, 3), DriverKind.KHUGEPAGED)


def concurrent_families(scope: str) -> tuple[Family, ...]:
    """Of a scope, ``quick`` or ``full``."""
    quick = Family(
        "one actor",
        "exhaustive",
        f"every schedule of khugepaged in the map {MAPS[0]} with order 3 or 2 beside each of {', '.join(QUICK)}",
        lambda: _one(QUICK, MAPS[:1], _BOTH[:1]),
        steps=True,
    )
    if scope == "quick":
        return (quick,)
    actors = f"each of {', '.join(ACTORS)}"
    return (
        quick,
        Family(
            "one actor, both drivers",
            "exhaustive",
            f"every schedule of khugepaged and of MADV_COLLAPSE in the maps {' '.join(MAPS)} with order 3 or 2 beside {actors}",
            lambda: _one(ACTORS, MAPS, _BOTH),
            steps=True,
        ),
        Family(
            "one actor, store buffers",
            "exhaustive",
            f"every schedule of khugepaged in the map {MAPS[0]} with order 3 or 2, where stores reorder unless a barrier keeps them, "
            f"beside each of {', '.join(QUICK)}",
            lambda: _one(QUICK, MAPS[:1], _BOTH[:1]),
            steps=True,
            search=attrs.evolve(EXHAUSTIVE, memory="pso"),
        ),
        Family(
            "two actors",
            "sampled",
            f"{SAMPLED.budget} schedules, drawn with seed 0, of khugepaged in the map {MAPS[0]} beside every two of {', '.join(ACTORS)}",
            _two,
            steps=True,
            search=SAMPLED,
        ),
    )
