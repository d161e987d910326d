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
from kmm.mm.mmu_gather import MmuGather, tlb_finish_mmu
from kmm.mm.mmu_notifier import MmuNotifierRange, mmu_notifier_invalidate_range_end, mmu_notifier_invalidate_range_start
from kmm.mm.pgalloc import pmd_alloc, pte_alloc
from kmm.mm.pgtable import (
    PmdSlot,
    PtePtr,
    pmd_lock,
    pmd_offset,
    pmdp_get,
    pmdp_get_lockless,
    pte_clear,
    pte_offset_map_lock,
    pte_unmap_unlock,
    ptep_get,
    ptep_get_and_clear,
    set_pmd,
    set_pte_at,
)
from kmm.mm.pgtable_bits import (
    pmd_clear_uffd_wp,
    pmd_migration_clear,
    pmd_migration_set,
    pmd_mkuffd_wp,
    pmd_modify,
    pmd_protnone,
    pte_clear_uffd_wp,
    pte_modify,
    pte_swp_change_type,
    pte_swp_clear_uffd_wp,
    pte_swp_mkuffd_wp,
)
from kmm.mm.pgtable_generic import set_pmd_at
from kmm.mm.populate import populate_vma_page_range
from kmm.mm.pte import (
    PTE_MARKER_GUARD,
    PTE_MARKER_POISONED,
    PTE_MARKER_UFFD_WP,
    PTE_NONE,
    SWP_DEVICE_READ,
    SWP_DEVICE_WRITE,
    SWP_MIGRATION_READ_EXCLUSIVE,
    SWP_MIGRATION_WRITE,
    is_huge_zero_pmd,
    is_pmd_migration_entry,
    make_pte_marker,
    pmd_migration_has,
    pmd_mkinvalid,
    pmd_mkwrite,
    pmd_none,
    pmd_pfn,
    pmd_t,
    pmd_trans_huge,
    pmd_write,
    pte_marker_get,
    pte_mkuffd_wp,
    pte_mkwrite,
    pte_none,
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

MM_CP_TRY_CHANGE_WRITABLE: Final = 1 << 0
MM_CP_UFFD_WP: Final = 1 << 2
MM_CP_UFFD_WP_RESOLVE: Final = 1 << 3
MM_CP_UFFD_WP_UNPOPULATED: Final = 1 << 4
"""How entries are changed; the last one stands for ``UFFD_FEATURE_WP_UNPOPULATED`` of the monitor, and for the first of userfaultfd's."""

_ACCESS: Final = VM_READ | VM_WRITE | VM_EXEC
_READ_ONLY: Final = {SWP_MIGRATION_WRITE: SWP_MIGRATION_READ_EXCLUSIVE, SWP_DEVICE_WRITE: SWP_DEVICE_READ}


def do_mprotect(mm: MmStruct, start: int, length: int, access: int) -> str:
    """Change what [start, start + length) bytes may be used for. May sleep.

    :param mm: ``struct mm_struct *``
    :param length: bytes
    :param access: ``VM_READ``, ``VM_WRITE`` and ``VM_EXEC``, any of them
    :returns: empty, or ``ENOMEM`` at the first hole; what lies before it has changed then
    :source: do_mprotect_pkey in mm/mprotect.c, v6.18
    """
    mmap_write_lock(mm)
    tlb = MmuGather(mm)
    end, error = start + length, ""
    while start < end and not error:
        vma = vma_at(mm, start)
        if vma is None:
            error = "ENOMEM"
        else:
            upto = min(vma.vm_end, end)
            mprotect_fixup(tlb, vma, start, upto, access)
            start = upto
    tlb_finish_mmu(tlb)
    mmap_write_unlock(mm)
    return error


def mprotect_fixup(tlb: MmuGather, vma: VmAreaStruct, start: int, end: int, access: int) -> None:
    """Change one VMA: first its flags, then its entries. The mmap lock is held for writing. May sleep.

    :param tlb: takes what has to be flushed
    """
    oldflags = vma.vm_flags
    newflags = oldflags & ~_ACCESS | access
    if newflags == oldflags:
        return
    vma = vma_modify_flags(vma.vm_mm, vma, start, end, newflags)
    change_protection(tlb, vma, start, end, MM_CP_TRY_CHANGE_WRITABLE)
    if oldflags & (VM_WRITE | VM_LOCKED) == VM_LOCKED and newflags & VM_WRITE:
        populate_vma_page_range(vma, start, end)


def change_protection(tlb: MmuGather, vma: VmAreaStruct, start: int, end: int, cp_flags: int) -> None:
    """Give every entry of [start, end) bytes the page protection of its VMA. The mmap lock is held. May sleep.

    :param cp_flags: ``MM_CP_*``
    :source: mm/mprotect.c, v6.18
    """
    window = MmuNotifierRange(vma.vm_mm, start, end)
    mmu_notifier_invalidate_range_start(window)
    while start < end:
        upto = min((start & HPAGE_PMD_MASK()) + HPAGE_PMD_SIZE(), end)
        pmd = change_pmd_prepare(vma, start, cp_flags)
        while pmd is not None and not change_pmd_range(tlb, vma, pmd, start, upto, cp_flags):
            pmd = change_pmd_prepare(vma, start, cp_flags)
        start = upto
    mmu_notifier_invalidate_range_end(window)


def change_pmd_prepare(vma: VmAreaStruct, start: int, cp_flags: int) -> PmdSlot | None:
    """The slot of an address, with a table if markers have to be put there; ``None`` where an upper level is absent."""
    mm = vma.vm_mm
    if not cp_flags & MM_CP_UFFD_WP_UNPOPULATED:
        return pmd_offset(mm, start)
    pmd = pmd_alloc(mm, start)
    pte_alloc(mm, pmd, start)
    return pmd


def change_pmd_range(tlb: MmuGather, vma: VmAreaStruct, pmd: PmdSlot, start: int, end: int, cp_flags: int) -> bool:
    """What lies in one PMD range: a huge entry is changed as a whole, or becomes a table first.

    :returns: false: the table went meanwhile; look again
    """
    value = pmdp_get_lockless(pmd)
    if pmd_none(value):
        return True
    if pmd_trans_huge(value) or is_pmd_migration_entry(value):
        if end - start != HPAGE_PMD_SIZE():
            split_huge_pmd(vma, pmd, start)
        elif change_huge_pmd(tlb, vma, pmd, start, cp_flags):
            return True
    return change_pte_range(tlb, vma, pmd, start, end, cp_flags)


def change_huge_pmd(tlb: MmuGather, vma: VmAreaStruct, pmd: PmdSlot, address: int, cp_flags: int) -> bool:
    """Change a huge entry. It is invalid in between, so that no CPU can mark it meanwhile.

    :returns: false: it is none any more
    :source: mm/huge_memory.c, v6.18
    """
    ptl = pmd_lock(vma.vm_mm, pmd)
    value = pmdp_get(pmd)
    huge = pmd_trans_huge(value)
    if is_pmd_migration_entry(value):
        new = _changed_migration(value, cp_flags)
        if new != value:
            set_pmd(pmd, new)
    elif huge:
        old = pmdp_invalidate_ad(pmd)
        entry = _changed_pmd(vma, pmd_modify(old, vma.vm_page_prot), cp_flags)
        set_pmd_at(vma.vm_mm, address, pmd, entry)
        if old != entry:
            tlb.add(address, address + HPAGE_PMD_SIZE())
    spin_unlock(ptl)
    return huge or is_pmd_migration_entry(value)


def _changed_migration(value: pmd_t, cp_flags: int) -> pmd_t:
    if pmd_migration_has(value, "write"):
        value = pmd_migration_set(pmd_migration_clear(value, "write"), "exclusive")
    if cp_flags & MM_CP_UFFD_WP:
        return pmd_migration_set(value, "uffd_wp")
    return pmd_migration_clear(value, "uffd_wp") if cp_flags & MM_CP_UFFD_WP_RESOLVE else value


def _changed_pmd(vma: VmAreaStruct, entry: pmd_t, cp_flags: int) -> pmd_t:
    if cp_flags & MM_CP_UFFD_WP:
        entry = pmd_mkuffd_wp(entry)
    elif cp_flags & MM_CP_UFFD_WP_RESOLVE:
        entry = pmd_clear_uffd_wp(entry)
    tries = cp_flags & MM_CP_TRY_CHANGE_WRITABLE and not pmd_write(entry)
    return pmd_mkwrite(entry) if tries and can_change_pmd_writable(vma, entry) else entry


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


def change_pte_range(tlb: MmuGather, vma: VmAreaStruct, pmd: PmdSlot, start: int, end: int, cp_flags: int) -> bool:
    """Change the entries of one table; false: there is none."""
    mm = vma.vm_mm
    pte, ptl = pte_offset_map_lock(mm, pmd, start)
    if pte is None:
        return False
    for i in range((end - start) // PAGE_SIZE()):
        address, old = start + i * PAGE_SIZE(), ptep_get(pte + i)
        if pte_present(old):
            _change_present(tlb, vma, pte + i, address, cp_flags)
            continue
        new = _changed_nonpresent(old, cp_flags)
        if pte_none(new) and not pte_none(old):
            pte_clear(mm, address, pte + i)
        elif new != old:
            set_pte_at(mm, address, pte + i, new)
    pte_unmap_unlock(pte, ptl)
    return True


def _change_present(tlb: MmuGather, vma: VmAreaStruct, ptep: PtePtr, address: int, cp_flags: int) -> None:
    old = ptep_get_and_clear(vma.vm_mm, address, ptep)
    entry = pte_modify(old, vma.vm_page_prot)
    if cp_flags & MM_CP_UFFD_WP:
        entry = pte_mkuffd_wp(entry)
    elif cp_flags & MM_CP_UFFD_WP_RESOLVE:
        entry = pte_clear_uffd_wp(entry)
    tries = cp_flags & MM_CP_TRY_CHANGE_WRITABLE and not pte_write(entry)
    if tries and can_change_pte_writable(vma, address, entry):
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


def _changed_nonpresent(pte: pte_t, cp_flags: int) -> pte_t:
    """What becomes of an entry that maps nothing.

    A page that is being migrated, or that a device has, is not writable when it comes back; it may become so by a fault. A marker of
    userfaultfd goes when the protection does; other markers forbid any access anyway.
    """
    if pte_none(pte):
        return make_pte_marker(PTE_MARKER_UFFD_WP) if cp_flags & MM_CP_UFFD_WP_UNPOPULATED else pte
    marker = pte_marker_get(pte)
    if marker:
        dropped = cp_flags & MM_CP_UFFD_WP_RESOLVE and not marker & (PTE_MARKER_POISONED | PTE_MARKER_GUARD)
        return PTE_NONE if dropped else pte
    kind = _READ_ONLY.get(pte_swp_type(pte))
    pte = pte if kind is None else pte_swp_change_type(pte, kind)
    if cp_flags & MM_CP_UFFD_WP:
        return pte_swp_mkuffd_wp(pte)
    return pte_swp_clear_uffd_wp(pte) if cp_flags & MM_CP_UFFD_WP_RESOLVE else pte
