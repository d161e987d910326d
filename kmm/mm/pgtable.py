"""Page tables: tables, slots, pointers into them, and how they are mapped and locked (mm/pgtable-generic.c, linux/pgtable.h)."""

from __future__ import annotations

from typing import Final

from kmm.kernel import current
from kmm.kernel.access import ONCE, PLAIN, Field, Shared
from kmm.kernel.barrier import smp_call_function, smp_wmb
from kmm.kernel.bug import VM_BUG_ON
from kmm.kernel.locks import SpinLock, lockdep_assert_held, rcu_read_lock, rcu_read_unlock, spin_lock, spin_unlock
from kmm.mm import page_table_check, system
from kmm.mm.geometry import HPAGE_PMD_MASK, HPAGE_PMD_SIZE
from kmm.mm.mm_types import MmStruct, VmAreaStruct
from kmm.mm.pte import (
    KERNPG_TABLE,
    PMD_NONE,
    PTE_NONE,
    ZERO_PFN,
    pfn_pmd,
    pfn_pte,
    pgprot_t,
    pmd_bad,
    pmd_none,
    pmd_pfn,
    pmd_present,
    pmd_t,
    pmd_trans_huge,
    pte_mkspecial,
    pte_next_pfn,
    pte_t,
)
from kmm.mm.tlb import flush_everywhere


class PtePage(Shared):
    """A page of PTEs and its lock.

    :param pfn: its frame
    :param ptes: its entries
    """

    __slots__ = ("_entries", "label", "maker", "pfn", "ptl")

    entries: Field[list[pte_t]] = Field()

    def __init__(self, label: str, pfn: int, ptes: int, ptl: SpinLock) -> None:
        self.freed_by = ""
        self.label = label
        self.maker = ""
        self.pfn = pfn
        self.ptl = ptl
        self._entries = [PTE_NONE] * ptes

    @property
    def name(self) -> str:
        """The label; where several tasks run, which may make a table for the same place, the maker, too."""
        return self.label + self.maker


_entries: Final = PtePage.entries


class MappedPtePage(PtePage):
    """The kernel address of a page table that lies in high memory, from its mapping to its unmapping."""

    __slots__ = ()

    def __init__(self, table: PtePage) -> None:
        self.freed_by = table.freed_by
        self.label = table.label
        self.maker = table.maker
        self.pfn = table.pfn
        self.ptl = table.ptl
        self._entries = table.entries

    @property
    def name(self) -> str:
        """The table's label."""
        return f"the mapping of {self.label}"


class PmdSlot(Shared):
    """A place that holds a PMD entry: ``pmd_t *`` is a reference to one, ``&_pmd`` too.

    :param value: its entry
    :param label: ``pmd``, or the name of the variable on the stack
    """

    __slots__ = ("_val", "label", "page")

    val: Field[pmd_t] = Field()

    def __init__(self, value: pmd_t, label: str = "_pmd", page: PmdPage | None = None) -> None:
        self.freed_by = ""
        self.label = label
        self.page = page
        self._val = value

    @property
    def name(self) -> str:
        """The label."""
        return self.label


_val: Final = PmdSlot.val


class PmdPage(Shared):
    """A page of PMD entries; the model has one entry a page.

    :param ptl: its lock
    :param label: of its entry
    """

    __slots__ = ("_deposited", "ptl", "slot")

    deposited: Field[tuple[PtePage, ...]] = Field()

    def __init__(self, ptl: SpinLock, label: str = "pmd") -> None:
        self.freed_by = ""
        self.ptl = ptl
        self.slot = PmdSlot(PMD_NONE, label, self)
        self._deposited: tuple[PtePage, ...] = ()

    @property
    def name(self) -> str:
        """By its entry."""
        return f"page of {self.slot.label}"


class PtePtr:
    """``pte_t *``: an entry of a table."""

    __slots__ = ("index", "table")

    def __init__(self, table: PtePage, index: int) -> None:
        self.table = table
        self.index = index

    def __add__(self, n: int) -> PtePtr:
        return PtePtr(self.table, self.index + n)

    def __sub__(self, n: int) -> PtePtr:
        return PtePtr(self.table, self.index - n)


