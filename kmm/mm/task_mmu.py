"""What of an address space is in memory: ``/proc/PID/smaps`` (fs/proc/task_mmu.c)."""

from __future__ import annotations

from typing import Final, TypeAlias

from kmm.kernel import current
from kmm.kernel.access import ONCE
from kmm.kernel.locks import spin_unlock
from kmm.mm import system
from kmm.mm.folio import (
    Folio,
    Page,
    folio_mapcount,
    folio_nr_pages,
    folio_ref_count,
    folio_test_anon,
    folio_test_dirty,
    folio_test_referenced,
    folio_test_swapbacked,
    folio_test_young,
    page_folio,
)
from kmm.mm.geometry import HPAGE_PMD_MASK, HPAGE_PMD_SIZE, PAGE_SIZE
from kmm.mm.memory import vm_normal_page
from kmm.mm.mm_types import VM_LOCKED, MmStruct, VmAreaStruct
from kmm.mm.pgtable import PmdSlot, pmd_lock, pmd_offset, pmdp_get, pmdp_get_lockless, pte_offset_map_lock, pte_unmap_unlock, ptep_get
from kmm.mm.pte import (
    is_device_private_entry,
    is_huge_zero_pmd,
    is_hwpoison_entry,
    is_migration_entry,
    is_pmd_migration_entry,
    is_swap_pte,
    non_swap_entry,
    pmd_dirty,
    pmd_pfn,
    pmd_t,
    pmd_trans_huge,
    pmd_young,
    pte_dirty,
    pte_none,
    pte_present,
    pte_t,
    pte_to_swp_offset,
    pte_young,
    swp_entry_pfn,
)
from kmm.mm.rmap_walk import folio_test_ksm
from kmm.mm.system import page_at

PSS_SHIFT: Final = 12

SMAPS_SUMS: Final = (
    "Rss",
    "Pss",
    "Pss_Dirty",
    "Pss_Anon",
    "Shared_Clean",
    "Shared_Dirty",
    "Private_Clean",
    "Private_Dirty",
    "Referenced",
    "Anonymous",
    "KSM",
    "LazyFree",
    "AnonHugePages",
    "Swap",
    "SwapPss",
    "Locked",
)
"""What is summed up over entries."""

MemSizeStats: TypeAlias = dict[str, int]
"""``struct mem_size_stats``, by the names of :data:`SMAPS_SUMS`: bytes, but for the proportional ones (``Pss*``, ``SwapPss``,
``Locked``), which are in bytes shifted by :data:`PSS_SHIFT`."""


def new_stats() -> MemSizeStats:
    """Sums of nothing."""
    return dict.fromkeys(SMAPS_SUMS, 0)


def smap_gather_stats(vma: VmAreaStruct, mss: MemSizeStats) -> None:
    """Add what is mapped in a VMA to the sums. The mmap lock is held.

    :param vma: ``struct vm_area_struct *``
    """
    address, end = vma.vm_start, vma.vm_end
    while address < end:
        following = min((address & HPAGE_PMD_MASK()) + HPAGE_PMD_SIZE(), end)
        pmd = pmd_offset(vma.vm_mm, address)
        if pmd is not None and not _smaps_huge(mss, vma, pmd):
            _smaps_pte_range(mss, vma, pmd, address, following)
        address = following


def _smaps_huge(mss: MemSizeStats, vma: VmAreaStruct, pmd: PmdSlot) -> bool:
    """Account for a huge entry; false where there is none."""
    if not _huge(pmdp_get_lockless(pmd)):
        return False
    ptl = pmd_lock(vma.vm_mm, pmd)
    value = pmdp_get(pmd)
    huge = _huge(value)
    if huge:
        _smaps_pmd_entry(mss, vma, value)
    spin_unlock(ptl)
    return huge


def _huge(pmd: pmd_t) -> bool:
    return pmd_trans_huge(pmd) or is_pmd_migration_entry(pmd)


def _smaps_pmd_entry(mss: MemSizeStats, vma: VmAreaStruct, pmd: pmd_t) -> None:
    if is_huge_zero_pmd(pmd):
        return
    present = pmd_trans_huge(pmd)
    page = page_at(pmd_pfn(pmd))
    if folio_test_anon(page_folio(page)):
        mss["AnonHugePages"] += HPAGE_PMD_SIZE()
    young, dirty = present and pmd_young(pmd), present and pmd_dirty(pmd)
    _smaps_account(mss, vma, page, compound=True, young=young, dirty=dirty, present=present)


