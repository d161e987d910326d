"""The VMAs that an anon_vma knows (mm/interval_tree.c, and the chains of mm/rmap.c).

One tree stands for those of a root and of all forks of it, which share a lock: it changes under that lock held for writing, and is walked
under it. VMAs of one address space are in the order of their page index, and of two with the same one the older one comes first: what moves
from it to the younger one meanwhile is found there.
"""

from __future__ import annotations

from collections.abc import Iterator

from kmm.kernel import current
from kmm.kernel.access import PLAIN
from kmm.kernel.locks import lockdep_assert_held
from kmm.mm.mm_types import AnonVma, VmAreaStruct


def anon_vma_interval_tree_insert(vma: VmAreaStruct) -> None:
    """Let the anon_vma of a VMA know the VMA, and those that it was forked from, too."""
    anon_vma = vma.anon_vma
    if anon_vma is None:
        return
    lockdep_assert_held(anon_vma.rwsem, "write")
    _set(anon_vma.root, tuple(sorted((*anon_vma.root.rb_root, vma), key=_place)))


def anon_vma_interval_tree_remove(vma: VmAreaStruct) -> None:
    """End that."""
    anon_vma = vma.anon_vma
    if anon_vma is None:
        return
    lockdep_assert_held(anon_vma.rwsem, "write")
    _set(anon_vma.root, tuple([each for each in anon_vma.root.rb_root if each is not vma]))


def anon_vma_interval_tree_foreach(anon_vma: AnonVma) -> Iterator[VmAreaStruct]:
    """The VMAs that an anon_vma knows: its own, and those of the forks of it."""
    for vma in anon_vma.root.rb_root:
        if _descends(vma.anon_vma, anon_vma):
            yield vma


def _set(root: AnonVma, vmas: tuple[VmAreaStruct, ...]) -> None:
    current.machine.write(root, AnonVma.rb_root, vmas, PLAIN)


def _place(vma: VmAreaStruct) -> tuple[int, int]:
    return vma.vm_mm.ident, vma.vm_pgoff


def _descends(anon_vma: AnonVma | None, ancestor: AnonVma) -> bool:
    while anon_vma is not None:
        if anon_vma is ancestor:
            return True
        if anon_vma.parent is anon_vma:
            return False
        anon_vma = anon_vma.parent
    return False
