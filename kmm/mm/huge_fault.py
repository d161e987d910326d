"""Faults that a huge PMD entry answers, and those on one (mm/huge_memory.c, mm/memory.c).

The huge zero page is there from the start, as with CONFIG_PERSISTENT_HUGE_ZERO_FOLIO.
"""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import PLAIN
from kmm.kernel.bug import VM_BUG_ON
from kmm.kernel.locks import SpinLock, spin_lock, spin_unlock
from kmm.mm import system
from kmm.mm.cow import folio_move_anon_rmap
from kmm.mm.folio import (
    Folio,
    Page,
    PageAnonExclusive,
    SetPageAnonExclusive,
    __folio_mark_uptodate,
    folio_get,
    folio_lock,
    folio_nr_pages,
    folio_ref_count,
    folio_test_swapcache,
    folio_trylock,
    folio_unlock,
    page_folio,
)
from kmm.mm.geometry import HPAGE_PMD_MASK, HPAGE_PMD_NR, HPAGE_PMD_ORDER, HPAGE_PMD_SIZE, PAGE_SIZE
from kmm.mm.huge_memory import map_anon_folio_pmd_nopf, maybe_pmd_mkwrite, thp_vma_suitable_order
from kmm.mm.khugepaged.enter import khugepaged_enter_vma
from kmm.mm.memcontrol import count_memcg_event_mm, mem_cgroup_charge
from kmm.mm.memory import clear_user_highpage
from kmm.mm.mm_types import MM_ANONPAGES, VmAreaStruct
from kmm.mm.mmu_notifier import MmuNotifierRange, mmu_notifier_invalidate_range_end, mmu_notifier_invalidate_range_start
from kmm.mm.page_alloc import __folio_alloc, folio_put
from kmm.mm.pgalloc import pte_alloc_one, pte_free
from kmm.mm.pgtable import (
    PmdSlot,
    PtePage,
    mm_inc_nr_ptes,
    pgtable_trans_huge_deposit,
    pmd_lock,
    pmdp_get,
    set_pmd,
    update_mmu_cache_pmd,
)
from kmm.mm.pgtable_bits import pmd_mkyoung
from kmm.mm.pgtable_generic import pmdp_huge_clear_flush
from kmm.mm.pte import HUGE_ZERO_PFN, is_huge_zero_pmd, pfn_pmd, pmd_mkdirty, pmd_mkhuge, pmd_none, pmd_pfn, pmd_t
from kmm.mm.split_pmd import split_huge_pmd
from kmm.mm.swapfile import folio_free_swap
from kmm.mm.system import Sysctl, page_at
from kmm.mm.vm_fault import (
    VM_FAULT_DONE,
    VM_FAULT_FALLBACK,
    VM_FAULT_RETRY,
    VmFault,
    handle_userfault,
    userfaultfd_huge_pmd_wp,
    userfaultfd_missing,
    vmf_anon_prepare,
)
from kmm.mm.vmstat import add_mm_counter, count_mthp_stat, count_vm_event


def do_huge_pmd_anonymous_page(vmf: VmFault) -> str:
    """Map a huge page where nothing is mapped: for a read the huge zero page, if ``use_zero_page`` is on. May sleep.

    :returns: :data:`VM_FAULT_FALLBACK`: small pages have to do
    :source: mm/huge_memory.c, v6.18
    """
    vma = vmf.vma
    haddr = vmf.address & HPAGE_PMD_MASK()
    if not thp_vma_suitable_order(vma, haddr, HPAGE_PMD_ORDER()):
        return VM_FAULT_FALLBACK
    if not vmf_anon_prepare(vmf):
        return VM_FAULT_RETRY
    khugepaged_enter_vma(vma, vma.vm_flags)
    if not vmf.write and current.machine.read(system.this.sysctl, Sysctl.use_zero_page, PLAIN):
        return _map_huge_zero_page(vmf, haddr)
    return __do_huge_pmd_anonymous_page(vmf, haddr)


def _map_huge_zero_page(vmf: VmFault, haddr: int) -> str:
    vma, mm = vmf.vma, vmf.vma.vm_mm
    pgtable = pte_alloc_one(mm, haddr)
    ptl = pmd_lock(mm, vmf.pmd)
    empty = pmd_none(pmdp_get(vmf.pmd))
    if empty and not userfaultfd_missing(vma):
        set_huge_zero_folio(pgtable, vma, haddr, vmf.pmd)
        spin_unlock(ptl)
        return VM_FAULT_DONE
    spin_unlock(ptl)
    pte_free(mm, pgtable)
    return handle_userfault(vmf) if empty else VM_FAULT_DONE


