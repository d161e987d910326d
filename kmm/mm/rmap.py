"""Reverse mapping: mapcounts and who owns a folio (mm/rmap.c, linux/rmap.h)."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ONCE, PLAIN
from kmm.kernel.bug import VM_BUG_ON, VM_WARN_ON_ONCE
from kmm.mm import system
from kmm.mm.deferred_split import deferred_split_folio
from kmm.mm.folio import Folio, Page, PG_swapbacked, SetPageAnonExclusive, folio_set_flag, folio_test_locked, folio_test_partially_mapped
from kmm.mm.geometry import HPAGE_PMD_ORDER, PAGE_SIZE
from kmm.mm.mlock import mlock_vma_folio, munlock_vma_folio
from kmm.mm.mm_types import VM_DROPPABLE, VmAreaStruct
from kmm.mm.vmstat import mod_mthp_stat, node_stat_mod_folio

_mm_ids: Final = Folio.mm_ids
_folio_mapcount: Final = Folio.mapcount
_page_mapcount: Final = Page.mapcount
_entire_mapcount: Final = Folio.entire_mapcount


def _mm_ids_add(folio: Folio, mm_id: int, nr: int) -> None:
    """Let owner ``mm_id`` hold ``nr`` more (or fewer) mappings, as far as two slots can tell."""
    ids = current.machine.read(folio, _mm_ids, PLAIN)
    new = list(ids)
    for slot in (0, 2):
        if new[slot] == mm_id:
            new[slot + 1] += nr
            if not new[slot + 1]:
                new[slot] = 0
            break
    else:
        for slot in (0, 2):
            if not new[slot]:
                new[slot : slot + 2] = [mm_id, nr]
                break
    current.machine.write(folio, _mm_ids, new, PLAIN)


def linear_page_index(vma: VmAreaStruct, address: int) -> int:
    """Page index of an address, as the reverse mapping knows it."""
    return (address - vma.vm_start) // PAGE_SIZE() + vma.vm_pgoff


def page_number(address: int) -> int:
    """Pages from the start of the modelled range to an address."""
    return (address - system.this.base) // PAGE_SIZE()


def folio_add_new_anon_rmap(folio: Folio, vma: VmAreaStruct, address: int, *, exclusive: bool) -> None:
    """Map a folio for the first time. Plain stores: nobody else may see it yet.

    :param exclusive: RMAP_EXCLUSIVE; without it the folio must be locked
    """
    machine = current.machine
    nr = 1 << folio.order
    if not exclusive:
        VM_WARN_ON_ONCE(not folio_test_locked(folio), "!exclusive && !folio_test_locked(folio)")
    VM_BUG_ON(address < vma.vm_start or address + nr * PAGE_SIZE() > vma.vm_end, "address outside the vma")
    if not vma.vm_flags & VM_DROPPABLE:
        folio_set_flag(folio, PG_swapbacked)
    anon_vma = vma.anon_vma
    assert anon_vma is not None
    machine.write(folio, Folio.mapping, anon_vma if exclusive else anon_vma.root, PLAIN)
    machine.write(folio, Folio.index, linear_page_index(vma, address), PLAIN)
    mm_id = vma.vm_mm.ident
    folio.label = f"new@{mm_id}:{page_number(address)}"
    pmd_mapped = folio.order == HPAGE_PMD_ORDER()
    if pmd_mapped:
        machine.write(folio, _entire_mapcount, 1, PLAIN)
        machine.write(folio, _folio_mapcount, 1, PLAIN)
        _mm_ids_add(folio, mm_id, 1)
        SetPageAnonExclusive(folio.pages[0])
        node_stat_mod_folio(folio, "nr_anon_thps", 1)
    else:
        machine.write(folio, _folio_mapcount, nr, PLAIN)
        if folio.order:
            _mm_ids_add(folio, mm_id, nr)
        for page in folio.pages:
            if folio.order:
                machine.write(page, _page_mapcount, 1, PLAIN)
            if exclusive:
                SetPageAnonExclusive(page)
    node_stat_mod_folio(folio, "nr_anon_mapped", nr)
    mod_mthp_stat(folio.order, "nr_anon", 1)


def folio_add_anon_rmap_pte(folio: Folio, page: Page, vma: VmAreaStruct, address: int, *, exclusive: bool) -> None:
    """Map one page of a small folio once more."""
    if not current.machine.fetch_add(folio, _folio_mapcount, 1):
        node_stat_mod_folio(folio, "nr_anon_mapped", 1)
    if exclusive:
        SetPageAnonExclusive(page)
    mlock_vma_folio(folio, vma)


def folio_remove_rmap_ptes(folio: Folio, page: Page, nr: int, vma: VmAreaStruct) -> None:
    """Unmap ``nr`` consecutive pages from ``page`` on. References and mm counters are the caller's."""
    machine = current.machine
    if folio.order == 0:
        if machine.fetch_add(folio, _folio_mapcount, -1) == 1:
            node_stat_mod_folio(folio, "nr_anon_mapped", -1)
        munlock_vma_folio(folio, vma)
        return
    _mm_ids_add(folio, vma.vm_mm.ident, -nr)
    left = machine.fetch_add(folio, _folio_mapcount, -nr) - nr
    unmapped = 0
    for i in range(page.index, page.index + nr):
        if machine.fetch_add(folio.pages[i], _page_mapcount, -1) == 1 and not machine.read(folio, _entire_mapcount, ONCE):
            unmapped += 1
    node_stat_mod_folio(folio, "nr_anon_mapped", -unmapped)
    if unmapped and left and not folio_test_partially_mapped(folio):
        deferred_split_folio(folio, partially_mapped=True)
    munlock_vma_folio(folio, vma)
