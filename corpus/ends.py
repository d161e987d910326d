"""How a run ended: what was reported, and the state."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Sequence
from typing import TypeAlias

from kmm.mm.pgtable import PmdPage
from kmm.mm.system import System
from kmm.scenario.drive import Run

End: TypeAlias = tuple[tuple[str, ...], str]
"""What was reported, or ended a task, and the state."""
_NAMES = ("outcome", "result", "errno", "mmap_locked", "events", "steps", "actors", "vm_events", "mthp_stats", "node_stat")


def end_of(done: Run) -> End:
    """Reports, and the state: results, counters, page tables, folios."""
    this = done.world.system
    names = {page.pfn: (folio.label, i) for folio in this.folios for i, page in enumerate(folio.pages)}
    state: list[object] = [done.outcome, done.result, done.errno, done.mmap_locked, done.events, done.steps, done.actors]
    state += [sorted(each.items()) for each in (this.vm_events, this.mthp_stats, this.node_stat)]
    for mm in this.mms:
        state += [mm._mm_users, mm._rss_stat, mm._flags, [(v._vm_start, v._vm_end, v._vm_flags) for v in mm._vmas]]
        state += [page and _range(this, page, names) for page in mm._pmds]
    live = [folio for folio in this.folios if not folio.freed_by]
    pages = {folio.label: [(p._mapcount, p._flags, p._contents) for p in folio.pages] for folio in live}
    state.append(sorted((f.label, f.nid, f._refcount, f._mapcount, f._flags, pages[f.label]) for f in live))
    died = [re.sub(r"(?<=\w):\d+", "", each) for each in (done.outcome, *done.actors) if ": " in each or " in " in each]
    return tuple(sorted({*(f"{each.check}: {each.text}" for each in this.machine.reports), *died})), repr(state)


def _range(this: System, page: PmdPage, names: dict[int, tuple[str, int]]) -> object:
    """What a PMD entry leads to; a page by its name, since its number depends on who allocated first."""

    def value(entry: int) -> object:
        number = entry >> 12 & 0xFFFFFFFFFF
        return entry & 0xFFF, entry >> 52, names.get(number, "" if number in this.tables else number)

    table = this.tables.get(page.slot._val >> 12 & 0xFFFFFFFFFF)
    return value(page.slot._val), len(page._deposited), None if table is None else [value(each) for each in table._entries]


def part(end: End, others: Collection[End]) -> str:
    """Where an end differs from the nearest of others."""
    values = ast.literal_eval(end[1])
    near = min((ast.literal_eval(each[1]) for each in others), key=lambda other: (_distance(values, other), repr(other)))
    at = next((i for i, (one, other) in enumerate(zip(values, near, strict=False)) if one != other), len(_NAMES))
    if at >= len(_NAMES):
        return "the address space differs" if at < len(values) - 1 else "the folios differ"
    return f"{_NAMES[at]} {values[at]} instead of {near[at]}"


def _distance(one: Sequence[object], other: Sequence[object]) -> int:
    return sum(a != b for a, b in zip(one, other, strict=False))
