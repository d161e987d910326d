"""Page states, and maps of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from hypothesis import strategies as st

from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.canvas import Canvas, common_letters, fitting_letters
from kmm.scenario.model import (
    VMA_FLAGS,
    Geometry,
)
from kmm.scenario.page import Kind, Lru, PageState
from kmm.scenario.strategies.draw import drawn, member, need, need_geometry, pages_in, pick

_ROOMY: Final = tuple(flag for flag in VMA_FLAGS if flag not in ("droppable", "hugetlb"))
"""Flags of a VMA that takes every letter."""

_MARKS: Final = ("lazyfree", "ksm", "mlocked", "prot_none")


def letters_for(geometry: Geometry, letters: Mapping[str, PageState] | None, flags: Sequence[str]) -> dict[str, PageState]:
    """The letters to draw from: those given, or the default alphabet, as far as they fit."""
    need_geometry(geometry)
    fitting = fitting_letters(ALPHABET if letters is None else letters, geometry, flags)
    good = any(page.index is None for page in fitting.values())
    need(good, "no letter fits the geometry and the flags", "give a letter without index, or None for the default alphabet")
    return fitting


def page_states() -> st.SearchStrategy[PageState]:
    """Any page state that can exist, of folio orders up to 3."""
    return drawn(_draw_page_state)


def _draw_page_state(draw: st.DrawFn) -> PageState:
    kind = pick(draw, (*(Kind.PRESENT,) * 4, *(Kind.SWAP,) * 2, *Kind))
    if kind is Kind.ZERO:
        return PageState(kind=kind, young=draw(st.booleans()), dirty=draw(st.booleans()))
    if kind in (Kind.DEVICE, Kind.DEVICE_PRIVATE, Kind.MIGRATION):
        return _draw_entry(draw, kind)
    if kind not in (Kind.PRESENT, Kind.SWAP):
        return PageState(kind=kind)
    mapped_by = pick(draw, (0, 0, 1, 2, 3))
    exclusive = mapped_by == 0 and draw(st.booleans())
    uffd_wp, soft_dirty, swapcache = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    if kind is Kind.SWAP:
        return PageState(kind=kind, mapped_by=mapped_by, exclusive=exclusive, uffd_wp=uffd_wp, soft_dirty=soft_dirty, swapcache=swapcache)
    mark = pick(draw, ("", "", "", *(("mlocked", "prot_none") if swapcache else _MARKS)))
    if mark == "ksm":
        exclusive = False
    order = 0 if swapcache or mark == "ksm" else pick(draw, (0, 0, 2, 3))
    lists = (Lru.LIST, Lru.LIST, Lru.OFF) if order or mark == "mlocked" else (Lru.LIST, Lru.LIST, Lru.OFF, Lru.BATCH)
    return PageState(
        kind=kind,
        young=draw(st.booleans()),
        dirty=mark != "ksm" and draw(st.booleans()),
        write=exclusive and not uffd_wp and mark != "prot_none" and draw(st.booleans()),
        prot_none=mark == "prot_none",
        secondary_young=draw(st.booleans()),
        ksm=mark == "ksm",
        lazyfree=mark == "lazyfree",
        mlocked=mark == "mlocked",
        exclusive=exclusive,
        uffd_wp=uffd_wp,
        soft_dirty=soft_dirty,
        swapcache=swapcache,
        order=order,
        index=pick(draw, (None, *range(1 << order))) if order else None,
        mapped_by=mapped_by,
        pins=pick(draw, (0, 0, 0, 1, 8)),
        locked=pick(draw, (False, False, True)),
        lru=pick(draw, lists),
        referenced=draw(st.booleans()),
        node=pick(draw, (0, 0, 1, 3)),
    )


def _draw_entry(draw: st.DrawFn, kind: Kind) -> PageState:
    """A page behind a migration entry, or in the memory of a device."""
    exclusive, uffd_wp, private = draw(st.booleans()), draw(st.booleans()), kind is Kind.DEVICE_PRIVATE
    return PageState(
        kind=kind,
        young=not private and draw(st.booleans()),
        dirty=not private and draw(st.booleans()),
        write=exclusive and not uffd_wp and draw(st.booleans()),
        exclusive=exclusive,
        uffd_wp=uffd_wp,
        soft_dirty=draw(st.booleans()),
        mapped_by=pick(draw, (0, 1, 3)) if kind is Kind.MIGRATION and not exclusive else 0,
        node=pick(draw, (0, 0, 1)) if kind is Kind.MIGRATION else 0,
    )


def page_maps(
    geometry: Geometry, letters: Mapping[str, PageState] | None = None, *, at: Sequence[int] | None = None
) -> st.SearchStrategy[str]:
    """Maps of runs with a few deviating pages.

    :param letters: letters to draw from; ``None``: the default alphabet
    :param at: where pages deviate; ``None``: anywhere
    """
    alphabet, pages = letters_for(geometry, letters, _ROOMY), pages_in(geometry, at)
    return drawn(lambda draw: draw_map(draw, geometry, alphabet, pages))


def draw_map(draw: st.DrawFn, geometry: Geometry, letters: Mapping[str, PageState], at: Sequence[int]) -> str:
    nr = geometry.ptes
    canvas = Canvas(nr, letters)
    common = common_letters(letters)
    everything = range(nr)
    canvas.paint(member(draw, tuple(c for c in common if letters[c].index is None)), 0, nr)
    for _ in range(pick(draw, (0, 1, 1, 2, 2, 3, 4))):
        letter = member(draw, common)
        canvas.paint(letter, member(draw, everything), nr >> pick(draw, range(1, geometry.pmd_order + 1)))
    for _ in range(pick(draw, (0, 0, 1, 1, 2, 3))):
        canvas.paint(member(draw, tuple(letters)), member(draw, at), 1)
    return canvas.text()
