"""What each CPU has of its own: batches of folios, and where it takes the numbers of new frames, tables and swap slots from.

The frame numbers are those of the per-CPU page lists, the slots those of the per-CPU swap clusters: what one CPU takes has no effect on
what another one gets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kmm.kernel.access import Field, Shared

if TYPE_CHECKING:
    from kmm.mm.folio import Folio

RANGE: Final = 1 << 20
"""Numbers of each kind that a CPU has for itself. None is ever used again."""

FIRST_PFN: Final = 16
FIRST_TABLE_PFN: Final = 1 << 30
FIRST_SWAP: Final = 1 << 32


class PerCpu(Shared):
    """One CPU's share.

    :param number: of the CPU, from 0

    ``lru_add`` and ``lru_lazyfree`` (``cpu_fbatches``) and ``mlock_fbatch`` are the batches; other CPUs reach them, too. ``next_pfn``,
    ``next_table_pfn`` and ``next_swap`` are touched by their own CPU only.
    """

    __slots__ = ("_lru_add", "_lru_lazyfree", "_mlock_fbatch", "next_pfn", "next_swap", "next_table_pfn", "number")

    lru_add: Field[tuple[Folio, ...]] = Field()
    lru_lazyfree: Field[tuple[Folio, ...]] = Field()
    mlock_fbatch: Field[tuple[tuple[Folio, str], ...]] = Field()

    def __init__(self, number: int) -> None:
        self.freed_by = ""
        self.number = number
        self.next_pfn = FIRST_PFN + number * RANGE
        self.next_table_pfn = FIRST_TABLE_PFN + number * RANGE
        self.next_swap = FIRST_SWAP + number * RANGE
        self._lru_add: tuple[Folio, ...] = ()
        self._lru_lazyfree: tuple[Folio, ...] = ()
        self._mlock_fbatch: tuple[tuple[Folio, str], ...] = ()

    @property
    def name(self) -> str:
        """By its CPU."""
        return f"batches of CPU {self.number}"
