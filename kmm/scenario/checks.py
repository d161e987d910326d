"""What a scenario's parts must agree on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.errors import ScenarioError, require
from kmm.scenario.fits import misfit
from kmm.scenario.page import PageState, folio_state

if TYPE_CHECKING:
    from kmm.scenario.model import Process, Scenario, Vma

MIN_MTHP_ORDER: Final = 2
PMD_STATES: Final = ("table", "none", "absent", "huge", "huge_zero", "migration")
THP_DISABLE: Final = ("no", "yes", "except_advised")
MAX_ACTORS: Final = 6
GAP: Final = " "
"""Stands for a page that no VMA has."""

_NO_PAGE: Final = ALPHABET["."]


def check_scenario(s: Scenario) -> None:
    """Raise for what no single part can see.

    :raises ScenarioError: for the first thing that cannot be
    """
    require(bool(s.vmas), "the scenario has no VMA", "add [[vma]] with its map")
    _check_vmas(s, s.vmas, 1)
    for number, process in enumerate(s.processes, 2):
        _check_vmas(s, process.vmas, number)
    _check_numbers(s)
    _check_letters(s)
    _check_spaces(s)
    require(s.thp_disable in THP_DISABLE, f'thp_disable = "{s.thp_disable}" is not known', "use " + ", ".join(THP_DISABLE))
    room = s.memcg_room
    require(room is None or 0 <= room <= 65536, f"memcg_room = {room} is out of range", "use 0 to 65536 pages, or leave it out")
    require(s.contract in ("checked", "unchecked"), f'contract = "{s.contract}" is not known', 'use "checked" or "unchecked"')
    _check_attempt(s)
    _check_disturbances(s)
    _check_steps(s)
    _check_maps(s)


def _check_numbers(s: Scenario) -> None:
    g, t = s.geometry, s.tunables
    require(len(t.hugepages) == g.pmd_order - 1, "the per-order switches do not fit the geometry", f"name orders 2 to {g.pmd_order}")
    for name, value in (("none", t.max_ptes_none), ("swap", t.max_ptes_swap), ("shared", t.max_ptes_shared)):
        require(0 <= value < g.ptes, f"max_ptes_{name} = {value} is out of range", f"use 0 to {g.ptes - 1}")


def _check_letters(s: Scenario) -> None:
    for letter, _ in s.letters:
        require(
            len(letter) == 1 and letter.isascii() and letter.isprintable() and not letter.isspace(),
            f'"{letter}" is not one letter',
            "use one printable ASCII character",
        )
        require(letter not in ALPHABET, f'"{letter}" is a letter of the default alphabet', "choose another")


def _check_vmas(s: Scenario, vmas: tuple[Vma, ...], process: int) -> None:
    """The VMAs lie in the range, one behind the other."""
    nr, end = s.geometry.pages, 0
    what = "table" if s.geometry.ranges == 1 else "range"
    for number, vma in enumerate(vmas):
        which = _which(s, vmas, number, process)
        whole = len(vma.pages) == nr
        require(
            whole or vma.start is not None,
            f"the map has {len(vma.pages)} letters, the {what} {nr} entries{which}",
            f"write {nr} letters, or say start = ... for a VMA that does not cover the {what}",
        )
        require(not whole or vma.start is None, f"start = {vma.start} of a VMA that covers the {what}{which}", "drop start")
        require(vma.first >= end, f"the VMA begins at page {vma.first} in the one before{which}", "write them by address, apart")
        end = vma.end
        require(end <= nr, f"start = {vma.first} and {len(vma.pages)} letters lead behind the {what}{which}", "shorten the map")
        last = number == len(vmas) - 1 and end == nr
        require(last or not vma.after, f"after = {vma.after} needs a map that reaches the end of the {what}{which}", "drop after")


def _which(s: Scenario, vmas: tuple[Vma, ...], number: int, process: int) -> str:
    """Which VMA a problem is about, where there are several."""
    if s.processes:
        return f" (process {process}, VMA {number + 1})"
    return f" (VMA {number + 1})" if len(vmas) > 1 else ""


def _check_spaces(s: Scenario) -> None:
    require(0 <= s.deposited <= 2, f"deposited = {s.deposited} is out of range", "use 0 to 2")
    if s.geometry.ranges == 1 and not s.processes:
        require(s.pmd in PMD_STATES, f'pmd = "{s.pmd}" is not known', "use " + ", ".join(PMD_STATES))
        if s.pmd != "table":
            _check_pmd(s, s.vmas, s.pmd, 0)
        return
    several = "several ranges or processes"
    steps = s.driver.kind.value == "steps"
    require(steps, f"{several} need steps", 'say kind = "steps" in [driver], and write [[step]]')
    for process in s.address_spaces:
        _check_pmds(s, process)


def _check_pmds(s: Scenario, process: Process) -> None:
    words = process.pmd.split()
    good = len(words) in (1, s.geometry.ranges) and set(words) <= set(PMD_STATES)
    require(good, f'pmd = "{process.pmd}" is not known', f"use {', '.join(PMD_STATES)}: one for all ranges, or one for each")
    for number, pmd in enumerate(s.pmds_of(process)):
        if pmd != "table":
            _check_pmd(s, process.vmas, pmd, number)


def _check_pmd(s: Scenario, vmas: tuple[Vma, ...], pmd: str, number: int) -> None:
    """Without a table the map is empty, and a huge page fills its VMA's range.

    :param number: of the range, from 0
    """
    nr = s.geometry.ptes
    first, end = number * nr, (number + 1) * nr
    here = [(vma, vma.pages[max(first - vma.first, 0) : max(end - vma.first, 0)]) for vma in vmas]
    none = not any(set(pages) - {"."} for _, pages in here)
    require(none, f'pmd = "{pmd}" has no page-table entries', "make the map all none")
    require(pmd != "absent" or not s.deposited, f"deposited = {s.deposited} needs a PMD page", "drop it, or another pmd")
    if pmd not in ("huge", "huge_zero", "migration"):
        return
    covering = next((vma for vma, pages in here if len(pages) == nr), None)
    require(covering is not None, f'pmd = "{pmd}" needs a VMA that covers the range', "write a map of the whole table")
    anon_vma = covering is not None and covering.anon_vma
    require(anon_vma or pmd == "huge_zero", f'pmd = "{pmd}" needs an anon_vma', "say anon_vma = true")
    touches_table = {"munmap", "replace_vma", "free_table", "pin", "zap"}
    require(not any(e.op in touches_table for e in s.events), "an event on a huge page is not supported", "drop the event")


def _check_attempt(s: Scenario) -> None:
    g, d = s.geometry, s.driver
    if d.order is None:
        return
    require(MIN_MTHP_ORDER <= d.order <= g.pmd_order, f"order = {d.order} is out of range", f"use 2 to {g.pmd_order}")
    require(0 <= d.offset <= g.ptes - (1 << d.order), f"offset = {d.offset} is out of range", "keep the attempt inside the table")
    aligned = d.offset % (1 << d.order) == 0 and d.misalign == 0
    require(aligned or s.contract == "unchecked", "an unaligned address is outside the contract", 'align it, or say contract = "unchecked"')


def _check_disturbances(s: Scenario) -> None:
    g = s.geometry
    for page in (*(e.page for e in s.events), *(f.page for f in s.failures)):
        require(page is None or 0 <= page < g.pages, f"page {page} lies outside the table", f"use 0 to {g.pages - 1}")
    for event in s.events:
        behind = event.op == "replace_vma" and event.page is not None and event.page >= s.vmas[-1].end
        require(not behind, f"page {event.page} lies behind the last VMA", f"use 0 to {s.vmas[-1].end - 1}")


def _check_steps(s: Scenario) -> None:
    steps = s.driver.kind.value == "steps"
    some = bool(s.steps) or (steps and bool(s.actors))
    require(steps == some, "steps and their driver belong together", 'say kind = "steps" in [driver], and write [[step]]')
    require(not steps or not s.events, "an event beside steps is not supported", "make it a step")
    daemons = sum(actor.op == "khugepaged" for actor in s.actors) + (s.driver.kind.value == "khugepaged")
    require(not s.actors or daemons <= 1, "two tasks are khugepaged, which is one", "drop an actor, or use madvise")
    require(not s.actors or not s.events, "an event beside actors is not supported", "make it an actor")
    odd = next((failure.kind for failure in s.failures if failure.kind in ("cc", "slot", "swap_slots")), None)
    require(steps or odd is None, f'a failure "{odd}" needs steps', "drop it")
    require(len(s.steps) <= 999, f"{len(s.steps)} steps are too many", "use at most 999")
    require(len(s.actors) <= MAX_ACTORS, f"{len(s.actors)} actors are too many", f"use at most {MAX_ACTORS}")
    for what, steps_of in (("step", s.steps), ("actor", s.actors)):
        for number, step in enumerate(steps_of, 1):
            for first in (step.page, step.to):
                inside = first is None or (first >= 0 and first + step.length <= s.geometry.pages)
                require(inside, f"{what} {number} leads out of the range", f"use pages 0 to {s.geometry.pages - 1}")


def _check_maps(s: Scenario) -> None:
    alphabet = s.alphabet()
    _check_map(s, s.vmas, s.pages, alphabet, 1)
    for number, process in enumerate(s.processes, 2):
        _check_map(s, process.vmas, s.pages_of(process), alphabet, number)


def _check_map(s: Scenario, vmas: tuple[Vma, ...], pages: str, alphabet: Mapping[str, PageState], process: int) -> None:
    for number, vma in enumerate(vmas):
        which = _which(s, vmas, number, process)
        for letter in sorted(set(vma.pages)):
            require(letter in alphabet, f'"{letter}" is not in the alphabet{which}', f"see the alphabet page, or add [letters.{letter}]")
            page = alphabet[letter]
            wrong = misfit(page, vma.flags, anon_vma=vma.anon_vma)
            if wrong is not None:
                raise ScenarioError(f'"{letter}" {wrong[0]}{which}', wrong[1])
            require(1 << page.order <= s.geometry.ptes, f'"{letter}" is larger than the table{which}', "use a smaller order")
            if page.index is not None:
                where = [i for i, c in enumerate(vma.pages, vma.first) if c == letter]
                ok = all(i % (1 << page.order) == page.index for i in where)
                require(
                    ok, f'the large folio of "{letter}" is misaligned (page {where[0]}){which}', "folios are naturally aligned; move it"
                )
    _check_folios(pages, alphabet)


def _check_folios(pages: str, alphabet: Mapping[str, PageState]) -> None:
    """Letters that share a large folio agree on what belongs to the folio."""
    large = [c for c in set(pages) if c != GAP and alphabet[c].order]
    if len({folio_state(alphabet[c]) for c in large}) == len({alphabet[c].order for c in large}):
        return
    blocks: dict[tuple[int, int], str] = {}
    for i, letter in enumerate(pages):
        page = alphabet.get(letter, _NO_PAGE)
        if page.order:
            first = blocks.setdefault((page.order, i >> page.order), letter)
            same = folio_state(alphabet[first]) == folio_state(page)
            problem = f'"{first}" and "{letter}" at page {i} share a folio but not its state'
            require(same, problem, "give both the same pins, lock, lru and node")
