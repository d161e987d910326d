"""Page tables move with their mapping: entry by entry, or whole tables and huge entries (mm/mremap.c, mm/huge_memory.c)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import attrs

from kmm.kernel.bug import VM_BUG_ON, VM_WARN_ON_ONCE, WARN_ON_ONCE
from kmm.kernel.locks import SpinLock, spin_lock, spin_unlock
from kmm.mm.geometry import HPAGE_PMD_MASK, HPAGE_PMD_SIZE, PAGE_SIZE
from kmm.mm.mm_types import VmAreaStruct
from kmm.mm.mmap import anon_vma_lock_write, anon_vma_unlock_write
from kmm.mm.mmu_notifier import MmuNotifierRange, mmu_notifier_invalidate_range_end, mmu_notifier_invalidate_range_start
from kmm.mm.pgalloc import pmd_alloc, pte_alloc
from kmm.mm.pgtable import (
    PmdSlot,
    PtePtr,
    flush_tlb_range,
    pgtable_trans_huge_deposit,
    pgtable_trans_huge_withdraw,
    pmd_clear,
    pmd_lock,
    pmd_lockptr,
    pmd_offset,
    pmd_pgtable,
    pmd_populate,
    pmdp_get,
    pmdp_huge_get_and_clear,
    pte_offset_map_lock,
    pte_offset_map_ro_nolock,
    pte_unmap,
    pte_unmap_unlock,
    ptep_get,
    ptep_get_and_clear,
    set_pte_at,
)
from kmm.mm.pgtable_bits import (
    pmd_clear_uffd_wp,
    pmd_migration_clear,
    pmd_migration_set,
    pmd_mksoft_dirty,
    pte_clear_uffd_wp,
    pte_swp_clear_uffd_wp,
    pte_swp_mksoft_dirty,
)
from kmm.mm.pgtable_generic import set_pmd_at
from kmm.mm.pte import (
    PTE_MARKER_UFFD_WP,
    PTE_NONE,
    is_pmd_migration_entry,
    pmd_none,
    pmd_present,
    pmd_t,
    pmd_trans_huge,
    pte_marker_get,
    pte_mksoft_dirty,
    pte_none,
    pte_present,
    pte_t,
)
from kmm.mm.split_pmd import split_huge_pmd
from kmm.mm.userfaultfd import userfaultfd_armed
from kmm.mm.vma import vmas_in


@attrs.define
class PagetableMove:
    """``struct pagetable_move_control``.

    :param old: the VMA from which entries move
    :param old_addr: first byte
    :param new_addr: where it moves
    :param length: bytes
    :param need_rmap_locks: a walk of the reverse mapping could miss an entry that moves
    """

    old: VmAreaStruct
    new: VmAreaStruct
    old_addr: int
    new_addr: int
    length: int
    need_rmap_locks: bool = attrs.field(kw_only=True)


def move_page_tables(pmc: PagetableMove) -> None:
    """Move the entries of a range, from one PMD boundary on either side to the next. The mmap lock is held for writing. May sleep.

    :source: mm/mremap.c, v6.18
    """
    old_end, mm = pmc.old_addr + pmc.length, pmc.old.vm_mm
    try_realign_addr(pmc)
    window = MmuNotifierRange(mm, pmc.old_addr, old_end)
    mmu_notifier_invalidate_range_start(window)
    while pmc.old_addr < old_end:
        extent = get_extent(pmc, old_end)
        old_pmd = pmd_offset(mm, pmc.old_addr)
        if old_pmd is not None:
            _move_pmd_range(pmc, extent, old_pmd, pmd_alloc(mm, pmc.new_addr))
        pmc.old_addr += extent
        pmc.new_addr += extent
    mmu_notifier_invalidate_range_end(window)


def try_realign_addr(pmc: PagetableMove) -> None:
    """Begin at a PMD boundary if nothing lies between it and the range, on both sides: then the first table moves as a whole."""
    inside = pmc.old_addr & ~HPAGE_PMD_MASK()
    if not inside or pmc.length < HPAGE_PMD_SIZE() - inside or pmc.new_addr & ~HPAGE_PMD_MASK() != inside:
        return
    if can_align_down(pmc.old, pmc.old_addr) and can_align_down(pmc.new, pmc.new_addr):
        pmc.old_addr &= HPAGE_PMD_MASK()
        pmc.new_addr &= HPAGE_PMD_MASK()


def can_align_down(vma: VmAreaStruct, address: int) -> bool:
    """The VMA begins there, and nothing else lies between the PMD boundary and it."""
    return vma.vm_start == address and not vmas_in(vma.vm_mm, address & HPAGE_PMD_MASK(), address)


def get_extent(pmc: PagetableMove, old_end: int) -> int:
    """Bytes up to the next PMD boundary on either side, or to the end."""
    size = HPAGE_PMD_SIZE()
    return min(size - pmc.old_addr % size, size - pmc.new_addr % size, old_end - pmc.old_addr)


def _move_pmd_range(pmc: PagetableMove, extent: int, old_pmd: PmdSlot, new_pmd: PmdSlot) -> None:
    """What lies in one PMD range on both sides: an entry as a whole if all of it moves."""
    whole, value = extent == HPAGE_PMD_SIZE(), pmdp_get(old_pmd)
    if pmd_trans_huge(value) or is_pmd_migration_entry(value):
        if whole and move_huge_pmd(pmc, old_pmd, new_pmd):
            return
        split_huge_pmd(pmc.old, old_pmd, pmc.old_addr)
    elif whole and move_normal_pmd(pmc, old_pmd, new_pmd):
        return
    if not pmd_none(pmdp_get(old_pmd)):
        pte_alloc(pmc.new.vm_mm, new_pmd, pmc.new_addr)
        move_ptes(pmc, extent, old_pmd, new_pmd)


@contextmanager
def rmap_locks(vma: VmAreaStruct, needed: bool) -> Iterator[None]:
    """No walk of the reverse mapping looks at the VMA's pages meanwhile."""
    anon_vma = vma.anon_vma if needed else None
    if anon_vma is not None:
        anon_vma_lock_write(anon_vma)
    yield
    if anon_vma is not None:
        anon_vma_unlock_write(anon_vma)