def ptep_get(ptep: PtePtr) -> pte_t:
    """Read an entry."""
    return current.machine.read_item(ptep.table, _entries, ptep.index, ONCE)


ptep_get_lockless = ptep_get


def set_pte(ptep: PtePtr, pte: pte_t) -> None:
    """Store an entry."""
    current.machine.write_item(ptep.table, _entries, ptep.index, pte, ONCE)


def set_ptes(mm: MmStruct, addr: int, ptep: PtePtr, pte: pte_t, nr: int) -> None:
    """Store ``nr`` entries with increasing frames. No references, no rmap."""
    for i in range(nr):
        entry = ptep + i
        page_table_check.pte_clear(ptep_get(entry))
        page_table_check.pte_set(pte)
        set_pte(entry, pte)
        pte = pte_next_pfn(pte)


def set_pte_at(mm: MmStruct, addr: int, ptep: PtePtr, pte: pte_t) -> None:
    """Store one entry."""
    set_ptes(mm, addr, ptep, pte, 1)


def ptep_get_and_clear(mm: MmStruct, addr: int, ptep: PtePtr) -> pte_t:
    """Replace an entry by none; the value is the old one."""
    old = current.machine.rmw_item(ptep.table, _entries, ptep.index, _none, ONCE)
    page_table_check.pte_clear(old)
    return old


def _none(_: pte_t) -> pte_t:
    return PTE_NONE


def pte_clear(mm: MmStruct, addr: int, ptep: PtePtr) -> None:
    """Store none. The table's lock is held."""
    clear_ptes(mm, addr, ptep, 1)


def clear_ptes(mm: MmStruct, addr: int, ptep: PtePtr, nr: int) -> None:
    """Store none ``nr`` times. The table's lock is held."""
    lockdep_assert_held(pte_lockptr(mm, ptep.table))
    for i in range(nr):
        ptep_get_and_clear(mm, addr, ptep + i)


def mk_zero_pte(prot: pgprot_t) -> pte_t:
    """An entry that maps the zero page."""
    return pte_mkspecial(pfn_pte(ZERO_PFN, prot))


def pmdp_get(pmd: PmdSlot) -> pmd_t:
    """Read a slot."""
    return current.machine.read(pmd, _val, ONCE)


pmdp_get_lockless = pmdp_get


def set_pmd(pmd: PmdSlot, value: pmd_t) -> None:
    """Store into a slot."""
    current.machine.write(pmd, _val, value, ONCE)


def pmd_clear(pmd: PmdSlot) -> None:
    """Store none into a slot."""
    set_pmd(pmd, PMD_NONE)


def pmd_populate(mm: MmStruct, pmd: PmdSlot, pgtable: PtePage) -> None:
    """Let the slot lead to a table: no accounting, no barrier."""
    current.machine.write(pmd, _val, pfn_pmd(pgtable.pfn, KERNPG_TABLE), ONCE)


def pmd_pgtable(pmd: pmd_t) -> PtePage:
    """Table that an entry leads to."""
    return system.this.tables[pmd_pfn(pmd)]


def pmd_offset(mm: MmStruct, address: int) -> PmdSlot | None:
    """The slot of an address; ``None`` where an upper level is absent."""
    index = (address - system.this.base) // HPAGE_PMD_SIZE()
    pmds = current.machine.read(mm, MmStruct.pmds, PLAIN)
    page = pmds[index] if 0 <= index < len(pmds) else None
    return None if page is None else page.slot


def mm_find_pmd(mm: MmStruct, address: int) -> PmdSlot | None:
    """The slot of an address; ``None`` where an upper level is absent."""
    return pmd_offset(mm, address)


def pmd_lockptr(mm: MmStruct, pmd: PmdSlot) -> SpinLock:
    """Lock of a slot: its page's, or the mm's without split locks."""
    if current.machine.split_ptlocks and pmd.page is not None:
        return pmd.page.ptl
    return mm.page_table_lock


def pmd_lock(mm: MmStruct, pmd: PmdSlot) -> SpinLock:
    """Take the lock of a slot."""
    ptl = pmd_lockptr(mm, pmd)
    spin_lock(ptl)
    return ptl