def _smaps_pte_range(mss: MemSizeStats, vma: VmAreaStruct, pmd: PmdSlot, address: int, end: int) -> None:
    pte, ptl = pte_offset_map_lock(vma.vm_mm, pmd, address)
    if pte is None:
        return
    for i in range((end - address) // PAGE_SIZE()):
        _smaps_pte_entry(mss, vma, address + i * PAGE_SIZE(), ptep_get(pte + i))
    pte_unmap_unlock(pte, ptl)


def _smaps_pte_entry(mss: MemSizeStats, vma: VmAreaStruct, address: int, pte: pte_t) -> None:
    if pte_none(pte):
        return
    if is_swap_pte(pte) and not non_swap_entry(pte):
        _smaps_swapped(mss, pte)
        return
    present = pte_present(pte)
    page = vm_normal_page(vma, address, pte) if present else _pfn_swap_entry_to_page(pte)
    if page is not None:
        young, dirty = present and pte_young(pte), present and pte_dirty(pte)
        present = present or is_device_private_entry(pte)
        _smaps_account(mss, vma, page, compound=False, young=young, dirty=dirty, present=present)


def _smaps_swapped(mss: MemSizeStats, pte: pte_t) -> None:
    mss["Swap"] += PAGE_SIZE()
    slot = system.this.swap.get(pte_to_swp_offset(pte))
    users = 0 if slot is None else slot.count
    mss["SwapPss"] += (PAGE_SIZE() << PSS_SHIFT) // max(users, 1)


def _pfn_swap_entry_to_page(pte: pte_t) -> Page | None:
    """The page that an entry names though it does not map it."""
    if is_migration_entry(pte) or is_device_private_entry(pte) or is_hwpoison_entry(pte):
        return page_at(swp_entry_pfn(pte))
    return None


def _smaps_account(mss: MemSizeStats, vma: VmAreaStruct, page: Page, *, compound: bool, young: bool, dirty: bool, present: bool) -> None:
    """Add one entry; what depends on sharing page by page.

    A folio with one reference is mapped once. How often the page behind an entry that is not present is mapped, nobody may look.
    """
    folio = page_folio(page)
    nr = folio_nr_pages(folio) if compound else 1
    size = nr * PAGE_SIZE()
    if folio_test_anon(folio):
        mss["Anonymous"] += size
        if not folio_test_swapbacked(folio) and not dirty and not folio_test_dirty(folio):
            mss["LazyFree"] += size
    if folio_test_ksm(folio):
        mss["KSM"] += size
    mss["Rss"] += size
    if young or folio_test_young(folio) or folio_test_referenced(folio):
        mss["Referenced"] += size
    if folio_ref_count(folio) == 1 or not present:
        _smaps_page_accumulate(mss, vma, folio, size, size << PSS_SHIFT, dirty=dirty, private=present)
        return
    for each in folio.pages[page.index : page.index + nr]:
        mapcount = folio_precise_page_mapcount(folio, each)
        pss = (PAGE_SIZE() << PSS_SHIFT) // max(mapcount, 1)
        _smaps_page_accumulate(mss, vma, folio, PAGE_SIZE(), pss, dirty=dirty, private=mapcount < 2)


def _smaps_page_accumulate(mss: MemSizeStats, vma: VmAreaStruct, folio: Folio, size: int, pss: int, *, dirty: bool, private: bool) -> None:
    mss["Pss"] += pss
    if folio_test_anon(folio):
        mss["Pss_Anon"] += pss
    if vma.vm_flags & VM_LOCKED:
        mss["Locked"] += pss
    dirty = dirty or folio_test_dirty(folio)
    if dirty:
        mss["Pss_Dirty"] += pss
    mss[f"{'Private' if private else 'Shared'}_{'Dirty' if dirty else 'Clean'}"] += size


def folio_precise_page_mapcount(folio: Folio, page: Page) -> int:
    """How often a page is mapped, by whatever entries."""
    if not folio.order:
        return folio_mapcount(folio)
    read = current.machine.read
    return read(page, Page.mapcount, ONCE) + read(folio, Folio.entire_mapcount, ONCE)


def gathered(mm: MmStruct) -> MemSizeStats:
    """The sums over an address space. The mmap lock is held."""
    mss = new_stats()
    for vma in mm.vmas:
        smap_gather_stats(vma, mss)
    return mss
