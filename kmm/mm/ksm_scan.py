"""ksmd looks for equal pages (mm/ksm.c).

One look at some pages of one address space, as if it were not the first: their checksums have not changed since. The unstable tree is
that of this look, so that pages of two address spaces are merged only where one of them is a merged page already.
"""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.kernel.locks import down_write, spin_unlock, up_write
from kmm.mm import system
from kmm.mm.cow import do_wp_page
from kmm.mm.folio import (
    Folio,
    Page,
    folio_get,
    folio_is_zone_device,
    folio_lock,
    folio_test_anon,
    folio_test_large,
    folio_try_get,
    folio_trylock,
    folio_unlock,
    page_folio,
)
from kmm.mm.geometry import PAGE_SIZE
from kmm.mm.ksm_merge import ZERO_PAGE, Zero, pages_identical, split_page, try_to_merge_one_page
from kmm.mm.memory import vm_normal_page
from kmm.mm.mm_types import VM_MERGEABLE, MmStruct, VmAreaStruct
from kmm.mm.mmap import find_vma, mmap_read_lock, mmap_read_unlock
from kmm.mm.page_alloc import folio_put
from kmm.mm.pgtable import PmdSlot, pmd_lock, pmd_offset, pmdp_get_lockless, pte_index, pte_offset_map_lock, pte_unmap_unlock, ptep_get
from kmm.mm.pte import is_huge_zero_pmd, pmd_pfn, pmd_trans_huge, pte_present
from kmm.mm.rmap_walk import folio_test_ksm
from kmm.mm.swap import lru_add_drain_all
from kmm.mm.system import Ksm, page_at
from kmm.mm.vm_fault import VM_FAULT_DONE, VmFault


def ksm_do_scan(mm: MmStruct, start: int, end: int, *, use_zero_pages: bool) -> None:
    """Look at every page of [start, end) bytes, and merge what is equal. May sleep.

    :param mm: ``struct mm_struct *``, which the caller keeps
    :param use_zero_pages: pages of zeros become the zero page
    :source: mm/ksm.c, v6.18
    """
    down_write(system.this.ksm.ksm_thread_mutex)
    lru_add_drain_all()
    unstable: list[int] = []
    for address in range(start, end, PAGE_SIZE()):
        page = get_mergeable_page(mm, address)
        if page is not None:
            cmp_and_merge_page(mm, address, page, unstable, use_zero_pages=use_zero_pages)
    up_write(system.this.ksm.ksm_thread_mutex)


def find_mergeable_vma(mm: MmStruct, address: int) -> VmAreaStruct | None:
    """The VMA of an address, if KSM may merge there and there is something to merge. The mmap lock is held."""
    if not current.machine.read(mm, MmStruct.mm_users, ONCE):
        return None
    vma = find_vma(mm, address)
    if vma is None or address < vma.vm_start or not vma.vm_flags & VM_MERGEABLE or vma.anon_vma is None:
        return None
    return vma


def get_mergeable_page(mm: MmStruct, address: int) -> Page | None:
    """The anonymous page at an address, with a reference; ``None`` where there is none that could be merged. May sleep."""
    mmap_read_lock(mm)
    vma = find_mergeable_vma(mm, address)
    page = None if vma is None else _folio_walk(vma, address)
    mmap_read_unlock(mm)
    return page


def _folio_walk(vma: VmAreaStruct, address: int) -> Page | None:
    """The page with a reference that is taken under the lock of its entry."""
    mm = vma.vm_mm
    pmd = pmd_offset(mm, address)
    if pmd is None:
        return None
    if pmd_trans_huge(pmdp_get_lockless(pmd)):
        return _huge_walk(mm, pmd, address)
    pte, ptl = pte_offset_map_lock(mm, pmd, address)
    if pte is None:
        return None
    entry = ptep_get(pte)
    page = _taken(vm_normal_page(vma, address, entry)) if pte_present(entry) else None
    pte_unmap_unlock(pte, ptl)
    return page


def _huge_walk(mm: MmStruct, pmd: PmdSlot, address: int) -> Page | None:
    ptl = pmd_lock(mm, pmd)
    value = pmdp_get_lockless(pmd)
    good = pmd_trans_huge(value) and not is_huge_zero_pmd(value)
    page = _taken(page_at(pmd_pfn(value) + pte_index(address))) if good else None
    spin_unlock(ptl)
    return page


def _taken(page: Page | None) -> Page | None:
    if page is None or folio_is_zone_device(page_folio(page)) or not folio_test_anon(page_folio(page)):
        return None
    folio_get(page_folio(page))
    return page


def cmp_and_merge_page(mm: MmStruct, address: int, page: Page, unstable: list[int], *, use_zero_pages: bool) -> None:
    """Merge a page with a merged page of equal contents, with the zero page, or with a page that was looked at before. May sleep.

    :param page: comes with a reference, which is given back
    :param unstable: addresses of pages that found no equal one; takes this one
    """
    if not folio_test_ksm(page_folio(page)):
        page = _merge(mm, address, page, unstable, use_zero_pages=use_zero_pages)
    folio_put(page_folio(page))


