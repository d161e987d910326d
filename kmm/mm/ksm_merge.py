"""One merge of KSM: a page becomes read-only, and then a merged page, or gives way to one or to the zero page (mm/ksm.c)."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.kernel.barrier import smp_mb
from kmm.kernel.bug import VM_BUG_ON, WARN_ON_ONCE
from kmm.mm import system
from kmm.mm.folio import (
    Folio,
    Page,
    PageAnonExclusive,
    PG_dirty,
    folio_get,
    folio_mapcount,
    folio_mapped,
    folio_ref_count,
    folio_set_flag,
    folio_test_anon,
    folio_test_large,
    folio_test_swapcache,
    folio_try_get,
    folio_trylock,
    folio_unlock,
    page_folio,
)
from kmm.mm.geometry import PAGE_SIZE
from kmm.mm.ksm import ksm_map_zero_page
from kmm.mm.memory import mk_pte
from kmm.mm.mm_types import MM_ANONPAGES, VmAreaStruct
from kmm.mm.mmu_gather import mm_tlb_flush_pending
from kmm.mm.mmu_notifier import MmuNotifierRange, mmu_notifier_invalidate_range_end, mmu_notifier_invalidate_range_start
from kmm.mm.page_alloc import folio_put
from kmm.mm.page_vma_mapped import PageVmaMappedWalk, page_vma_mapped_walk
from kmm.mm.pgtable import (
    PtePtr,
    mk_zero_pte,
    mm_find_pmd,
    pmdp_get_lockless,
    pte_offset_map_lock,
    pte_unmap_unlock,
    ptep_get,
    set_pte_at,
)
from kmm.mm.pgtable_bits import pte_wrprotect
from kmm.mm.pgtable_generic import ptep_clear_flush
from kmm.mm.populate import folio_mark_accessed
from kmm.mm.pte import pmd_present, pmd_trans_huge, pte_dirty, pte_mkclean, pte_mkdirty, pte_present, pte_t, pte_write
from kmm.mm.rmap import folio_add_anon_rmap_pte, folio_remove_rmap_ptes
from kmm.mm.rmap_large import folio_try_share_anon_rmap
from kmm.mm.rmap_walk import folio_test_ksm, folio_vma_walk, vma_address
from kmm.mm.split import split_folio
from kmm.mm.swapfile import folio_free_swap
from kmm.mm.vmstat import add_mm_counter

EFAULT: Final = "EFAULT"


class Zero:
    """Stands for the zero page, which has no ``struct page`` here."""


ZERO_PAGE: Final = Zero()


def pages_identical(page: Page, other: Page | Zero) -> bool:
    """Equal contents. Who compares before the pages are read-only learns only what may be worth the effort."""
    contents = current.machine.read(page, Page.contents, ONCE)
    return contents == (0 if isinstance(other, Zero) else current.machine.read(other, Page.contents, ONCE))


def page_address_in_vma(folio: Folio, vma: VmAreaStruct) -> int | None:
    """Where the reverse map expects a small folio in a VMA; ``None``: not there, or the folio is a merged one."""
    mapping, anon_vma = current.machine.read(folio, Folio.mapping, ONCE), vma.anon_vma
    if mapping is None or folio_test_ksm(folio) or anon_vma is None or anon_vma.root is not mapping.root:
        return None
    return vma_address(vma, current.machine.read(folio, Folio.index, ONCE), 1)


def try_to_merge_one_page(vma: VmAreaStruct, page: Page, kpage: Page | Zero | None) -> tuple[str, Page]:
    """Let a merged page take the place of a page, of which the caller has a reference. The mmap lock is held for reading. May sleep.

    :param kpage: ``None``: the page becomes a merged page itself
    :returns: empty, or ``EFAULT``; and the page to which the caller's reference belongs now: a large folio is split
    :source: mm/ksm.c, v6.18
    """
    folio = page_folio(page)
    if page is kpage:
        return "", page
    if not folio_test_anon(folio) or not folio_trylock(folio):
        return EFAULT, page
    if folio_test_large(folio):
        page, locked = split_page(folio, page)
        if not locked:
            return EFAULT, page
        folio = page_folio(page)
    err = _merge_locked(vma, folio, page, kpage)
    folio_unlock(folio)
    return err, page


def split_page(folio: Folio, page: Page) -> tuple[Page, bool]:
    """``split_huge_page``: split a locked folio, of which the caller has a reference. May sleep.

    :returns: the page to which the reference belongs now; and whether that is the one that was asked for, and its folio is locked: else no
        folio is
    """
    errno = split_folio(folio)
    own = system.page_at(page.pfn)
    small = page_folio(own)
    if small is folio:
        if errno:
            folio_unlock(folio)
        return own, not errno
    taken = folio_try_get(small)
    locked = taken and folio_trylock(small)
    folio_unlock(folio)
    if not taken:
        return folio.pages[0], False
    folio_put(folio)
    return own, locked


def _merge_locked(vma: VmAreaStruct, folio: Folio, page: Page, kpage: Page | Zero | None) -> str:
    orig_pte = write_protect_page(vma, folio)
    if orig_pte is None:
        return EFAULT
    if kpage is None:
        current.machine.write(folio, Folio.mapping, system.this.ksm.stable_node, ONCE)
        folio_mark_accessed(folio)
        folio_set_flag(folio, PG_dirty)
        return ""
    return replace_page(vma, page, kpage, orig_pte) if pages_identical(page, kpage) else EFAULT


def write_protect_page(vma: VmAreaStruct, folio: Folio) -> pte_t | None:
    """Let nobody write to a small, locked folio any more: neither through its entry nor by a reference. May sleep.

    The entry is empty, and no CPU knows it, when the references are counted: who takes one without a lock looks at the entry again.

    :returns: the entry as it is then; ``None``: the folio is not mapped there, or somebody else has a reference
    :source: mm/ksm.c, v6.18
    """
    if WARN_ON_ONCE(folio_test_large(folio), "folio_test_large(folio)"):
        return None
    address = page_address_in_vma(folio, vma)
    if address is None:
        return None
    window = MmuNotifierRange(vma.vm_mm, address, address + PAGE_SIZE())
    mmu_notifier_invalidate_range_start(window)
    pvmw = folio_vma_walk(folio, vma, address, 0)
    entry = None
    for _ in page_vma_mapped_walk(pvmw):
        entry = _write_protect(vma, folio, pvmw)
        pvmw.done()
        break
    mmu_notifier_invalidate_range_end(window)
    return entry


def _write_protect(vma: VmAreaStruct, folio: Folio, pvmw: PageVmaMappedWalk) -> pte_t | None:
    """Under the lock of the entry."""
    ptep, page, mm = pvmw.pte, folio.pages[0], vma.vm_mm
    if WARN_ON_ONCE(ptep is None, "!pvmw.pte") or ptep is None:
        return None
    entry = ptep_get(ptep)
    if not pte_present(entry):
        return None
    exclusive = PageAnonExclusive(page)
    if not (pte_write(entry) or pte_dirty(entry) or exclusive or mm_tlb_flush_pending(mm)):
        return entry
    swapped = folio_test_swapcache(folio)
    entry = ptep_clear_flush(vma, pvmw.address, ptep)
    if not only_mapped(folio, swapped=swapped) or (exclusive and not _share(folio, page)):
        set_pte_at(mm, pvmw.address, ptep, entry)
        return None
    if pte_dirty(entry):
        folio_set_flag(folio, PG_dirty)
    entry = pte_wrprotect(pte_mkclean(entry))
    set_pte_at(mm, pvmw.address, ptep, entry)
    return entry


def only_mapped(folio: Folio, *, swapped: bool) -> bool:
    """All references are those of the mappings, of the swap cache, and the caller's."""
    return folio_mapcount(folio) + 1 + swapped == folio_ref_count(folio)


