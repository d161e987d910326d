"""fork: a second address space with the same pages (kernel/fork.c, mm/memory.c, mm/huge_memory.c)."""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import ONCE, PLAIN
from kmm.kernel.barrier import smp_wmb
from kmm.kernel.locks import spin_lock, spin_unlock
from kmm.kernel.ref import Ref
from kmm.mm import system
from kmm.mm.cow import folio_prealloc
from kmm.mm.exit import mmput
from kmm.mm.folio import Folio
from kmm.mm.fork_huge import copy_huge_pmd
from kmm.mm.fork_ptes import copy_one, same_contents
from kmm.mm.geometry import HPAGE_PMD_MASK, HPAGE_PMD_SIZE, PAGE_SIZE
from kmm.mm.interval_tree import anon_vma_interval_tree_insert
from kmm.mm.khugepaged.enter import khugepaged_fork
from kmm.mm.mm_types import (
    MMF_VM_HUGEPAGE,
    VM_DONTCOPY,
    VM_LOCKED,
    VM_LOCKONFAULT,
    VM_MIXEDMAP,
    VM_PFNMAP,
    VM_UFFD_MISSING,
    VM_UFFD_WP,
    AnonVma,
    MmStruct,
    VmAreaStruct,
)
from kmm.mm.mmap import anon_vma_lock_write, anon_vma_unlock_write, mmap_write_lock, mmap_write_unlock, vma_start_write
from kmm.mm.mmu_notifier import MmuNotifierRange, mmu_notifier_invalidate_range_end, mmu_notifier_invalidate_range_start
from kmm.mm.page_alloc import folio_put
from kmm.mm.pgalloc import pmd_alloc, pte_alloc
from kmm.mm.pgtable import (
    PmdPage,
    PmdSlot,
    flush_tlb_range,
    pmd_offset,
    pmdp_get,
    pte_lockptr,
    pte_offset_map_lock,
    pte_offset_map_ro_nolock,
    pte_unmap,
    pte_unmap_unlock,
)
from kmm.mm.pte import is_pmd_migration_entry, pmd_none, pmd_trans_huge
from kmm.mm.rmap import page_number
from kmm.mm.system import PidNamespace
from kmm.mm.vma import vma_link


def dup_mm(oldmm: MmStruct, ident: int) -> str:
    """Fork an address space. May sleep.

    :param oldmm: ``struct mm_struct *``: the parent's
    :param ident: number of the child
    :returns: empty, or ``ENOMEM``, whatever went wrong: the child is torn down again
    :source: kernel/fork.c, v6.18
    """
    this = system.this
    mm = MmStruct(ident, oldmm.memcg)
    nothing: list[PmdPage | None] = [None] * len(oldmm.pmds)
    current.machine.write(mm, MmStruct.flags, oldmm.flags & ~MMF_VM_HUGEPAGE, PLAIN)
    current.machine.write(mm, MmStruct.pmds, nothing, PLAIN)
    this.mms.append(mm)
    this.mms.sort(key=_ident)
    error = dup_mmap(mm, oldmm)
    if error:
        mmput(mm)
    return "ENOMEM" if error else ""


def alloc_pid() -> int:
    """A number for a child that nobody has: the lowest one behind all that were given.

    :source: kernel/pid.c, v6.18
    """
    return current.machine.fetch_add(system.this.pids, PidNamespace.last, 1) + 1


def _ident(mm: MmStruct) -> int:
    return mm.ident


def dup_mmap(mm: MmStruct, oldmm: MmStruct) -> str:
    """Copy VMAs and page tables under both mmap locks, then let nobody write through an old translation."""
    mmap_write_lock(oldmm)
    mmap_write_lock(mm)
    error = ""
    made: list[tuple[VmAreaStruct, bool]] = []
    for vma in oldmm.vmas:
        vma_start_write(vma)
        if vma.vm_flags & VM_DONTCOPY:
            continue
        new = _dup_vma(mm, vma)
        anon_vma_fork(new, vma)
        vma_link(mm, new)
        copied = vma_needs_copy(vma)
        made.append((new, copied))
        if copied and (error := copy_page_range(new, vma)):
            break
    if not error:
        khugepaged_fork(mm, oldmm)
    for vma in oldmm.vmas:
        flush_tlb_range(vma, vma.vm_start, vma.vm_end)
    for new, copied in made:
        _remember(new, oldmm, copied=copied)
    mmap_write_unlock(mm)
    mmap_write_unlock(oldmm)
    return error


def _dup_vma(mm: MmStruct, vma: VmAreaStruct) -> VmAreaStruct:
    """The child's VMA: locks are not inherited, and nobody asked userfaultfd for fork events."""
    flags = vma.vm_flags & ~(VM_LOCKED | VM_LOCKONFAULT | VM_UFFD_MISSING | VM_UFFD_WP)
    return VmAreaStruct(mm, vma.vm_start, vma.vm_end, flags, None, vma.vm_pgoff)


def anon_vma_fork(new: VmAreaStruct, vma: VmAreaStruct) -> None:
    """What the child maps for the first time hangs on an anon_vma of its own; the parent's finds the child's, too.

    The kernel may take over an older anon_vma that no VMA uses any more; here each VMA gets a new one.

    :param new: the child's VMA
    :source: mm/rmap.c, v6.18
    """
    parent = vma.anon_vma
    if parent is not None:
        anon_vma_lock_write(parent)
        anon_vma = AnonVma(f"anon_vma{new.vm_mm.ident}", parent.root, parent)
        current.machine.write(new, VmAreaStruct.anon_vma, anon_vma, PLAIN)
        anon_vma_interval_tree_insert(new)
        anon_vma_unlock_write(parent)


