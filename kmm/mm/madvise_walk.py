"""The walk over page tables that MADV_FREE, MADV_COLD and MADV_PAGEOUT share (mm/madvise.c)."""

from __future__ import annotations

from collections.abc import Iterator

from kmm.kernel.locks import SpinLock
from kmm.mm.folio import (
    Folio,
    folio_get,
    folio_is_zone_device,
    folio_maybe_mapped_shared,
    folio_nr_pages,
    folio_test_large,
    folio_trylock,
    folio_unlock,
    page_folio,
)
from kmm.mm.geometry import HPAGE_PMD_MASK, HPAGE_PMD_SIZE, PAGE_SIZE
from kmm.mm.memory import folio_pte_batch, vm_normal_page
from kmm.mm.mm_types import VmAreaStruct
from kmm.mm.page_alloc import folio_put
from kmm.mm.pgtable import PmdSlot, PtePtr, pmd_offset, pte_offset_map_lock, pte_unmap_unlock, ptep_get
from kmm.mm.pte import pte_none, pte_present
from kmm.mm.split import split_folio


class MadviseWalk:
    """The part of a range that lies behind one PMD entry.

    :param addr: first byte; moves on
    :param end: one behind the last byte

    While :func:`madvise_ptes` stops, ``pte`` is the entry of ``addr``. ``flush`` is set by whoever leaves something to flush.
    """

    __slots__ = ("addr", "end", "flush", "pmd", "pte", "start", "vma")

    def __init__(self, vma: VmAreaStruct, pmd: PmdSlot, addr: int, end: int) -> None:
        self.vma = vma
        self.pmd = pmd
        self.start = self.addr = addr
        self.end = end
        self.flush = False
        self.pte: PtePtr | None = None


def madvise_pmds(vma: VmAreaStruct, start: int, end: int) -> Iterator[MadviseWalk]:
    """One walk for each PMD entry of [start, end) bytes, as far as upper levels are there."""
    while start < end:
        upto = min((start & HPAGE_PMD_MASK()) + HPAGE_PMD_SIZE(), end)
        pmd = pmd_offset(vma.vm_mm, start)
        if pmd is not None:
            yield MadviseWalk(vma, pmd, start, upto)
        start = upto


def madvise_ptes(walk: MadviseWalk) -> Iterator[tuple[Folio | None, int]]:
    """Stop at every entry that is not empty, under the table's lock: its folio, and how many entries map it.

    A large folio is given once, when all of it is in the walk; one of which only a part is, is split first, so that its pages come
    one by one; where that cannot be, they are left out. An entry that maps no folio is given without one.
    """
    walk.pte, ptl = pte_offset_map_lock(walk.vma.vm_mm, walk.pmd, walk.addr)
    while walk.pte is not None and walk.addr < walk.end:
        nr = 1
        pte = ptep_get(walk.pte)
        if not pte_none(pte):
            page = vm_normal_page(walk.vma, walk.addr, pte) if pte_present(pte) else None
            folio = None if page is None else page_folio(page)
            if folio is not None and folio_test_large(folio):
                nr = folio_pte_batch(folio, walk.pte, pte, (walk.end - walk.addr) // PAGE_SIZE())
            if folio is not None and nr < folio_nr_pages(folio):
                if not folio_maybe_mapped_shared(folio) and folio_trylock(folio):
                    nr, ptl = _split(walk, ptl, folio, nr)
            elif folio is None or not folio_is_zone_device(folio):
                yield folio, nr
        if walk.pte is not None:
            walk.pte += nr
        walk.addr += nr * PAGE_SIZE()
    if walk.pte is not None:
        pte_unmap_unlock(walk.pte, ptl)


def _split(walk: MadviseWalk, ptl: SpinLock, folio: Folio, nr: int) -> tuple[int, SpinLock]:
    """Split a locked folio without the table's lock.

    :returns: how many entries to leave out, and the lock, held if there is still a table
    """
    assert walk.pte is not None
    folio_get(folio)
    pte_unmap_unlock(walk.pte, ptl)
    errno = split_folio(folio)
    folio_unlock(folio)
    folio_put(folio)
    walk.pte, ptl = pte_offset_map_lock(walk.vma.vm_mm, walk.pmd, walk.addr)
    return (nr if errno else 0), ptl