def pte_lockptr(mm: MmStruct, table: PtePage) -> SpinLock:
    """Lock of a table: its own, or the mm's without split locks."""
    return table.ptl if current.machine.split_ptlocks else mm.page_table_lock


def pte_index(address: int) -> int:
    """Index of an address in its table."""
    return (address & ~HPAGE_PMD_MASK()) // current.machine.page_size


def __pte_offset_map(pmd: PmdSlot, addr: int) -> tuple[PtePtr | None, pmd_t]:
    """Map a table without locking it. On success an RCU read section is open until :func:`pte_unmap`.

    :returns: the entry (``None`` where there is no table) and the PMD value that was used
    """
    rcu_read_lock()
    pmdval = pmdp_get_lockless(pmd)
    if not pmd_none(pmdval) and pmd_present(pmdval) and not pmd_trans_huge(pmdval):
        if not pmd_bad(pmdval):
            return PtePtr(kmap_local(pmd_pgtable(pmdval)), pte_index(addr)), pmdval
        current.machine.report("DEBUG_VM", f"bad pmd {pmdval:#x}")
        pmd_clear(pmd)
    rcu_read_unlock()
    return None, pmdval


def pte_offset_map_lock(mm: MmStruct, pmd: PmdSlot, addr: int) -> tuple[PtePtr | None, SpinLock]:
    """Map a table and take its lock; starts again if the slot changed meanwhile.

    :returns: the entry (``None`` where there is no table) and the lock, held if there is an entry
    """
    while True:
        pte, pmdval = __pte_offset_map(pmd, addr)
        if pte is None:
            return None, mm.page_table_lock
        ptl = pte_lockptr(mm, pte.table)
        spin_lock(ptl)
        if pmdp_get_lockless(pmd) == pmdval:
            return pte, ptl
        pte_unmap_unlock(pte, ptl)


def pte_offset_map_ro_nolock(mm: MmStruct, pmd: PmdSlot, addr: int) -> tuple[PtePtr | None, SpinLock]:
    """Map a table for reading; the lock is named, not taken."""
    pte, _ = __pte_offset_map(pmd, addr)
    if pte is None:
        return None, mm.page_table_lock
    return pte, pte_lockptr(mm, pte.table)


def kmap_local(table: PtePage) -> PtePage:
    """Give a table an address: nothing to do but with CONFIG_HIGHPTE.

    Where several tasks run the table has only its own: an entry is one place, however it was reached.
    """
    if not current.machine.highpte:
        return table
    mapped = MappedPtePage(table) if current.machine.scheduler is None else table
    current.task.kmaps.append(mapped)
    return mapped


def kunmap_local(table: PtePage) -> None:
    """Take a table's address back; the last one that was given goes first."""
    if not current.machine.highpte:
        return
    kmaps = current.task.kmaps
    if not kmaps or kmaps.pop() is not table:
        current.machine.report("DEBUG_VM", f"kunmap_local: {table.name} is not the last one that was mapped")
    if isinstance(table, MappedPtePage):
        table.freed_by = "pte_unmap"


def pte_unmap(pte: PtePtr) -> None:
    """Leave the read section of a mapped table."""
    kunmap_local(pte.table)
    rcu_read_unlock()


def pte_unmap_unlock(pte: PtePtr, ptl: SpinLock) -> None:
    """Drop the lock, then unmap."""
    spin_unlock(ptl)
    pte_unmap(pte)


def flush_tlb_range(vma: VmAreaStruct, start: int, end: int) -> None:
    """Drop every CPU's translations of [start, end) bytes."""
    flush_tlb_mm_range(vma.vm_mm, start, end)


def flush_tlb_mm_range(mm: MmStruct, start: int, end: int) -> None:
    """:func:`flush_tlb_range` without a VMA.

    :source: arch/x86/mm/tlb.c, v6.18
    """
    machine = current.machine
    machine.tlb_flushes.append((start, end))
    system.recorder_note(f"flush_tlb_range {(end - start) // machine.page_size} pages")
    flush_everywhere(mm.ident, start, end)


