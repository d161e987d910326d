"""Every mapping of a folio becomes a migration entry, and back (mm/rmap.c, mm/migrate.c)."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ONCE, PLAIN
from kmm.kernel.bug import VM_WARN_ON_ONCE
from kmm.mm import system
from kmm.mm.folio import (
    Folio,
    Page,
    PageAnonExclusive,
    PageHWPoison,
    PG_dirty,
    folio_get,
    folio_mapped,
    folio_set_flag,
    folio_test_dirty,
    folio_test_large,
    folio_test_mlocked,
)
from kmm.mm.huge_memory import vma_is_temporary_stack
from kmm.mm.memory import mk_pte
from kmm.mm.migration_pmd import remove_migration_pmd, set_pmd_migration_entry
from kmm.mm.mlock import mlock_drain_local
from kmm.mm.mm_types import MM_ANONPAGES, VM_LOCKED, AnonVma, VmAreaStruct
from kmm.mm.mmu_notifier import MmuNotifierRange, mmu_notifier_invalidate_range_end, mmu_notifier_invalidate_range_start
from kmm.mm.page_alloc import folio_put
from kmm.mm.page_vma_mapped import PVMW_MIGRATION, PVMW_SYNC, PageVmaMappedWalk, page_vma_mapped_walk
from kmm.mm.pgtable import PtePtr, mk_zero_pte, pmdp_get, ptep_get, set_pte_at, update_mmu_cache_range
from kmm.mm.pgtable_generic import ptep_clear_flush
from kmm.mm.pte import (
    SWP_MIGRATION_READ,
    SWP_MIGRATION_READ_EXCLUSIVE,
    SWP_MIGRATION_WRITE,
    is_migration_entry_dirty,
    is_migration_entry_young,
    make_migration_entry,
    pmd_pfn,
    pte_dirty,
    pte_mkdirty,
    pte_mkold,
    pte_mksoft_dirty,
    pte_mkuffd_wp,
    pte_mkwrite,
    pte_pfn,
    pte_soft_dirty,
    pte_swp_soft_dirty,
    pte_swp_type,
    pte_swp_uffd_wp,
    pte_t,
    pte_uffd_wp,
    pte_write,
    pte_young,
    swp_entry_pfn,
)
from kmm.mm.rmap import folio_remove_rmap_ptes
from kmm.mm.rmap_large import folio_add_anon_rmap_ptes, folio_try_share_anon_rmap
from kmm.mm.rmap_walk import folio_vma_walk, rmap_walk, rmap_walk_locked, rmap_walk_unmapped
from kmm.mm.split_pmd import split_huge_pmd_locked
from kmm.mm.vmstat import add_mm_counter

_contents: Final = Page.contents


def try_to_migrate(folio: Folio, anon_vma: AnonVma | None = None, *, split_huge: bool = False) -> None:
    """Replace every mapping of a locked folio by migration entries; those of pages that may be pinned stay. May sleep.

    :param anon_vma: the folio's, if the caller has locked it
    :param split_huge: a huge entry becomes a table of migration entries (TTU_SPLIT_HUGE_PMD)
    """

    def one(folio: Folio, vma: VmAreaStruct, address: int) -> bool:
        return vma_is_temporary_stack(vma.vm_flags) or try_to_migrate_one(folio, vma, address, split_huge=split_huge)

    if anon_vma is None:
        rmap_walk(folio, one)
    else:
        rmap_walk_locked(folio, anon_vma, one, done=_unmapped)


def _unmapped(folio: Folio) -> bool:
    return not folio_mapped(folio)


def try_to_migrate_one(folio: Folio, vma: VmAreaStruct, address: int, *, split_huge: bool) -> bool:
    """:func:`try_to_migrate` in one VMA; false: a page could not be unmapped.

    :source: mm/rmap.c, v6.18
    """
    good = True
    pvmw = folio_vma_walk(folio, vma, address, PVMW_SYNC)
    window = MmuNotifierRange(vma.vm_mm, address, pvmw.end)
    mmu_notifier_invalidate_range_start(window)
    for _ in page_vma_mapped_walk(pvmw):
        if pvmw.pte is None and split_huge:
            assert pvmw.pmd is not None
            split_huge_pmd_locked(vma, pvmw.address, pvmw.pmd, freeze=True)
            pvmw.restart()
        elif not _make_migration_entry(folio, vma, pvmw):
            good = False
            pvmw.done()
            break
    mmu_notifier_invalidate_range_end(window)
    return good


def _make_migration_entry(folio: Folio, vma: VmAreaStruct, pvmw: PageVmaMappedWalk) -> bool:
    """Replace what the walk has found; false, and the entry is back, when its page may be pinned."""
    if pvmw.pte is not None:
        return _make_migration_pte(folio, vma, pvmw.address, pvmw.pte)
    assert pvmw.pmd is not None
    page = folio.pages[pmd_pfn(pmdp_get(pvmw.pmd)) - folio.pfn]
    return set_pmd_migration_entry(folio, page, vma, pvmw.address, pvmw.pmd)


def _make_migration_pte(folio: Folio, vma: VmAreaStruct, address: int, ptep: PtePtr) -> bool:
    """Replace one entry; false, and the entry is back, when its page may be pinned."""
    mm = vma.vm_mm
    pte = ptep_clear_flush(vma, address, ptep)
    page = folio.pages[pte_pfn(pte) - folio.pfn]
    exclusive = PageAnonExclusive(page)
    if pte_dirty(pte):
        folio_set_flag(folio, PG_dirty)
    VM_WARN_ON_ONCE(pte_write(pte) and not exclusive, "writable && folio_test_anon(folio) && !anon_exclusive")
    if exclusive and not folio_try_share_anon_rmap(folio, page):
        set_pte_at(mm, address, ptep, pte)
        return False
    kind = SWP_MIGRATION_WRITE if pte_write(pte) else SWP_MIGRATION_READ_EXCLUSIVE if exclusive else SWP_MIGRATION_READ
    young, dirty = pte_young(pte), pte_dirty(pte)
    entry = make_migration_entry(page.pfn, kind, young=young, dirty=dirty, uffd_wp=pte_uffd_wp(pte), soft_dirty=pte_soft_dirty(pte))
    set_pte_at(mm, address, ptep, entry)
    folio_remove_rmap_ptes(folio, page, 1, vma)
    if vma.vm_flags & VM_LOCKED:
        mlock_drain_local()
    folio_put(folio)
    return True


def remove_migration_ptes(src: Folio, dst: Folio, anon_vma: AnonVma | None = None, *, use_shared_zeropage: bool = False) -> None:
    """Map a locked folio wherever a migration entry stands for the one that it replaces. May sleep.

    Nothing may map it yet: that its anon_vma stays is the caller's business.

    :param src: the folio of the entries
    :param dst: the one to map; the same when the migration has failed
    :param anon_vma: that of ``dst``, if the caller has locked it (RMP_LOCKED)
    :param use_shared_zeropage: a page that is all zeros becomes the zero page (RMP_USE_SHARED_ZEROPAGE)
    """

    def one(dst: Folio, vma: VmAreaStruct, address: int) -> bool:
        pvmw = folio_vma_walk(src, vma, address, PVMW_SYNC | PVMW_MIGRATION)
        for _ in page_vma_mapped_walk(pvmw):
            if pvmw.pte is not None:
                _remove_migration_pte(src, dst, vma, pvmw.address, pvmw.pte, use_shared_zeropage)
            else:
                assert pvmw.pmd is not None
                remove_migration_pmd(dst, vma, pvmw.address, pvmw.pmd)
        return True

    if anon_vma is None:
        rmap_walk_unmapped(dst, one)
    else:
        rmap_walk_locked(dst, anon_vma, one)


def _remove_migration_pte(src: Folio, dst: Folio, vma: VmAreaStruct, address: int, ptep: PtePtr, use_shared_zeropage: bool) -> None:
    mm = vma.vm_mm
    old = ptep_get(ptep)
    page = dst.pages[swp_entry_pfn(old) - src.pfn]
    poisoned = system.this.hwpoison and PageHWPoison(page)
    if use_shared_zeropage and not poisoned and _try_to_map_unused_to_zeropage(dst, page, vma, address, ptep, old):
        return
    folio_get(dst)
    kind = pte_swp_type(old)
    pte = mk_pte(page, current.machine.read(vma, VmAreaStruct.vm_page_prot, ONCE))
    if not is_migration_entry_young(old):
        pte = pte_mkold(pte)
    if folio_test_dirty(dst) and is_migration_entry_dirty(old):
        pte = pte_mkdirty(pte)
    if pte_swp_soft_dirty(old):
        pte = pte_mksoft_dirty(pte)
    if kind == SWP_MIGRATION_WRITE:
        pte = pte_mkwrite(pte)
    elif pte_swp_uffd_wp(old):
        pte = pte_mkuffd_wp(pte)
    folio_add_anon_rmap_ptes(dst, page, 1, vma, address, exclusive=kind != SWP_MIGRATION_READ)
    set_pte_at(mm, address, ptep, pte)
    if current.machine.read(vma, VmAreaStruct.vm_flags, ONCE) & VM_LOCKED:
        mlock_drain_local()
    update_mmu_cache_range(None, vma, address, ptep, 1)


def _try_to_map_unused_to_zeropage(folio: Folio, page: Page, vma: VmAreaStruct, address: int, ptep: PtePtr, old: pte_t) -> bool:
    """A small page that is all zeros is given up for the zero page, except where it is mlocked."""
    if folio_test_large(folio) or folio_test_mlocked(folio) or vma.vm_flags & VM_LOCKED:
        return False
    if current.machine.read(page, _contents, PLAIN) != 0:
        return False
    pte = mk_zero_pte(vma.vm_page_prot)
    if pte_swp_soft_dirty(old):
        pte = pte_mksoft_dirty(pte)
    if pte_swp_uffd_wp(old):
        pte = pte_mkuffd_wp(pte)
    set_pte_at(vma.vm_mm, address, ptep, pte)
    add_mm_counter(vma.vm_mm, MM_ANONPAGES, -1)
    return True
