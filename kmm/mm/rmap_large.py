"""Reverse mapping of large folios: many entries at once, PMD entries; and what a pin forbids (mm/rmap.c, include/linux/rmap.h)."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.mm.deferred_split import deferred_split_folio
from kmm.mm.folio import (
    ClearPageAnonExclusive,
    Folio,
    Page,
    SetPageAnonExclusive,
    folio_nr_pages,
    folio_ref_count,
    folio_test_partially_mapped,
)
from kmm.mm.mlock import mlock_vma_folio, munlock_vma_folio
from kmm.mm.mm_types import VmAreaStruct
from kmm.mm.rmap import _mm_ids_add
from kmm.mm.vmstat import node_stat_mod_folio

_folio_mapcount: Final = Folio.mapcount
_page_mapcount: Final = Page.mapcount
_pincount: Final = Folio.pincount
_entire_mapcount: Final = Folio.entire_mapcount


def folio_add_anon_rmap_ptes(folio: Folio, page: Page, nr: int, vma: VmAreaStruct, address: int, *, exclusive: bool) -> None:
    """Map ``nr`` consecutive pages of an anonymous folio from ``page`` on, once more. References and counters are the caller's.

    :param exclusive: RMAP_EXCLUSIVE
    """
    machine = current.machine
    pages = folio.pages[page.index : page.index + nr]
    if not folio.order:
        mapped = int(machine.fetch_add(folio, _folio_mapcount, 1) == 0)
    else:
        mapped = sum(machine.fetch_add(each, _page_mapcount, 1) == 0 for each in pages)
        if machine.read(folio, _entire_mapcount, ONCE):
            mapped = 0
        machine.fetch_add(folio, _folio_mapcount, nr)
        _mm_ids_add(folio, vma.vm_mm.ident, nr)
    node_stat_mod_folio(folio, "nr_anon_mapped", mapped)
    if exclusive:
        for each in pages:
            SetPageAnonExclusive(each)
    if folio_nr_pages(folio) == nr:
        mlock_vma_folio(folio, vma)


def folio_add_anon_rmap_pmd(folio: Folio, vma: VmAreaStruct, *, exclusive: bool) -> None:
    """Map a whole folio by one more huge entry. References and counters are the caller's.

    :param exclusive: RMAP_EXCLUSIVE
    """
    machine = current.machine
    if machine.fetch_add(folio, _entire_mapcount, 1) == 0:
        node_stat_mod_folio(folio, "nr_anon_thps", 1)
        node_stat_mod_folio(folio, "nr_anon_mapped", _not_mapped_by_ptes(folio))
    machine.fetch_add(folio, _folio_mapcount, 1)
    _mm_ids_add(folio, vma.vm_mm.ident, 1)
    if exclusive:
        SetPageAnonExclusive(folio.pages[0])
    mlock_vma_folio(folio, vma)


def folio_remove_rmap_pmd(folio: Folio, vma: VmAreaStruct) -> None:
    """Unmap a whole folio from one huge entry. References and mm counters are the caller's."""
    machine = current.machine
    _mm_ids_add(folio, vma.vm_mm.ident, -1)
    machine.fetch_add(folio, _folio_mapcount, -1)
    if machine.fetch_add(folio, _entire_mapcount, -1) == 1:
        unmapped = _not_mapped_by_ptes(folio)
        if 0 < unmapped < folio_nr_pages(folio) and not folio_test_partially_mapped(folio):
            deferred_split_folio(folio, partially_mapped=True)
        node_stat_mod_folio(folio, "nr_anon_mapped", -unmapped)
        node_stat_mod_folio(folio, "nr_anon_thps", -1)
    munlock_vma_folio(folio, vma)


def _not_mapped_by_ptes(folio: Folio) -> int:
    return sum(not current.machine.read(page, _page_mapcount, ONCE) for page in folio.pages)


def folio_maybe_dma_pinned(folio: Folio) -> bool:
    """Somebody has a long-lived reference to it. The kernel counts those of a small folio in the reference count."""
    return folio_ref_count(folio) > 0 and current.machine.read(folio, _pincount, ONCE) > 0


def folio_try_share_anon_rmap(folio: Folio, page: Page) -> bool:
    """Give up that a page is exclusive, after its entry was cleared or invalidated; false: it may be pinned, and stays exclusive."""
    if folio_maybe_dma_pinned(folio):
        return False
    ClearPageAnonExclusive(page)
    return True