@contextmanager
def both_locks(old_ptl: SpinLock, new_ptl: SpinLock) -> Iterator[None]:
    """The second of two page-table locks; they may be one."""
    if new_ptl is not old_ptl:
        spin_lock(new_ptl)
    yield
    if new_ptl is not old_ptl:
        spin_unlock(new_ptl)


def move_normal_pmd(pmc: PagetableMove, old_pmd: PmdSlot, new_pmd: PmdSlot) -> bool:
    """Let the new slot lead to the table of the old one; false: there is none, or entry by entry, since uffd-wp bits have to go."""
    mm, moved = pmc.old.vm_mm, False
    if userfaultfd_armed(pmc.old) or userfaultfd_armed(pmc.new):
        return False
    with rmap_locks(pmc.old, True):
        if WARN_ON_ONCE(not pmd_none(pmdp_get(new_pmd)), "!pmd_none(*new_pmd)"):
            return False
        old_ptl = pmd_lock(mm, old_pmd)
        with both_locks(old_ptl, pmd_lockptr(mm, new_pmd)):
            value = pmdp_get(old_pmd)
            if pmd_present(value) and not pmd_trans_huge(value):
                pmd_clear(old_pmd)
                pmd_populate(mm, new_pmd, pmd_pgtable(value))
                flush_tlb_range(pmc.old, pmc.old_addr, pmc.old_addr + HPAGE_PMD_SIZE())
                moved = True
        spin_unlock(old_ptl)
    return moved


