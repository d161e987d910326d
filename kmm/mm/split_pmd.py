"""From a huge PMD entry to a table (mm/huge_memory.c)."""

from __future__ import annotations

import attrs

from kmm.kernel.barrier import smp_wmb
from kmm.kernel.bug import VM_BUG_ON, VM_WARN_ON_ONCE
from kmm.kernel.locks import spin_unlock
from kmm.mm.folio import Folio, Page, PageAnonExclusive, PG_dirty, folio_ref_add, folio_set_flag, page_folio
from kmm.mm.geometry import HPAGE_PMD_MASK, HPAGE_PMD_NR, HPAGE_PMD_SIZE, PAGE_SIZE
from kmm.mm.memory import mk_pte
from kmm.mm.mm_types import VmAreaStruct
from kmm.mm.mmu_notifier import MmuNotifierRange, mmu_notifier_invalidate_range_end, mmu_notifier_invalidate_range_start
from kmm.mm.page_alloc import folio_put
from kmm.mm.pgtable import (
    PmdSlot,
    PtePtr,
    mk_zero_pte,
    mm_find_pmd,
    pgtable_trans_huge_withdraw,
    pmd_lock,
    pmd_populate,
    pmdp_get,
    ptep_get,
    set_pte_at,
    set_ptes,
)
from kmm.mm.pgtable_generic import pmdp_huge_clear_flush, pmdp_invalidate
from kmm.mm.pte import (
    SWP_MIGRATION_READ,
    SWP_MIGRATION_READ_EXCLUSIVE,
    SWP_MIGRATION_WRITE,
    is_huge_zero_pmd,
    is_pmd_migration_entry,
    make_migration_entry,
    pmd_dirty,
    pmd_migration_has,
    pmd_pfn,
    pmd_soft_dirty,
    pmd_t,
    pmd_trans_huge,
    pmd_uffd_wp,
    pmd_write,
    pmd_young,
    pte_mkdirty,
    pte_mkold,
    pte_mksoft_dirty,
    pte_mkuffd_wp,
    pte_mkwrite,
    pte_none,
    pte_t,
)
from kmm.mm.rmap_large import folio_add_anon_rmap_ptes, folio_remove_rmap_pmd, folio_try_share_anon_rmap
from kmm.mm.system import page_at
from kmm.mm.vmstat import count_vm_event


@attrs.frozen
class _Bits:
    """What a huge entry says about each of its pages."""

    write: bool
    exclusive: bool
    young: bool
    dirty: bool
    soft_dirty: bool
    uffd_wp: bool


def split_huge_pmd(vma: VmAreaStruct, pmd: PmdSlot, address: int, *, freeze: bool = False) -> None:
    """Let entries of a table map what a huge PMD entry around ``address`` maps; nothing to do where there is none. May sleep.

    :param freeze: leave migration entries, and give up the mapping and its reference
    :source: mm/huge_memory.c, v6.18
    """
    start = address & HPAGE_PMD_MASK()
    window = MmuNotifierRange(vma.vm_mm, start, start + HPAGE_PMD_SIZE())
    mmu_notifier_invalidate_range_start(window)
    ptl = pmd_lock(vma.vm_mm, pmd)
    split_huge_pmd_locked(vma, start, pmd, freeze=freeze)
    spin_unlock(ptl)
    mmu_notifier_invalidate_range_end(window)


def split_huge_pmd_address(vma: VmAreaStruct, address: int) -> None:
    """:func:`split_huge_pmd` where there is a page of PMD entries."""
    pmd = mm_find_pmd(vma.vm_mm, address)
    if pmd is not None:
        split_huge_pmd(vma, pmd, address)


def split_huge_pmd_locked(vma: VmAreaStruct, address: int, pmd: PmdSlot, *, freeze: bool) -> None:
    """:func:`split_huge_pmd` under the PMD lock; the notifier window is the caller's."""
    value = pmdp_get(pmd)
    VM_WARN_ON_ONCE(bool(address & ~HPAGE_PMD_MASK()), "!IS_ALIGNED(address, HPAGE_PMD_SIZE)")
    if pmd_trans_huge(value) or is_pmd_migration_entry(value):
        _split_huge_pmd_locked(vma, pmd, address, freeze)


def _split_huge_pmd_locked(vma: VmAreaStruct, pmd: PmdSlot, haddr: int, freeze: bool) -> None:
    VM_BUG_ON(vma.vm_start > haddr, "vma->vm_start > haddr")
    VM_BUG_ON(vma.vm_end < haddr + HPAGE_PMD_SIZE(), "vma->vm_end < haddr + HPAGE_PMD_SIZE")
    count_vm_event("thp_split_pmd")
    value = pmdp_get(pmd)
    if is_huge_zero_pmd(value):
        _split_huge_zero_page_pmd(vma, pmd, haddr)
    elif is_pmd_migration_entry(value):
        _fill(vma, pmd, haddr, page_at(pmd_pfn(value)), _migrating_bits(value), migrates=True)
    else:
        _split_present(vma, pmd, haddr, freeze)


