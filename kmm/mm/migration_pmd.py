"""The huge entry of a folio becomes a migration entry, and back (mm/huge_memory.c)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.mm.folio import Folio, Page, PageAnonExclusive, PG_dirty, folio_get, folio_set_flag, folio_test_dirty
from kmm.mm.mm_types import VmAreaStruct
from kmm.mm.page_alloc import folio_put
from kmm.mm.pgtable import PmdSlot, pmdp_get, update_mmu_cache_pmd
from kmm.mm.pgtable_bits import pmd_mksoft_dirty, pmd_mkuffd_wp
from kmm.mm.pgtable_generic import pmdp_invalidate, set_pmd_at
from kmm.mm.pte import (
    make_pmd_migration_entry,
    pfn_pmd,
    pmd_dirty,
    pmd_migration_has,
    pmd_mkdirty,
    pmd_mkhuge,
    pmd_mkold,
    pmd_mkwrite,
    pmd_soft_dirty,
    pmd_t,
    pmd_uffd_wp,
    pmd_write,
    pmd_young,
)
from kmm.mm.rmap_large import folio_add_anon_rmap_pmd, folio_remove_rmap_pmd, folio_try_share_anon_rmap


def set_pmd_migration_entry(folio: Folio, page: Page, vma: VmAreaStruct, address: int, pmd: PmdSlot) -> bool:
    """Replace a huge entry under the PMD lock; false, and the entry is back, when its page may be pinned.

    :source: mm/huge_memory.c, v6.18
    """
    old = pmdp_invalidate(vma, address, pmd)
    exclusive = PageAnonExclusive(page)
    if exclusive and not folio_try_share_anon_rmap(folio, page):
        set_pmd_at(vma.vm_mm, address, pmd, old)
        return False
    if pmd_dirty(old):
        folio_set_flag(folio, PG_dirty)
    set_pmd_at(vma.vm_mm, address, pmd, make_pmd_migration_entry(page.pfn, *_bits(old, exclusive=exclusive)))
    folio_remove_rmap_pmd(folio, vma)
    folio_put(folio)
    return True


def _bits(old: pmd_t, *, exclusive: bool) -> list[str]:
    """What the entry was, in the words of :func:`~kmm.mm.pte.make_pmd_migration_entry`."""
    has = {
        "write": pmd_write(old),
        "exclusive": exclusive and not pmd_write(old),
        "young": pmd_young(old),
        "dirty": pmd_dirty(old),
        "soft_dirty": pmd_soft_dirty(old),
        "uffd_wp": pmd_uffd_wp(old),
    }
    return [bit for bit, is_set in has.items() if is_set]


def remove_migration_pmd(folio: Folio, vma: VmAreaStruct, address: int, pmd: PmdSlot) -> None:
    """Map a huge page where its migration entry is, under the PMD lock.

    :source: mm/huge_memory.c, v6.18
    """
    old = pmdp_get(pmd)
    folio_get(folio)
    new = pmd_mkhuge(pfn_pmd(folio.pfn, current.machine.read(vma, VmAreaStruct.vm_page_prot, ONCE)))
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
