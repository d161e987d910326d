"""mprotect (mm/mprotect.c, mm/huge_memory.c)."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.kernel.locks import spin_unlock
from kmm.mm import page_table_check
from kmm.mm.folio import PageAnonExclusive, folio_test_anon, page_folio
from kmm.mm.geometry import HPAGE_PMD_MASK, HPAGE_PMD_SIZE, PAGE_SIZE
from kmm.mm.memory import vm_normal_page
from kmm.mm.mm_types import VM_EXEC, VM_LOCKED, VM_READ, VM_WRITE, MmStruct, VmAreaStruct
from kmm.mm.mmap import mmap_write_lock, mmap_write_unlock
from kmm.mm.mmu_notifier import MmuNotifierRange, mmu_notifier_invalidate_range_end, mmu_notifier_invalidate_range_start
from kmm.mm.pgtable import (
    PmdSlot,
    PtePtr,
    flush_tlb_range,
    pmd_lock,
    pmd_offset,
    pmdp_get,
    pmdp_get_lockless,
    pte_offset_map_lock,
    pte_unmap_unlock,
    ptep_get,
    ptep_get_and_clear,
    set_pmd,
    set_pte_at,
)
from kmm.mm.pgtable_bits import (
    pmd_migration_clear,
    pmd_migration_set,
    pmd_modify,
    pmd_protnone,
    pte_modify,
    pte_swp_change_type,
)
from kmm.mm.pgtable_generic import set_pmd_at
from kmm.mm.populate import populate_vma_page_range
from kmm.mm.pte import (
    SWP_DEVICE_READ,
    SWP_DEVICE_WRITE,
    SWP_MIGRATION_READ_EXCLUSIVE,
    SWP_MIGRATION_WRITE,
    is_huge_zero_pmd,
    is_pmd_migration_entry,
    is_swap_pte,
    pmd_migration_has,
    pmd_mkinvalid,
    pmd_mkwrite,
    pmd_pfn,
    pmd_t,
    pmd_trans_huge,
    pmd_write,
    pte_mkwrite,
    pte_present,
    pte_protnone,
    pte_swp_type,
    pte_t,
    pte_write,
)
from kmm.mm.split_pmd import split_huge_pmd
from kmm.mm.system import page_at
from kmm.mm.vm_fault import userfaultfd_huge_pmd_wp, userfaultfd_pte_wp
from kmm.mm.vma import vma_at, vma_modify_flags

_ACCESS: Final = VM_READ | VM_WRITE | VM_EXEC
_READ_ONLY: Final = {SWP_MIGRATION_WRITE: SWP_MIGRATION_READ_EXCLUSIVE, SWP_DEVICE_WRITE: SWP_DEVICE_READ}


class MmuGather:
    """``struct mmu_gather``: the addresses whose translations have to go, as one range.

    ``vma`` is one of the address space.
    """

    __slots__ = ("end", "start", "vma")

    def __init__(self) -> None:
        self.start = self.end = 0
        self.vma: VmAreaStruct | None = None

    def add(self, start: int, end: int) -> None:
        """[start, end) bytes as well."""
        self.start = min(self.start, start) if self.end else start
        self.end = max(self.end, end)


def do_mprotect(mm: MmStruct, start: int, length: int, access: int) -> str:
    """Change what [start, start + length) bytes may be used for. May sleep.

    :param mm: ``struct mm_struct *``
    :param length: bytes
    :param access: ``VM_READ``, ``VM_WRITE`` and ``VM_EXEC``, any of them
    :returns: empty, or ``ENOMEM`` at the first hole; what lies before it has changed then
    :source: do_mprotect_pkey in mm/mprotect.c, v6.18
    """
    mmap_write_lock(mm)
    tlb = MmuGather()
    end, error = start + length, ""
    while start < end and not error:
        vma = vma_at(mm, start)
        if vma is None:
            error = "ENOMEM"
        else:
            upto = min(vma.vm_end, end)
            tlb.vma = mprotect_fixup(tlb, vma, start, upto, access)
            start = upto
    tlb_finish_mmu(tlb)
    mmap_write_unlock(mm)
    return error


def tlb_finish_mmu(tlb: MmuGather) -> None:
    """Flush what was gathered."""
    if tlb.vma is not None and tlb.end:
        flush_tlb_range(tlb.vma, tlb.start, tlb.end)


def mprotect_fixup(tlb: MmuGather, vma: VmAreaStruct, start: int, end: int, access: int) -> VmAreaStruct:
    """Change one VMA: first its flags, then its entries. The mmap lock is held for writing. May sleep.

    :param tlb: takes what has to be flushed
    :returns: the VMA that has the range now
    """
    oldflags = vma.vm_flags
    newflags = oldflags & ~_ACCESS | access
    if newflags == oldflags:
        return vma
    vma = vma_modify_flags(vma.vm_mm, vma, start, end, newflags)
    change_protection(tlb, vma, start, end)
    if oldflags & (VM_WRITE | VM_LOCKED) == VM_LOCKED and newflags & VM_WRITE:
        populate_vma_page_range(vma, start, end)
    return vma


def change_protection(tlb: MmuGather, vma: VmAreaStruct, start: int, end: int) -> None:
    """Give every entry of [start, end) bytes the page protection of its VMA. The mmap lock is held for writing. May sleep."""
    window = MmuNotifierRange(vma.vm_mm, start, end)
    mmu_notifier_invalidate_range_start(window)
    while start < end:
        upto = min((start & HPAGE_PMD_MASK()) + HPAGE_PMD_SIZE(), end)
        pmd = pmd_offset(vma.vm_mm, start)
        if pmd is not None:
            change_pmd_range(tlb, vma, pmd, start, upto)
        start = upto
    mmu_notifier_invalidate_range_end(window)


def change_pmd_range(tlb: MmuGather, vma: VmAreaStruct, pmd: PmdSlot, start: int, end: int) -> None:
    """What lies in one PMD range: a huge entry is changed as a whole, or becomes a table first."""
    value = pmdp_get_lockless(pmd)
    if pmd_trans_huge(value) or is_pmd_migration_entry(value):
        if end - start == HPAGE_PMD_SIZE():
            change_huge_pmd(tlb, vma, pmd, start)
            return
        split_huge_pmd(vma, pmd, start)
    change_pte_range(tlb, vma, pmd, start, end)


def change_huge_pmd(tlb: MmuGather, vma: VmAreaStruct, pmd: PmdSlot, address: int) -> None:
    """Change a huge entry. It is invalid in between, so that no CPU can mark it meanwhile.

    :source: mm/huge_memory.c, v6.18
    """
    ptl = pmd_lock(vma.vm_mm, pmd)
    value = pmdp_get(pmd)
    if is_pmd_migration_entry(value):
        if pmd_migration_has(value, "write"):
            set_pmd(pmd, pmd_migration_set(pmd_migration_clear(value, "write"), "exclusive"))
    else:
        old = pmdp_invalidate_ad(pmd)
        entry = pmd_modify(old, vma.vm_page_prot)
        if not pmd_write(entry) and can_change_pmd_writable(vma, entry):
            entry = pmd_mkwrite(entry)
        set_pmd_at(vma.vm_mm, address, pmd, entry)
        if old != entry:
            tlb.add(address, address + HPAGE_PMD_SIZE())
    spin_unlock(ptl)


def pmdp_invalidate_ad(pmdp: PmdSlot) -> pmd_t:
    """Let no CPU mark a huge entry any more; the flush is the caller's. The value is the old entry."""
    old = current.machine.rmw(pmdp, PmdSlot.val, pmd_mkinvalid, ONCE)
    page_table_check.pmd_clear(old)
    return old


