"""Maps as the strategies see them: painted in runs, and counted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from kmm.scenario.checks import GAP
from kmm.scenario.fits import misfit, needed_flags
from kmm.scenario.model import Driver, Geometry
from kmm.scenario.page import HOLES, UNMAPPED, Kind, Lru, PageState, folio_state

_WEIGHT: Final = 15


class Canvas:
    """A map that is painted in runs.

    :param letters: the letters that may be painted
    """

    def __init__(self, ptes: int, letters: Mapping[str, PageState]) -> None:
        self._pages = ["."] * ptes
        self._letters = letters

    def paint(self, letter: str, start: int, length: int) -> None:
        """A run of pages; a run of a large folio begins with the folio, and may end within one.

        Nothing is painted where the folio would have to share its block with one of its order that it is not.
        """
        page = self._letters[letter]
        size = 1 << page.order
        first = start - start % size if length > 1 else start
        run = [i for i in range(first, min(len(self._pages), first + length)) if page.index in (None, i % size)]
        if not self._rival(page, set(run)):
            for index in run:
                self._pages[index] = letter

    def _rival(self, page: PageState, run: set[int]) -> bool:
        """The blocks of ``run`` have, outside it, pages of another folio of this order."""
        rivals = {c for c, other in self._letters.items() if other.order == page.order and folio_state(other) != folio_state(page)}
        if not page.order or not rivals:
            return False
        blocks = {index >> page.order for index in run}
        return any(c in rivals and i >> page.order in blocks and i not in run for i, c in enumerate(self._pages))

    def text(self) -> str:
        """The map."""
        return "".join(self._pages)


def fitting_letters(letters: Mapping[str, PageState], geometry: Geometry, flags: Sequence[str]) -> dict[str, PageState]:
    """The letters that a VMA with these flags may have."""
    return {letter: page for letter, page in letters.items() if 1 << page.order <= geometry.ptes and misfit(page, flags) is None}


def common_letters(letters: Mapping[str, PageState]) -> tuple[str, ...]:
    """All letters, and again those that should come more often: where no scan gives up, large folios, and what few VMAs may have."""
    easy = [letter for letter, page in letters.items() if _is_easy(page)]
    holes = [letter for letter in easy if letters[letter].kind in HOLES]
    pages = [letter for letter in easy if letter not in holes]
    rare = [letter for letter, page in letters.items() if set(needed_flags(page)) - {"write"}]
    large = [letter for letter, page in letters.items() if page.order]
    return (*pages[:_WEIGHT] * 2, *holes * 4, *rare * 9, *large, *letters)


def _is_easy(page: PageState) -> bool:
    stops = page.uffd_wp or page.pins or page.locked or page.lru is not Lru.LIST
    return page.kind in (*HOLES, Kind.PRESENT) and not stops and not page.mapped_by and not page.order


def pages_of(pages: str, letters: Mapping[str, PageState], kinds: Collection[Kind]) -> list[int]:
    """The PTE indices that hold one of ``kinds``."""
    wanted = {letter for letter, page in letters.items() if page.kind in kinds}
    return [index for index, letter in enumerate(pages) if letter in wanted]


def count_pages(pages: str, letters: Mapping[str, PageState], geometry: Geometry, driver: Driver) -> dict[str, list[int]]:
    """What each limit is compared with, by its name: in the table, and for a direct attempt in its range.

    The limit on holes is scaled down with the order, so the count of a range is scaled up.
    """
    counts = {name: [value] for name, value in _count(pages, letters).items()}
    if driver.order is not None:
        inside = _count(pages[driver.offset : driver.offset + (1 << driver.order)], letters)
        for name, value in inside.items():
            counts[name].append(value << (geometry.pmd_order - driver.order) if name == "max_ptes_none" else value)
    return counts


def _count(pages: str, letters: Mapping[str, PageState]) -> dict[str, int]:
    none = swap = shared = 0
    for letter in sorted(set(pages) - {GAP}):
        page, here = letters[letter], pages.count(letter)
        none += here * (page.kind in HOLES)
        swap += here * (page.kind in UNMAPPED)
        shared += here * (page.kind is Kind.PRESENT and page.mapped_by > 0)
    return {"max_ptes_none": none, "max_ptes_swap": swap, "max_ptes_shared": shared}
