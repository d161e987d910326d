"""What intended differences excuse."""

from __future__ import annotations

from collections.abc import Iterable

from kmm.judge.case import case_of
from kmm.judge.pair import Pair
from kmm.mm.intended import IntendedDifference


def excuses(pair: Pair, intended: Iterable[IntendedDifference]) -> dict[str, IntendedDifference]:
    """For each observable that differs and is excused, what excuses it."""
    candidates = [each for each in intended if each.observable in pair.differs]
    if not candidates:
        return {}
    case = case_of(pair.scenario)
    found: dict[str, IntendedDifference] = {}
    for each in candidates:
        if each.observable not in found and each.predicate(case):
            found[each.observable] = each
    return found
