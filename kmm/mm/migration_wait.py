"""Waiting for a page that is being migrated (mm/migrate.c). The migration that is waited for gives up and puts the old page back."""

from __future__ import annotations

from kmm.kernel.locks import might_sleep, spin_unlock
from kmm.mm import system
from kmm.mm.folio import Folio, folio_nr_pages, folio_unlock
from kmm.mm.migration_end import migration_ends
from kmm.mm.migration_ptes import remove_migration_ptes
from kmm.mm.mm_types import MmStruct
from kmm.mm.pgtable import PmdSlot, pmd_lock, pmdp_get, pte_offset_map_lock, pte_unmap_unlock, ptep_get
from kmm.mm.pte import is_migration_entry, is_pmd_migration_entry
from kmm.mm.rmap import page_number
from kmm.mm.swap import folio_putback_lru
from kmm.mm.swapops import pfn_swap_entry_folio, pfn_swap_entry_folio_pmd
from kmm.mm.vmstat import node_stat_mod_folio


def wait_for_migration(mm: MmStruct, pmd: PmdSlot, address: int) -> None:
    """``migration_entry_wait`` of a user's fault: what is put back is found through the reverse mapping. May sleep."""
    pte, ptl = pte_offset_map_lock(mm, pmd, address)
    if pte is None:
        return
    entry = ptep_get(pte)
    folio = pfn_swap_entry_folio(entry) if is_migration_entry(entry) else None
    pte_unmap_unlock(pte, ptl)
    if folio is not None:
        _wait_on_locked(folio, address)


def pmd_migration_entry_wait(mm: MmStruct, pmd: PmdSlot, address: int) -> None:
    """Wait until a huge page has been migrated. May sleep."""
    ptl = pmd_lock(mm, pmd)
    entry = pmdp_get(pmd)
    folio = pfn_swap_entry_folio_pmd(entry) if is_pmd_migration_entry(entry) else None
    spin_unlock(ptl)
    if folio is not None:
        _wait_on_locked(folio, address)


def _wait_on_locked(folio: Folio, address: int) -> None:
    might_sleep()
    if page_number(address) in system.this.injected.migration_again:
        return
    migration_ends(folio, lambda: _undo(folio))


def _undo(folio: Folio) -> None:
    """Map the folio again wherever an entry stands for it, and give it back to the LRU."""
    remove_migration_ptes(folio, folio)
    folio_unlock(folio)
    node_stat_mod_folio(folio, "nr_isolated_anon", -folio_nr_pages(folio))
    folio_putback_lru(folio)
