"""Changing entries that CPUs may be using: huge ones, young and dirty bits (mm/pgtable-generic.c, arch/x86/mm/pgtable.c)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.mm import page_table_check
from kmm.mm.geometry import HPAGE_PMD_SIZE
from kmm.mm.mm_types import MmStruct, VmAreaStruct
from kmm.mm.pgtable import PmdSlot, PtePage, PtePtr, flush_tlb_range, pmdp_huge_get_and_clear, ptep_get_and_clear, set_pmd
from kmm.mm.pte import pmd_mkinvalid, pmd_mkold, pmd_t, pmd_young, pte_mkclean, pte_mkold, pte_t, pte_young


def pmdp_huge_clear_flush(vma: VmAreaStruct, address: int, pmdp: PmdSlot) -> pmd_t:
    """Remove a huge entry and flush what was translated through it; the value is the old entry."""
    pmd = pmdp_huge_get_and_clear(vma.vm_mm, address, pmdp)
    flush_tlb_range(vma, address, address + HPAGE_PMD_SIZE())
    return pmd


def pmdp_invalidate(vma: VmAreaStruct, address: int, pmdp: PmdSlot) -> pmd_t:
    """Let no CPU use a huge entry any more, though it stays huge; the value is the old entry."""
    old = current.machine.rmw(pmdp, PmdSlot.val, pmd_mkinvalid, ONCE)
    page_table_check.pmd_clear(old)
    flush_tlb_range(vma, address, address + HPAGE_PMD_SIZE())
    return old


def set_pmd_at(mm: MmStruct, address: int, pmdp: PmdSlot, pmd: pmd_t) -> None:
    """Store a huge entry where there is none, or one that was invalidated."""
    page_table_check.pmd_set(pmd)
    set_pmd(pmdp, pmd)


def ptep_clear_flush(vma: VmAreaStruct, address: int, ptep: PtePtr) -> pte_t:
    """Remove an entry and flush its translation; the value is the old entry."""
    old = ptep_get_and_clear(vma.vm_mm, address, ptep)
    flush_tlb_range(vma, address, address + current.machine.page_size)
    return old


def ptep_test_and_clear_young(ptep: PtePtr) -> bool:
    """Make an entry old; was it young?"""
    return pte_young(current.machine.rmw_item(ptep.table, PtePage.entries, ptep.index, pte_mkold, ONCE))


def ptep_clear_young_dirty(ptep: PtePtr) -> None:
    """Make an entry old and clean."""
    current.machine.rmw_item(ptep.table, PtePage.entries, ptep.index, _old_and_clean, ONCE)


def _old_and_clean(pte: pte_t) -> pte_t:
    return pte_mkclean(pte_mkold(pte))


def pmdp_test_and_clear_young(pmdp: PmdSlot) -> bool:
    """Make a huge entry old; was it young?"""
    return pmd_young(current.machine.rmw(pmdp, PmdSlot.val, pmd_mkold, ONCE))
