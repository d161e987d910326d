"""Page faults of users (mm/memory.c, arch/x86/mm/fault.c), under the VMA's lock, or where that is not enough the mmap read lock."""

from __future__ import annotations

from typing import Final

from kmm.kernel.locks import spin_lock
from kmm.mm.anon_fault import do_anonymous_page
from kmm.mm.cow import do_wp_page, ptep_set_access_flags
from kmm.mm.geometry import BIT, HPAGE_PMD_ORDER, PAGE_SIZE
from kmm.mm.huge_fault import do_huge_pmd_anonymous_page, huge_pmd_set_accessed, wp_huge_pmd
from kmm.mm.huge_memory import TVA_PAGEFAULT, thp_vma_allowable_orders
from kmm.mm.migration_wait import pmd_migration_entry_wait, wait_for_migration
from kmm.mm.mm_types import VM_DROPPABLE, VM_EXEC, VM_READ, VM_UFFD_WP, VM_WRITE, MmStruct, VmAreaStruct
from kmm.mm.mmap import find_vma, mmap_read_lock, mmap_read_unlock
from kmm.mm.numa_fault import do_numa_page
from kmm.mm.pgalloc import pmd_alloc
from kmm.mm.pgtable import (
    PtePtr,
    pmdp_get_lockless,
    pte_clear,
    pte_lockptr,
    pte_offset_map_lock,
    pte_offset_map_ro_nolock,
    pte_unmap,
    pte_unmap_unlock,
    ptep_get,
    ptep_get_lockless,
    update_mmu_cache_range,
)
from kmm.mm.pte import (
    PTE_MARKER_GUARD,
    PTE_MARKER_POISONED,
    is_migration_entry,
    is_pmd_migration_entry,
    pmd_none,
    pmd_present,
    pmd_trans_huge,
    pmd_write,
    pte_marker_get,
    pte_mkdirty,
    pte_mkyoung,
    pte_none,
    pte_present,
    pte_protnone,
    pte_t,
    pte_write,
)
from kmm.mm.swap_fault import __do_swap_page
from kmm.mm.vm_fault import (
    VM_FAULT_DONE,
    VM_FAULT_FALLBACK,
    VM_FAULT_HWPOISON,
    VM_FAULT_OOM,
    VM_FAULT_RETRY,
    VM_FAULT_SIGBUS,
    VM_FAULT_SIGSEGV,
    VM_FAULT_USERFAULT,
    VM_FAULT_WRITE,
    VmFault,
)
from kmm.mm.vma_lock import lock_vma_under_rcu, vma_end_read

_ACCESS: Final = VM_READ | VM_WRITE | VM_EXEC


def do_user_addr_fault(mm: MmStruct, address: int, *, write: bool) -> str:
    """:func:`handle_mm_fault` for an access of the process itself: first with nothing locked but the VMA. May sleep.

    A fault that has to be begun anew under the mmap lock does not count as tried, not even after it has read the page.

    :param mm: ``struct mm_struct *``, not locked
    :param address: in bytes
    :returns: as :func:`handle_mm_fault`
    :source: arch/x86/mm/fault.c, v6.18
    """
    address &= -PAGE_SIZE()
    vma = lock_vma_under_rcu(mm, address)
    if vma is None:
        return handle_mm_fault(mm, address, write=write)
    if access_error(vma, write=write):
        vma_end_read(vma)
        return VM_FAULT_SIGSEGV
    droppable = vma.vm_flags & VM_DROPPABLE
    ret = __handle_mm_fault(vma, address, write=write, tried=False, vma_lock=True)
    if ret == VM_FAULT_RETRY:
        return handle_mm_fault(mm, address, write=write)
    if ret != VM_FAULT_USERFAULT:
        vma_end_read(vma)
    return _answer(ret, droppable)


def handle_mm_fault(mm: MmStruct, address: int, *, write: bool) -> str:
    """Do what has to be done before an access can succeed, under the mmap lock; the access is then tried again. May sleep.

    :param mm: ``struct mm_struct *``, not locked
    :param address: in bytes
    :returns: empty, ``SIGSEGV``, ``SIGBUS`` (for a poisoned page, too), ``OOM`` (never where memory may be dropped: the access is tried
        again), or ``userfault``: a monitor was asked, and there is none
    :source: do_user_addr_fault in arch/x86/mm/fault.c, handle_mm_fault in mm/memory.c, v6.18
    """
    address &= -PAGE_SIZE()
    ret = VM_FAULT_RETRY
    tried, droppable = False, 0
    while ret == VM_FAULT_RETRY:
        mmap_read_lock(mm)
        vma = find_vma(mm, address)
        if vma is None or address < vma.vm_start or access_error(vma, write=write):
            mmap_read_unlock(mm)
            return VM_FAULT_SIGSEGV
        droppable = vma.vm_flags & VM_DROPPABLE
        ret = __handle_mm_fault(vma, address, write=write, tried=tried)
        tried = True
    if ret != VM_FAULT_USERFAULT:
        mmap_read_unlock(mm)
    return _answer(ret, droppable)


def _answer(ret: str, droppable: int) -> str:
    if ret == VM_FAULT_HWPOISON:
        return VM_FAULT_SIGBUS
    return "" if ret == VM_FAULT_DONE or (ret == VM_FAULT_OOM and droppable) else ret


def access_error(vma: VmAreaStruct, *, write: bool) -> bool:
    """The VMA forbids the access. What may be written or executed may be read."""
    return not vma.vm_flags & (VM_WRITE if write else _ACCESS)


