"""Waiting for a page that is being migrated (mm/migrate.c). The migration that is waited for gives up and puts the old page back."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import PLAIN
from kmm.kernel.locks import down_read, might_sleep, spin_unlock, up_read
from kmm.mm import system
from kmm.mm.folio import Folio, folio_get, folio_nr_pages, folio_test_dirty, folio_unlock
from kmm.mm.migration_end import migration_ends
from kmm.mm.migration_ptes import remove_migration_ptes
from kmm.mm.mm_types import MmStruct, VmAreaStruct
from kmm.mm.pgtable import PmdSlot, pmd_lock, pmd_offset, pmdp_get, pte_offset_map_lock, pte_unmap_unlock, ptep_get, update_mmu_cache_pmd
from kmm.mm.pgtable_bits import pmd_mksoft_dirty, pmd_mkuffd_wp
from kmm.mm.pgtable_generic import set_pmd_at
from kmm.mm.pte import (
    is_migration_entry,
    is_pmd_migration_entry,
    pfn_pmd,
    pmd_migration_has,
    pmd_mkdirty,
    pmd_mkhuge,
    pmd_mkold,
    pmd_mkwrite,
    pmd_pfn,
    swp_entry_pfn,
)
from kmm.mm.rmap import page_number
from kmm.mm.rmap_large import folio_add_anon_rmap_pmd
from kmm.mm.rmap_walk import rmap_walk_locked
from kmm.mm.swap import folio_putback_lru
from kmm.mm.vmstat import node_stat_mod_folio


def wait_for_migration(mm: MmStruct, pmd: PmdSlot, address: int) -> None:
    """``migration_entry_wait`` of a user's fault: what is put back is found through the reverse mapping. May sleep."""
    pte, ptl = pte_offset_map_lock(mm, pmd, address)
    if pte is None:
        return
    entry = ptep_get(pte)
    pte_unmap_unlock(pte, ptl)
    if is_migration_entry(entry):
        _wait_on_locked(swp_entry_pfn(entry), address)


def pmd_migration_entry_wait(mm: MmStruct, pmd: PmdSlot, address: int) -> None:
    """Wait until a huge page has been migrated. May sleep."""
    ptl = pmd_lock(mm, pmd)
    entry = pmdp_get(pmd)
    spin_unlock(ptl)
    if is_pmd_migration_entry(entry):
        _wait_on_locked(pmd_pfn(entry), address)


def _wait_on_locked(pfn: int, address: int) -> None:
    might_sleep()
    this = system.this
    if page_number(address) in this.injected.migration_again:
        return
    folio = system.page_at(pfn).folio
    migration_ends(folio, lambda: _undo(folio))


def _undo(folio: Folio) -> None:
    """Map the folio again wherever an entry stands for it, and give it back to the LRU."""
    anon_vma = current.machine.read(folio, Folio.mapping, PLAIN)
    assert anon_vma is not None
    down_read(anon_vma.rwsem)
    rmap_walk_locked(folio, anon_vma, remove_migration_pmd)
    remove_migration_ptes(folio, anon_vma, use_shared_zeropage=False)
    up_read(anon_vma.rwsem)
    folio_unlock(folio)
    node_stat_mod_folio(folio, "nr_isolated_anon", -folio_nr_pages(folio))
    folio_putback_lru(folio)


def remove_migration_pmd(folio: Folio, vma: VmAreaStruct, address: int) -> bool:
    """Map a huge page again where its migration entry is; other VMAs have to be asked, too.

    :source: mm/huge_memory.c, v6.18
    """
    pmd = pmd_offset(vma.vm_mm, address)
    if pmd is None:
        return True
    ptl = pmd_lock(vma.vm_mm, pmd)
    old = pmdp_get(pmd)
    if is_pmd_migration_entry(old) and pmd_pfn(old) == folio.pfn:
        folio_get(folio)
        new = pmd_mkhuge(pfn_pmd(folio.pfn, vma.vm_page_prot))
        if pmd_migration_has(old, "soft_dirty"):
            new = pmd_mksoft_dirty(new)
        if pmd_migration_has(old, "write"):
            new = pmd_mkwrite(new)
        if pmd_migration_has(old, "uffd_wp"):
            new = pmd_mkuffd_wp(new)
        if not pmd_migration_has(old, "young"):
            new = pmd_mkold(new)
        if folio_test_dirty(folio) and pmd_migration_has(old, "dirty"):
            new = pmd_mkdirty(new)
        exclusive = pmd_migration_has(old, "write") or pmd_migration_has(old, "exclusive")
        folio_add_anon_rmap_pmd(folio, vma, exclusive=exclusive)
        set_pmd_at(vma.vm_mm, address, pmd, new)
        update_mmu_cache_pmd(vma, address, pmd)
    spin_unlock(ptl)
    return True
