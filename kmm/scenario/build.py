"""From a scenario to a system at rest."""

from __future__ import annotations

from typing import Final

import attrs

from kmm.kernel.locks import SpinLock
from kmm.kernel.machine import Machine
from kmm.kernel.task import Task
from kmm.mm.folio import (
    Folio,
    PG_anon_exclusive,
    PG_locked,
    PG_lru,
    PG_partially_mapped,
    PG_referenced,
    PG_swapbacked,
    PG_swapcache,
    PG_uptodate,
)
from kmm.mm.memcontrol import MemCgroup
from kmm.mm.mm_types import (
    VM_EXEC,
    VM_HUGEPAGE,
    VM_NOHUGEPAGE,
    VM_READ,
    VM_UFFD_MISSING,
    VM_UFFD_WP,
    VM_WRITE,
    AnonVma,
    MmStruct,
    VmAreaStruct,
)
from kmm.mm.page_alloc import new_folio
from kmm.mm.pgtable import PmdPage, PtePage, mk_zero_pte
from kmm.mm.pte import KERNPG_TABLE, pfn_pmd, pfn_pte, pgprot_t, pmd_mkdirty, pmd_mkhuge, pmd_mkwrite, pte_t, swp_entry_to_pte
from kmm.mm.system import Injected, SwapSlot, Sysctl, System
from kmm.mm.variant import Variant
from kmm.scenario.model import DriverKind, Failure, Scenario, Tunables
from kmm.scenario.page import Kind, Lru, PageState

OWNER: Final = 1
DRIVER_CPU: Final = 0
OWNER_CPU: Final = 1
_TABLE_PFN: Final = 1 << 30
_FLAGS: Final = {
    "exec": VM_EXEC,
    "hugepage": VM_HUGEPAGE,
    "nohugepage": VM_NOHUGEPAGE,
    "read": VM_READ,
    "uffd_missing": VM_UFFD_MISSING,
    "uffd_wp": VM_UFFD_WP,
    "write": VM_WRITE,
}


@attrs.frozen
class World:
    """What a run starts from.

    :param task: the one that calls the collapse path
    :param somebody: holds the folio locks that the scenario gives to others
    """

    system: System
    mm: MmStruct
    vma: VmAreaStruct
    task: Task
    somebody: Task


def build(s: Scenario, variant: Variant) -> World:
    """Make the system that ``s`` describes.

    :param variant: the code under test
    """
    machine = _machine(s)
    this = System(machine, _sysctl(s.tunables), variant, _injected(s.failures), 16 * s.geometry.ptes * s.geometry.page_size)
    khugepaged = s.driver.kind is DriverKind.KHUGEPAGED or (s.driver.kind is DriverKind.DIRECT and s.driver.is_khugepaged)
    if khugepaged:
        task = Task("khugepaged", machine.cpus[DRIVER_CPU], 0)
    else:
        task = Task("madvise", machine.cpus[OWNER_CPU], OWNER)
    somebody = Task("somebody", machine.cpus[OWNER_CPU], 0, may_block=False)
    with this.running(task):
        mm, vma = _Builder(s, this, somebody, task.cpu.number).address_spaces()
    return World(this, mm, vma, task, somebody)


def _machine(s: Scenario) -> Machine:
    g, c = s.geometry, s.config
    return Machine(
        page_size=g.page_size,
        ptes=g.ptes,
        lru_batch=g.lru_batch,
        debug_vm=c.debug_vm,
        split_ptlocks=c.split_ptlocks,
        tlb=c.tlb,
        arch=c.arch,
        budget=100_000 + 2_000 * g.ptes,
    )


def _sysctl(t: Tunables) -> Sysctl:
    sysctl = Sysctl(t.max_ptes_none, t.max_ptes_swap, t.max_ptes_shared, t.enabled, defrag=t.defrag, shrink_underused=t.shrink_underused)
    for order, mode in enumerate(t.hugepages, 2):
        if mode == "always":
            sysctl._huge_anon_orders_always |= 1 << order
        elif mode == "madvise":
            sysctl._huge_anon_orders_madvise |= 1 << order
        elif mode == "inherit":
            sysctl._huge_anon_orders_inherit |= 1 << order
    return sysctl


_NOTHING: Final = Injected()


def _injected(failures: tuple[Failure, ...]) -> Injected:
    if not failures:
        return _NOTHING
    by_kind: dict[str, set[int]] = {}
    for f in failures:
        by_kind.setdefault(f.kind, set()).add(f.nth if f.page is None else f.page)
    return Injected(**{kind: frozenset(values) for kind, values in by_kind.items()})


def _present_bits(page: PageState, prot: int) -> int:
    bits = prot & ~0x20
    return bits | 0x20 * page.young | 0x40 * page.dirty | 0x2 * page.write | 0x400 * page.uffd_wp | 0x800 * page.soft_dirty


