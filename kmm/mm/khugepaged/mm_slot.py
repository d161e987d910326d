"""What khugepaged remembers between passes: the address spaces to scan, and where it is among them (mm/mm_slot.h, khugepaged.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmm.kernel.access import Field, Shared
from kmm.mm.khugepaged.types import CollapseControl

if TYPE_CHECKING:
    from kmm.mm.mm_types import MmStruct


class KhugepagedMmSlot(Shared):
    """``struct khugepaged_mm_slot``: one address space on the list.

    :param mm: ``struct mm_struct *``; the slot has a reference to it
    """

    __slots__ = ("_mm", "label")

    mm: Field[MmStruct] = Field()

    def __init__(self, mm: MmStruct) -> None:
        self.freed_by = ""
        self.label = f"slot of mm{mm.ident}"
        self._mm = mm

    @property
    def name(self) -> str:
        """By its address space."""
        return self.label


class KhugepagedScan(Shared):
    """``struct khugepaged_scan``: the list and the cursor, under ``khugepaged_mm_lock``.

    ``mm_head`` is the list in scan order (whether it is empty is asked without lock, too), ``mm_slots_hash`` the same slots by the
    number of their address space. ``mm_slot`` is the slot under scan, ``address`` the byte address from which the scan of it goes on;
    nobody but khugepaged looks at that. ``full_scans`` counts how often the end of the list was reached.
    """

    __slots__ = ("_full_scans", "_mm_head", "_mm_slot", "_mm_slots_hash", "address")

    full_scans: Field[int] = Field()
    mm_head: Field[tuple[KhugepagedMmSlot, ...]] = Field()
    mm_slot: Field[KhugepagedMmSlot | None] = Field()
    mm_slots_hash: Field[dict[int, KhugepagedMmSlot]] = Field()

    def __init__(self) -> None:
        self.freed_by = ""
        self.address = 0
        self._full_scans = 0
        self._mm_head: tuple[KhugepagedMmSlot, ...] = ()
        self._mm_slot: KhugepagedMmSlot | None = None
        self._mm_slots_hash: dict[int, KhugepagedMmSlot] = {}

    @property
    def name(self) -> str:
        """As in C."""
        return "khugepaged_scan"


class KhugepagedThread(Shared):
    """The kernel thread: whether it runs, and how it sleeps. All times are milliseconds of the model's clock.

    ``should_stop`` is asked for by the one who ends the thread. ``scanning``: it is inside a scan, not between two turns of its main
    loop, or somebody ends it in its place. ``waits``: ``""``, ``"timeout"`` (until ``timeout``) or ``"event"`` (until it is woken);
    ``woken``: somebody woke it since. ``sleep_expire``: a wake-up before that time does not end the sleep of ``timeout``.

    ``collapse_control`` is the one instance that all passes use.
    """

    __slots__ = ("_running", "_scanning", "_should_stop", "_sleep_expire", "_timeout", "_waits", "_woken", "collapse_control")

    running: Field[bool] = Field()
    scanning: Field[bool] = Field()
    should_stop: Field[bool] = Field()
    sleep_expire: Field[int] = Field()
    timeout: Field[int] = Field()
    waits: Field[str] = Field()
    woken: Field[bool] = Field()

    def __init__(self) -> None:
        self.freed_by = ""
        self.collapse_control = CollapseControl(is_khugepaged=True)
        self._running = False
        self._scanning = False
        self._should_stop = False
        self._sleep_expire = 0
        self._timeout = 0
        self._waits = ""
        self._woken = False

    @property
    def name(self) -> str:
        """As in C."""
        return "khugepaged_thread"
