"""Scenarios with actors at 8 PTEs."""

from __future__ import annotations

from typing import Final, TypeAlias

from kmm.judge.outcomes import Outcomes, Reachable
from kmm.mm.variant import Variant
from kmm.scenario.model import Config, Driver, DriverKind, Geometry, Scenario, Tunables, Vma
from kmm.scenario.page import PageState
from kmm.scenario.search import EXHAUSTIVE, Search
from kmm.scenario.spec import parse_actor
from refactors import v12

Letters: TypeAlias = tuple[tuple[str, PageState], ...]
GEOMETRY: Final = Geometry(ptes=8)


def beside(
    *actors: str,
    pages: str = "aaaaaaaa",
    orders: tuple[int, ...] = (3,),
    kind: DriverKind = DriverKind.KHUGEPAGED,
    flags: tuple[str, ...] = ("read", "write"),
    config: Config | None = None,
    letters: Letters = (),
) -> Scenario:
    """A collapse and others beside it.

    :param actors: in their short form
    :param letters: further ones
    """
    return Scenario(
        geometry=GEOMETRY,
        config=config or Config(),
        tunables=Tunables.default(GEOMETRY).with_orders(GEOMETRY, *orders),
        vmas=(Vma(pages=pages, flags=flags),),
        letters=letters,
        driver=Driver(kind=kind),
        actors=tuple(parse_actor(text, GEOMETRY.pages) for text in actors),
    )


def alone(*actors: str, pages: str = "aaaaaaaa", flags: tuple[str, ...] = ("read", "write"), letters: Letters = ()) -> Scenario:
    """Actors without a collapse."""
    return beside(*actors, pages=pages, kind=DriverKind.STEPS, flags=flags, letters=letters)


def outcomes(s: Scenario, variant: Variant = v12.VARIANT, search: Search = EXHAUSTIVE) -> Outcomes:
    """All that a scenario can come to; the search must have ended by itself."""
    found = Outcomes(s, variant, search)
    assert found.exploration.complete
    return found


def results(found: Reachable) -> set[str]:
    """What the driver says in the end."""
    return {found.observation(each).result for each in found.all}


def violations(found: Reachable) -> set[str]:
    """What the sanitizers say in any outcome."""
    return {f"{check}: {text}" for each in found.all for check, text in map(_two, found.observation(each).violations)}


def _two(violation: object) -> tuple[str, str]:
    assert isinstance(violation, tuple)
    return str(violation[0]), str(violation[1])
