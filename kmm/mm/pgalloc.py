"""Page tables and anon_vmas that faults find missing (mm/memory.c, mm/rmap.c).

Memory for them never runs out: an injected allocation failure is about folios.
"""

from __future__ import annotations

from kmm.kernel import current
from kmm.kernel.access import ONCE, PLAIN
from kmm.kernel.locks import SpinLock, might_sleep, spin_lock, spin_unlock
from kmm.mm import system
from kmm.mm.geometry import HPAGE_PMD_SIZE, PAGE_SIZE, PTRS_PER_PTE
from kmm.mm.interval_tree import anon_vma_interval_tree_insert
from kmm.mm.mm_types import VM_EXEC, VM_READ, VM_WRITE, AnonVma, MmStruct, VmAreaStruct
from kmm.mm.mmap import anon_vma_lock_write, anon_vma_unlock_write
from kmm.mm.pgtable import PmdPage, PmdSlot, PtePage, pmd_install, pmd_offset, pmdp_get
from kmm.mm.pte import pmd_none
from kmm.mm.rmap import page_number


def pmd_alloc(mm: MmStruct, address: int) -> PmdSlot:
    """The slot of an address; a page of PMD entries is installed where there is none. May sleep."""
    pmd = pmd_offset(mm, address)
    return pmd if pmd is not None else __pmd_alloc(mm, address)


def __pmd_alloc(mm: MmStruct, address: int) -> PmdSlot:
    might_sleep()
    number = (address - system.this.base) // HPAGE_PMD_SIZE()
    spin_lock(mm.page_table_lock)
    pmds = current.machine.read(mm, MmStruct.pmds, PLAIN)
    page = pmds[number]
    if page is None:
        page = PmdPage(_pmd_page_lock(mm, pmds), pmd_label(mm, number))
        current.machine.write_item(mm, MmStruct.pmds, number, page, PLAIN)
    spin_unlock(mm.page_table_lock)
    return page.slot


def _pmd_page_lock(mm: MmStruct, pmds: list[PmdPage | None]) -> SpinLock:
    """The ranges of an address space share a page of PMD entries, and so its lock."""
    return next((page.ptl for page in pmds if page is not None), None) or SpinLock("pmd_lock", f"pmd_lock of mm{mm.ident}")


def pmd_label(mm: MmStruct, number: int) -> str:
    """Name of the PMD entry of a range; that of the first range of the first address space is just ``pmd``."""
    return "pmd" + (f"{number}" if number else "") + (f" of mm{mm.ident}" if mm.ident > 1 else "")


def pte_alloc_one(mm: MmStruct, address: int) -> PtePage:
    """An empty PTE table, not installed yet. May sleep.

    :param address: in the range for which it is meant: names it
    """
    might_sleep()
    this, numbers = system.this, system.numbers()
    number = (address - this.base) // HPAGE_PMD_SIZE()
    label = f"table{mm.ident}.{number}"
    table = PtePage(label, numbers.next_table_pfn, PTRS_PER_PTE(), SpinLock("pte_lock", f"pte_lock of {label}"))
    if current.machine.scheduler is not None:
        table.maker = f" of CPU {current.cpu.number}"
        table.ptl.label += table.maker
    numbers.next_table_pfn += 1
    this.tables[table.pfn] = table
    return table


def pte_free(mm: MmStruct, table: PtePage) -> None:
    """Free a table that was never installed, or that nobody can reach any more."""
    current.machine.free(table, "pte_free")


def pte_alloc(mm: MmStruct, pmd: PmdSlot, address: int) -> None:
    """Install a table where the slot is empty. May sleep."""
    if not pmd_none(pmdp_get(pmd)):
        return
    table = pmd_install(mm, pmd, pte_alloc_one(mm, address))
    if table is not None:
        pte_free(mm, table)


def anon_vma_prepare(vma: VmAreaStruct) -> None:
    """Give a VMA an anon_vma before its first anonymous page; under the mmap lock. May sleep.

    :source: mm/rmap.c, v6.18
    """
    if vma.anon_vma is None:
        __anon_vma_prepare(vma)


def __anon_vma_prepare(vma: VmAreaStruct) -> None:
    mm = vma.vm_mm
    might_sleep()
    anon_vma = find_mergeable_anon_vma(vma) or AnonVma(f"anon_vma{mm.ident}@{page_number(vma.vm_start)}")
    anon_vma_lock_write(anon_vma)
    spin_lock(mm.page_table_lock)
    if vma.anon_vma is None:
        current.machine.write(vma, VmAreaStruct.anon_vma, anon_vma, PLAIN)
        anon_vma_interval_tree_insert(vma)
    spin_unlock(mm.page_table_lock)
    anon_vma_unlock_write(anon_vma)


def find_mergeable_anon_vma(vma: VmAreaStruct) -> AnonVma | None:
    """The anon_vma of a neighbour with which the VMA may be merged one day: first of the next, then of the previous one."""
    vmas = current.machine.read(vma.vm_mm, MmStruct.vmas, PLAIN)
    at = vmas.index(vma)
    if at + 1 < len(vmas) and _anon_vma_compatible(vma, vmas[at + 1]):
        found = _reusable_anon_vma(vmas[at + 1])
        if found is not None:
            return found
    if at and _anon_vma_compatible(vmas[at - 1], vma):
        return _reusable_anon_vma(vmas[at - 1])
    return None


def _anon_vma_compatible(a: VmAreaStruct, b: VmAreaStruct) -> bool:
    """The second begins where the first ends, in memory and for the reverse mapping, and only their access rights differ."""
    access = VM_READ | VM_WRITE | VM_EXEC
    adjacent = a.vm_end == b.vm_start and b.vm_pgoff == a.vm_pgoff + (b.vm_start - a.vm_start) // PAGE_SIZE()
    return adjacent and not (a.vm_flags ^ b.vm_flags) & ~access


def _reusable_anon_vma(old: VmAreaStruct) -> AnonVma | None:
    """The VMA's anon_vma, unless a fork gave the VMA a chain of several."""
    anon_vma = current.machine.read(old, VmAreaStruct.anon_vma, ONCE)
    return anon_vma if anon_vma is not None and anon_vma.root is anon_vma else None
