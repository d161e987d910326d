"""Small systems: scenarios with steps, in sets that can be written in one sentence, exhausted."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Final

import attrs

from kmm.scenario.families import Family
from kmm.scenario.model import Driver, DriverKind, Failure, Geometry, Process, Scenario, Tunables, Vma
from kmm.scenario.step import Step

TWO_RANGES: Final = Geometry(ptes=8, lru_batch=3, ranges=2)
THREE_RANGES: Final = attrs.evolve(TWO_RANGES, ranges=3)
STEPS: Final = Driver(kind=DriverKind.STEPS)
KHUGEPAGED: Final = Step(op="khugepaged")
RANGES: Final = ("rrrrrrrr", "rrrr....", "........", "ssssrrrr", "aaaaaaaa", "2222rr..")
ORDERS: Final = ((3,), (2,), (2, 3))
_FEW: Final = Step(op="sysfs", name="khugepaged/pages_to_scan", value="8")


def system(
    geometry: Geometry,
    pages: str,
    steps: tuple[Step, ...],
    orders: tuple[int, ...] = (2, 3),
    processes: tuple[Process, ...] = (),
    pmd: str = "table",
) -> Scenario:
    """A scenario with steps, in which every page of the first process lies in one VMA."""
    return Scenario(
        geometry=geometry,
        tunables=Tunables.default(geometry).with_orders(geometry, *orders),
        vmas=(Vma(pages=pages),),
        pmd=pmd,
        processes=processes,
        driver=STEPS,
        steps=steps,
    )


def _daemon() -> Iterator[Scenario]:
    for first, second, orders, slow in product(RANGES, RANGES, ORDERS, (False, True)):
        steps = (_FEW, KHUGEPAGED, KHUGEPAGED, KHUGEPAGED) if slow else (KHUGEPAGED, KHUGEPAGED)
        yield system(TWO_RANGES, first + second, steps, orders)

    for failing, orders in product(((1,), (2,), (1, 2), (1, 3), (1, 2, 3)), ((3,), (2, 3))):
        failures = tuple([Failure(kind="alloc", nth=nth) for nth in failing])
        yield attrs.evolve(system(THREE_RANGES, "r" * 24, (KHUGEPAGED, KHUGEPAGED), orders), failures=failures)


def _madvise() -> Iterator[Scenario]:
    collapse = Step(op="madvise", page=0, length=24, value="collapse")
    for maps in product(("KKrrrrrr", "rrrrrrrr", "........"), repeat=3):
        vma = Vma(pages="".join(maps), flags=("mergeable", "read", "write"))
        yield attrs.evolve(system(THREE_RANGES, "." * 24, (collapse,)), vmas=(vma,))
    for nth in (1, 2, 3):
        yield attrs.evolve(system(THREE_RANGES, "r" * 24, (collapse,)), failures=(Failure(kind="alloc", nth=nth),))
    for maps in product(RANGES, repeat=3):
        yield system(THREE_RANGES, "".join(maps), (collapse,))
    for pmds in product(("table", "none", "absent", "huge", "huge_zero"), repeat=3):
        yield system(THREE_RANGES, "." * 24, (collapse,), pmd=" ".join(pmds))
    for first, length in product((0, 1, 8, 9), (7, 8, 15, 16)):
        yield system(THREE_RANGES, "rrrr...." * 3, (attrs.evolve(collapse, page=first, length=min(length, 24 - first)),))


def operations(page: int, length: int) -> tuple[Step, ...]:
    """One step of each kind, on these pages of the first process."""
    free = 16 + page % 8
    return (
        *(
            Step(op=op, page=page, length=length)
            for op in ("load", "store", "munmap", "mlock", "munlock", "pin", "swapout", "age", "split")
        ),
        *(Step(op="madvise", page=page, length=length, value=value) for value in ("collapse", "dontneed", "free", "nohugepage", "pageout")),
        *(Step(op="mprotect", page=page, length=length, value=value) for value in ("read", "none")),
        Step(op="mremap", page=page, length=min(length, 24 - free), to=free),
        *(Step(op="prctl", value=value) for value in ("yes", "except_advised")),
        *(Step(op=op) for op in ("fork", "exit", "shrink", "drain")),
        Step(op="sysfs", name="enabled", value="never"),
        Step(op="sysfs", name="khugepaged/max_ptes_none", value="0"),
        Step(op="mmap", page=free, length=min(length, 24 - free)),
    )


PLACES: Final = ((0, 8), (4, 4), (3, 1), (0, 16))
_HALF: Final = "rrrr....rrrrrrrr"


def _between() -> Iterator[Scenario]:
    for (page, length), pages, orders in product(PLACES, (_HALF, "rrrrrrrrrrrrrrrr"), ((3,), (2, 3))):
        for step in operations(page, length):
            steps = (KHUGEPAGED, step, KHUGEPAGED)
            yield _with_room(pages, steps, orders)


def _with_room(pages: str, steps: tuple[Step, ...], orders: tuple[int, ...] = (2, 3)) -> Scenario:
    """Two ranges of pages, and a third one without VMA."""
    return attrs.evolve(system(THREE_RANGES, pages + "." * 8, steps, orders), vmas=(Vma(pages=pages, start=0),))


def _pairs() -> Iterator[Scenario]:
    for first, second in product(operations(0, 8), operations(4, 8)):
        yield _with_room(_HALF, (first, second, KHUGEPAGED))


def _processes() -> Iterator[Scenario]:
    fork = Step(op="fork")
    store = Step(op="store", page=2)
    leave = Step(op="exit", process=2)
    for first, second, orders in product(RANGES, RANGES, ORDERS):
        other = Process(vmas=(Vma(pages=second * 2),))
        yield system(TWO_RANGES, first + second, (KHUGEPAGED, KHUGEPAGED), orders, (other,))
    for pages, orders in product(RANGES, ORDERS):
        for steps in (
            (fork, KHUGEPAGED),
            (fork, store, KHUGEPAGED),
            (fork, leave, KHUGEPAGED),
            (KHUGEPAGED, fork, store, leave, KHUGEPAGED),
        ):
            yield system(TWO_RANGES, pages + "rrrrrrrr", steps, orders)


def system_families() -> tuple[Family, ...]:
    """The sets with steps, of the quick and of the full scope; geometries have 8 PTEs."""
    maps = " ".join(RANGES)
    return (
        Family(
            "khugepaged over two ranges",
            "exhaustive",
            f"every two of the maps {maps} in two ranges with every set of orders, scanned twice at once or three times range by "
            "range, and three full ranges of which some of the first three allocations fail",
            _daemon,
            steps=True,
        ),
        Family(
            "MADV_COLLAPSE over three ranges",
            "exhaustive",
            f"every three of the maps {maps}, every three PMD states but migration, and 16 parts of three half "
            "ranges; every three of a range with merged pages, a full and an empty one; and one allocation of three failing",
            _madvise,
            steps=True,
        ),
        Family(
            "an operation between two passes",
            "exhaustive",
            "every step of each kind on a range, a half, a page and two ranges, of 12 and of 16 pages, between two passes of khugepaged",
            _between,
            steps=True,
        ),
        Family("two operations", "exhaustive", "every two steps of each kind on overlapping ranges, then khugepaged", _pairs, steps=True),
        Family(
            "two processes",
            "exhaustive",
            f"every two of the maps {maps} in two processes, and forks that write or end, with every set of orders, under khugepaged",
            _processes,
            steps=True,
        ),
    )
