"""Scenarios in which nobody collapses: two tasks beside each other, at a page in a state in which one of them has something to do."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Final

import attrs

from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.families import Family
from kmm.scenario.fits import fitting_flags
from kmm.scenario.model import Config, Driver, DriverKind, Geometry, Scenario, Tunables, Vma
from kmm.scenario.page import Kind, PageState
from kmm.scenario.search import SAMPLED
from kmm.scenario.spec import parse_actor

GEOMETRY: Final = Geometry(ptes=8)
LOOKERS: Final = ("load:0", "store:0", "gup:0:write", "gup_fast:0", "gup_fast:0:write")
"""Those that look up what is mapped; they have few schedules beside anybody."""
GUESTS: Final = ("secondary_fault:0", "secondary_fault:0:write")
CHANGERS: Final = ("madvise:0-7:dontneed", "munmap:0-3", "mprotect:0-3:read", "fork", "migrate:0", "swapout:0", "age:0")
"""Those that change what is mapped, or where it is."""
MANY: Final = attrs.evolve(SAMPLED, budget=300)
"""Of two tasks that have thousands of schedules."""
_USUAL: Final = Config()
_EQUAL: Final = PageState(kind=Kind.PRESENT, young=True, dirty=True, write=True, exclusive=True, soft_dirty=True, contents=7)


@attrs.frozen(kw_only=True)
class Place:
    """A table, and the tasks that have something to do in it.

    :param pages: its map
    :param tasks: each stands beside all of ``lookers``, and beside all that change something
    :param drawn: those of them that have many schedules beside one who looks
    :param letters: of the map, beyond the alphabet
    """

    pages: str
    tasks: tuple[str, ...]
    drawn: tuple[str, ...] = ()
    lookers: tuple[str, ...] = LOOKERS
    pmd: str = "table"
    letters: tuple[tuple[str, PageState], ...] = ()
    flags: tuple[str, ...] = ()
    config: Config = _USUAL


_ZAP: Final = "madvise:0-7:dontneed"
_KSM: Final = "ksm:0:use_zero_pages"
_AT_A_HOLE: Final = ("load:3", "store:3")
PLACES: Final = (
    Place(pages="a.......", tasks=CHANGERS, drawn=("swapout:0",)),
    Place(pages="aaaaaaaa", tasks=("munmap:0-3",)),
    Place(pages="F.......", tasks=("swapout:0",)),
    *(Place(pages=f"{letter}.......", tasks=("swapout:0",), drawn=("swapout:0",)) for letter in "oc"),
    Place(pages="n.......", tasks=("migrate:0", "swapout:0"), drawn=("migrate:0", "swapout:0")),
    Place(pages="w.......", tasks=(_ZAP,), drawn=(_ZAP,)),
    Place(pages="aaa.aaaa", tasks=(_ZAP, "munmap:0-7", "mprotect:0-7:read"), drawn=(_ZAP,), lookers=_AT_A_HOLE),
    Place(pages="aaa.aaaa", tasks=(_ZAP,), drawn=(_ZAP,), lookers=_AT_A_HOLE, config=Config(split_ptlocks=False)),
    Place(pages="3333....", tasks=("split:0",), drawn=("split:0",)),
    Place(pages="........", tasks=(_ZAP, "migrate:0"), drawn=("migrate:0",), pmd="huge"),
    Place(pages="EE......", tasks=("ksm:0-1",), drawn=("ksm:0-1",), letters=(("E", _EQUAL),), flags=("mergeable",)),
    Place(pages="0.......", tasks=(_KSM,), drawn=(_KSM,), letters=(("0", attrs.evolve(_EQUAL, contents=0)),), flags=("mergeable",)),
)


def _looked_at(*, drawn: bool) -> Iterator[Scenario]:
    for place in PLACES:
        for looker, task in product(place.lookers, place.tasks):
            if (task in place.drawn) == drawn:
                yield beside_each_other(place, (looker, task))


def _changed_twice() -> Iterator[Scenario]:
    for place in PLACES:
        for number, task in enumerate(place.tasks):
            others = (*GUESTS, *(each for each in CHANGERS if each not in place.tasks), *place.tasks[number:])
            yield from (beside_each_other(place, (other, task)) for other in others)


def beside_each_other(place: Place, tasks: tuple[str, ...]) -> Scenario:
    """Tasks in their short form, at a place."""
    states = {**ALPHABET, **dict(place.letters)}
    flags = tuple(sorted({*fitting_flags(states[each] for each in place.pages), *place.flags}))
    return Scenario(
        geometry=GEOMETRY,
        config=place.config,
        tunables=Tunables.default(GEOMETRY).with_orders(GEOMETRY, 3),
        vmas=(Vma(pages=place.pages, flags=flags),),
        letters=place.letters,
        pmd=place.pmd,
        driver=Driver(kind=DriverKind.STEPS),
        actors=tuple([parse_actor(each, GEOMETRY.pages) for each in tasks]),
    )


def pairs_families() -> tuple[Family, ...]:
    """Two tasks, and no collapse."""
    maps = " ".join(dict.fromkeys(place.pages if place.pmd == "table" else place.pmd for place in PLACES))
    return (
        Family(
            "two tasks",
            "exhaustive",
            f"every schedule of {', '.join(LOOKERS)} beside what changes the page, in the maps {maps}",
            lambda: _looked_at(drawn=False),
            steps=True,
        ),
        Family(
            "two tasks, drawn",
            "sampled",
            f"{MANY.budget} schedules, drawn with seed 0, of these beside what changes the page in many steps",
            lambda: _looked_at(drawn=True),
            steps=True,
            search=MANY,
        ),
        Family(
            "two changes",
            "sampled",
            f"{SAMPLED.budget} schedules, drawn with seed 0, of two that change the page, or of {GUESTS[0]} beside one, in these maps",
            _changed_twice,
            steps=True,
            search=SAMPLED,
        ),
    )
