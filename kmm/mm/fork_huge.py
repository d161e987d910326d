"""fork: one huge entry (mm/huge_memory.c)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.kernel.locks import spin_lock, spin_unlock
from kmm.mm.folio import ClearPageAnonExclusive, PageAnonExclusive, folio_get, page_folio
from kmm.mm.geometry import HPAGE_PMD_NR
from kmm.mm.mm_types import MM_ANONPAGES, VmAreaStruct
from kmm.mm.page_alloc import folio_put
from kmm.mm.pgalloc import pte_alloc_one, pte_free
from kmm.mm.pgtable import PmdSlot, mm_inc_nr_ptes, pgtable_trans_huge_deposit, pmd_lock, pmd_lockptr, pmdp_get, set_pmd
from kmm.mm.pgtable_bits import pmd_clear_uffd_wp, pmd_wrprotect
from kmm.mm.pgtable_generic import set_pmd_at
from kmm.mm.pte import (
    is_huge_zero_pmd,
    is_pmd_migration_entry,
    make_pmd_migration_entry,
    pmd_migration_has,
    pmd_mkold,
    pmd_pfn,
    pmd_t,
    pmd_trans_huge,
)
from kmm.mm.rmap_large import folio_add_anon_rmap_pmd, folio_maybe_dma_pinned
from kmm.mm.split_pmd import split_huge_pmd
from kmm.mm.system import page_at
from kmm.mm.vmstat import add_mm_counter


def copy_huge_pmd(new: VmAreaStruct, vma: VmAreaStruct, child: PmdSlot, pmd: PmdSlot, address: int) -> bool:
    """Let the child map the same huge page, with a deposited table of its own. May sleep.

    :returns: false: the page may be pinned, and the parent's entry is a table now; or somebody else has split it meanwhile
    :source: mm/huge_memory.c, v6.18
    """
    pgtable = pte_alloc_one(new.vm_mm, address)
    dst_ptl = pmd_lock(new.vm_mm, child)
    src_ptl = pmd_lockptr(vma.vm_mm, pmd)
    spin_lock(src_ptl)
    value = pmdp_get(pmd)
    huge = pmd_trans_huge(value) or is_pmd_migration_entry(value)
    shared = _share_huge(new, pmd, address, value) if huge else None
    if shared is not None:
        pgtable_trans_huge_deposit(new.vm_mm, child, pgtable)
        mm_inc_nr_ptes(new.vm_mm)
        set_pmd_at(new.vm_mm, address, child, shared)
    spin_unlock(src_ptl)
    spin_unlock(dst_ptl)
    if shared is None:
        pte_free(new.vm_mm, pgtable)
    if huge and shared is None:
        split_huge_pmd(vma, pmd, address)
    return shared is not None


def _share_huge(new: VmAreaStruct, pmd: PmdSlot, address: int, value: pmd_t) -> pmd_t | None:
    """The child's entry, after the parent's was changed; ``None``: the page may be pinned."""
    if is_pmd_migration_entry(value):
        kept = [bit for bit in ("young", "dirty", "soft_dirty", "uffd_wp") if pmd_migration_has(value, bit)]
        readable = make_pmd_migration_entry(pmd_pfn(value), *kept)
        if readable != value:
            set_pmd(pmd, readable)
        add_mm_counter(new.vm_mm, MM_ANONPAGES, HPAGE_PMD_NR())
        return make_pmd_migration_entry(pmd_pfn(value), *[bit for bit in kept if bit != "uffd_wp"])
    if not is_huge_zero_pmd(value):
        page = page_at(pmd_pfn(value))
        folio = page_folio(page)
        folio_get(folio)
        if PageAnonExclusive(page):
            if folio_maybe_dma_pinned(folio):
                folio_put(folio)
                return None
            ClearPageAnonExclusive(page)
        folio_add_anon_rmap_pmd(folio, new, exclusive=False)
        add_mm_counter(new.vm_mm, MM_ANONPAGES, HPAGE_PMD_NR())
    pmdp_set_wrprotect(pmd)
    return pmd_clear_uffd_wp(pmd_wrprotect(pmd_mkold(value)))


def pmdp_set_wrprotect(pmdp: PmdSlot) -> None:
    """Make a huge entry read-only in one step: the hardware may mark it meanwhile."""
    current.machine.rmw(pmdp, PmdSlot.val, pmd_wrprotect, ONCE)
