"""What a monitor asks of userfaultfd (fs/userfaultfd.c, mm/userfaultfd.c). There is one monitor; nobody waits for its answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from kmm.kernel import current
from kmm.kernel.access import PLAIN
from kmm.mm import system
from kmm.mm.cow import folio_prealloc
from kmm.mm.folio import Folio, Page, __folio_mark_uptodate
from kmm.mm.geometry import PAGE_SIZE
from kmm.mm.memory import mk_pte
from kmm.mm.mm_types import MM_ANONPAGES, VM_DROPPABLE, VM_UFFD_MISSING, VM_UFFD_WP, VM_WRITE, MmStruct, VmAreaStruct
from kmm.mm.mmap import mmap_read_lock, mmap_read_unlock, mmap_write_lock, mmap_write_unlock
from kmm.mm.mmu_gather import MmuGather, tlb_finish_mmu
from kmm.mm.mprotect import (
    MM_CP_TRY_CHANGE_WRITABLE,
    MM_CP_UFFD_WP,
    MM_CP_UFFD_WP_RESOLVE,
    MM_CP_UFFD_WP_UNPOPULATED,
    change_protection,
)
from kmm.mm.page_alloc import folio_put
from kmm.mm.pgalloc import anon_vma_prepare, pmd_alloc, pte_alloc
from kmm.mm.pgtable import (
    PmdSlot,
    PtePtr,
    mk_zero_pte,
    pmdp_get_lockless,
    pte_offset_map_lock,
    pte_unmap_unlock,
    ptep_get,
    set_pte_at,
    update_mmu_cache_range,
)
from kmm.mm.pte import (
    PTE_MARKER_UFFD_WP,
    pmd_present,
    pmd_trans_huge,
    pte_marker_get,
    pte_mkdirty,
    pte_mkuffd_wp,
    pte_mkwrite,
    pte_none,
    pte_t,
)
from kmm.mm.rmap import folio_add_new_anon_rmap, page_number
from kmm.mm.swap import folio_add_lru_vma
from kmm.mm.userfaultfd import userfaultfd_armed
from kmm.mm.vma import vma_at, vma_modify_flags, vmas_in
from kmm.mm.vma_lock import lock_vma_under_rcu, vma_end_read, vma_start_read_locked
from kmm.mm.vmstat import add_mm_counter

UFFD_FLAGS: Final = VM_UFFD_MISSING | VM_UFFD_WP


def userfaultfd_register(mm: MmStruct, start: int, length: int, vm_flags: int) -> str:
    """Let the monitor hear of faults in [start, start + length) bytes. May sleep.

    :param mm: ``struct mm_struct *``
    :param length: bytes
    :param vm_flags: ``VM_UFFD_MISSING``: of pages that are not there; ``VM_UFFD_WP``: of writes to what is write-protected; or both
    :returns: empty, or ``EINVAL``: nothing is mapped there, or a VMA that cannot be watched
    :source: fs/userfaultfd.c, v6.18
    """
    mmap_write_lock(mm)
    able = [vma_can_userfault(vma) for vma in vmas_in(mm, start, start + length)]
    error = "" if able and all(able) else "EINVAL"
    for vma, at, end in _parts(mm, start, start + length) if not error else ():
        if vma.vm_flags & vm_flags != vm_flags:
            vma_modify_flags(mm, vma, at, end, vma.vm_flags & ~UFFD_FLAGS | vm_flags)
    mmap_write_unlock(mm)
    return error


def userfaultfd_unregister(mm: MmStruct, start: int, length: int) -> str:
    """End that, and with it all write protection there. May sleep.

    :param mm: ``struct mm_struct *``
    :param length: bytes
    :returns: empty, or ``EINVAL``: nothing is mapped there, or a VMA that could not have been watched
    :source: fs/userfaultfd.c, v6.18
    """
    mmap_write_lock(mm)
    able = [vma_can_userfault(vma) for vma in vmas_in(mm, start, start + length)]
    error = "" if able and all(able) else "EINVAL"
    for vma, at, end in _parts(mm, start, start + length) if not error else ():
        if userfaultfd_armed(vma):
            userfaultfd_clear_vma(vma, at, end)
    mmap_write_unlock(mm)
    return error


def userfaultfd_clear_vma(vma: VmAreaStruct, start: int, end: int) -> None:
    """Entries first, while the flags still say what they mean."""
    if vma.vm_flags & VM_UFFD_WP:
        uffd_wp_range(vma, start, end, enable=False)
    vma_modify_flags(vma.vm_mm, vma, start, end, vma.vm_flags & ~UFFD_FLAGS)


def vma_can_userfault(vma: VmAreaStruct) -> bool:
    """What may be dropped at any time is not watched."""
    return not vma.vm_flags & VM_DROPPABLE


def _parts(mm: MmStruct, start: int, end: int) -> Iterator[tuple[VmAreaStruct, int, int]]:
    """Each VMA that has a part of [start, end) bytes, and the part; it may be merged with those before."""
    for at, upto in [(max(vma.vm_start, start), min(vma.vm_end, end)) for vma in vmas_in(mm, start, end)]:
        vma = vma_at(mm, at)
        assert vma is not None
        yield vma, at, upto


def mwriteprotect_range(mm: MmStruct, start: int, length: int, *, enable: bool, unpopulated: bool = False) -> str:
    """Write-protect [start, start + length) bytes for the monitor, or give that up. May sleep.

    Faults run at the same time: one that does not see the protection yet has written before.

    :param mm: ``struct mm_struct *``
    :param length: bytes
    :param unpopulated: also what maps nothing, by markers: ``UFFD_FEATURE_WP_UNPOPULATED``
    :returns: empty, or ``ENOENT`` at the first VMA that is not registered for it: what lies before it is done then
    :source: mm/userfaultfd.c, v6.18
    """
    mmap_read_lock(mm)
    error = "ENOENT"
    for vma in vmas_in(mm, start, start + length):
        error = "" if vma.vm_flags & VM_UFFD_WP else "ENOENT"
        if error:
            break
        uffd_wp_range(vma, max(vma.vm_start, start), min(vma.vm_end, start + length), enable=enable, unpopulated=unpopulated)
    mmap_read_unlock(mm)
    return error


def uffd_wp_range(vma: VmAreaStruct, start: int, end: int, *, enable: bool, unpopulated: bool = False) -> None:
    """Write-protect a part of one VMA, or make writable again what no fault is needed for. The mmap lock is held. May sleep."""
    flags = MM_CP_UFFD_WP if enable else MM_CP_UFFD_WP_RESOLVE
    if enable and unpopulated:
        flags |= MM_CP_UFFD_WP_UNPOPULATED
    if not enable and vma.vm_flags & VM_WRITE:
        flags |= MM_CP_TRY_CHANGE_WRITABLE
    tlb = MmuGather(vma.vm_mm)
    change_protection(tlb, vma, start, end, flags)
    tlb_finish_mmu(tlb)


def mfill_atomic(mm: MmStruct, start: int, length: int, contents: Callable[[int], int] | None, *, wp: bool = False) -> str:
    """Fill pages of [start, start + length) bytes that are not there. May sleep.

    :param mm: ``struct mm_struct *``
    :param length: bytes
    :param contents: of a page, by its number: UFFDIO_COPY; ``None``: the zero page: UFFDIO_ZEROPAGE
    :param wp: write-protected: UFFDIO_COPY_MODE_WP
    :returns: empty; ``ENOENT`` unless one VMA has all of it, and is registered; ``EINVAL`` where that is not for write protection; when
        the first page fails ``EEXIST``, ``ENOMEM``, or ``EAGAIN``: the table went; ``EAGAIN`` when a later one does
    :source: mm/userfaultfd.c, v6.18
    """
    vma, error = uffd_mfill_lock(mm, start, length)
    if vma is None:
        return error
    if wp and not vma.vm_flags & VM_UFFD_WP:
        vma_end_read(vma)
        return "EINVAL"
    for address in range(start, start + length, PAGE_SIZE()):
        error = _mfill_page(vma, address, None if contents is None else contents(page_number(address)), wp=wp)
        if error:
            error = error if address == start else "EAGAIN"
            break
    vma_end_read(vma)
    return error


def uffd_mfill_lock(mm: MmStruct, start: int, length: int) -> tuple[VmAreaStruct | None, str]:
    """The VMA that has all of [start, start + length) bytes and is registered, locked for reading; or why there is none. May sleep."""
    vma, error = uffd_lock_vma(mm, start)
    if vma is None or (start + length <= vma.vm_end and userfaultfd_armed(vma)):
        return vma, error
    vma_end_read(vma)
    return None, "ENOENT"


def uffd_lock_vma(mm: MmStruct, address: int) -> tuple[VmAreaStruct | None, str]:
    """Lock the VMA of an address for reading, and see that it has an anon_vma, for which the mmap lock may be needed. May sleep."""
    vma = lock_vma_under_rcu(mm, address)
    if vma is not None:
        if vma.anon_vma is not None:
            return vma, ""
        vma_end_read(vma)
    mmap_read_lock(mm)
    vma, error = vma_at(mm, address), "ENOENT"
    if vma is not None:
        anon_vma_prepare(vma)
        if not vma_start_read_locked(vma):
            vma, error = None, "EAGAIN"
    mmap_read_unlock(mm)
    return vma, "" if vma is not None else error


def _mfill_page(vma: VmAreaStruct, address: int, contents: int | None, *, wp: bool) -> str:
    pmd = pmd_alloc(vma.vm_mm, address)
    pte_alloc(vma.vm_mm, pmd, address)
    value = pmdp_get_lockless(pmd)
    if not pmd_present(value) or pmd_trans_huge(value):
        return "EEXIST"
    if contents is None:
        return mfill_atomic_pte_zeropage(vma, pmd, address)
    return mfill_atomic_pte_copy(vma, pmd, address, contents, wp=wp)


def mfill_atomic_pte_copy(vma: VmAreaStruct, pmd: PmdSlot, address: int, contents: int, *, wp: bool) -> str:
    """Allocate a page and fill it, all before anybody can see it."""
    folio = folio_prealloc(vma, address, need_zero=False)
    if folio is None:
        return "ENOMEM"
    current.machine.write(folio.pages[0], Page.contents, contents, PLAIN)
    __folio_mark_uptodate(folio)
    error = mfill_atomic_install_pte(vma, pmd, address, folio, contents, wp=wp)
    if error:
        folio_put(folio)
    return error


def mfill_atomic_install_pte(vma: VmAreaStruct, pmd: PmdSlot, address: int, folio: Folio, contents: int, *, wp: bool) -> str:
    """Map a new page where there is nothing but perhaps a marker of userfaultfd."""
    entry = pte_mkdirty(mk_pte(folio.pages[0], vma.vm_page_prot))
    if vma.vm_flags & VM_WRITE:
        entry = pte_mkwrite(entry)
    if wp:
        entry = pte_mkuffd_wp(entry)
    pte, ptl = pte_offset_map_lock(vma.vm_mm, pmd, address)
    if pte is None:
        return "EAGAIN"
    old = ptep_get(pte)
    free = pte_none(old) or bool(pte_marker_get(old) & PTE_MARKER_UFFD_WP)
    if free:
        folio_add_new_anon_rmap(folio, vma, address, exclusive=True)
        folio_add_lru_vma(folio, vma)
        add_mm_counter(vma.vm_mm, MM_ANONPAGES, 1)
        _set(vma, address, pte, entry, contents)
    pte_unmap_unlock(pte, ptl)
    return "" if free else "EEXIST"


def mfill_atomic_pte_zeropage(vma: VmAreaStruct, pmd: PmdSlot, address: int) -> str:
    """Map the zero page where there is nothing at all."""
    pte, ptl = pte_offset_map_lock(vma.vm_mm, pmd, address)
    if pte is None:
        return "EAGAIN"
    free = pte_none(ptep_get(pte))
    if free:
        _set(vma, address, pte, mk_zero_pte(vma.vm_page_prot), 0)
    pte_unmap_unlock(pte, ptl)
    return "" if free else "EEXIST"


def _set(vma: VmAreaStruct, address: int, pte: PtePtr, entry: pte_t, contents: int) -> None:
    """Set an entry; from then on the process reads what the monitor wrote."""
    set_pte_at(vma.vm_mm, address, pte, entry)
    system.this.shadow[vma.vm_mm.ident, page_number(address)] = contents
    update_mmu_cache_range(None, vma, address, pte, 1)
