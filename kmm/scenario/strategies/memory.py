"""VMAs, and how they lie in the range of a table."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Final

from hypothesis import strategies as st

from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.canvas import fitting_letters, pages_of
from kmm.scenario.layout import LAYOUTS, lay_out
from kmm.scenario.model import (
    VMA_FLAGS,
    Geometry,
    Vma,
)
from kmm.scenario.page import ANON, PageState
from kmm.scenario.strategies.draw import drawn, member, need, need_geometry, pick
from kmm.scenario.strategies.pages import draw_map, letters_for

_FLAG_SETS: Final[tuple[tuple[str, ...], ...]] = (
    *(("read", "write"),) * 16,
    *(("hugepage", "read", "write"),) * 6,
    *(("read", "uffd_wp", "write"),) * 4,
    ("nohugepage", "read", "write"),
    ("read", "uffd_missing", "write"),
    ("exec", "read", "write"),
    ("hugepage", "read", "uffd_missing", "uffd_wp", "write"),
    *(("read",),) * 2,
    ("read", "uffd_wp"),
    (),
    *(("locked", "mergeable", "read", "uffd_wp", "write"),) * 3,
    *(("mergeable", "read", "write"),) * 2,
    ("locked", "read", "write"),
    ("locked", "lockonfault", "read", "write"),
    ("droppable", "read", "write"),
    ("dontcopy", "dontdump", "growsdown", "read", "write"),
    *(("mergeable", "mixedmap", "read", "write"),) * 5,
    ("pfnmap", "read"),
    ("io", "read", "write"),
    ("dontexpand", "read", "write"),
    ("hugetlb", "read", "write"),
    ("read", "temporary_stack", "write"),
)


def vmas(
    geometry: Geometry, *, flags: Sequence[str] | None = None, letters: Mapping[str, PageState] | None = None
) -> st.SearchStrategy[Vma]:
    """VMAs with maps that fit their flags.

    :param flags: the VMA's flags; ``None``: any
    :param letters: letters to draw from; ``None``: the default alphabet
    """
    need_vma(geometry, flags, letters)
    return drawn(lambda draw: draw_vma(draw, geometry, flags, letters, range(geometry.ptes)))


def need_vma(geometry: Geometry, flags: Sequence[str] | None, letters: Mapping[str, PageState] | None) -> None:
    if flags is not None:
        known = not isinstance(flags, str) and all(flag in VMA_FLAGS for flag in flags)
        need(known, f"flags = {flags!r} are not VMA flags", "give some of " + ", ".join(VMA_FLAGS))
        need(not {"hugepage", "nohugepage"} <= set(flags), "a VMA cannot be both hugepage and nohugepage", "drop one")
    if flags is not None:
        letters_for(geometry, letters, flags)
    else:
        _flags_for(geometry, letters)


def _flags_for(geometry: Geometry, letters: Mapping[str, PageState] | None) -> tuple[tuple[str, ...], ...]:
    """The sets of flags of VMAs that some letter fits."""
    need_geometry(geometry)
    fitting = _fitting_flags(geometry, tuple((ALPHABET if letters is None else letters).items()))
    need(bool(fitting), "no letter fits the geometry and the flags", "give a letter without index, or None for the default alphabet")
    return fitting


@functools.lru_cache(16)
def _fitting_flags(geometry: Geometry, letters: tuple[tuple[str, PageState], ...]) -> tuple[tuple[str, ...], ...]:
    given = dict(letters)
    return tuple(each for each in _FLAG_SETS if any(page.index is None for page in fitting_letters(given, geometry, each).values()))


def draw_vma(
    draw: st.DrawFn, geometry: Geometry, flags: Sequence[str] | None, letters: Mapping[str, PageState] | None, at: Sequence[int]
) -> Vma:
    chosen = pick(draw, _flags_for(geometry, letters)) if flags is None else tuple(sorted(set(flags)))
    alphabet = letters_for(geometry, letters, chosen)
    pages = draw_map(draw, geometry, alphabet, at)
    return Vma(pages=pages, flags=chosen, anon_vma=bool(pages_of(pages, alphabet, ANON)) or draw(st.booleans()))


def draw_layout(draw: st.DrawFn, vma: Vma, alphabet: Mapping[str, PageState]) -> tuple[Vma, ...]:
    """A VMA that covers the table, or one or two that do not."""
    layout = pick(draw, (*("whole",) * 40, *LAYOUTS))
    at = member(draw, range(1, len(vma.pages)))
    return lay_out(layout, vma.pages, at, vma.flags, alphabet, anon_vma=vma.anon_vma)


def draw_bare_vma(draw: st.DrawFn, geometry: Geometry, flags: Sequence[str] | None, pmd: str) -> Vma:
    """A VMA whose PMD entry is no table."""
    chosen = pick(draw, _FLAG_SETS) if flags is None else tuple(sorted(set(flags)))
    return Vma(pages="." * geometry.ptes, flags=chosen, anon_vma=pmd in ("huge", "migration") or draw(st.booleans()))