def can_change_pmd_writable(vma: VmAreaStruct, pmd: pmd_t) -> bool:
    """A write needs no fault: the VMA allows it, and the page is this process's alone."""
    if not vma.vm_flags & VM_WRITE or pmd_protnone(pmd) or userfaultfd_huge_pmd_wp(vma, pmd):
        return False
    return not is_huge_zero_pmd(pmd) and PageAnonExclusive(page_at(pmd_pfn(pmd)))


def change_pte_range(tlb: MmuGather, vma: VmAreaStruct, pmd: PmdSlot, start: int, end: int) -> None:
    """Change the entries of one table; where there is none, there is nothing to do."""
    mm = vma.vm_mm
    pte, ptl = pte_offset_map_lock(mm, pmd, start)
    if pte is None:
        return
    for i in range((end - start) // PAGE_SIZE()):
        old = ptep_get(pte + i)
        if pte_present(old):
            _change_present(tlb, vma, pte + i, start + i * PAGE_SIZE())
        elif is_swap_pte(old):
            new = _without_write(old)
            if new != old:
                set_pte_at(mm, start + i * PAGE_SIZE(), pte + i, new)
    pte_unmap_unlock(pte, ptl)


def _change_present(tlb: MmuGather, vma: VmAreaStruct, ptep: PtePtr, address: int) -> None:
    old = ptep_get_and_clear(vma.vm_mm, address, ptep)
    entry = pte_modify(old, vma.vm_page_prot)
    if not pte_write(entry) and can_change_pte_writable(vma, address, entry):
        entry = pte_mkwrite(entry)
    set_pte_at(vma.vm_mm, address, ptep, entry)
    if old != entry:
        tlb.add(address, address + PAGE_SIZE())


def can_change_pte_writable(vma: VmAreaStruct, address: int, pte: pte_t) -> bool:
    """A write needs no fault: the VMA allows it, and the page is this process's alone. Whether it is dirty does not count."""
    if not vma.vm_flags & VM_WRITE or pte_protnone(pte) or userfaultfd_pte_wp(vma, pte):
        return False
    page = vm_normal_page(vma, address, pte)
    return page is not None and folio_test_anon(page_folio(page)) and PageAnonExclusive(page)


def _without_write(pte: pte_t) -> pte_t:
    """A page that is being migrated, or that a device has, is not writable when it comes back; it may become so by a fault."""
    kind = _READ_ONLY.get(pte_swp_type(pte))
    return pte if kind is None else pte_swp_change_type(pte, kind)
