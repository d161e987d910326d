"""The VMAs of an address space: finding, splitting, merging (mm/vma.c). ``mm.vmas`` stands for the maple tree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kmm.kernel import current
from kmm.kernel.access import ONCE, PLAIN, RELEASE
from kmm.kernel.bug import VM_WARN_ON_ONCE
from kmm.kernel.locks import lockdep_assert_held
from kmm.mm.geometry import HPAGE_PMD_MASK, PAGE_SIZE
from kmm.mm.interval_tree import anon_vma_interval_tree_insert, anon_vma_interval_tree_remove
from kmm.mm.mm_types import VM_EXEC, VM_READ, VM_WRITE, AnonVma, MmStruct, VmAreaStruct
from kmm.mm.mmap import anon_vma_lock_write, anon_vma_unlock_write, vma_start_write
from kmm.mm.pte import vm_get_page_prot
from kmm.mm.split_pmd import split_huge_pmd_address
from kmm.mm.vma_lock import vma_assert_write_locked, vma_mark_attached, vma_mark_detached


def vmas_of(mm: MmStruct) -> tuple[VmAreaStruct, ...]:
    """All of them, by address."""
    return current.machine.read(mm, MmStruct.vmas, PLAIN)


def vma_at(mm: MmStruct, address: int) -> VmAreaStruct | None:
    """The VMA that an address lies in."""
    return next((vma for vma in vmas_of(mm) if vma.vm_start <= address < vma.vm_end), None)


def vmas_in(mm: MmStruct, start: int, end: int) -> list[VmAreaStruct]:
    """The VMAs of which a part lies in [start, end) bytes."""
    return [vma for vma in vmas_of(mm) if vma.vm_start < end and start < vma.vm_end]


def vma_link(mm: MmStruct, new: VmAreaStruct) -> None:
    """Put a VMA into the tree, locked for writing. The mmap lock is held for writing."""
    lockdep_assert_held(mm.mmap_lock, "write")
    vma_start_write(new)
    vma_mark_attached(new)
    vmas = sorted((*vmas_of(mm), new), key=lambda vma: vma.vm_start)
    current.machine.write(mm, MmStruct.vmas, tuple(vmas), RELEASE)


def vma_unlink(mm: MmStruct, vma: VmAreaStruct) -> None:
    """Take a VMA out of the tree, when no reader has it. The mmap lock is held for writing. May sleep."""
    lockdep_assert_held(mm.mmap_lock, "write")
    vma_start_write(vma)
    vma_mark_detached(vma)
    left = tuple([each for each in vmas_of(mm) if each is not vma])
    current.machine.write(mm, MmStruct.vmas, left, RELEASE)


def vm_area_free(vma: VmAreaStruct, function: str) -> None:
    """Free a detached VMA. Its memory may be another VMA's at once, and nothing else before a grace period is over.

    :param function: name of the kernel function
    :source: mm/vma_init.c, v6.18
    """
    detached = not current.machine.read(vma, VmAreaStruct.vm_refcnt, ONCE)
    VM_WARN_ON_ONCE(not detached, "vma->vm_refcnt")
    current.machine.free(vma, function)


def split_vma(mm: MmStruct, vma: VmAreaStruct, address: int) -> tuple[VmAreaStruct, VmAreaStruct]:
    """Cut a VMA in two at a page; the old structure keeps the lower part. A huge entry across the cut becomes a table.

    :param vma: ``struct vm_area_struct *``
    :param address: inside of it
    :returns: both parts, by address
    """
    vma_start_write(vma)
    if address & ~HPAGE_PMD_MASK():
        split_huge_pmd_address(vma, address)
    pgoff = vma.vm_pgoff + (address - vma.vm_start) // PAGE_SIZE()
    upper = VmAreaStruct(mm, address, vma.vm_end, vma.vm_flags, vma.anon_vma, pgoff)
    vma_start_write(upper)
    with rmap_locked(vma.anon_vma):
        current.machine.write(vma, VmAreaStruct.vm_end, address, ONCE)
        vma_link(mm, upper)
        anon_vma_interval_tree_insert(upper)
    return vma, upper


@contextmanager
def rmap_locked(anon_vma: AnonVma | None) -> Iterator[None]:
    """Nobody looks through the reverse mapping meanwhile."""
    if anon_vma is not None:
        anon_vma_lock_write(anon_vma)
    yield
    if anon_vma is not None:
        anon_vma_unlock_write(anon_vma)


def unlink_anon_vmas(vma: VmAreaStruct) -> None:
    """The reverse mapping does not lead to a VMA any more. The mmap lock is held for writing.

    :source: mm/rmap.c, v6.18
    """
    with rmap_locked(vma.anon_vma):
        anon_vma_interval_tree_remove(vma)


def split_around(mm: MmStruct, vma: VmAreaStruct, start: int, end: int) -> VmAreaStruct:
    """The part of a VMA in [start, end) bytes, as a VMA of its own."""
    if vma.vm_start < start:
        vma = split_vma(mm, vma, start)[1]
    if end < vma.vm_end:
        vma = split_vma(mm, vma, end)[0]
    return vma


def vma_modify_flags(mm: MmStruct, vma: VmAreaStruct, start: int, end: int, new_flags: int) -> VmAreaStruct:
    """Give a part of a VMA other flags: cut it out, and merge it with neighbours that are now alike.

    The mmap lock is held for writing.

    :param vma: ``struct vm_area_struct *``
    :param start: first byte of the part
    :param new_flags: ``vm_flags_t``
    :returns: the VMA that has the part
    """
    part = split_around(mm, vma, start, end)
    vma_start_write(part)
    vma_assert_write_locked(part)
    current.machine.write(part, VmAreaStruct.vm_flags, new_flags, ONCE)
    vma_set_page_prot(part)
    return vma_merge(mm, part)


def vma_set_page_prot(vma: VmAreaStruct) -> None:
    """The page protection that the flags give."""
    flags = vma.vm_flags
    prot = vm_get_page_prot(accessible=bool(flags & (VM_READ | VM_WRITE | VM_EXEC)), executable=bool(flags & VM_EXEC))
    current.machine.write(vma, VmAreaStruct.vm_page_prot, prot, ONCE)


def vma_merge(mm: MmStruct, vma: VmAreaStruct) -> VmAreaStruct:
    """Merge a VMA with the one before it and the one behind it, as far as they are alike; the lower one stays."""
    vmas = vmas_of(mm)
    at = vmas.index(vma)
    if at + 1 < len(vmas) and _can_merge(vma, vmas[at + 1]):
        _merge(mm, vma, vmas[at + 1])
    if at and _can_merge(vmas[at - 1], vma):
        _merge(mm, vmas[at - 1], vma)
        return vmas[at - 1]
    return vma


def _can_merge(a: VmAreaStruct, b: VmAreaStruct) -> bool:
    """``can_vma_merge_before``: adjacent, alike, and in the reverse mapping one follows the other."""
    if a.vm_end != b.vm_start or a.vm_flags != b.vm_flags:
        return False
    if a.vm_pgoff + (a.vm_end - a.vm_start) // PAGE_SIZE() != b.vm_pgoff:
        return False
    return is_mergeable_anon_vma(a.anon_vma, b.anon_vma)


def is_mergeable_anon_vma(a: AnonVma | None, b: AnonVma | None) -> bool:
    """Two anon_vmas that one VMA could have: the same, or one of the two VMAs has none, and a fork gave the other no chain of several."""
    if a is None or b is None:
        either = a or b
        return either is None or either.root is either
    return a is b


def _merge(mm: MmStruct, a: VmAreaStruct, b: VmAreaStruct) -> None:
    vma_start_write(a)
    vma_start_write(b)
    with rmap_locked(a.anon_vma or b.anon_vma):
        current.machine.write(a, VmAreaStruct.vm_end, b.vm_end, ONCE)
        anon_vma_interval_tree_remove(b)
        if a.anon_vma is None and b.anon_vma is not None:
            current.machine.write(a, VmAreaStruct.anon_vma, b.anon_vma, PLAIN)
            anon_vma_interval_tree_insert(a)
    vma_unlink(mm, b)
    vm_area_free(b, "vma_merge")