def _split_huge_zero_page_pmd(vma: VmAreaStruct, pmd: PmdSlot, haddr: int) -> None:
    mm = vma.vm_mm
    old = pmdp_huge_clear_flush(vma, haddr, pmd)
    pgtable = pgtable_trans_huge_withdraw(mm, pmd)
    entry = mk_zero_pte(vma.vm_page_prot)
    if pmd_uffd_wp(old):
        entry = pte_mkuffd_wp(entry)
    for i in range(HPAGE_PMD_NR()):
        VM_BUG_ON(not pte_none(ptep_get(PtePtr(pgtable, i))), "!pte_none(ptep_get(pte))")
        set_pte_at(mm, haddr + i * PAGE_SIZE(), PtePtr(pgtable, i), entry)
    smp_wmb()
    pmd_populate(mm, pmd, pgtable)


def _split_present(vma: VmAreaStruct, pmd: PmdSlot, haddr: int, freeze: bool) -> None:
    """The entry becomes invalid and is flushed before anything takes its place: no CPU may see a huge and a small one at once."""
    old = pmdp_invalidate(vma, haddr, pmd)
    page = page_at(pmd_pfn(old))
    folio = page_folio(page)
    if pmd_dirty(old):
        folio_set_flag(folio, PG_dirty)
    exclusive = PageAnonExclusive(page)
    freeze = freeze and (not exclusive or folio_try_share_anon_rmap(folio, page))
    if not freeze:
        folio_ref_add(folio, HPAGE_PMD_NR() - 1)
        folio_add_anon_rmap_ptes(folio, page, HPAGE_PMD_NR(), vma, haddr, exclusive=exclusive)
    bits = _Bits(pmd_write(old), exclusive, pmd_young(old), pmd_dirty(old), pmd_soft_dirty(old), pmd_uffd_wp(old))
    _fill(vma, pmd, haddr, page, bits, migrates=freeze, unmaps=folio)
    if freeze:
        folio_put(folio)


def _migrating_bits(value: pmd_t) -> _Bits:
    return _Bits(*(pmd_migration_has(value, bit) for bit in ("write", "exclusive", "young", "dirty", "soft_dirty", "uffd_wp")))


def _fill(vma: VmAreaStruct, pmd: PmdSlot, haddr: int, page: Page, bits: _Bits, *, migrates: bool, unmaps: Folio | None = None) -> None:
    """Fill a deposited table and let the slot lead to it.

    :param unmaps: the folio that the huge entry maps
    """
    mm = vma.vm_mm
    pgtable = pgtable_trans_huge_withdraw(mm, pmd)
    for i in range(HPAGE_PMD_NR()):
        VM_WARN_ON_ONCE(not pte_none(ptep_get(PtePtr(pgtable, i))), "!pte_none(ptep_get(pte + i))")
    if migrates:
        for i in range(HPAGE_PMD_NR()):
            set_pte_at(mm, haddr + i * PAGE_SIZE(), PtePtr(pgtable, i), _migration_pte(page.pfn + i, bits))
    else:
        set_ptes(mm, haddr, PtePtr(pgtable, 0), _present_pte(vma, page, bits), HPAGE_PMD_NR())
    if unmaps is not None:
        folio_remove_rmap_pmd(unmaps, vma)
    smp_wmb()
    pmd_populate(mm, pmd, pgtable)


def _migration_pte(pfn: int, bits: _Bits) -> pte_t:
    kind = SWP_MIGRATION_WRITE if bits.write else SWP_MIGRATION_READ_EXCLUSIVE if bits.exclusive else SWP_MIGRATION_READ
    return make_migration_entry(pfn, kind, young=bits.young, dirty=bits.dirty, uffd_wp=bits.uffd_wp, soft_dirty=bits.soft_dirty)


def _present_pte(vma: VmAreaStruct, page: Page, bits: _Bits) -> pte_t:
    entry = mk_pte(page, vma.vm_page_prot)
    if bits.write:
        entry = pte_mkwrite(entry)
    if not bits.young:
        entry = pte_mkold(entry)
    if bits.dirty:
        entry = pte_mkdirty(entry)
    if bits.soft_dirty:
        entry = pte_mksoft_dirty(entry)
    return pte_mkuffd_wp(entry) if bits.uffd_wp else entry
