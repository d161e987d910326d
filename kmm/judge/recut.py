"""The same scenario in a smaller geometry: the first and longest step of the minimiser."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TypeAlias

import attrs

from kmm.scenario.checks import MIN_MTHP_ORDER
from kmm.scenario.errors import ScenarioError
from kmm.scenario.model import Driver, Event, Failure, Geometry, Scenario, Tunables, Vma
from kmm.scenario.page import PageState

SMALLEST = 8
_LETTERS_UP_TO = 32
Cells: TypeAlias = tuple[tuple[str, int], ...]
"""For each page its letter and the number of its VMA; -1: none."""

_LIMITS = ("max_ptes_none", "max_ptes_swap", "max_ptes_shared")


def recuts(s: Scenario) -> Iterator[Scenario]:
    """``s`` in every smaller geometry, smallest first: several maps each, and several tunables for each map.

    None of these need show what ``s`` shows; the caller looks for one that does.
    """
    ptes = SMALLEST
    while ptes < s.geometry.ptes:
        yield from _recuts_to(s, ptes)
        ptes *= 2


def _recuts_to(s: Scenario, ptes: int) -> Iterator[Scenario]:
    seen: set[Scenario] = set()
    for lru_batch in dict.fromkeys((s.geometry.lru_batch, 1)):
        geometry = attrs.evolve(s.geometry, ptes=ptes, lru_batch=lru_batch)
        for first, cells in _maps(s, ptes):
            for tunables in _tunables(s, geometry):
                for driver in _drivers(s, geometry, first):
                    made = _make(s, geometry, first, cells, tunables, driver)
                    if made is not None and made not in seen:
                        seen.add(made)
                        yield made


def _make(s: Scenario, geometry: Geometry, first: int, cells: Cells, tunables: Tunables, driver: Driver) -> Scenario | None:
    letters = {c: _fitted(page, geometry) for c, page in s.letters}
    try:
        return attrs.evolve(
            s,
            geometry=geometry,
            tunables=tunables,
            driver=driver,
            letters=tuple(letters.items()),
            vmas=_vmas(s, geometry, cells),
            memcg_room=None if s.memcg_room is None else min(s.memcg_room, geometry.ptes),
            events=tuple(_event(each, s, geometry, first) for each in s.events),
            failures=tuple(_failure(each, s, geometry, first) for each in s.failures),
        )
    except ScenarioError:
        return None


def _fitted(page: PageState, geometry: Geometry) -> PageState:
    """A state whose folio is not larger than the table."""
    return attrs.evolve(page, order=geometry.pmd_order, index=None) if page.order > geometry.pmd_order else page


def _fitting(letter: str, s: Scenario, geometry: Geometry) -> str:
    """A letter of the default alphabet whose folio is not larger than the table."""
    return str(geometry.pmd_order) if letter.isdecimal() and s.alphabet()[letter].order > geometry.pmd_order else letter


def _vmas(s: Scenario, geometry: Geometry, cells: Cells) -> tuple[Vma, ...]:
    """The VMAs that these pages have: a run of pages of one VMA is one."""
    made: list[Vma] = []
    first = 0
    for owner, run in itertools.groupby(cells, key=lambda cell: cell[1]):
        pages = "".join(_fitting(c, s, geometry) for c, _ in run)
        end = first + len(pages)
        if owner >= 0:
            start = None if len(pages) == geometry.ptes else first
            made.append(attrs.evolve(s.vmas[owner], pages=pages, start=start, **_reach(s.vmas[owner], geometry, first, end)))
        first = end
    return tuple(made)


def _reach(vma: Vma, geometry: Geometry, first: int, end: int) -> dict[str, int]:
    """How far the VMA goes on before and after the table."""
    before = 0 if first else min(vma.before, geometry.ptes)
    return {"before": before, "after": min(vma.after, geometry.ptes) if end == geometry.ptes else 0}


def _maps(s: Scenario, ptes: int) -> Iterator[tuple[int, Cells]]:
    """(first page, pages): where the driver works, the whole map thinned out, every piece of it, each letter alone."""
    owners = [-1] * s.geometry.ptes
    for number, vma in enumerate(s.vmas):
        owners[vma.first : vma.end] = [number] * len(vma.pages)
    cells = tuple(zip(s.pages, owners, strict=True))
    here = s.driver.offset - s.driver.offset % ptes
    yield here, cells[here : here + ptes]
    yield 0, tuple([cells[i * len(cells) // ptes] for i in range(ptes)])
    pieces = {cells[i : i + ptes]: i for i in range(len(cells) - ptes, -1, -ptes)}
    for piece, first in sorted(pieces.items(), key=lambda each: each[1]):
        yield first, piece
    if ptes <= _LETTERS_UP_TO:
        for cell in dict.fromkeys(cell for cell in cells if cell[1] >= 0):
            yield 0, (cell,) * ptes
            yield 0, (cell, *[("a", cell[1])] * (ptes - 1))
            yield 0, (cell, *[(".", cell[1])] * (ptes - 1))


def _tunables(s: Scenario, geometry: Geometry) -> Iterator[Tunables]:
    """Limits in proportion or at their defaults; orders as they are, or counted from PMD order down."""
    old = s.tunables
    gap = s.geometry.pmd_order - geometry.pmd_order
    default = Tunables.default(geometry)
    scaled = [_scaled(getattr(old, name), s.geometry.ptes, geometry.ptes) for name in _LIMITS]
    usual = [getattr(default, name) for name in _LIMITS]
    kept = (*old.hugepages[: geometry.pmd_order - MIN_MTHP_ORDER], old.hugepages[-1])
    for modes in dict.fromkeys((kept, old.hugepages[gap:])):
        for none, swap, shared in (scaled, usual):
            yield attrs.evolve(old, max_ptes_none=none, max_ptes_swap=swap, max_ptes_shared=shared, hugepages=modes)


def _scaled(value: int, before: int, after: int) -> int:
    return after - 1 if value == before - 1 else min(after - 1, -(-value * after // before))


def _drivers(s: Scenario, geometry: Geometry, first: int) -> Iterator[Driver]:
    d = s.driver
    if d.order is None:
        yield d
        return
    top = geometry.pmd_order
    gap = s.geometry.pmd_order - top
    orders = (top,) if d.order == s.geometry.pmd_order else (min(d.order, top - 1), max(d.order - gap, MIN_MTHP_ORDER))
    for order in dict.fromkeys(orders):
        inside = (d.offset - first) % geometry.ptes
        last = geometry.ptes - (1 << order)
        for offset in dict.fromkeys((min(inside - inside % (1 << order), last), last if d.offset else 0)):
            yield attrs.evolve(
                d,
                order=order,
                offset=offset,
                referenced=None if d.referenced is None else min(d.referenced, geometry.ptes),
                unmapped=None if d.unmapped is None else min(d.unmapped, geometry.ptes),
            )


def _page(page: int | None, s: Scenario, geometry: Geometry, first: int) -> int | None:
    """Where a page of the old map is in the new one."""
    if page is None or first <= page < first + geometry.ptes:
        return page if page is None else page - first
    return page * geometry.ptes // s.geometry.ptes


def _failure(failure: Failure, s: Scenario, geometry: Geometry, first: int) -> Failure:
    return attrs.evolve(failure, page=_page(failure.page, s, geometry, first))


def _event(event: Event, s: Scenario, geometry: Geometry, first: int) -> Event:
    name, value = event.name, event.value
    if name.startswith("hugepages-"):
        order = int(name.removeprefix("hugepages-"))
        name = f"hugepages-{geometry.pmd_order if order == s.geometry.pmd_order else min(order, geometry.pmd_order - 1)}"
    elif value.isdecimal():
        value = str(_scaled(int(value), s.geometry.ptes, geometry.ptes))
    return attrs.evolve(event, name=name, value=value, page=_page(event.page, s, geometry, first))