def set_huge_zero_folio(pgtable: PtePage, vma: VmAreaStruct, haddr: int, pmd: PmdSlot) -> None:
    """Map the huge zero page, with a table for its split. The PMD lock is held."""
    mm = vma.vm_mm
    pgtable_trans_huge_deposit(mm, pmd, pgtable)
    set_pmd(pmd, pmd_mkhuge(pfn_pmd(HUGE_ZERO_PFN, vma.vm_page_prot)))
    mm_inc_nr_ptes(mm)
    update_mmu_cache_pmd(vma, haddr, pmd)


def __do_huge_pmd_anonymous_page(vmf: VmFault, haddr: int) -> str:
    vma, mm = vmf.vma, vmf.vma.vm_mm
    folio = vma_alloc_anon_folio_pmd(vma, haddr)
    if folio is None:
        return VM_FAULT_FALLBACK
    pgtable = pte_alloc_one(mm, haddr)
    ptl = pmd_lock(mm, vmf.pmd)
    empty = pmd_none(pmdp_get(vmf.pmd))
    if empty and not userfaultfd_missing(vma):
        pgtable_trans_huge_deposit(mm, vmf.pmd, pgtable)
        map_anon_folio_pmd_pf(folio, vmf.pmd, vma, haddr)
        mm_inc_nr_ptes(mm)
        spin_unlock(ptl)
        return VM_FAULT_DONE
    spin_unlock(ptl)
    pte_free(mm, pgtable)
    folio_put(folio)
    return handle_userfault(vmf) if empty else VM_FAULT_DONE


def vma_alloc_anon_folio_pmd(vma: VmAreaStruct, haddr: int) -> Folio | None:
    """A charged huge folio full of zeros; counts what becomes of the wish. May sleep."""
    order = HPAGE_PMD_ORDER()
    folio = __folio_alloc("GFP_TRANSHUGE_LIGHT", order, 0, frozenset())
    if folio is None:
        _count_fallback("")
        return None
    if not mem_cgroup_charge(folio, vma.vm_mm):
        folio_put(folio)
        _count_fallback("", "_charge")
        return None
    folio_zero_user(folio, haddr)
    __folio_mark_uptodate(folio)
    return folio


def _count_fallback(*kinds: str) -> None:
    for kind in kinds:
        count_vm_event(f"thp_fault_fallback{kind}")
        count_mthp_stat(HPAGE_PMD_ORDER(), f"anon_fault_fallback{kind}")


def folio_zero_user(folio: Folio, addr: int) -> None:
    """Fill a folio with zeros."""
    for i, page in enumerate(folio.pages):
        clear_user_highpage(page, addr + i * PAGE_SIZE())


def map_anon_folio_pmd_pf(folio: Folio, pmd: PmdSlot, vma: VmAreaStruct, haddr: int) -> None:
    """Map a folio by a huge entry for a fault, and count it. The PMD lock is held."""
    map_anon_folio_pmd_nopf(folio, pmd, vma, haddr)
    add_mm_counter(vma.vm_mm, MM_ANONPAGES, HPAGE_PMD_NR())
    count_vm_event("thp_fault_alloc")
    count_mthp_stat(HPAGE_PMD_ORDER(), "anon_fault_alloc")
    count_memcg_event_mm(vma.vm_mm, "thp_fault_alloc")


def huge_pmd_set_accessed(vmf: VmFault) -> None:
    """An access that the entry allows after all: young, and for a write dirty."""
    vma = vmf.vma
    haddr = vmf.address & HPAGE_PMD_MASK()
    ptl = pmd_lock(vma.vm_mm, vmf.pmd)
    if pmdp_get(vmf.pmd) == vmf.orig_pmd:
        entry = pmd_mkyoung(vmf.orig_pmd)
        if vmf.write:
            entry = pmd_mkdirty(entry)
        if pmdp_set_access_flags(vmf.pmd, entry, dirty=vmf.write):
            update_mmu_cache_pmd(vma, haddr, vmf.pmd)
    spin_unlock(ptl)


def pmdp_set_access_flags(pmdp: PmdSlot, entry: pmd_t, *, dirty: bool) -> bool:
    """Let a huge entry allow more than it does; x86 leaves it to the hardware unless a write is wanted.

    :returns: it differs from what is there
    """
    changed = pmdp_get(pmdp) != entry
    if changed and dirty:
        set_pmd(pmdp, entry)
    return changed