def _merge(mm: MmStruct, address: int, page: Page, unstable: list[int], *, use_zero_pages: bool) -> Page:
    """:returns: the page to which the reference belongs now"""
    kfolio = stable_tree_search(page)
    if kfolio is not None:
        err, page = try_to_merge_with_ksm_page(mm, address, page, kfolio.pages[0])
        if not err:
            _append(kfolio)
        folio_put(kfolio)
        return page
    if use_zero_pages and pages_identical(page, ZERO_PAGE):
        err, page = try_to_merge_with_ksm_page(mm, address, page, ZERO_PAGE)
        if not err:
            return page
    return _merge_unstable(mm, address, page, unstable)


def stable_tree_search(page: Page) -> Folio | None:
    """The merged folio of equal contents, with a reference. What nobody maps any more leaves the tree."""
    ksm = system.this.ksm
    for folio in current.machine.read(ksm, Ksm.stable_tree, ONCE):
        if not ksm_get_folio(folio):
            left = tuple([each for each in current.machine.read(ksm, Ksm.stable_tree, ONCE) if each is not folio])
            current.machine.write(ksm, Ksm.stable_tree, left, ONCE)
        elif pages_identical(page, folio.pages[0]):
            return folio
        else:
            folio_put(folio)
    return None


def ksm_get_folio(folio: Folio) -> bool:
    """Take a reference to a folio of the stable tree, if it still is there and a merged one."""
    if not folio_try_get(folio):
        return False
    if folio_test_ksm(folio):
        return True
    folio_put(folio)
    return False


def _append(kfolio: Folio) -> None:
    """One mapping more: the kernel adds it to the node's list under the lock of the folio; here the reverse walk looks everywhere."""
    folio_lock(kfolio)
    folio_unlock(kfolio)


def try_to_merge_with_ksm_page(mm: MmStruct, address: int, page: Page, kpage: Page | Zero | None) -> tuple[str, Page]:
    """:func:`~kmm.mm.ksm_merge.try_to_merge_one_page`, if the VMA is still there; with the zero page it is no failure if it is not."""
    mmap_read_lock(mm)
    vma = find_mergeable_vma(mm, address)
    if vma is None:
        err = "" if isinstance(kpage, Zero) else "EFAULT"
    else:
        err, page = try_to_merge_one_page(vma, page, kpage)
    mmap_read_unlock(mm)
    return err, page


def _merge_unstable(mm: MmStruct, address: int, page: Page, unstable: list[int]) -> Page:
    """Make one merged page of two equal pages."""
    for at in unstable:
        other = get_mergeable_page(mm, at)
        if other is None:
            continue
        if other is not page and pages_identical(page, other):
            same_folio = folio_test_large(page_folio(page)) and page_folio(page) is page_folio(other)
            merged, page, other = try_to_merge_two_pages(mm, (address, page), (at, other))
            folio_put(page_folio(other))
            if merged:
                unstable.remove(at)
                _stable_tree_insert(page_folio(page))
            elif same_folio:
                page = _split_for_next_time(page)
            return page
        folio_put(page_folio(other))
    unstable.append(address)
    return page


def try_to_merge_two_pages(mm: MmStruct, first: tuple[int, Page], second: tuple[int, Page]) -> tuple[bool, Page, Page]:
    """The first page becomes a merged page, which takes the place of the second; else the first is unshared again. May sleep.

    :param first: address and page, with a reference
    :returns: done; and the pages to which the references belong now
    """
    address, page = first
    at, other = second
    err, page = try_to_merge_with_ksm_page(mm, address, page, None)
    if err:
        return False, page, other
    err, other = try_to_merge_with_ksm_page(mm, at, other, page)
    if err:
        break_cow(mm, address)
    return not err, page, other


def _stable_tree_insert(folio: Folio) -> None:
    folio_lock(folio)
    ksm = system.this.ksm
    current.machine.write(ksm, Ksm.stable_tree, (*current.machine.read(ksm, Ksm.stable_tree, ONCE), folio), ONCE)
    folio_unlock(folio)


def _split_for_next_time(page: Page) -> Page:
    """Two pages of one folio keep each other from being split off; the next look will find them apart."""
    folio = page_folio(page)
    if not folio_trylock(folio):
        return page
    page, locked = split_page(folio, page)
    if locked:
        folio_unlock(page_folio(page))
    return page


def break_cow(mm: MmStruct, address: int) -> None:
    """Give the process a page of its own again in place of a merged page, if it still has one there. May sleep."""
    mmap_read_lock(mm)
    vma = find_mergeable_vma(mm, address)
    if vma is not None:
        break_ksm(vma, address)
    mmap_read_unlock(mm)


def break_ksm(vma: VmAreaStruct, address: int) -> None:
    """As long as there is a merged page, let a fault unshare it. The mmap lock is held for reading. May sleep.

    :source: mm/ksm.c, v6.18
    """
    while True:
        pmd = pmd_offset(vma.vm_mm, address)
        pte, ptl = (None, None) if pmd is None else pte_offset_map_lock(vma.vm_mm, pmd, address)
        if pmd is None or pte is None or ptl is None:
            return
        entry = ptep_get(pte)
        page = vm_normal_page(vma, address, entry) if pte_present(entry) else None
        if page is None or not folio_test_ksm(page_folio(page)):
            pte_unmap_unlock(pte, ptl)
            return
        vmf = VmFault(vma, address, pmd, unshare=True)
        vmf.orig_pte = entry
        if do_wp_page(vmf, pte, ptl) != VM_FAULT_DONE:
            return
