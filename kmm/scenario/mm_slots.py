"""What khugepaged's list must look like in a system at rest."""

from __future__ import annotations

from kmm.mm.mm_types import MMF_VM_HUGEPAGE
from kmm.mm.system import System


def check_mm_slots(this: System) -> None:
    """KASAN, CONSERVATION and REFCOUNT for the list: its slots live, hash and cursor know them, and each holds one reference."""
    scan, report = this.khugepaged_scan, this.machine.report
    slots = scan._mm_head
    for slot in slots:
        gone = slot.freed_by or slot._mm.freed_by
        if gone:
            report("KASAN", f"khugepaged's list has the {slot.name}, but {gone} freed {'it' if slot.freed_by else slot._mm.name}")
        elif not slot._mm._flags & MMF_VM_HUGEPAGE:
            report("CONSERVATION", f"{slot._mm.name} is on khugepaged's list, but is not marked so")
    if sorted(scan._mm_slots_hash) != sorted(slot._mm.ident for slot in slots):
        report("CONSERVATION", "the hash of khugepaged's slots and its list differ")
    if scan._mm_slot is not None and scan._mm_slot not in slots:
        report("CONSERVATION", f"khugepaged's cursor is at the {scan._mm_slot.name}, which is not on the list")
    for mm in this.mms:
        known = sum(slot._mm is mm for slot in slots) + bool(mm._mm_users or mm._vmas)
        if not mm.freed_by and mm._mm_count != known:
            report("REFCOUNT", f"{mm.name} has mm_count {mm._mm_count} at the end, {known} of them have a holder")
