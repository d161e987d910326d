"""The fault on an entry that NUMA balancing made inaccessible, to learn who uses the page (mm/memory.c). No page is migrated for it."""

from __future__ import annotations

from kmm.kernel.locks import spin_lock
from kmm.mm.folio import Folio, PageAnonExclusive, folio_nr_pages, folio_test_anon, page_folio
from kmm.mm.geometry import HPAGE_PMD_MASK, HPAGE_PMD_SIZE, PAGE_SIZE
from kmm.mm.memory import vm_normal_page
from kmm.mm.mm_types import VM_WRITE, VmAreaStruct
from kmm.mm.pgtable import PtePtr, pte_lockptr, pte_unmap_unlock, ptep_get, ptep_get_and_clear, set_pte_at, update_mmu_cache_range
from kmm.mm.pgtable_bits import pte_modify
from kmm.mm.pte import pte_mkwrite, pte_mkyoung, pte_pfn, pte_present, pte_protnone, pte_t
from kmm.mm.vm_fault import VM_FAULT_DONE, VmFault, userfaultfd_pte_wp


def do_numa_page(vmf: VmFault, pte: PtePtr) -> str:
    """Make the page, and what else is mapped of its folio, accessible again. Consumes the mapping of the table."""
    vma = vmf.vma
    ptl = pte_lockptr(vma.vm_mm, pte.table)
    spin_lock(ptl)
    if ptep_get(pte) == vmf.orig_pte:
        page = vm_normal_page(vma, vmf.address, vmf.orig_pte)
        folio = None if page is None else page_folio(page)
        for i in range(*_around(vmf, folio)):
            _rebuild(vma, vmf.address + i * PAGE_SIZE(), pte + i, folio)
    pte_unmap_unlock(pte, ptl)
    return VM_FAULT_DONE


def _around(vmf: VmFault, folio: Folio | None) -> tuple[int, int]:
    """Where the folio may be mapped, in pages from the address, as far as table and VMA go."""
    if folio is None or vmf.orig_pte is None:
        return 0, 1
    before = pte_pfn(vmf.orig_pte) - folio.pfn
    table = vmf.address & HPAGE_PMD_MASK()
    start = max(vmf.address - before * PAGE_SIZE(), table, vmf.vma.vm_start)
    end = min(vmf.address + (folio_nr_pages(folio) - before) * PAGE_SIZE(), table + HPAGE_PMD_SIZE(), vmf.vma.vm_end)
    return (start - vmf.address) // PAGE_SIZE(), (end - vmf.address) // PAGE_SIZE()


def _rebuild(vma: VmAreaStruct, addr: int, ptep: PtePtr, folio: Folio | None) -> None:
    old = ptep_get(ptep)
    if not pte_present(old) or not pte_protnone(old):
        return
    if folio is not None and not folio.pfn <= pte_pfn(old) < folio.pfn + folio_nr_pages(folio):
        return
    ptep_get_and_clear(vma.vm_mm, addr, ptep)
    entry = pte_mkyoung(pte_modify(old, vma.vm_page_prot))
    if _can_be_writable(vma, addr, entry):
        entry = pte_mkwrite(entry)
    set_pte_at(vma.vm_mm, addr, ptep, entry)
    update_mmu_cache_range(None, vma, addr, ptep, 1)


def _can_be_writable(vma: VmAreaStruct, addr: int, pte: pte_t) -> bool:
    """The VMA is writable, and nobody has to learn of the first write."""
    if not vma.vm_flags & VM_WRITE or userfaultfd_pte_wp(vma, pte):
        return False
    page = vm_normal_page(vma, addr, pte)
    return page is not None and folio_test_anon(page_folio(page)) and PageAnonExclusive(page)
