"""How much a check generates."""

from __future__ import annotations

from typing import Final

from kmm.scenario.families import Family, hypothesis_family, systems_family
from kmm.scenario.model import Geometry
from kmm.scenario.small_concurrent import concurrent_families
from kmm.scenario.small_scope import full_families, quick_families
from kmm.scenario.small_systems import system_families

_SAMPLES: Final = {"quick": 500, "full": 5000}
_SYSTEMS: Final = {"quick": 500, "full": 5000}
SCOPES: Final = tuple(_SAMPLES)


def generated(scope: str, seed: int) -> list[Family]:
    """The families of a scope.

    :param scope: one of :data:`SCOPES`
    :param seed: of what is sampled
    """
    small = full_families(seed) if scope == "full" else quick_families(seed)
    beside = concurrent_families(scope)
    return [
        *small,
        *system_families(),
        *beside,
        hypothesis_family(Geometry(), _SAMPLES[scope], seed),
        systems_family(_SYSTEMS[scope], seed),
    ]
