"""Differences that a variant declares and that are therefore excused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

import attrs

from kmm.judge.observe import OBSERVABLES
from kmm.judge.pair import Pair
from kmm.scenario.model import Scenario


@attrs.frozen(kw_only=True)
class IntendedDifference:
    """One observable that may differ where the predicate holds.

    :param observable: one of :data:`kmm.judge.observe.OBSERVABLES`
    :param predicate: whether a scenario is one of those in which it may
    :param why: one clause
    :param source: who asked for it: a review comment, a patch, a commit
    :raises ValueError: when the observable does not exist
    """

    observable: str
    predicate: Callable[[Scenario], bool]
    why: str
    source: str

    def __attrs_post_init__(self) -> None:
        if self.observable not in OBSERVABLES:
            raise ValueError(f'"{self.observable}" is not an observable; use one of {", ".join(OBSERVABLES)}')


Intended: TypeAlias = Mapping[str, tuple[IntendedDifference, ...]]
"""What a variant's module exports as ``INTENDED``: baseline's name to the differences from it."""


def excuses(pair: Pair, intended: Iterable[IntendedDifference]) -> dict[str, IntendedDifference]:
    """For each observable that differs and is excused, what excuses it."""
    found: dict[str, IntendedDifference] = {}
    for each in intended:
        if each.observable in pair.differs and each.observable not in found and each.predicate(pair.scenario):
            found[each.observable] = each
    return found
