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
SMALL_ORDER: Final = (
    "store:0",
    "gup:0:write",
    "gup_fast:0",
    "munmap:0-3",
    "mprotect:0-7:read",
    "mremap:0-1>4",
    "fork",
    "prctl:yes",
    "sysfs:khugepaged/max_ptes_none=0",
    "sysfs:hugepages-16kB/enabled=never",
)
"""One of each kind that has few schedules, where it meets the collapse, beside several attempts at a small order as well."""
QUICK: Final = (*SMALL_ORDER, "load:0", "madvise:0-7:dontneed", "madvise:0-3:free", "uffd_register:0-7:missing")
"""One of each kind that has few schedules beside one attempt."""
LOCKLESS: Final = ("store:0", "load:0", "gup:0:write", "gup_fast:0")
"""Those that walk the tables without a lock."""
ACTORS: Final = (
    *QUICK,
    "load:3",
    "mlock:0-7",
    "madvise:0-7:collapse",
    "exit",
    "swapout:0",
    "age:0",
    "drain",
    "migrate:0",
    "uffd_wp:0:protect",
)
"""One of each kind."""
MAPS: Final = ("aaa.aaaa", "waaaaaaa")
"""A hole that may be filled; a page to swap in."""
MANY: Final = attrs.evolve(SAMPLED, budget=400)
"""Of an actor that has too many schedules to run them all."""
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
    """One attempt beside each actor, and several at a small order beside those that have few schedules then."""
    for kind, pages, actor in product(kinds, maps, actors):
        yield beside((actor,), pages, (3,), kind)
        if actor in SMALL_ORDER:
            yield beside((actor,), pages, (2,), kind)


def _many() -> Iterator[Scenario]:
    for pages, actor in product(MAPS, ACTORS):
        yield beside((actor,), pages, (2, 3), DriverKind.KHUGEPAGED)


def _two() -> Iterator[Scenario]:
    for pair in combinations(ACTORS, 2):
        yield beside(pair, MAPS[0], (2, 3), DriverKind.KHUGEPAGED)


def one_actor(actors: tuple[str, ...], memory: str) -> Family:
    """Every schedule of one attempt, and of several at a small order, beside each actor.

    :param memory: ``sc`` or ``pso``
    """
    under = "" if memory == "sc" else ", where stores reorder unless a barrier keeps them"
    return Family(
        f"one of {len(actors)} actors",
        "exhaustive",
        f"every schedule of khugepaged in the map {MAPS[0]} beside each of {', '.join(actors)}{under}",
        lambda: _one(actors, MAPS[:1], _BOTH[:1]),
        steps=True,
        search=attrs.evolve(EXHAUSTIVE, memory=memory),
    )


def concurrent_families(scope: str) -> tuple[Family, ...]:
    """Of a scope, ``quick`` or ``full``."""
    beside_each = f"with order 3 beside each of {', '.join(QUICK)}; and with order 2 beside the first {len(SMALL_ORDER)}"
    quick = Family(
        "one actor",
        "exhaustive",
        f"every schedule of khugepaged in the map {MAPS[0]} {beside_each}",
        lambda: _one(QUICK, MAPS[:1], _BOTH[:1]),
        steps=True,
    )
    if scope == "quick":
        return (quick,)
    return (
        quick,
        Family(
            "one actor, both drivers",
            "exhaustive",
            f"every schedule of khugepaged and of MADV_COLLAPSE in the map {MAPS[0]} {beside_each}",
            lambda: _one(QUICK, MAPS[:1], _BOTH),
            steps=True,
        ),
        Family(
            "one actor, store buffers",
            "exhaustive",
            f"every schedule of khugepaged in the map {MAPS[0]} with order 3 or 2 beside each of {', '.join(SMALL_ORDER)}, "
            "where stores reorder unless a barrier keeps them",
            lambda: _one(SMALL_ORDER, MAPS[:1], _BOTH[:1]),
            steps=True,
            search=attrs.evolve(EXHAUSTIVE, memory="pso"),
        ),
        Family(
            "one actor, many schedules",
            "sampled",
            f"{MANY.budget} schedules, drawn with seed 0, of khugepaged in the maps {' '.join(MAPS)} with orders 2 and 3 beside each of "
            f"{', '.join(ACTORS)}",
            _many,
            steps=True,
            search=MANY,
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
