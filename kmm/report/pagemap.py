"""Page maps, drawn as rows of letters under a ruler."""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from typing import Final

import attrs

from kmm.mm.folio import Page
from kmm.mm.pgtable import PtePage
from kmm.mm.system import System
from kmm.report.entries import state_of
from kmm.scenario.alphabet import MEANING
from kmm.scenario.build import World
from kmm.scenario.checks import GAP
from kmm.scenario.model import Scenario
from kmm.scenario.page import Kind, Lru, PageState
from kmm.scenario.quiescence import pmd_of, table_of

ROW: Final = 64
HUGE: Final = "#"
ODD: Final = "!"
"""A page whose state no scenario could have."""
GONE: Final = " "
_SPARE: Final = string.ascii_uppercase + string.ascii_lowercase


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
    pages = HUGE * s.geometry.ptes if s.pmd in ("huge", "migration") else s.pages if s.pmd == "table" else ""
    used = {c: MEANING[c] if c in MEANING else describe(letters[c]) for c in pages if c not in (HUGE, GAP)}
    titles = {
        "table": "a table",
        "none": "nothing",
        "absent": "no PMD page",
        "huge": "one huge page",
        "huge_zero": "the huge zero page",
        "migration": "one huge page that is being migrated",
    }
    return PageMap(pages=pages, title=titles[s.pmd], legend=_legend(used))


def after(world: World, s: Scenario) -> PageMap:
    """The map that a run left behind; a page that looks as one of the scenario's letters says has that letter."""
    this = world.system
    table = table_of(this, world.mm)
    if table is None:
        return PageMap(pages="", title="the huge zero page" if pmd_of(world.mm) else "nothing", legend=())
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
    table_young = this.mms[0].secondary_young
    pages = ""
    gone = {index for index, letter in enumerate(s.pages) if letter == GAP}
    for index, pte in enumerate(table._entries):
        if index in gone and not pte:
            pages += GAP
            continue
        state = state_of(this, pte, secondary_young=this.base + index * this.machine.page_size in table_young)
        if state is not None and state not in letter_of and spare:
            letter_of[state] = spare.pop(0)
            meaning[letter_of[state]] = describe(state)
        letter = letter_of.get(state, ODD) if state is not None else ODD
        used[letter] = meaning[letter]
        pages += letter
    return PageMap(pages=pages, title="a table", legend=_legend(used))


def _legend(used: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(used.items()))


def describe(state: PageState) -> str:
    """A page state in words."""
    words = ["swapped out" if state.kind is Kind.SWAP else state.kind.value.replace("_", " ")]
    words += [name for name in _BITS if getattr(state, name)]
    words += [f"{name} {getattr(state, name)}" for name in _NUMBERS if getattr(state, name)]
    if state.lru is not Lru.LIST:
        words.append("off the LRU" if state.lru is Lru.OFF else "in an LRU-add batch")
    return ", ".join(words)


_BITS: Final[Sequence[str]] = tuple(a.name for a in attrs.fields(PageState) if a.default is False)
_NUMBERS: Final[Sequence[str]] = ("order", "mapped_by", "pins", "node")
