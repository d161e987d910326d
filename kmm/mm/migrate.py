"""Entries that migration and devices leave in place of a page, and the way back (mm/migrate.c, mm/migrate_device.c)."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import PLAIN
from kmm.kernel.locks import might_sleep, spin_unlock
from kmm.mm import page_table_check, system
from kmm.mm.folio import Folio, Page, PageAnonExclusive, folio_get, folio_nr_pages, folio_unlock
from kmm.mm.geometry import PAGE_SIZE
from kmm.mm.memcontrol import mem_cgroup_migrate
from kmm.mm.migration_end import migration_ends
from kmm.mm.mm_types import MmStruct, VmAreaStruct
from kmm.mm.page_alloc import __folio_alloc, folio_put
from kmm.mm.pgtable import PmdSlot, PtePtr, pmd_offset, pte_offset_map_lock, pte_unmap, pte_unmap_unlock, ptep_get, set_pte
from kmm.mm.pte import (
    SWP_DEVICE_WRITE,
    SWP_MIGRATION_READ,
    SWP_MIGRATION_WRITE,
    is_migration_entry,
    is_migration_entry_dirty,
    is_migration_entry_young,
    pfn_pte,
    pte_mkdirty,
    pte_mkold,
    pte_mksoft_dirty,
    pte_mkuffd_wp,
    pte_mkwrite,
    pte_mkyoung,
    pte_swp_soft_dirty,
    pte_swp_type,
    pte_swp_uffd_wp,
    pte_t,
    swp_entry_pfn,
)
from kmm.mm.rmap import folio_add_anon_rmap_pte, folio_remove_rmap_ptes, page_number
from kmm.mm.swap import folio_add_lru, folio_putback_lru
from kmm.mm.swapops import pfn_swap_entry_folio
from kmm.mm.vmstat import node_stat_mod_folio

_contents: Final = Page.contents


def migration_entry_wait(mm: MmStruct, pmd: PmdSlot, address: int) -> None:
    """Wait until the page behind a migration entry has been migrated; nothing is promised about the entry afterwards. May sleep.

    The migration that is waited for gives up and puts the old page back, unless the scenario says that another one begins.
    """
    pte, ptl = pte_offset_map_lock(mm, pmd, address)
    if pte is None:
        return
    entry = ptep_get(pte)
    folio = pfn_swap_entry_folio(entry) if is_migration_entry(entry) else None
    pte_unmap_unlock(pte, ptl)
    if folio is None:
        return
    might_sleep()
    if page_number(address) in system.this.injected.migration_again:
        return
    migration_ends(folio, lambda: _undo_migration(folio, address))


def _undo_migration(folio: Folio, address: int) -> None:
    """Map the page again wherever an entry stands for it, and give it back to the LRU."""
    for mm in system.this.mms:
        remove_migration_pte(mm, folio, address)
    folio_unlock(folio)
    node_stat_mod_folio(folio, "nr_isolated_anon", -folio_nr_pages(folio))
    folio_putback_lru(folio)


def remove_migration_pte(mm: MmStruct, folio: Folio, address: int) -> None:
    """Replace an address space's migration entry for ``folio`` by a mapping, if it has one at ``address``."""
    vma, pmd = _vma_of(mm, address), pmd_offset(mm, address)
    if vma is None or pmd is None:
        return
    pte, ptl = pte_offset_map_lock(mm, pmd, address)
    if pte is None:
        return
    entry = ptep_get(pte)
    if is_migration_entry(entry) and swp_entry_pfn(entry) == folio.pfn:
        folio_get(folio)
        folio_add_anon_rmap_pte(folio, folio.pages[0], vma, address, exclusive=pte_swp_type(entry) != SWP_MIGRATION_READ)
        _set(pte, _restored(entry, folio, vma))
    spin_unlock(ptl)
    pte_unmap(pte)


def _vma_of(mm: MmStruct, address: int) -> VmAreaStruct | None:
    """What a walk of the anon_vma's interval tree finds; no mmap lock is needed."""
    vmas = current.machine.read(mm, MmStruct.vmas, PLAIN)
    return next((vma for vma in vmas if vma.vm_start <= address < vma.vm_end), None)


def _restored(entry: pte_t, folio: Folio, vma: VmAreaStruct) -> pte_t:
    """The present entry that a migration entry becomes."""
    pte = pte_mkold(pfn_pte(folio.pfn, vma.vm_page_prot))
    if is_migration_entry_young(entry):
        pte = pte_mkyoung(pte)
    if is_migration_entry_dirty(entry):
        pte = pte_mkdirty(pte)
    if pte_swp_soft_dirty(entry):
        pte = pte_mksoft_dirty(pte)
    if pte_swp_type(entry) == SWP_MIGRATION_WRITE:
        pte = pte_mkwrite(pte)
    elif pte_swp_uffd_wp(entry):
        pte = pte_mkuffd_wp(pte)
    return pte


def _set(ptep: PtePtr, pte: pte_t) -> None:
    page_table_check.pte_set(pte)
    set_pte(ptep, pte)


def migrate_to_ram(vma: VmAreaStruct, pmd: PmdSlot, address: int, orig_pte: pte_t) -> bool:
    """A device's callback: move a page that only the device reaches into memory; its entry is old and clean. May sleep.

    :returns: false when there is no memory
    """
    source = system.page_at(swp_entry_pfn(orig_pte))
    folio = __folio_alloc("GFP_HIGHUSER_MOVABLE", 0, 0, frozenset())
    if folio is None:
        return False
    machine, mm = current.machine, vma.vm_mm
    pte, ptl = pte_offset_map_lock(mm, pmd, address)
    if pte is None or ptep_get(pte) != orig_pte:
        if pte is not None:
            pte_unmap_unlock(pte, ptl)
        folio_put(folio)
        return True
    folio.label = f"ram {address // PAGE_SIZE() - system.this.base // PAGE_SIZE()}"
    machine.write(folio.pages[0], _contents, machine.read(source, _contents, PLAIN), PLAIN)
    mem_cgroup_migrate(source.folio, folio)
    machine.write(folio, Folio.mapping, source.folio.mapping, PLAIN)
    machine.write(folio, Folio.index, source.folio.index, PLAIN)
    machine.write(folio, Folio.flags, source.folio.flags, PLAIN)
    folio_add_anon_rmap_pte(folio, folio.pages[0], vma, address, exclusive=PageAnonExclusive(source))
    entry = pte_mkold(pfn_pte(folio.pfn, vma.vm_page_prot))
    if pte_swp_uffd_wp(orig_pte):
        entry = pte_mkuffd_wp(entry)
    elif pte_swp_type(orig_pte) == SWP_DEVICE_WRITE:
        entry = pte_mkwrite(entry)
    if pte_swp_soft_dirty(orig_pte):
        entry = pte_mksoft_dirty(entry)
    _set(pte, entry)
    folio_remove_rmap_ptes(source.folio, source, 1, vma)
    pte_unmap_unlock(pte, ptl)
    folio_put(source.folio)
    folio_add_lru(folio)
    return True
