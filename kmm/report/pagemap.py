"""Page maps, drawn as rows of letters under a ruler."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import attrs

from kmm.mm.folio import Folio, Page, PG_anon_exclusive, PG_locked, PG_lru, PG_referenced, PG_swapcache
from kmm.mm.pgtable import PtePage
from kmm.mm.pte import (
    ZERO_PFN,
    pte_none,
    pte_pfn,
    pte_present,
    pte_swp_exclusive,
    pte_swp_soft_dirty,
    pte_swp_uffd_wp_any,
    pte_t,
    pte_to_swp_offset,
    pte_uffd_wp,
    pte_young,
)
from kmm.mm.system import System
from kmm.scenario.alphabet import ALPHABET, MEANING
from kmm.scenario.build import World
from kmm.scenario.errors import ScenarioError
from kmm.scenario.model import Scenario
from kmm.scenario.page import Kind, Lru, PageState
from kmm.scenario.quiescence import table_of

ROW: Final = 64
HUGE: Final = "#"
ODD: Final = "!"
"""A page whose state no scenario could have."""
GONE: Final = " "
_SPARE: Final = "ABCDEFGHIJKLMNOPQRUVWXYZ"


@attrs.frozen(kw_only=True)
class PageMap:
    """What a table maps.

    :param pages: one letter a page; empty: there is no table
    :param title: what the PMD entry leads to
    :param legend: meaning of each letter that is used
    """

    pages: str
    title: str
    legend: tuple[tuple[str, str], ...]


def draw(pages: str) -> Iterator[str]:
    """Rows of 64 letters with the index of the first; a row like the one above it is left out, as hexdump does."""
    width = len(str(max(len(pages) - 1, 0)))
    if len(pages) > 8:
        yield " " * (width + 2) + "".join(f"{i:<8}" for i in range(0, min(len(pages), ROW), 8)).rstrip()
    last, skipping = "", False
    for start in range(0, len(pages), ROW):
        row = pages[start : start + ROW]
        if row == last and start + ROW < len(pages):
            if not skipping:
                yield f"{'*':>{width}}"
            skipping = True
            continue
        yield f"{start:>{width}}  {row.rstrip()}"
        last, skipping = row, False


def before(s: Scenario) -> PageMap:
    """The map that a scenario starts from."""
    letters = dict(s.letters)
    pages = HUGE * s.geometry.ptes if s.pmd == "huge" else s.vmas[0].pages if s.pmd == "table" else ""
    used = {c: MEANING[c] if c in MEANING else describe(letters[c]) for c in pages if c != HUGE}
    titles = {"table": "a table", "none": "nothing", "absent": "no PMD page", "huge": "one huge page"}
    return PageMap(pages=pages, title=titles[s.pmd], legend=_legend(used))


def after(world: World, s: Scenario) -> PageMap:
    """The map that a run left behind; a page that looks as one of the scenario's letters says has that letter."""
    this = world.system
    table = table_of(this, world.mm)
    if table is None:
        return PageMap(pages="", title="nothing", legend=())
    if isinstance(table, Page):
        return PageMap(pages=HUGE * s.geometry.ptes, title=f"one huge page ({table.folio.label})", legend=((HUGE, "huge page"),))
    return _mapped(this, table, s)


def _mapped(this: System, table: PtePage, s: Scenario) -> PageMap:
    letter_of: dict[PageState, str] = {}
    for letter, known in s.alphabet().items():
        letter_of.setdefault(known, letter)
    meaning = {**MEANING, **{letter: describe(known) for letter, known in s.letters}, ODD: "impossible"}
    spare = [c for c in _SPARE if c not in s.alphabet()]
    used: dict[str, str] = {}
    pages = ""
    for pte in table._entries:
        state = _state(this, pte)
        if state is not None and state not in letter_of and spare:
            letter_of[state] = spare.pop(0)
            meaning[letter_of[state]] = describe(state)
        letter = letter_of.get(state, ODD) if state is not None else ODD
        used[letter] = meaning[letter]
        pages += letter
    return PageMap(pages=pages, title="a table", legend=_legend(used))


def _legend(used: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(used.items()))


def _state(this: System, pte: pte_t) -> PageState | None:
    """What a scenario would call this entry; ``None``: nothing that one could."""
    try:
        if pte_none(pte):
            return ALPHABET["."]
        if not pte_present(pte):
            return _swapped(this, pte)
        if pte_pfn(pte) == ZERO_PFN:
            return PageState(kind=Kind.ZERO, young=pte_young(pte))
        page = this.mem_map.get(pte_pfn(pte))
        return None if page is None else _present(this, page, pte)
    except ScenarioError:
        return None


def _swapped(this: System, pte: pte_t) -> PageState | None:
    slot = this.swap.get(pte_to_swp_offset(pte))
    if slot is None:
        return None
    return PageState(
        kind=Kind.SWAP,
        exclusive=pte_swp_exclusive(pte),
        uffd_wp=pte_swp_uffd_wp_any(pte),
        soft_dirty=pte_swp_soft_dirty(pte),
        swapcache=slot.folio is not None,
        mapped_by=slot.count - 1,
    )


def _present(this: System, page: Page, pte: pte_t) -> PageState:
    folio = page.folio
    maps = page._mapcount if folio.order else folio._mapcount
    return PageState(
        kind=Kind.PRESENT,
        young=pte_young(pte),
        dirty=bool(pte & 0x40),
        write=bool(pte & 0x2),
        exclusive=bool(page._flags & PG_anon_exclusive),
        uffd_wp=pte_uffd_wp(pte),
        soft_dirty=bool(pte & 0x800),
        swapcache=bool(folio._flags & PG_swapcache),
        order=folio.order,
        mapped_by=maps - 1,
        pins=this.pins.get(folio.pfn, 0),
        locked=bool(folio._flags & PG_locked),
        lru=_lru(this, folio),
        referenced=bool(folio._flags & PG_referenced),
        node=folio.nid,
    )


def _lru(this: System, folio: Folio) -> Lru:
    if folio._flags & PG_lru:
        return Lru.LIST
    return Lru.BATCH if any(folio in batch for batch in this.lru_add) else Lru.OFF


def describe(state: PageState) -> str:
    """A page state in words."""
    words = ["swapped out" if state.kind is Kind.SWAP else state.kind.value]
    words += [name for name in _BITS if getattr(state, name)]
    words += [f"{name} {getattr(state, name)}" for name in _NUMBERS if getattr(state, name)]
    if state.lru is not Lru.LIST:
        words.append("off the LRU" if state.lru is Lru.OFF else "in an LRU-add batch")
    return ", ".join(words)


_BITS: Final[Sequence[str]] = ("young", "dirty", "write", "exclusive", "uffd_wp", "soft_dirty", "swapcache", "locked", "referenced")
_NUMBERS: Final[Sequence[str]] = ("order", "mapped_by", "pins", "node")
