"""Huge pages: which orders are allowed, mapping by a PMD entry (mm/huge_memory.c)."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.mm import page_table_check, system
from kmm.mm.deferred_split import deferred_split_folio
from kmm.mm.folio import Folio
from kmm.mm.geometry import PAGE_SIZE, THP_ORDERS_ALL_ANON
from kmm.mm.mm_types import (
    MMF_DISABLE_THP_COMPLETELY,
    MMF_DISABLE_THP_EXCEPT_ADVISED,
    VM_GROWSDOWN,
    VM_HUGEPAGE,
    VM_NO_KHUGEPAGED,
    VM_NOHUGEPAGE,
    VM_STACK_INCOMPLETE_SETUP,
    VM_WRITE,
    MmStruct,
    VmAreaStruct,
)
from kmm.mm.pgtable import PmdSlot, set_pmd, update_mmu_cache_pmd
from kmm.mm.pte import pfn_pmd, pmd_mkdirty, pmd_mkhuge, pmd_mkwrite, pmd_t
from kmm.mm.rmap import folio_add_new_anon_rmap
from kmm.mm.swap import folio_add_lru_vma
from kmm.mm.system import Sysctl

TVA_KHUGEPAGED: Final = "khugepaged"
TVA_PAGEFAULT: Final = "pagefault"
TVA_FORCED_COLLAPSE: Final = "forced_collapse"
TVA_SMAPS: Final = "smaps"


def highest_order(orders: int) -> int:
    """Highest order of a non-empty mask."""
    return orders.bit_length() - 1


def thp_vma_suitable_order(vma: VmAreaStruct, addr: int, order: int) -> bool:
    """The naturally aligned block of ``order`` around ``addr`` lies inside the VMA."""
    size = PAGE_SIZE() << order
    start = addr & -size
    return start >= vma.vm_start and start + size <= vma.vm_end


def thp_vma_suitable_orders(vma: VmAreaStruct, addr: int, orders: int) -> int:
    """``orders`` without those, from the highest down, of which no block around ``addr`` fits; stops at the first that does."""
    while orders:
        order = highest_order(orders)
        if thp_vma_suitable_order(vma, addr, order):
            break
        orders &= ~(1 << order)
    return orders


def _sysfs_orders(vm_flags: int) -> int:
    read = current.machine.read
    sysctl = system.this.sysctl
    mask = read(sysctl, Sysctl.huge_anon_orders_always, ONCE)
    if vm_flags & VM_HUGEPAGE:
        mask |= read(sysctl, Sysctl.huge_anon_orders_madvise, ONCE)
    enabled = read(sysctl, Sysctl.enabled, ONCE)
    if enabled == "always" or (vm_flags & VM_HUGEPAGE and enabled == "madvise"):
        mask |= read(sysctl, Sysctl.huge_anon_orders_inherit, ONCE)
    return mask


def thp_vma_allowable_orders(vma: VmAreaStruct, vm_flags: int, tva_type: str, orders: int) -> int:
    """Which of ``orders`` an anonymous VMA may have, as a mask.

    :param tva_type: :data:`TVA_KHUGEPAGED`, :data:`TVA_FORCED_COLLAPSE`, which ignores sysfs, :data:`TVA_PAGEFAULT`, whose handler
        looks itself whether a block fits, or :data:`TVA_SMAPS`, which asks whether a page fault might
    """
    if tva_type != TVA_FORCED_COLLAPSE:
        orders &= _sysfs_orders(vm_flags)
    orders &= THP_ORDERS_ALL_ANON()
    if not orders or vm_flags & VM_NOHUGEPAGE:
        return 0
    mm_flags = current.machine.read(vma.vm_mm, MmStruct.flags, ONCE)
    if mm_flags & MMF_DISABLE_THP_COMPLETELY:
        return 0
    advised = vm_flags & VM_HUGEPAGE or tva_type == TVA_FORCED_COLLAPSE
    if mm_flags & MMF_DISABLE_THP_EXCEPT_ADVISED and not advised:
        return 0
    in_pf = tva_type == TVA_PAGEFAULT
    if not in_pf and tva_type != TVA_SMAPS and vm_flags & VM_NO_KHUGEPAGED:
        return 0
    if not in_pf:
        orders = _fits_somewhere(vma, orders)
    if vma_is_temporary_stack(vm_flags):
        return 0
    if not in_pf and tva_type != TVA_SMAPS and vma.anon_vma is None:
        return 0
    return orders


def vma_is_temporary_stack(vm_flags: int) -> bool:
    """The stack of a program that execve is still building."""
    return bool(vm_flags & VM_GROWSDOWN) and vm_flags & VM_STACK_INCOMPLETE_SETUP == VM_STACK_INCOMPLETE_SETUP


def _fits_somewhere(vma: VmAreaStruct, orders: int) -> int:
    """``orders`` without those, from the highest down, of which no aligned block lies inside the VMA."""
    start, end = vma.vm_start, vma.vm_end
    while orders:
        size = PAGE_SIZE() << highest_order(orders)
        if -(-start // size) * size + size <= end:
            break
        orders &= ~(1 << highest_order(orders))
    return orders


def maybe_pmd_mkwrite(pmd: pmd_t, vma: VmAreaStruct) -> pmd_t:
    """Writable if the VMA is."""
    return pmd_mkwrite(pmd) if vma.vm_flags & VM_WRITE else pmd


def map_anon_folio_pmd_nopf(folio: Folio, pmd: PmdSlot, vma: VmAreaStruct, haddr: int) -> None:
    """Map a folio by a huge entry, outside of a fault. Counters, events and the deposited table are the caller's."""
    entry = pmd_mkhuge(pfn_pmd(folio.pfn, vma.vm_page_prot))
    entry = maybe_pmd_mkwrite(pmd_mkdirty(entry), vma)
    folio_add_new_anon_rmap(folio, vma, haddr, exclusive=True)
    folio_add_lru_vma(folio, vma)
    page_table_check.pmd_set(entry)
    set_pmd(pmd, entry)
    update_mmu_cache_pmd(vma, haddr, pmd)
    deferred_split_folio(folio, partially_mapped=False)
