"""Faults and copies that collapse needs (mm/memory.c)."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import PLAIN
from kmm.mm import system, vm_fault
from kmm.mm.folio import Folio, Page, PageHWPoison
from kmm.mm.mm_types import VM_WRITE, VmAreaStruct
from kmm.mm.pgtable import PtePtr, pmd_offset, ptep_get
from kmm.mm.pte import ZERO_PFN, pfn_pte, pgprot_t, pte_mkwrite, pte_pfn, pte_special, pte_t
from kmm.mm.rmap import page_number
from kmm.mm.swap_fault import __do_swap_page
from kmm.mm.system import page_at
from kmm.mm.vm_fault import VM_FAULT_USERFAULT, VmFault

_contents: Final = Page.contents


VM_FAULT_ERROR: Final = "error"
VM_FAULT_RETRY: Final = vm_fault.VM_FAULT_RETRY
VM_FAULT_DONE: Final = vm_fault.VM_FAULT_DONE


def vm_normal_page(vma: VmAreaStruct, addr: int, pte: pte_t) -> Page | None:
    """The refcounted page behind a present entry; ``None`` for the zero page and for special entries."""
    if pte_special(pte) or pte_pfn(pte) == ZERO_PFN:
        return None
    return page_at(pte_pfn(pte))


def pte_page(pte: pte_t) -> Page:
    """``struct page`` of a present entry."""
    return page_at(pte_pfn(pte))


def mk_pte(page: Page, prot: pgprot_t) -> pte_t:
    """An entry for a page."""
    return pfn_pte(page.pfn, prot)


def maybe_mkwrite(pte: pte_t, vma: VmAreaStruct) -> pte_t:
    """Writable if the VMA is."""
    return pte_mkwrite(pte) if vma.vm_flags & VM_WRITE else pte


def folio_pte_batch(folio: Folio, ptep: PtePtr, pte: pte_t, max_nr: int) -> int:
    """How many consecutive entries, at most ``max_nr``, map consecutive pages of ``folio``.

    Accessed, dirty, soft-dirty and write bits may differ.
    """
    ignored = 0x20 | 0x40 | 0x800 | 0x2
    expected = pte & ~ignored
    nr = 1
    end = min(max_nr, folio.pfn + (1 << folio.order) - pte_pfn(pte))
    while nr < end and ptep_get(ptep + nr) & ~ignored == expected + (nr << 12):
        nr += 1
    return nr


def clear_user_highpage(page: Page, vaddr: int) -> None:
    """Fill a page with zeros."""
    current.machine.write(page, _contents, 0, PLAIN)


def copy_mc_user_highpage(to: Page, source: Page, vaddr: int, vma: VmAreaStruct) -> int:
    """Copy a page; non-zero when the source turns out to be poisoned, which is then queued for memory_failure."""
    this = system.this
    if page_number(vaddr) in this.injected.poison or (this.hwpoison and PageHWPoison(source)):
        this.poison_queued.append(source.name)
        return 1
    contents = current.machine.read(source, _contents, PLAIN)
    current.machine.write(to, _contents, contents, PLAIN)
    return 0


def do_swap_page(vma: VmAreaStruct, address: int, pte: PtePtr, orig_pte: pte_t) -> str:
    """Read fault on a swap entry, retry allowed, under the mmap read lock. Consumes the mapping of the table.

    :returns: :data:`VM_FAULT_DONE`, :data:`VM_FAULT_RETRY` (the mmap lock was dropped) or :data:`VM_FAULT_ERROR`
    """
    pmd = pmd_offset(vma.vm_mm, address)
    assert pmd is not None
    vmf = VmFault(vma, address, pmd)
    vmf.orig_pte = orig_pte
    ret = __do_swap_page(vmf, pte)
    if ret in (VM_FAULT_RETRY, VM_FAULT_USERFAULT):
        return VM_FAULT_RETRY
    return VM_FAULT_DONE if ret == VM_FAULT_DONE else VM_FAULT_ERROR
