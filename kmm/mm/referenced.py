"""Who uses a folio? (mm/rmap.c)."""

from __future__ import annotations

import attrs

from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.mm.folio import (
    Folio,
    folio_mapcount,
    folio_maybe_mapped_shared,
    folio_nr_pages,
    folio_test_swapbacked,
    folio_trylock,
    folio_unlock,
)
from kmm.mm.geometry import HPAGE_PMD_MASK, HPAGE_PMD_NR, HPAGE_PMD_SIZE, PAGE_SIZE
from kmm.mm.memory import folio_pte_batch
from kmm.mm.mlock import mlock_vma_folio
from kmm.mm.mm_types import VM_LOCKED, VM_RAND_READ, VM_SEQ_READ, MmStruct, VmAreaStruct
from kmm.mm.mmu_notifier import mmu_notifier_clear_young
from kmm.mm.page_vma_mapped import PVMW_PGTABLE_CROSSED, PageVmaMappedWalk, page_vma_mapped_walk
from kmm.mm.pgtable import PmdSlot, PtePtr, flush_tlb_range, ptep_get
from kmm.mm.pgtable_generic import pmdp_test_and_clear_young, ptep_test_and_clear_young
from kmm.mm.rmap_walk import folio_vma_walk, rmap_walk


@attrs.define
class Referenced:
    """What :func:`folio_referenced` found.

    :param mappings: address spaces and VMAs that used the folio; -1: the reverse map was locked, or only an exiting process maps it
    :param seen: the flags of the VMAs that used it, and ``VM_LOCKED`` when a locked one maps it
    """

    mappings: int = 0
    seen: int = 0


def folio_referenced(folio: Folio, *, is_locked: bool) -> Referenced:
    """Count the VMAs through which a folio was used since the last look, and forget that it was: young bits are cleared. May sleep.

    :param is_locked: the caller holds the folio lock
    :source: mm/rmap.c, v6.18
    """
    found = Referenced()
    left = folio_mapcount(folio)
    if not left or current.machine.read(folio, Folio.mapping, ONCE) is None:
        return found
    if not is_locked and not folio_trylock(folio):
        found.mappings = 1
        return found

    def one(folio: Folio, vma: VmAreaStruct, address: int) -> bool:
        nonlocal left
        if vma.vm_flags & (VM_SEQ_READ | VM_RAND_READ):
            return True
        left -= folio_referenced_one(folio, vma, address, found)
        return left > 0 and found.mappings >= 0 and not found.seen & VM_LOCKED

    if not rmap_walk(folio, one, try_lock=True):
        found.mappings = -1
    if not is_locked:
        folio_unlock(folio)
    return found


def folio_referenced_one(folio: Folio, vma: VmAreaStruct, address: int, found: Referenced) -> int:
    """:func:`folio_referenced` in one VMA; the value is the number of mappings that it has there."""
    mapped = used = 0
    pvmw = folio_vma_walk(folio, vma, address, 0)
    for _ in page_vma_mapped_walk(pvmw):
        nr = 1
        if vma.vm_flags & VM_LOCKED:
            mapped += 1
            if (pvmw.pte is None or mapped == pvmw.nr_pages) and not pvmw.look & PVMW_PGTABLE_CROSSED:
                mlock_vma_folio(folio, vma)
                pvmw.done()
                found.seen |= VM_LOCKED
                return mapped
            continue
        if _only_exiting(folio, vma):
            pvmw.done()
            found.mappings = -1
            return mapped
        if pvmw.pte is None:
            assert pvmw.pmd is not None
            used += _clear_flush_young_pmd(vma, pvmw.address, pvmw.pmd)
        else:
            nr = _batch(folio, vma, pvmw, pvmw.pte)
            used += _clear_flush_young_ptes(vma, pvmw.address, pvmw.pte, nr)
            pvmw.pte += nr - 1
            pvmw.address += (nr - 1) * PAGE_SIZE()
        mapped += nr
    if used:
        found.mappings += 1
        found.seen |= vma.vm_flags & ~VM_LOCKED
    return mapped


def _only_exiting(folio: Folio, vma: VmAreaStruct) -> bool:
    """Its last user is on the way out: swapping the page out would be for nothing."""
    gone = not current.machine.read(vma.vm_mm, MmStruct.mm_users, ONCE)
    return gone and folio_test_swapbacked(folio) and not folio_maybe_mapped_shared(folio)


def _batch(folio: Folio, vma: VmAreaStruct, pvmw: PageVmaMappedWalk, ptep: PtePtr) -> int:
    if folio_nr_pages(folio) == 1:
        return 1
    end = min((pvmw.address & HPAGE_PMD_MASK()) + HPAGE_PMD_SIZE(), vma.vm_end)
    return folio_pte_batch(folio, ptep, ptep_get(ptep), (end - pvmw.address) // PAGE_SIZE())


def _clear_flush_young_ptes(vma: VmAreaStruct, address: int, ptep: PtePtr, nr: int) -> bool:
    """``clear_flush_young_ptes_notify``: x86 leaves the translations in the TLBs."""
    young = [ptep_test_and_clear_young(ptep + i) for i in range(nr)]
    return mmu_notifier_clear_young(vma.vm_mm, address, address + nr * PAGE_SIZE()) or any(young)


def _clear_flush_young_pmd(vma: VmAreaStruct, address: int, pmd: PmdSlot) -> bool:
    """``pmdp_clear_flush_young_notify``: a huge entry is flushed."""
    young = pmdp_test_and_clear_young(pmd)
    if young:
        flush_tlb_range(vma, address, address + HPAGE_PMD_SIZE())
    return mmu_notifier_clear_young(vma.vm_mm, address, address + HPAGE_PMD_NR() * PAGE_SIZE()) or young
