"""Secondary MMUs of a scenario: who has one, and whether what it translates is right at rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from kmm.mm.mm_types import MmStruct
from kmm.mm.pgtable import PtePage
from kmm.mm.secondary_mmu import SPTE_WRITE, mmu_notifier_register
from kmm.mm.system import System
from kmm.scenario.model import Scenario

_FRAME: Final = 0xFFFFFFFFFF << 12


def connect_secondary(s: Scenario, this: System, made: Iterable[tuple[MmStruct, list[PtePage | None]]]) -> None:
    """A process with a guest in the scenario has a secondary MMU from the start, which translates the pages that are young in it.

    :param made: the processes and their tables
    """
    guests = {step.process for step in (*s.steps, *s.actors) if step.op == "secondary_fault"}
    for mm in this.mms:
        if mm.ident in guests:
            mmu_notifier_register(mm)
    for mm, tables in made:
        if mm.secondary is not None:
            mm.secondary._sptes = {address: _entry(this, tables, address) for address in sorted(mm._secondary_young)}


def _entry(this: System, tables: list[PtePage | None], address: int) -> int:
    """As the tables have it at the start."""
    number, index = divmod((address - this.base) // this.machine.page_size, this.machine.ptes)
    table = tables[number]
    assert table is not None
    return table._entries[index] & (_FRAME | SPTE_WRITE)


def secondary(this: System, primary: Callable[[System, MmStruct, int], int]) -> None:
    """TLB: no secondary MMU translates a page to anything but what the tables say, or allows what they forbid; nothing is under way.

    :param primary: the entry that translates a page, by its index; 0: none does
    """
    for mm in this.mms:
        kvm = mm.secondary
        if kvm is None:
            continue
        if kvm._in_progress:
            this.machine.report("TLB", f"the {kvm.name} still waits for the end of {kvm._in_progress} invalidations")
        for address, spte in kvm._sptes.items():
            index = (address - this.base) // this.machine.page_size
            now = primary(this, mm, index)
            if (spte ^ now) & _FRAME or not now:
                what = f"translates page {index} to {frame_name(this, spte >> 12)}"
            elif spte & ~now & SPTE_WRITE:
                what = f"writes page {index}, which the tables forbid"
            else:
                continue
            this.machine.report("TLB", f"the {kvm.name} still {what}: no invalidation reached it")


def frame_name(this: System, pfn: int) -> str:
    """What a frame is."""
    page = this.mem_map.get(pfn)
    if page is None:
        return "the zero page"
    return f"{page.name}, which {page.freed_by} freed" if page.freed_by else page.name
