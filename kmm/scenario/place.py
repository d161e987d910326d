"""From letters to entries, and to the folios and swap slots behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kmm.kernel.task import Task
from kmm.mm.folio import (
    Folio,
    Page,
    PG_anon_exclusive,
    PG_locked,
    PG_lru,
    PG_mlocked,
    PG_partially_mapped,
    PG_referenced,
    PG_swapbacked,
    PG_swapcache,
    PG_unevictable,
    PG_uptodate,
)
from kmm.mm.memcontrol import MemCgroup
from kmm.mm.mm_types import VM_WRITE, AnonVma, MmStruct, VmAreaStruct
from kmm.mm.page_alloc import new_folio
from kmm.mm.pgtable import PtePage, mk_zero_pte
from kmm.mm.pte import (
    PTE_MARKER_GUARD,
    PTE_MARKER_POISONED,
    PTE_MARKER_UFFD_WP,
    SWP_DEVICE_READ,
    SWP_DEVICE_WRITE,
    SWP_HWPOISON,
    SWP_MIGRATION_READ,
    SWP_MIGRATION_READ_EXCLUSIVE,
    SWP_MIGRATION_WRITE,
    make_migration_entry,
    make_pmd_migration_entry,
    make_pte_marker,
    make_special_entry,
    pfn_pmd,
    pfn_pte,
    pgprot_t,
    pmd_mkdirty,
    pmd_mkhuge,
    pmd_mkwrite,
    pte_mkprotnone,
    pte_mkspecial,
    pte_t,
    swp_entry_to_pte,
)
from kmm.mm.system import SIGBUS, SwapSlot, System
from kmm.scenario.page import Kind, Lru, PageState

OWNER: Final = 1
DRIVER_CPU: Final = 0
OWNER_CPU: Final = 1
SIGSEGV: Final = -3
"""Tokens of the shadow memory: what a user gets instead of contents."""

IO_PFN: Final = 1 << 36
"""First of the frames that have no folio."""

_MARKERS: Final = {
    Kind.GUARD_MARKER: (PTE_MARKER_GUARD, SIGSEGV),
    Kind.POISON_MARKER: (PTE_MARKER_POISONED, SIGBUS),
    Kind.UFFD_WP_MARKER: (PTE_MARKER_UFFD_WP, 0),
}


def token_of(contents: int) -> int:
    """Contents that a letter spells out: no page has them without that, but for zeros."""
    return contents and 1 << 38 | contents


class Frames:
    """Makes the folios of one process, charged to ``memcg``, and knows the tasks that hold some.

    :param ident: number of the process
    :param root: its anon_vma
    :param somebody: holds the folio locks that the scenario gives to others
    :param cpu: whose LRU batch the scenario's is

    ``migrator`` is the task that migrates pages.
    """

    def __init__(self, this: System, ident: int, memcg: MemCgroup, root: AnonVma, somebody: Task, cpu: int) -> None:
        self.migrator = Task("migrator", this.machine.cpus[OWNER_CPU], 0)
        self.this = this
        self.memcg = memcg
        self.root = root
        self.somebody = somebody
        self.cpu = cpu
        self.salt = 0 if ident == OWNER else ident << 24
        self.whose = "" if ident == OWNER else f" of mm{ident}"

    def token(self, index: int) -> int:
        """Contents of a page at the start, and number of its swap slot: no other page of any process has the same."""
        return self.salt + index + 1

    def folio(self, index: int, order: int, nid: int) -> Folio:
        """An anonymous folio without references.

        :param index: of the page that names it
        """
        folio = new_folio(f"page {index}{self.whose}", order, nid)
        folio._flags = PG_uptodate | PG_swapbacked
        folio._mapping = self.root
        folio._memcg = self.memcg
        folio._refcount = 0
        self.memcg._usage += 1 << order
        if order >= 2:
            stats = self.this.mthp_stats
            stats[order, "nr_anon"] = stats.get((order, "nr_anon"), 0) + 1
        return folio

    def migrate(self, folio: Folio) -> None:
        """Somebody has isolated, locked and unmapped the folio to migrate it."""
        folio._refcount += 1
        folio._flags |= PG_locked
        folio.lock_owner = self.migrator
        self.this.migrations._under_way[folio.pfn] = self.migrator
        self.count("nr_isolated_anon", 1 << folio.order)

    def count(self, name: str, delta: int) -> None:
        """Add to a node counter."""
        stat = self.this.node_stat
        stat[name] = stat.get(name, 0) + delta


def place_huge(frames: Frames, mm: MmStruct, area: VmAreaStruct, number: int, *, migrating: bool) -> None:
    """One huge page in place of a table; ``migrating``: somebody has unmapped it to migrate it.

    :param number: of the range
    """
    this = frames.this
    nr = this.machine.ptes
    first = number * nr
    folio = frames.folio(first, this.machine.pmd_order, 0)
    folio._index = first
    page = mm._pmds[number]
    assert page is not None
    for index, each in enumerate(folio.pages, first):
        each._contents = this.shadow[mm.ident, index] = frames.token(index)
    mm._rss_stat[0] += nr
    if migrating:
        frames.migrate(folio)
        page.slot._val = make_pmd_migration_entry(folio.pfn)
        return
    folio._flags |= PG_lru
    folio._mapcount = folio._entire_mapcount = folio._refcount = 1
    folio._mm_ids = [mm.ident, 1, 0, 0]
    folio.pages[0]._flags = PG_anon_exclusive
    entry = pmd_mkdirty(pmd_mkhuge(pfn_pmd(folio.pfn, area._vm_page_prot)))
    page.slot._val = pmd_mkwrite(entry) if area._vm_flags & VM_WRITE else entry
    for each in folio.pages:
        each.ptc_count = 1
    frames.count("nr_anon_thps", 1)


def _present_bits(page: PageState, prot: int) -> int:
    bits = prot & ~0x20
    bits |= 0x20 * page.young | 0x40 * page.dirty | 0x2 * page.write | 0x400 * page.uffd_wp | 0x800 * page.soft_dirty
    return pte_mkprotnone(pte_t(bits)) if page.prot_none else bits


class Placing:
    """Fills the tables of one process, and those of the siblings that map its pages."""

    def __init__(self, frames: Frames, mm: MmStruct, siblings: list[MmStruct]) -> None:
        self.frames = frames
        self.this = frames.this
        self.mm = mm
        self.siblings = siblings
        self.large: dict[tuple[int, int], Folio] = {}
        self.merged: dict[str, Folio] = {}
        self.young: set[int] = set()

    def place(self, pages: str, first: int, alphabet: Mapping[str, PageState], area: VmAreaStruct, tables: list[PtePage]) -> None:
        """Fill the entries that one VMA has in one table.

        :param first: index of its first page there
        :param tables: the process's and those of the siblings
        """
        this, ident, shadow = self.this, self.mm.ident, self.this.shadow
        base, size, prot = this.base, this.machine.page_size, area._vm_page_prot
        origin = first & -this.machine.ptes
        entries = tables[0]._entries
        self.others = [table._entries for table in tables[1:]]
        self.origin = origin
        tlb = this.machine.cpus[OWNER_CPU]._tlb.setdefault(ident, {})
        bits = {c: _present_bits(alphabet[c], prot) for c in set(pages)}
        present = swapped = 0
        for index, letter in enumerate(pages, first):
            page = alphabet[letter]
            kind = page.kind
            if kind is Kind.NONE:
                continue
            if kind is Kind.PRESENT or kind is Kind.DEVICE:
                entries[index - origin], token = entry, _ = self._present(index, letter, page, bits[letter])
                shadow[ident, index] = token
                present += 1
                if page.young and entry & 1:
                    tlb[base + index * size] = entry
                for other in self.siblings[: page.mapped_by]:
                    other._rss_stat[0] += 1
                    shadow[other.ident, index] = token
                if page.secondary_young:
                    self.young.add(base + index * size)
            elif kind is Kind.ZERO:
                entries[index - origin] = entry = self._zero(page, prot)
                if page.young and entry & 1:
                    tlb[base + index * size] = entry
            elif kind is Kind.SWAP:
                entries[index - origin] = self._swapped(index, page)
                swapped += 1
                self._say(index, page, 1)
            elif kind in (Kind.MIGRATION, Kind.DEVICE_PRIVATE):
                entries[index - origin] = self._migrating(index, page) if kind is Kind.MIGRATION else self._device_private(index, page)
                present += 1
                self._say(index, page, 0)
            else:
                entries[index - origin] = self._odd(index, kind, prot)
        self.mm._rss_stat[0] += present
        self.mm._rss_stat[1] += swapped

    def _say(self, index: int, page: PageState, counter: int) -> None:
        """What the owner and the siblings read there; the siblings' counters."""
        token = self.frames.token(index)
        self.this.shadow[self.mm.ident, index] = token
        for other in self.siblings[: page.mapped_by]:
            other._rss_stat[counter] += 1
            self.this.shadow[other.ident, index] = token

    def _zero(self, page: PageState, prot: pgprot_t) -> pte_t:
        entry = mk_zero_pte(prot)
        if not page.young:
            entry = pte_t(entry & ~0x20)
        if page.dirty:
            entry = pte_t(entry | 0x40)
            self.frames.count("ksm_zero_pages", 1)
            self.mm._ksm_zero_pages += 1
        return entry

    def _present(self, index: int, letter: str, page: PageState, bits: int) -> tuple[pte_t, int]:
        """The entry, and the token of what is read there."""
        maps = 1 + page.mapped_by
        folio, sub, new = self._found(index, letter, page)
        folio._mapcount += maps
        folio._refcount += maps
        if page.order:
            sub._mapcount = maps
            ids = folio._mm_ids
            ids[0], ids[1] = self.mm.ident, ids[1] + 1
            if page.mapped_by:
                ids[2], ids[3] = self.siblings[0].ident, ids[3] + 1
        sub.ptc_count += maps
        if new or page.order:
            sub._contents = self.frames.token(index) if page.contents is None else token_of(page.contents)
        if page.exclusive:
            sub._flags = PG_anon_exclusive
        if new:
            self._folio_state(folio, index, page)
        if page.lazyfree and not page.dirty:
            for mm in (self.mm, *self.siblings[: page.mapped_by]):
                self.this.lazyfree[mm.ident, index] = sub._contents
        pte = pfn_pte(sub.pfn, pgprot_t(bits))
        for entries in self.others[: page.mapped_by]:
            entries[index - self.origin] = pte_t(pte & ~0x2)
        return pte, sub._contents

    def _found(self, index: int, letter: str, page: PageState) -> tuple[Folio, Page, bool]:
        """The folio behind an entry, its page, and whether nothing mapped it before."""
        order = page.order
        if order:
            key = order, index >> order
            found = self.large.get(key)
            folio = self.large[key] = self.frames.folio(index, order, page.node) if found is None else found
            return folio, folio.pages[index & ((1 << order) - 1)], found is None
        if page.ksm:
            found = self.merged.get(letter)
            folio = self.merged[letter] = self.frames.folio(index, 0, page.node) if found is None else found
            return folio, folio.pages[0], found is None
        folio = self.frames.folio(index, 0, page.node)
        return folio, folio.pages[0], True

    def _folio_state(self, folio: Folio, index: int, page: PageState) -> None:
        this = self.this
        flags = folio._flags
        folio._index = index & -(1 << page.order)
        if page.kind is Kind.DEVICE:
            folio.zone_device = True
        elif page.lru is Lru.LIST:
            flags |= PG_lru
        elif page.lru is Lru.BATCH:
            cpu = this.per_cpu[self.frames.cpu]
            if len(cpu._lru_add) < this.machine.lru_batch - 1:
                cpu._lru_add = (*cpu._lru_add, folio)
                folio._refcount += 1
            else:
                flags |= PG_lru
        if page.locked:
            flags |= PG_locked
            folio.lock_owner = self.frames.somebody
        if page.referenced:
            flags |= PG_referenced
        if page.swapcache:
            flags |= PG_swapcache
            folio._refcount += 1
            folio._swap = slot = self.frames.token(index)
            this.swap[slot] = SwapSlot(slot, 0, folio, slot)
        if page.pins:
            folio._refcount += page.pins
            folio._pincount = page.pins
        if page.lazyfree:
            flags &= ~PG_swapbacked
        if page.mlocked:
            flags |= PG_mlocked | PG_unevictable
            folio._mlock_count = 1
            self.frames.count("nr_mlock", 1 << page.order)
        if page.ksm:
            folio._mapping = this.ksm.stable_node
            this.ksm._stable_tree = (*this.ksm._stable_tree, folio)
        folio._flags = flags

    def _swapped(self, index: int, page: PageState) -> pte_t:
        offset = self.frames.token(index)
        slot = SwapSlot(offset, 1 + page.mapped_by, None, offset)
        self.this.swap[offset] = slot
        if page.swapcache:
            folio = self._unmapped(index, 0)
            folio._flags |= PG_lru | PG_swapcache
            folio._refcount = 1
            folio._swap = offset
            slot._cached = folio
        pte = swp_entry_to_pte(offset, exclusive=page.exclusive, uffd_wp=page.uffd_wp, soft_dirty=page.soft_dirty)
        for entries in self.others[: page.mapped_by]:
            entries[index - self.origin] = pte
        return pte

    def _unmapped(self, index: int, node: int) -> Folio:
        """A folio that no entry maps, with the contents that belong there."""
        folio = self.frames.folio(index, 0, node)
        folio._index = index
        folio.pages[0]._contents = self.frames.token(index)
        return folio

    def _migrating(self, index: int, page: PageState) -> pte_t:
        folio = self._unmapped(index, page.node)
        self.frames.migrate(folio)
        kind = SWP_MIGRATION_WRITE if page.write else SWP_MIGRATION_READ_EXCLUSIVE if page.exclusive else SWP_MIGRATION_READ
        pte = make_migration_entry(folio.pfn, kind, young=page.young, dirty=page.dirty, uffd_wp=page.uffd_wp, soft_dirty=page.soft_dirty)
        for entries in self.others[: page.mapped_by]:
            entries[index - self.origin] = pte
        return pte

    def _device_private(self, index: int, page: PageState) -> pte_t:
        folio = self._unmapped(index, 0)
        folio.zone_device = True
        folio._refcount = folio._mapcount = 1
        if page.exclusive:
            folio.pages[0]._flags = PG_anon_exclusive
        kind = SWP_DEVICE_WRITE if page.write else SWP_DEVICE_READ
        return make_special_entry(kind, folio.pfn, uffd_wp=page.uffd_wp, soft_dirty=page.soft_dirty)

    def _odd(self, index: int, kind: Kind, prot: pgprot_t) -> pte_t:
        """A marker, a poisoned page, or a frame without folio."""
        if kind in _MARKERS:
            marker, token = _MARKERS[kind]
            self.this.shadow[self.mm.ident, index] = token
            return make_pte_marker(marker)
        if kind is Kind.SPECIAL:
            self.this.shadow[self.mm.ident, index] = IO_PFN + index
            return pte_mkspecial(pfn_pte(IO_PFN + index, prot))
        folio = self._unmapped(index, 0)
        folio._refcount = folio._pincount = 1
        self.this.shadow[self.mm.ident, index] = SIGBUS
        return make_special_entry(SWP_HWPOISON, folio.pfn)

    def finish(self) -> None:
        """What is known only when every page is in place."""
        this = self.this
        for folio in self.large.values():
            if _mapped_pages(folio) < 1 << folio.order:
                folio._flags |= PG_partially_mapped
                folio._deferred_list = True
                this.deferred_split._split_queue = (*this.deferred_split._split_queue, folio)
                key = folio.order, "nr_anon_partially_mapped"
                this.mthp_stats[key] = this.mthp_stats.get(key, 0) + 1
        self.mm._secondary_young = frozenset(self.young)
        self.mm.has_notifiers = bool(self.young)


def count_mapped(this: System) -> None:
    """The node's counter of mapped anonymous pages."""
    this.node_stat["nr_anon_mapped"] = sum(_mapped_pages(f) if f.order else f._mapcount > 0 for f in this.folios)


def _mapped_pages(folio: Folio) -> int:
    if folio._entire_mapcount:
        return 1 << folio.order
    return sum(1 for page in folio.pages if page._mapcount)