def _share(folio: Folio, page: Page) -> bool:
    smp_mb()
    return folio_try_share_anon_rmap(folio, page)


def replace_page(vma: VmAreaStruct, page: Page, kpage: Page | Zero, orig_pte: pte_t) -> str:
    """Map ``kpage`` in place of ``page``, if the entry is still what it was. May sleep.

    :param orig_pte: what :func:`write_protect_page` left
    :returns: empty, or ``EFAULT``
    :source: mm/ksm.c, v6.18
    """
    mm = vma.vm_mm
    address = page_address_in_vma(page_folio(page), vma)
    pmd = None if address is None else mm_find_pmd(mm, address)
    if address is None or pmd is None:
        return EFAULT
    value = pmdp_get_lockless(pmd)
    if not pmd_present(value) or pmd_trans_huge(value):
        return EFAULT
    window = MmuNotifierRange(mm, address, address + PAGE_SIZE())
    mmu_notifier_invalidate_range_start(window)
    err = EFAULT
    ptep, ptl = pte_offset_map_lock(mm, pmd, address)
    if ptep is not None:
        if ptep_get(ptep) == orig_pte:
            _replace(vma, address, ptep, page, kpage)
            err = ""
        pte_unmap_unlock(ptep, ptl)
    mmu_notifier_invalidate_range_end(window)
    return err


def _replace(vma: VmAreaStruct, address: int, ptep: PtePtr, page: Page, kpage: Page | Zero) -> None:
    """Under the lock of the entry, which still maps ``page``."""
    mm, folio = vma.vm_mm, page_folio(page)
    VM_BUG_ON(PageAnonExclusive(page), "PageAnonExclusive(page)")
    if isinstance(kpage, Zero):
        newpte = pte_mkdirty(mk_zero_pte(vma.vm_page_prot))
        ksm_map_zero_page(mm)
        add_mm_counter(mm, MM_ANONPAGES, -1)
    else:
        kfolio = page_folio(kpage)
        VM_BUG_ON(folio_test_anon(kfolio) and PageAnonExclusive(kpage), "folio_test_anon(kfolio) && PageAnonExclusive(kpage)")
        folio_get(kfolio)
        folio_add_anon_rmap_pte(kfolio, kpage, vma, address, exclusive=False)
        newpte = mk_pte(kpage, vma.vm_page_prot)
    ptep_clear_flush(vma, address, ptep)
    set_pte_at(mm, address, ptep, newpte)
    folio_remove_rmap_ptes(folio, page, 1, vma)
    if not folio_mapped(folio):
        folio_free_swap(folio)
    folio_put(folio)