def move_huge_pmd(pmc: PagetableMove, old_pmd: PmdSlot, new_pmd: PmdSlot) -> bool:
    """Move a huge entry, with its deposited table; false where the new slot is not empty.

    :source: mm/huge_memory.c, v6.18
    """
    mm = pmc.old.vm_mm
    if not pmd_none(pmdp_get(new_pmd)):
        VM_BUG_ON(pmd_trans_huge(pmdp_get(new_pmd)), "pmd_trans_huge(*new_pmd)")
        return False
    with rmap_locks(pmc.old, pmc.need_rmap_locks):
        old_ptl = pmd_lock(mm, old_pmd)
        with both_locks(old_ptl, pmd_lockptr(mm, new_pmd)):
            value = pmdp_huge_get_and_clear(mm, pmc.old_addr, old_pmd)
            # The list of deposited tables belongs to the page of PMD entries, and in the model each entry has its own.
            pgtable_trans_huge_deposit(mm, new_pmd, pgtable_trans_huge_withdraw(mm, old_pmd))
            set_pmd_at(mm, pmc.new_addr, new_pmd, _moved_pmd(pmc, value))
            if pmd_present(value):
                flush_tlb_range(pmc.old, pmc.old_addr, pmc.old_addr + HPAGE_PMD_SIZE())
        spin_unlock(old_ptl)
    return True


def _moved_pmd(pmc: PagetableMove, value: pmd_t) -> pmd_t:
    """Soft-dirty, and not write-protected by userfaultfd any more."""
    drop = userfaultfd_armed(pmc.old)
    if is_pmd_migration_entry(value):
        value = pmd_migration_set(value, "soft_dirty")
        return pmd_migration_clear(value, "uffd_wp") if drop else value
    value = pmd_mksoft_dirty(value)
    return pmd_clear_uffd_wp(value) if drop else value


def move_ptes(pmc: PagetableMove, extent: int, old_pmd: PmdSlot, new_pmd: PmdSlot) -> None:
    """Move entries of one table, under the locks of both; the flush comes before either is dropped.

    :param extent: bytes
    """
    mm = pmc.old.vm_mm
    with rmap_locks(pmc.old, pmc.need_rmap_locks):
        old_pte, old_ptl = pte_offset_map_lock(mm, old_pmd, pmc.old_addr)
        new_pte, new_ptl = pte_offset_map_ro_nolock(mm, new_pmd, pmc.new_addr)
        assert old_pte is not None
        assert new_pte is not None
        with both_locks(old_ptl, new_ptl):
            moved = [_move_pte(pmc, i, old_pte + i, new_pte + i) for i in range(extent // PAGE_SIZE())]
            if any(pte_present(pte) for pte in moved):
                flush_tlb_range(pmc.old, pmc.old_addr, pmc.old_addr + extent)
        pte_unmap(new_pte)
        pte_unmap_unlock(old_pte, old_ptl)


def _move_pte(pmc: PagetableMove, i: int, old_pte: PtePtr, new_pte: PtePtr) -> pte_t:
    """Move one entry; the value is the old one."""
    mm, at = pmc.old.vm_mm, i * PAGE_SIZE()
    VM_WARN_ON_ONCE(not pte_none(ptep_get(new_pte)), "!pte_none(*new_ptep)")
    old = ptep_get(old_pte)
    if not pte_none(old):
        old = ptep_get_and_clear(mm, pmc.old_addr + at, old_pte)
        entry = _moved_pte(old, drops_uffd_wp=userfaultfd_armed(pmc.old))
        if not pte_none(entry):
            set_pte_at(mm, pmc.new_addr + at, new_pte, entry)
    return old


def _moved_pte(pte: pte_t, *, drops_uffd_wp: bool) -> pte_t:
    """Soft-dirty, and not write-protected by userfaultfd any more: a marker that says nothing else goes."""
    if drops_uffd_wp and pte_marker_get(pte) == PTE_MARKER_UFFD_WP:
        return PTE_NONE
    if pte_present(pte):
        pte = pte_mksoft_dirty(pte)
        return pte_clear_uffd_wp(pte) if drops_uffd_wp else pte
    pte = pte_swp_mksoft_dirty(pte)
    return pte_swp_clear_uffd_wp(pte) if drops_uffd_wp else pte
