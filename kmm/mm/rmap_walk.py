"""The reverse map: every VMA that may map a folio (mm/rmap.c, mm/ksm.c)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from kmm.kernel import current
from kmm.kernel.access import ONCE, PLAIN
from kmm.kernel.bug import VM_WARN_ON_ONCE
from kmm.kernel.locks import down_read, down_read_trylock, rcu_read_lock, rcu_read_unlock, up_read
from kmm.mm import system
from kmm.mm.folio import Folio, folio_mapped, folio_nr_pages, folio_test_locked
from kmm.mm.geometry import PAGE_SIZE
from kmm.mm.interval_tree import anon_vma_interval_tree_foreach
from kmm.mm.mm_types import AnonVma, MmStruct, VmAreaStruct
from kmm.mm.page_vma_mapped import PageVmaMappedWalk
from kmm.mm.pgtable import pmd_offset, pte_offset_map_ro_nolock, pte_unmap, ptep_get
from kmm.mm.pte import pte_pfn, pte_present

RmapOne: TypeAlias = Callable[[Folio, VmAreaStruct, int], bool]
"""What is done in each VMA: folio, vma, address of the folio's first page there; false ends the walk."""

_KSM: Final = "ksm"


def folio_test_ksm(folio: Folio) -> bool:
    """The folio is a merged page of KSM: it has a mapping that no VMA has."""
    mapping = current.machine.read(folio, Folio.mapping, ONCE)
    return mapping is not None and mapping.label == _KSM


def vma_address(vma: VmAreaStruct, pgoff: int, nr_pages: int) -> int | None:
    """Where the VMA has pages from ``pgoff`` on, which of ``nr_pages`` may be the first; ``None``: it has none of them."""
    start, first = vma.vm_start, vma.vm_pgoff
    if pgoff >= first:
        address = start + (pgoff - first) * PAGE_SIZE()
        return address if address < vma.vm_end else None
    return start if pgoff + nr_pages > first else None


def folio_vma_walk(folio: Folio, vma: VmAreaStruct, address: int, flags: int) -> PageVmaMappedWalk:
    """``DEFINE_FOLIO_VMA_WALK``.

    :param address: where the VMA has the folio's first page
    """
    if folio_test_ksm(folio):
        return PageVmaMappedWalk(folio, vma, address, address + PAGE_SIZE(), flags)
    pgoff = current.machine.read(folio, Folio.index, PLAIN) + folio_nr_pages(folio)
    end = vma.vm_start + (pgoff - vma.vm_pgoff) * PAGE_SIZE()
    return PageVmaMappedWalk(folio, vma, address, min(end, vma.vm_end), flags)


def folio_lock_anon_vma_read(folio: Folio, *, try_lock: bool = False) -> AnonVma | str:
    """Lock the anon_vma of a mapped folio for reading. May sleep, unless ``try_lock``.

    :returns: the anon_vma, ``"unmapped"``, or ``"contended"``
    """
    rcu_read_lock()
    anon_vma = current.machine.read(folio, Folio.mapping, ONCE)
    if anon_vma is None or anon_vma.label == _KSM or not folio_mapped(folio):
        rcu_read_unlock()
        return "unmapped"
    locked = down_read_trylock(anon_vma.rwsem)
    rcu_read_unlock()
    if not locked:
        if try_lock:
            return "contended"
        down_read(anon_vma.rwsem)
    if folio_mapped(folio):
        return anon_vma
    up_read(anon_vma.rwsem)
    return "unmapped"


def rmap_walk(folio: Folio, rmap_one: RmapOne, *, try_lock: bool = False) -> bool:
    """Call ``rmap_one`` for every VMA that may map the folio, until it gives false or nothing maps the folio any more. May sleep.

    The folio is locked.

    :returns: false when ``try_lock`` was asked for and the lock could not be had
    """
    if folio_test_ksm(folio):
        return _rmap_walk_ksm(folio, rmap_one, try_lock=try_lock)
    anon_vma = folio_lock_anon_vma_read(folio, try_lock=try_lock)
    if isinstance(anon_vma, str):
        return anon_vma != "contended"
    rmap_walk_locked(folio, anon_vma, rmap_one, done=_folio_not_mapped)
    up_read(anon_vma.rwsem)
    return True


def rmap_walk_unmapped(folio: Folio, rmap_one: RmapOne) -> None:
    """:func:`rmap_walk` to the end, for a folio that nothing may map: the caller keeps its anon_vma. May sleep."""
    if folio_test_ksm(folio):
        _rmap_walk_ksm(folio, rmap_one, try_lock=False)
        return
    anon_vma = current.machine.read(folio, Folio.mapping, ONCE)
    if anon_vma is None:
        return
    if not down_read_trylock(anon_vma.rwsem):
        down_read(anon_vma.rwsem)
    rmap_walk_locked(folio, anon_vma, rmap_one)
    up_read(anon_vma.rwsem)


def rmap_walk_locked(folio: Folio, anon_vma: AnonVma, rmap_one: RmapOne, done: Callable[[Folio], bool] | None = None) -> None:
    """:func:`rmap_walk` for somebody who holds the lock of the anon_vma."""
    VM_WARN_ON_ONCE(not folio_test_locked(folio), "!folio_test_locked(folio)")
    pgoff = current.machine.read(folio, Folio.index, PLAIN)
    for vma in anon_vma_interval_tree_foreach(anon_vma):
        address = vma_address(vma, pgoff, folio_nr_pages(folio))
        if address is None:
            continue
        if not rmap_one(folio, vma, address) or (done is not None and done(folio)):
            return


def _folio_not_mapped(folio: Folio) -> bool:
    return not folio_mapped(folio)


def _rmap_walk_ksm(folio: Folio, rmap_one: RmapOne, *, try_lock: bool) -> bool:
    """The model keeps no list of who maps a merged page: every page of every VMA is asked."""
    for mm in [each for each in system.this.mms if not each.freed_by]:
        for vma in current.machine.read(mm, MmStruct.vmas, ONCE):
            anon_vma = vma.anon_vma
            if anon_vma is None:
                continue
            if not down_read_trylock(anon_vma.rwsem):
                if try_lock:
                    return False
                down_read(anon_vma.rwsem)
            more = all(rmap_one(folio, vma, address) and folio_mapped(folio) for address in _mapped_at(folio, vma))
            up_read(anon_vma.rwsem)
            if not more:
                return True
    return True


def _mapped_at(folio: Folio, vma: VmAreaStruct) -> list[int]:
    return [address for address in range(vma.vm_start, vma.vm_end, PAGE_SIZE()) if _maps(vma.vm_mm, address, folio.pfn)]


def _maps(mm: MmStruct, address: int, pfn: int) -> bool:
    """A look without lock."""
    pmd = pmd_offset(mm, address)
    ptep = None if pmd is None else pte_offset_map_ro_nolock(mm, pmd, address)[0]
    if ptep is None:
        return False
    pte = ptep_get(ptep)
    pte_unmap(ptep)
    return pte_present(pte) and pte_pfn(pte) == pfn