def pmdp_huge_get_and_clear(mm: MmStruct, address: int, pmdp: PmdSlot) -> pmd_t:
    """Replace a slot's entry by none in one step; the value is the old one."""
    old = current.machine.rmw(pmdp, _val, _pmd_none, ONCE)
    page_table_check.pmd_clear(old)
    return old


def _pmd_none(_: pmd_t) -> pmd_t:
    return PMD_NONE


def pmdp_collapse_flush(vma: VmAreaStruct, address: int, pmdp: PmdSlot) -> pmd_t:
    """Detach the table of a slot and flush what may have been translated through it (generic form, as on x86).

    :returns: the old entry
    """
    VM_BUG_ON(bool(address & ~HPAGE_PMD_MASK()), "address & ~HPAGE_PMD_MASK")
    VM_BUG_ON(pmd_trans_huge(pmdp_get(pmdp)), "pmd_trans_huge(*pmdp)")
    pmd = pmdp_huge_get_and_clear(vma.vm_mm, address, pmdp)
    flush_tlb_range(vma, address, address + HPAGE_PMD_SIZE())
    return pmd


def tlb_remove_table_sync_one() -> None:
    """Wait until every other CPU has left the IRQ-off section it may be in."""
    smp_call_function()


def pgtable_trans_huge_deposit(mm: MmStruct, pmdp: PmdSlot, pgtable: PtePage) -> None:
    """Keep an empty table for a later split of the huge page."""
    lockdep_assert_held(pmd_lockptr(mm, pmdp))
    entries: list[pte_t] = current.machine.read(pgtable, _entries, PLAIN)
    if any(entries):
        current.machine.report("DEBUG_VM", f"pgtable_trans_huge_deposit: {pgtable.name} is not empty")
    if pmdp.page is not None:
        current.machine.rmw(pmdp.page, PmdPage.deposited, (pgtable,).__add__, ONCE)


def pgtable_trans_huge_withdraw(mm: MmStruct, pmdp: PmdSlot) -> PtePage:
    """Take a deposited table back: any, since the list belongs to the page of the slot."""
    lockdep_assert_held(pmd_lockptr(mm, pmdp))
    assert pmdp.page is not None
    return current.machine.rmw(pmdp.page, PmdPage.deposited, _without_first, ONCE)[0]


def _without_first(tables: tuple[PtePage, ...]) -> tuple[PtePage, ...]:
    return tables[1:]


def mm_inc_nr_ptes(mm: MmStruct) -> None:
    """Account for one more PTE table."""
    current.machine.fetch_add(mm, MmStruct.pgtables_bytes, current.machine.page_size)


def mm_dec_nr_ptes(mm: MmStruct) -> None:
    """Account for one PTE table less."""
    current.machine.fetch_add(mm, MmStruct.pgtables_bytes, -current.machine.page_size)


def pmd_install(mm: MmStruct, pmd: PmdSlot, pgtable: PtePage) -> PtePage | None:
    """Install a fresh table where there is none.

    :returns: the table when the caller still owns it, else ``None``
    """
    ptl = pmd_lock(mm, pmd)
    left: PtePage | None = pgtable
    if pmd_none(pmdp_get(pmd)):
        mm_inc_nr_ptes(mm)
        smp_wmb()
        pmd_populate(mm, pmd, pgtable)
        left = None
    spin_unlock(ptl)
    return left


def update_mmu_cache_range(vmf: None, vma: VmAreaStruct, address: int, ptep: PtePtr, nr: int) -> None:
    """Architecture hook after entries were set. x86 does nothing; a walking one looks the address up in the live tables."""
    if current.machine.arch != "walking" or current.task.active_mm != vma.vm_mm.ident:
        return
    pmd = pmd_offset(vma.vm_mm, address)
    value = PMD_NONE if pmd is None else pmdp_get(pmd)
    found = pmd_present(value) and not pmd_trans_huge(value) and pmd_pgtable(value).pfn == ptep.table.pfn
    if not found or pte_index(address) != ptep.index:
        current.machine.report("DEBUG_VM", "update_mmu_cache_range: the live tables do not lead to the entries that were set")


def update_mmu_cache_pmd(vma: VmAreaStruct, address: int, pmd: PmdSlot) -> None:
    """Architecture hook after a huge entry was set: nothing here."""