def wp_huge_pmd(vmf: VmFault) -> str:
    """Allow a write to a huge page that is mapped read-only. May sleep.

    :returns: :data:`VM_FAULT_FALLBACK`: it was split
    """
    if userfaultfd_huge_pmd_wp(vmf.vma, vmf.orig_pmd):
        return handle_userfault(vmf)
    return do_huge_pmd_wp_page(vmf)


def do_huge_pmd_wp_page(vmf: VmFault) -> str:
    """Use a huge page as it is, if nobody else has a reference; else split its mapping. The huge zero page is replaced by a huge page.

    :source: mm/huge_memory.c, v6.18
    """
    vma = vmf.vma
    VM_BUG_ON(vma.anon_vma is None, "!vma->anon_vma")
    if is_huge_zero_pmd(vmf.orig_pmd):
        ret = do_huge_zero_wp_pmd(vmf)
        if ret != VM_FAULT_FALLBACK:
            return ret
    elif _reuse_huge(vmf):
        return VM_FAULT_DONE
    split_huge_pmd(vma, vmf.pmd, vmf.address)
    return VM_FAULT_FALLBACK


def _reuse_huge(vmf: VmFault) -> bool:
    """Let the entry allow writes if the page is exclusive, or becomes so; true, too, when the entry is no longer what it was."""
    vma = vmf.vma
    ptl = pmd_lock(vma.vm_mm, vmf.pmd)
    same = pmdp_get(vmf.pmd) == vmf.orig_pmd
    page = page_at(pmd_pfn(vmf.orig_pmd))
    reuse = same and PageAnonExclusive(page)
    if same and not reuse:
        folio = page_folio(page)
        same = folio_trylock(folio) or _lock_again(vmf, folio, ptl)
        reuse = same and (PageAnonExclusive(page) or _make_exclusive(page, vma))
        folio_unlock(folio)
    if reuse:
        _make_writable(vmf)
    spin_unlock(ptl)
    return reuse or not same


def _lock_again(vmf: VmFault, folio: Folio, ptl: SpinLock) -> bool:
    """Wait for the folio lock without the PMD lock; false: the entry changed meanwhile."""
    folio_get(folio)
    spin_unlock(ptl)
    folio_lock(folio)
    spin_lock(ptl)
    folio_put(folio)
    return pmdp_get(vmf.pmd) == vmf.orig_pmd


def _make_exclusive(page: Page, vma: VmAreaStruct) -> bool:
    """The page is this process's alone, if the swap cache is the only other one with references. Both locks are held."""
    folio = page_folio(page)
    if folio_ref_count(folio) > 1 + folio_test_swapcache(folio) * folio_nr_pages(folio):
        return False
    if folio_test_swapcache(folio):
        folio_free_swap(folio)
    if folio_ref_count(folio) != 1:
        return False
    folio_move_anon_rmap(folio, vma)
    SetPageAnonExclusive(page)
    return True


def _make_writable(vmf: VmFault) -> None:
    """The PMD lock is held."""
    entry = maybe_pmd_mkwrite(pmd_mkdirty(pmd_mkyoung(vmf.orig_pmd)), vmf.vma)
    if pmdp_set_access_flags(vmf.pmd, entry, dirty=True):
        update_mmu_cache_pmd(vmf.vma, vmf.address & HPAGE_PMD_MASK(), vmf.pmd)


def do_huge_zero_wp_pmd(vmf: VmFault) -> str:
    """Put a huge page in place of the huge zero page; its table stays deposited. May sleep."""
    vma = vmf.vma
    haddr = vmf.address & HPAGE_PMD_MASK()
    folio = vma_alloc_anon_folio_pmd(vma, haddr)
    if folio is None:
        return VM_FAULT_FALLBACK
    window = MmuNotifierRange(vma.vm_mm, haddr, haddr + HPAGE_PMD_SIZE())
    mmu_notifier_invalidate_range_start(window)
    ptl = pmd_lock(vma.vm_mm, vmf.pmd)
    same = pmdp_get(vmf.pmd) == vmf.orig_pmd
    if same:
        pmdp_huge_clear_flush(vma, haddr, vmf.pmd)
        map_anon_folio_pmd_pf(folio, vmf.pmd, vma, haddr)
    else:
        folio_put(folio)
    spin_unlock(ptl)
    mmu_notifier_invalidate_range_end(window)
    return VM_FAULT_DONE
