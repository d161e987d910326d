"""How much a check generates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Final

import attrs

from kmm.scenario.families import Family, hypothesis_family, systems_family
from kmm.scenario.model import Geometry, Scenario
from kmm.scenario.small_concurrent import concurrent_families
from kmm.scenario.small_pairs import pairs_families
from kmm.scenario.small_scope import first_families, full_families, quick_families
from kmm.scenario.small_systems import system_families

_SAMPLES: Final = {"quick": 500, "full": 5000}
_SYSTEMS: Final = {"quick": 500, "full": 5000}
SCOPES: Final = tuple(_SAMPLES)
EVERY: Final = 37
"""Odd, and no factor of the size of any family, so that a sample has all values of every parameter."""
SOON: Final = 4
"""Families that are judged while the first sample is made, which takes as long as to make all that it is one of."""
_SMOKE: Final = ("failures", "no table", "counts", "passes", "few pages present", "64 KiB pages", "VMA flags", "khugepaged over two ranges")
_SMOKE_MAP: Final = "aaaaaaaa"


def generated(scope: str, seed: int, *, others: bool = False) -> list[Family]:
    """The families of a scope; first those that few scenarios of which tell most variants apart.

    :param scope: one of :data:`SCOPES`
    :param seed: of what is sampled
    :param others: the two sides differ in what others run as well: two of them stand beside each other, too
    """
    first = first_families()
    small = (full_families(seed) if scope == "full" else quick_families(seed))[len(first) :]
    actors, longer, *beside = concurrent_families(scope)
    systems = system_families()
    return [
        *first[:SOON],
        _sample("a sample of systems", systems, "with steps"),
        *first[SOON:],
        _sample("a sample", small, "of one table"),
        *(pairs_families() if others else ()),
        actors,
        longer,
        *small,
        *systems,
        *beside,
        hypothesis_family(Geometry(), _SAMPLES[scope], seed),
        systems_family(_SYSTEMS[scope], seed),
    ]


def _sample(name: str, families: Sequence[Family], what: str) -> Family:
    """Some of what comes later, from everywhere: a mistake that only a late family shows is mostly found here already."""
    exhaustive = [family for family in families if family.kind == "exhaustive"]

    def scenarios() -> Iterator[Scenario]:
        return chain.from_iterable(islice(family.scenarios(), 0, None, EVERY) for family in exhaustive)

    words = f"every {EVERY}th scenario of each exhaustive family {what} but those above"
    return Family(name, "sampled", words, scenarios, steps=any(family.steps for family in families))


def smoke() -> list[Family]:
    """A few families of the quick scope, for many small judgements one after the other: every exit, nobody beside."""
    families = {family.name: family for family in quick_families(0) + system_families()}
    events = families["events"]

    def in_one_map() -> Iterator[Scenario]:
        return (s for s in events.scenarios() if s.vmas[0].pages == _SMOKE_MAP)

    one_map = attrs.evolve(
        events, name="events, one map", words=f"the events of the quick scope in the map {_SMOKE_MAP}", scenarios=in_one_map
    )
    return [one_map, *(families[name] for name in _SMOKE)]
