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
from kmm.scenario.step import BY_RECLAIM

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
FEW_EXECUTIONS: Final = tuple(actor for actor in QUICK if actor != "madvise:0-3:free")
"""Those of them that a check has time for."""
FEW_AT_SMALL_ORDER: Final = tuple(actor for actor in SMALL_ORDER if actor != "store:0")
"""Likewise, beside several attempts."""
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
SLOW: Final = ("migrate:7", "secondary_fault:0", "secondary_fault:3", *(each for each in ACTORS if each not in QUICK))
"""One of each kind that has many schedules, and guests."""
LONGER: Final = ("madvise:0-7:collapse", "migrate:0", "secondary_fault:0")
"""One of each kind that takes other locks than those, or none, with more schedules, which are fewer where few pages are mapped."""
FEW_PAGES: Final = "a......."
OUTSIDE_MAP: Final = ".aaa...a"
OUTSIDE: Final = "migrate:7"
"""Moves a page of that map that the attempt at order 2 leaves alone."""
FREES_THE_TABLE: Final = ("munmap:0-7", "madvise:0-7:dontneed")
MAPS: Final = ("aaa.aaaa", "waaaaaaa")
"""A hole that may be filled; a page to swap in."""
MANY: Final = attrs.evolve(SAMPLED, budget=400)
"""Of an actor that has too many schedules to run them all."""
WALKER: Final = attrs.evolve(SAMPLED, strategy="pct", budget=3_000)
"""Of a walk without a lock that two others have to interrupt, one after the other."""
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


def _one(
    actors: tuple[str, ...], maps: tuple[str, ...], kinds: tuple[DriverKind, ...], small: tuple[str, ...] = SMALL_ORDER
) -> Iterator[Scenario]:
    """One attempt beside each actor, and several at a small order beside those that have few schedules then."""
    for kind, pages in product(kinds, maps):
        yield from (beside((actor,), pages, (3,), kind) for actor in actors)
        yield from (beside((actor,), pages, (2,), kind) for actor in actors if actor in small)


def _longer() -> Iterator[Scenario]:
    yield beside((OUTSIDE,), OUTSIDE_MAP, (2,), _BOTH[0])
    yield from (beside((actor,), FEW_PAGES, (3,), _BOTH[0]) for actor in LONGER)


def _many() -> Iterator[Scenario]:
    for pages, actor in product(MAPS, ACTORS):
        s = beside((actor,), pages, (2, 3), DriverKind.KHUGEPAGED)
        if not (s.actors[0].op in BY_RECLAIM and pages[0] == "w"):  # such a page is not in memory
            yield s


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


def drawn_families() -> tuple[Family, ...]:
    """What takes an actor with many schedules, or two of them: drawn schedules of one order at a time."""
    orders = ((3,), (2,))
    return (
        Family(
            "one actor, drawn",
            "sampled",
            f"{MANY.budget} schedules, drawn with seed 0, of khugepaged in the map {MAPS[0]} with order 3 or 2 beside each of "
            f"{', '.join(SLOW)}",
            lambda: (beside((actor,), MAPS[0], order, _BOTH[0]) for actor, order in product(SLOW, orders)),
            steps=True,
            search=MANY,
        ),
        Family(
            "GUP-fast and another, drawn",
            "sampled",
            f"{WALKER.budget} schedules, drawn with seed 0, of khugepaged in the map {MAPS[0]} with order 3 beside gup_fast:0 and each of "
            f"{', '.join(FREES_THE_TABLE)}",
            lambda: (beside(("gup_fast:0", each), MAPS[0], orders[0], _BOTH[0]) for each in FREES_THE_TABLE),
            steps=True,
            search=WALKER,
        ),
    )


def concurrent_families(scope: str) -> tuple[Family, ...]:
    """Of a scope, ``quick`` or ``full``."""
    beside_each = f"with order 3 beside each of {', '.join(QUICK)}; and with order 2 beside the first {len(SMALL_ORDER)}"
    few = f"with order 3 beside each of {', '.join(FEW_EXECUTIONS)}; and with order 2 beside each of {', '.join(FEW_AT_SMALL_ORDER)}"
    quick = Family(
        "one actor",
        "exhaustive",
        f"every schedule of khugepaged in the map {MAPS[0]} {few}",
        lambda: _one(FEW_EXECUTIONS, MAPS[:1], _BOTH[:1], FEW_AT_SMALL_ORDER),
        steps=True,
    )
    longer = Family(
        "one actor, longer",
        "exhaustive",
        f"every schedule of khugepaged in the map {OUTSIDE_MAP} with order 2 beside {OUTSIDE}; and in the map {FEW_PAGES} with order 3 "
        f"beside each of {', '.join(LONGER)}",
        _longer,
        steps=True,
    )
    if scope == "quick":
        return (quick, longer)
    return (
        quick,
        longer,
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
