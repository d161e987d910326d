"""The covering set of page states with tunables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.checks import MIN_MTHP_ORDER
from kmm.scenario.covering import Plan, Row, covering_rows
from kmm.scenario.factors import EITHER, LEVELS, LIMITS, limited
from kmm.scenario.families import Family
from kmm.scenario.fits import fitting_flags
from kmm.scenario.model import GLOBAL_MODES, ORDER_MODES, Driver, DriverKind, Geometry, Scenario, Tunables, Vma

STRENGTH: Final = 3
REST: Final = ("a", "o", ".", "s", "w")


def state_tunables_family(geometry: Geometry, letters: tuple[str, ...], seed: int) -> Family:
    """Every three of: two page states, the letter of all other pages, each tunable; under khugepaged.

    :param letters: of the two pages, the first ones of both halves of the table
    :param seed: breaks ties
    """
    orders = geometry.pmd_order - MIN_MTHP_ORDER + 1
    sizes = (
        len(letters),
        len(letters),
        len(REST),
        *(len(LEVELS),) * len(LIMITS),
        *(len(ORDER_MODES),) * orders,
        len(GLOBAL_MODES),
        2,
        2,
        2,
    )
    plan = Plan(sizes, STRENGTH, lambda _: True)
    allowed, _ = plan.count()
    nr = geometry.ptes
    sentence = (
        f"every combination of {STRENGTH} values ({allowed:,}) of: the letters of pages 0 and {nr // 2} out of {' '.join(letters)}; the "
        f"letter of all others out of {' '.join(REST)}; max_ptes_none, max_ptes_swap and max_ptes_shared (0, n-1, n, {nr - 1}, where n "
        "pages of the map count); each order switch, the global switch, defrag, shrink_underused and node_reclaim; under khugepaged"
    )

    def scenarios() -> Iterator[Scenario]:
        return (_scenario(geometry, letters, row) for row in covering_rows(plan, seed))

    return Family("page states with tunables", "covering", sentence, scenarios)


def _scenario(geometry: Geometry, letters: tuple[str, ...], row: Row) -> Scenario:
    half = geometry.ptes // 2
    first, second, rest, none, swap, shared, *modes, enabled, defrag, shrink, reclaim = row
    others = REST[rest] * (half - 1)
    pages = letters[first] + others + letters[second] + others
    levels = dict(zip(LIMITS, (none, swap, shared), strict=True))
    limits = {name: _limit(pages, name, LEVELS[level], geometry.ptes) for name, level in levels.items()}
    tunables = Tunables(
        max_ptes_none=limits["max_ptes_none"],
        max_ptes_swap=limits["max_ptes_swap"],
        max_ptes_shared=limits["max_ptes_shared"],
        hugepages=tuple(ORDER_MODES[mode] for mode in modes),
        enabled=GLOBAL_MODES[enabled],
        defrag=EITHER[defrag],
        shrink_underused=EITHER[shrink],
        node_reclaim=EITHER[reclaim],
    )
    vma = Vma(pages=pages, flags=fitting_flags(ALPHABET[c] for c in pages))
    return Scenario(geometry=geometry, tunables=tunables, vmas=(vma,), driver=Driver(kind=DriverKind.KHUGEPAGED))


def _limit(pages: str, name: str, level: str, nr: int) -> int:
    n = sum(limited(letter) == name for letter in pages)
    return {"0": 0, "n-1": max(0, n - 1), "n": min(n, nr - 1), "NR-1": nr - 1}[level]