class _Builder:
    """Fills a system while it is nobody's yet: writes to storage directly."""

    def __init__(self, s: Scenario, this: System, somebody: Task, cpu: int) -> None:
        self.s = s
        self.this = this
        self.somebody = somebody
        self.cpu = cpu
        self.memcg = MemCgroup("memcg")
        self.root = AnonVma("anon_vma")
        self.large: dict[tuple[int, int], Folio] = {}

    def address_spaces(self) -> tuple[MmStruct, VmAreaStruct]:
        """The owner's, and those of the siblings that map its pages."""
        s, this = self.s, self.this
        vma = s.vmas[0]
        alphabet = s.alphabet()
        mm, area, table = self._mm(OWNER, self.root if vma.anon_vma else None)
        letters = set(vma.pages)
        others = range(OWNER + 1, OWNER + 1 + max(alphabet[c].mapped_by for c in letters))
        siblings = [self._mm(ident, AnonVma(f"anon_vma{ident}", self.root)) for ident in others]
        if s.pmd == "huge":
            self._huge(mm, area)
        elif table is not None:
            self._pages(mm, area, table, alphabet, [t for _, _, t in siblings if t is not None], [m for m, _, _ in siblings])
        for ident_mm in this.mms:
            for index in range(s.geometry.ptes):
                this.shadow.setdefault((ident_mm.ident, index), 0)
        return mm, area

    def _mm(self, ident: int, anon_vma: AnonVma | None) -> tuple[MmStruct, VmAreaStruct, PtePage | None]:
        s, this = self.s, self.this
        mm = MmStruct(ident, self.memcg)
        flags = 0
        for name in s.vmas[0].flags:
            flags |= _FLAGS[name]
        area = VmAreaStruct(mm, this.base, this.base + s.geometry.ptes * s.geometry.page_size, flags, anon_vma)
        mm._vmas = (area,)
        this.mms.append(mm)
        if s.pmd == "absent":
            return mm, area, None
        page = PmdPage(SpinLock("pmd_lock"))
        mm._pmds = [page]
        if s.pmd == "none":
            return mm, area, None
        table = PtePage(f"table{ident}", _TABLE_PFN + ident, s.geometry.ptes, SpinLock("pte_lock"))
        this.tables[table.pfn] = table
        mm._pgtables_bytes = s.geometry.page_size
        if s.pmd == "huge":
            page._deposited = (table,)
        else:
            page.slot._val = pfn_pmd(table.pfn, KERNPG_TABLE)
        return mm, area, table

    def _huge(self, mm: MmStruct, area: VmAreaStruct) -> None:
        this, nr = self.this, self.s.geometry.ptes
        folio = self._folio("page 0", self.s.geometry.pmd_order, 0)
        folio._flags |= PG_lru
        folio._mapcount = folio._entire_mapcount = folio._refcount = 1
        folio._mm_ids = [OWNER, 1, 0, 0]
        folio.pages[0]._flags = PG_anon_exclusive
        entry = pmd_mkdirty(pmd_mkhuge(pfn_pmd(folio.pfn, area._vm_page_prot)))
        if area._vm_flags & VM_WRITE:
            entry = pmd_mkwrite(entry)
        slot = mm._pmds[0]
        if slot is not None:
            slot.slot._val = entry
        for index, page in enumerate(folio.pages):
            page._contents = index + 1
            page.ptc_count = 1
            this.shadow[OWNER, index] = index + 1
        mm._rss_stat[0] = nr
        this.node_stat.update(nr_anon_mapped=nr, nr_anon_thps=1)

    def _folio(self, label: str, order: int, nid: int) -> Folio:
        folio = new_folio(label, order, nid)
        folio._flags = PG_uptodate | PG_swapbacked
        folio._mapping = self.root
        folio._memcg = self.memcg
        folio._refcount = 0
        self.memcg._usage += 1 << order
        if order >= 2:
            stats = self.this.mthp_stats
            stats[order, "nr_anon"] = stats.get((order, "nr_anon"), 0) + 1
        return folio

    def _pages(
        self,
        mm: MmStruct,
        area: VmAreaStruct,
        table: PtePage,
        alphabet: dict[str, PageState],
        sibling_tables: list[PtePage],
        siblings: list[MmStruct],
    ) -> None:
        this = self.this
        entries = table._entries
        prot = area._vm_page_prot
        size = self.s.geometry.page_size
        tlb = this.machine.cpus[OWNER_CPU].tlb.setdefault(OWNER, {})
        zero = mk_zero_pte(prot)
        bits = {c: _present_bits(alphabet[c], prot) for c in set(self.s.vmas[0].pages)}
        present = swapped = 0
        for index, letter in enumerate(self.s.vmas[0].pages):
            page = alphabet[letter]
            kind = page.kind
            if kind is Kind.PRESENT:
                entries[index] = entry = self._present(index, page, bits[letter], sibling_tables)
                this.shadow[OWNER, index] = index + 1
                present += 1
                if page.young:
                    tlb[this.base + index * size] = entry
                for other in siblings[: page.mapped_by]:
                    other._rss_stat[0] += 1
                    this.shadow[other.ident, index] = index + 1
            elif kind is Kind.SWAP:
                entries[index] = self._swapped(index, page, sibling_tables)
                this.shadow[OWNER, index] = index + 1
                swapped += 1
                for other in siblings[: page.mapped_by]:
                    other._rss_stat[1] += 1
                    this.shadow[other.ident, index] = index + 1
            elif kind is Kind.ZERO:
                entries[index] = entry = pte_t(zero if page.young else zero & ~0x20)
                if page.young:
                    tlb[this.base + index * size] = entry
        mm._rss_stat[:] = [present, swapped]
        for folio in self.large.values():
            self._finish_large(folio)
        mapped = sum(_mapped_pages(f) if f.order else f._mapcount > 0 for f in this.folios)
        this.node_stat["nr_anon_mapped"] = mapped

    def _present(self, index: int, page: PageState, bits: int, sibling_tables: list[PtePage]) -> pte_t:
        order = page.order
        new = True
        if order:
            key = order, index >> order
            found = self.large.get(key)
            new = found is None
            folio = self._folio(f"page {index}", order, page.node) if found is None else found
            self.large[key] = folio
            sub = folio.pages[index & ((1 << order) - 1)]
            sub._mapcount = 1 + page.mapped_by
            ids = folio._mm_ids
            ids[0], ids[1] = OWNER, ids[1] + 1
            if page.mapped_by:
                ids[2], ids[3] = OWNER + 1, ids[3] + 1
        else:
            folio = self._folio(f"page {index}", 0, page.node)
            sub = folio.pages[0]
        maps = 1 + page.mapped_by
        folio._mapcount += maps
        folio._refcount += maps
        sub._contents = index + 1
        sub.ptc_count = maps
        if page.exclusive:
            sub._flags = PG_anon_exclusive
        if new:
            self._folio_state(folio, index, page)
        pte = pfn_pte(sub.pfn, pgprot_t(bits))
        for sibling in sibling_tables[: page.mapped_by]:
            sibling._entries[index] = pte_t(pte & ~0x2)
        return pte

    def _folio_state(self, folio: Folio, index: int, page: PageState) -> None:
        this = self.this
        flags = folio._flags
        folio._index = index & -(1 << page.order)
        if page.lru is Lru.LIST:
            flags |= PG_lru
        elif page.lru is Lru.BATCH:
            batch = this.lru_add[self.cpu]
            if len(batch) < this.machine.lru_batch - 1:
                batch.append(folio)
                folio._refcount += 1
            else:
                flags |= PG_lru
        if page.locked:
            flags |= PG_locked
            folio.lock_owner = self.somebody
        if page.referenced:
            flags |= PG_referenced
        if page.swapcache:
            flags |= PG_swapcache
            folio._swap = index + 1
            folio._refcount += 1
            this.swap[index + 1] = SwapSlot(0, folio, index + 1)
        if page.pins:
            folio._refcount += page.pins
            this.pins[folio.pfn] = page.pins
        folio._flags = flags

    def _swapped(self, index: int, page: PageState, sibling_tables: list[PtePage]) -> pte_t:
        offset = index + 1
        slot = SwapSlot(1 + page.mapped_by, None, index + 1)
        self.this.swap[offset] = slot
        if page.swapcache:
            folio = self._folio(f"page {index}", 0, 0)
            folio._flags |= PG_lru | PG_swapcache
            folio._refcount = 1
            folio._swap = offset
            folio._index = index
            folio.pages[0]._contents = index + 1
            slot.folio = folio
        pte = swp_entry_to_pte(offset, exclusive=page.exclusive, uffd_wp=page.uffd_wp, soft_dirty=page.soft_dirty)
        for sibling in sibling_tables[: page.mapped_by]:
            sibling._entries[index] = pte
        return pte

    def _finish_large(self, folio: Folio) -> None:
        """A folio of which only some pages are mapped is known to be so."""
        if _mapped_pages(folio) < 1 << folio.order:
            folio._flags |= PG_partially_mapped
            self.this.deferred_split.append(folio)
            stats = self.this.mthp_stats
            key = folio.order, "nr_anon_partially_mapped"
            stats[key] = stats.get(key, 0) + 1


def _mapped_pages(folio: Folio) -> int:
    return sum(1 for page in folio.pages if page._mapcount)