def vma_needs_copy(vma: VmAreaStruct) -> bool:
    """A fault would not bring the entries back: there are anonymous pages, or frames without folio."""
    return bool(vma.vm_flags & (VM_PFNMAP | VM_MIXEDMAP)) or vma.anon_vma is not None


def _remember(new: VmAreaStruct, oldmm: MmStruct, *, copied: bool) -> None:
    """The child reads what its parent does, and zeros where no entries are copied.

    Until the flush a thread of the parent may write to what both have now. A page that was copied at once is the child's own since then.
    """
    shadow, ident = system.this.shadow, new.vm_mm.ident
    for index in range(page_number(new.vm_start), page_number(new.vm_end)):
        if (ident, index) in shadow:
            continue
        if copied:
            same_contents(ident, oldmm.ident, index)
        elif (oldmm.ident, index) in shadow:
            shadow[ident, index] = 0


def copy_page_range(new: VmAreaStruct, vma: VmAreaStruct) -> str:
    """Copy the entries of a VMA, table by table. May sleep.

    :param new: the child's VMA
    :returns: empty, ``ENOMEM``, or ``EHWPOISON``: the copy of a pinned page meets poison
    :source: mm/memory.c, v6.18
    """
    window = MmuNotifierRange(vma.vm_mm, vma.vm_start, vma.vm_end)
    mmu_notifier_invalidate_range_start(window)
    write_protect_begin(vma.vm_mm)
    address, error = vma.vm_start, ""
    while address < vma.vm_end and not error:
        end = min((address & HPAGE_PMD_MASK()) + HPAGE_PMD_SIZE(), vma.vm_end)
        pmd = pmd_offset(vma.vm_mm, address)
        if pmd is not None and not pmd_none(pmdp_get(pmd)):
            error = copy_pmd(new, vma, pmd, address, end)
        address = end
    write_protect_end(vma.vm_mm)
    mmu_notifier_invalidate_range_end(window)
    return error


def write_protect_begin(mm: MmStruct) -> None:
    """``raw_write_seqcount_begin(&mm->write_protect_seq)``: whoever pins a page without locks from now on gives it back."""
    current.machine.write(mm, MmStruct.write_protect_seq, mm.write_protect_seq + 1, ONCE)
    smp_wmb()


def write_protect_end(mm: MmStruct) -> None:
    """``raw_write_seqcount_end(&mm->write_protect_seq)``."""
    smp_wmb()
    current.machine.write(mm, MmStruct.write_protect_seq, mm.write_protect_seq + 1, ONCE)


def copy_pmd(new: VmAreaStruct, vma: VmAreaStruct, pmd: PmdSlot, address: int, end: int) -> str:
    """One PMD entry: a huge one as it is, unless its page is pinned; else the entries of its table."""
    child = pmd_alloc(new.vm_mm, address)
    value = pmdp_get(pmd)
    if (pmd_trans_huge(value) or is_pmd_migration_entry(value)) and copy_huge_pmd(new, vma, child, pmd, address):
        return ""
    if pmd_none(pmdp_get(pmd)):
        return ""
    return copy_pte_range(new, vma, child, pmd, address, end)


def copy_pte_range(new: VmAreaStruct, vma: VmAreaStruct, child: PmdSlot, pmd: PmdSlot, address: int, end: int) -> str:
    """The entries of one table. A page that may be pinned needs a folio for its copy, which is allocated without the locks. May sleep.

    :returns: empty, ``ENOMEM`` or ``EHWPOISON``
    :source: mm/memory.c, v6.18
    """
    prealloc: Ref[Folio | None] = Ref(None)
    while True:
        pte_alloc(new.vm_mm, child, address)
        address, error = _copy_ptes(new, vma, child, pmd, address, end, prealloc)
        if error != "EAGAIN":
            break
        prealloc.value = folio_prealloc(vma, address, need_zero=False)
        if prealloc.value is None:
            return "ENOMEM"
    _put_unused(prealloc)
    return error


def _copy_ptes(
    new: VmAreaStruct, vma: VmAreaStruct, child: PmdSlot, pmd: PmdSlot, address: int, end: int, prealloc: Ref[Folio | None]
) -> tuple[int, str]:
    """Copy entries under the locks of both tables, up to the first that cannot be; its address, and why.

    :param prealloc: what the first entry did not need is freed
    """
    dst, dst_ptl = pte_offset_map_lock(new.vm_mm, child, address)
    assert dst is not None
    src, _ = pte_offset_map_ro_nolock(vma.vm_mm, pmd, address)
    error = ""
    if src is not None:
        src_ptl = pte_lockptr(vma.vm_mm, src.table)
        spin_lock(src_ptl)
        while address < end and not (error := copy_one(new, vma, dst, src, address, prealloc)):
            _put_unused(prealloc)
            address, dst, src = address + PAGE_SIZE(), dst + 1, src + 1
        spin_unlock(src_ptl)
        pte_unmap(src)
    pte_unmap_unlock(dst, dst_ptl)
    return address, error


def _put_unused(prealloc: Ref[Folio | None]) -> None:
    if prealloc.value is not None:
        folio_put(prealloc.value)
        prealloc.value = None
