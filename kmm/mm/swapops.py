"""Entries that name a page without mapping it (include/linux/swapops.h)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.bug import BUG_ON
from kmm.mm.folio import Folio, folio_test_locked
from kmm.mm.pte import is_migration_entry, is_pmd_migration_entry, pmd_pfn, pmd_t, pte_t, swp_entry_pfn
from kmm.mm.system import page_at


def pfn_swap_entry_folio(entry: pte_t) -> Folio:
    """The folio of a hwpoison, migration or device entry. One that is being migrated is locked as long as there are entries for it."""
    folio = page_at(swp_entry_pfn(entry)).folio
    BUG_ON(is_migration_entry(entry) and not _is_locked(folio), "is_migration_entry(entry) && !folio_test_locked(folio)")
    return folio


def pfn_swap_entry_folio_pmd(entry: pmd_t) -> Folio:
    """:func:`pfn_swap_entry_folio` of a huge page's migration entry."""
    folio = page_at(pmd_pfn(entry)).folio
    migrates = is_pmd_migration_entry(entry)
    BUG_ON(migrates and not _is_locked(folio), "is_migration_entry(entry) && !folio_test_locked(folio)")
    return folio


def _is_locked(folio: Folio) -> bool:
    """``struct page`` stays when the page is freed."""
    task = current.task
    task.speculates = folio
    locked = folio_test_locked(folio)
    task.speculates = None
    return locked