def __handle_mm_fault(vma: VmAreaStruct, address: int, *, write: bool, tried: bool, vma_lock: bool = False) -> str:
    """The level at which the fault is handled: a huge entry, or a table. Under the mmap read lock, or the VMA's. May sleep.

    :param vma_lock: the latter
    :source: mm/memory.c, v6.18
    """
    vmf = VmFault(vma, address, pmd_alloc(vma.vm_mm, address), write=write, tried=tried, user=True, vma_lock=vma_lock)
    orders = BIT(HPAGE_PMD_ORDER())
    if pmd_none(pmdp_get_lockless(vmf.pmd)) and thp_vma_allowable_orders(vma, vma.vm_flags, TVA_PAGEFAULT, orders):
        ret = do_huge_pmd_anonymous_page(vmf)
    else:
        ret = _handle_pmd_fault(vmf)
    return handle_pte_fault(vmf) if ret == VM_FAULT_FALLBACK else ret


def _handle_pmd_fault(vmf: VmFault) -> str:
    """A fault on a huge entry, or on one that is being migrated; :data:`VM_FAULT_FALLBACK`: there is neither."""
    vmf.orig_pmd = value = pmdp_get_lockless(vmf.pmd)
    if not pmd_none(value) and not pmd_present(value):
        if is_pmd_migration_entry(value):
            pmd_migration_entry_wait(vmf.vma.vm_mm, vmf.pmd, vmf.address)
        return VM_FAULT_DONE
    if not pmd_trans_huge(value):
        return VM_FAULT_FALLBACK
    if vmf.write and not pmd_write(value):
        return wp_huge_pmd(vmf)
    huge_pmd_set_accessed(vmf)
    return VM_FAULT_DONE


def handle_pte_fault(vmf: VmFault) -> str:
    """A fault on an entry of a table, or where there is no table yet. May sleep.

    :source: mm/memory.c, v6.18
    """
    vma = vmf.vma
    if pmd_none(pmdp_get_lockless(vmf.pmd)):
        return do_anonymous_page(vmf)
    pte, _ = pte_offset_map_ro_nolock(vma.vm_mm, vmf.pmd, vmf.address)
    if pte is None:
        return VM_FAULT_DONE
    entry = ptep_get_lockless(pte)
    if pte_none(entry):
        pte_unmap(pte)
        return do_anonymous_page(vmf)
    vmf.orig_pte = entry
    if not pte_present(entry):
        return _handle_nonpresent(vmf, pte, entry)
    if pte_protnone(entry):
        return do_numa_page(vmf, pte)
    ptl = pte_lockptr(vma.vm_mm, pte.table)
    spin_lock(ptl)
    if ptep_get(pte) == entry:
        if vmf.write and not pte_write(entry):
            return do_wp_page(vmf, pte, ptl)
        _allow(vmf, pte, entry)
    pte_unmap_unlock(pte, ptl)
    return VM_FAULT_DONE


def _allow(vmf: VmFault, pte: PtePtr, entry: pte_t) -> None:
    """The entry allows the access: somebody else was faster, or the CPU knew an older one. The table is locked."""
    entry = pte_mkyoung(pte_mkdirty(entry) if vmf.write else entry)
    if ptep_set_access_flags(pte, entry, dirty=vmf.write):
        update_mmu_cache_range(None, vmf.vma, vmf.address, pte, 1)


def _handle_nonpresent(vmf: VmFault, pte: PtePtr, entry: pte_t) -> str:
    """A fault on an entry that is neither empty nor present. Consumes the mapping of the table."""
    if pte_marker_get(entry):
        pte_unmap(pte)
        return handle_pte_marker(vmf, pte_marker_get(entry))
    if is_migration_entry(entry):
        pte_unmap(pte)
        wait_for_migration(vmf.vma.vm_mm, vmf.pmd, vmf.address)
        return VM_FAULT_DONE
    ret = __do_swap_page(vmf, pte)
    return _write_after_swapin(vmf) if ret == VM_FAULT_WRITE else ret


def _write_after_swapin(vmf: VmFault) -> str:
    """The page is back, but not exclusive: go on as for a page that was there all the time."""
    pte, ptl = pte_offset_map_lock(vmf.vma.vm_mm, vmf.pmd, vmf.address)
    if pte is None:
        return VM_FAULT_DONE
    if ptep_get(pte) == vmf.orig_pte:
        return do_wp_page(vmf, pte, ptl)
    pte_unmap_unlock(pte, ptl)
    return VM_FAULT_DONE


def handle_pte_marker(vmf: VmFault, marker: int) -> str:
    """A fault on an entry that is nothing but a marker; what was lost counts for more than what is guarded."""
    if marker & PTE_MARKER_POISONED:
        return VM_FAULT_HWPOISON
    if marker & PTE_MARKER_GUARD:
        return VM_FAULT_SIGSEGV
    if not vmf.vma.vm_flags & VM_UFFD_WP:
        return _pte_marker_clear(vmf)
    return do_anonymous_page(vmf)


def _pte_marker_clear(vmf: VmFault) -> str:
    """Nobody is registered any more: the marker goes."""
    pte, ptl = pte_offset_map_lock(vmf.vma.vm_mm, vmf.pmd, vmf.address)
    if pte is not None:
        if ptep_get(pte) == vmf.orig_pte:
            pte_clear(vmf.vma.vm_mm, vmf.address, pte)
        pte_unmap_unlock(pte, ptl)
    return VM_FAULT_DONE
