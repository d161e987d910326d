"""Where a VMA maps the pages of a folio (mm/page_vma_mapped.c)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kmm.kernel.locks import SpinLock, spin_lock, spin_unlock
from kmm.mm.folio import Folio, folio_nr_pages
from kmm.mm.geometry import HPAGE_PMD_MASK, HPAGE_PMD_NR, HPAGE_PMD_ORDER, HPAGE_PMD_SIZE, PAGE_SIZE
from kmm.mm.huge_memory import thp_vma_suitable_order
from kmm.mm.mm_types import VmAreaStruct
from kmm.mm.pgtable import (
    PmdSlot,
    PtePtr,
    pmd_lock,
    pmd_offset,
    pmdp_get,
    pmdp_get_lockless,
    pte_offset_map_lock,
    pte_offset_map_ro_nolock,
    pte_unmap,
    ptep_get,
)
from kmm.mm.pte import (
    is_device_private_entry,
    is_migration_entry,
    is_pmd_migration_entry,
    pmd_pfn,
    pmd_present,
    pmd_t,
    pmd_trans_huge,
    pte_none,
    pte_pfn,
    pte_present,
    pte_t,
    swp_entry_pfn,
)

PVMW_SYNC: Final = 1 << 0
PVMW_MIGRATION: Final = 1 << 1
PVMW_PGTABLE_CROSSED: Final = 1 << 2


class PageVmaMappedWalk:
    """``struct page_vma_mapped_walk``: a walk over the entries with which ``vma`` maps ``folio``.

    :param address: where the first page of the folio is, that the VMA has room for
    :param end: one byte behind the last one
    :param look: the flags; :data:`PVMW_SYNC`: look only under the table's lock; :data:`PVMW_MIGRATION`: look for migration entries

    Where the walk stops, ``pmd`` and ``address`` say where, ``pte`` is the entry (``None``: the huge entry itself) and ``ptl`` is the
    lock, held. Who leaves the loop says :meth:`done` before. Entries may be skipped by moving ``pte`` and ``address`` on.
    """

    __slots__ = ("address", "end", "folio", "look", "nr_pages", "pfn", "pmd", "pte", "ptl", "vma")

    def __init__(self, folio: Folio, vma: VmAreaStruct, address: int, end: int, look: int) -> None:
        self.folio = folio
        self.vma = vma
        self.address = address
        self.end = end
        self.look = look
        self.pfn = folio.pfn
        self.nr_pages = folio_nr_pages(folio)
        self.pmd: PmdSlot | None = None
        self.pte: PtePtr | None = None
        self.ptl: SpinLock | None = None

    def done(self) -> None:
        """``page_vma_mapped_walk_done``: give the lock and the table back."""
        if self.ptl is not None:
            spin_unlock(self.ptl)
        if self.pte is not None:
            pte_unmap(self.pte)
        self.pte = self.ptl = None

    def restart(self) -> None:
        """``page_vma_mapped_walk_restart``: the huge entry was split; go on with its table."""
        self.done()
        self.pmd = None


def page_vma_mapped_walk(pvmw: PageVmaMappedWalk) -> Iterator[None]:
    """Stop at every entry that maps a page of the folio, from the lowest address on; no lock is held at the end.

    A PMD entry that is empty or not present is stepped over: nothing waits for whoever emptied it.

    :source: mm/page_vma_mapped.c, v6.18
    """
    while pvmw.address < pvmw.end:
        pvmw.pmd = pmd = pmd_offset(pvmw.vma.vm_mm, pvmw.address)
        value = None if pmd is None else pmdp_get_lockless(pmd)
        if pmd is None or value is None:
            _step_forward(pvmw)
        elif pmd_trans_huge(value) or is_pmd_migration_entry(value):
            matches = _lock_huge(pvmw, pmd)
            if matches:
                yield
            if pvmw.pmd is None or matches is None:
                continue
            pvmw.done()
            return
        elif not pmd_present(value):
            _sync_with_folio_pmd_zap(pvmw, pmd)
            _step_forward(pvmw)
        else:
            yield from _walk_table(pvmw, pmd, value)


def _step_forward(pvmw: PageVmaMappedWalk) -> None:
    pvmw.address = (pvmw.address & HPAGE_PMD_MASK()) + HPAGE_PMD_SIZE()


def _lock_huge(pvmw: PageVmaMappedWalk, pmd: PmdSlot) -> bool | None:
    """Lock a huge entry; does it stand for the folio? ``None``: there is a table now, and no lock is held."""
    pvmw.ptl = pmd_lock(pvmw.vma.vm_mm, pmd)
    value = pmdp_get(pmd)
    if pmd_present(value) and not pmd_trans_huge(value):
        pvmw.done()
        return None
    migrates = not pmd_present(value)
    if migrates and not is_pmd_migration_entry(value):
        return False
    return migrates == bool(pvmw.look & PVMW_MIGRATION) and pvmw.pfn <= pmd_pfn(value) < pvmw.pfn + pvmw.nr_pages


def _sync_with_folio_pmd_zap(pvmw: PageVmaMappedWalk, pmd: PmdSlot) -> None:
    """Let somebody who is unmapping the huge page right now finish."""
    if not pvmw.look & PVMW_SYNC or pvmw.nr_pages < HPAGE_PMD_NR():
        return
    if thp_vma_suitable_order(pvmw.vma, pvmw.address, HPAGE_PMD_ORDER()):
        spin_unlock(pmd_lock(pvmw.vma.vm_mm, pmd))


def _walk_table(pvmw: PageVmaMappedWalk, pmd: PmdSlot, value: pmd_t) -> Iterator[None]:
    """Stop at the entries of one table; returns early, and at the address to go on with, when the table changed."""
    ptl = _map_pte(pvmw, pmd)
    if pvmw.pte is None:
        return
    skip = pvmw.ptl is None and not _wanted(pvmw, ptep_get(pvmw.pte))
    while True:
        if not skip:
            if pvmw.ptl is None:
                spin_lock(ptl)
                pvmw.ptl = ptl
                if pmdp_get_lockless(pmd) != value:
                    pvmw.done()
                    return
            if _check_pte(pvmw, ptep_get(pvmw.pte)):
                yield
        pvmw.address += PAGE_SIZE()
        if pvmw.address >= pvmw.end:
            pvmw.done()
            return
        if pvmw.address & ~HPAGE_PMD_MASK() == 0:
            pvmw.done()
            pvmw.look |= PVMW_PGTABLE_CROSSED
            return
        pvmw.pte += 1
        skip = pte_none(ptep_get(pvmw.pte))


def _map_pte(pvmw: PageVmaMappedWalk, pmd: PmdSlot) -> SpinLock:
    """Map the table, and with :data:`PVMW_SYNC` lock it, too."""
    mm = pvmw.vma.vm_mm
    if not pvmw.look & PVMW_SYNC:
        pvmw.pte, ptl = pte_offset_map_ro_nolock(mm, pmd, pvmw.address)
        return ptl
    pvmw.pte, ptl = pte_offset_map_lock(mm, pmd, pvmw.address)
    pvmw.ptl = None if pvmw.pte is None else ptl
    return ptl


def _wanted(pvmw: PageVmaMappedWalk, pte: pte_t) -> bool:
    """A look without lock: could the entry be of the kind that the walk is for?"""
    if pte_none(pte):
        return False
    migration = bool(pvmw.look & PVMW_MIGRATION)
    if pte_present(pte):
        return not migration
    return migration or is_device_private_entry(pte)


def _check_pte(pvmw: PageVmaMappedWalk, pte: pte_t) -> bool:
    """The entry stands for a page of the folio, in the way that the walk is for."""
    if pvmw.look & PVMW_MIGRATION:
        good = not pte_present(pte) and is_migration_entry(pte)
    else:
        good = pte_present(pte) or (not pte_none(pte) and is_device_private_entry(pte))
    if not good:
        return False
    pfn = pte_pfn(pte) if pte_present(pte) else swp_entry_pfn(pte)
    return pvmw.pfn <= pfn < pvmw.pfn + pvmw.nr_pages
