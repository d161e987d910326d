"""Page maps, drawn as rows of letters under a ruler."""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from typing import Final

import attrs

from kmm.mm.folio import Page
from kmm.mm.mm_types import MmStruct
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
    :param first: index of the first page
    """

    pages: str
    title: str
    legend: tuple[tuple[str, str], ...]
    first: int = 0


def draw(pages: str, first: int = 0) -> Iterator[str]:
    """Rows of 64 letters with the index of the first; a row like the one above it is left out, as hexdump does.

    :param first: index of the first page
    """
    width = len(str(first + max(len(pages) - 1, 0)))
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
        yield f"{first + start:>{width}}  {row.rstrip()}"
        last, skipping = row, False


_TITLES: Final = {
    "table": "a table",
    "none": "nothing",
    "absent": "no PMD page",
    "huge": "one huge page",
    "huge_zero": "the huge zero page",
    "migration": "one huge page that is being migrated",
}


def before(s: Scenario, process: int = 1, number: int = 0) -> PageMap:
    """The map that a process starts from, in one range."""
    space, nr = s.address_spaces[process - 1], s.geometry.ptes
    pmd = s.pmds_of(space)[number]
    letters = dict(s.letters)
    pages = HUGE * nr if pmd in ("huge", "migration") else s.pages_of(space)[number * nr :][:nr] if pmd == "table" else ""
    used = {c: MEANING[c] if c in MEANING else describe(letters[c]) for c in pages if c not in (HUGE, GAP)}
    return PageMap(pages=pages, title=_TITLES[pmd], legend=_legend(used), first=number * nr)


def after(world: World, s: Scenario, mm: MmStruct | None = None, number: int = 0) -> PageMap:
    """The map that a run left behind in one range; a page that looks as one of the scenario's letters says has that letter.

    :param mm: the first process, unless another is named
    """
    this, mm = world.system, world.mm if mm is None else mm
    table = table_of(this, mm, number)
    if table is None:
        return PageMap(pages="", title="the huge zero page" if pmd_of(mm, number) else "nothing", legend=())
    if isinstance(table, Page):
        title, legend = f"one huge page ({table.folio.label})", ((HUGE, "huge page"),)
        return PageMap(pages=HUGE * s.geometry.ptes, title=title, legend=legend, first=number * s.geometry.ptes)
    return _mapped(this, mm, number, table, s)


def _mapped(this: System, mm: MmStruct, number: int, table: PtePage, s: Scenario) -> PageMap:
    letter_of: dict[PageState, str] = {}
    for letter, known in s.alphabet().items():
        letter_of.setdefault(known, letter)
    meaning = {**MEANING, **{letter: describe(known) for letter, known in s.letters}, ODD: "impossible"}
    spare = [c for c in _SPARE if c not in s.alphabet()]
    used: dict[str, str] = {}
    pages = ""
    first, size = number * s.geometry.ptes, this.machine.page_size
    for index, pte in enumerate(table._entries, first):
        address = this.base + index * size
        if not pte and not any(vma._vm_start <= address < vma._vm_end for vma in mm._vmas):
            pages += GAP
            continue
        state = state_of(this, pte, secondary_young=address in mm._secondary_young)
        if state is not None and state not in letter_of and spare:
            letter_of[state] = spare.pop(0)
            meaning[letter_of[state]] = describe(state)
        letter = letter_of.get(state, ODD) if state is not None else ODD
        used[letter] = meaning[letter]
        pages += letter
    return PageMap(pages=pages, title="a table", legend=_legend(used), first=first)


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
