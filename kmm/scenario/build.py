"""From a scenario to a system at rest."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

import attrs

from kmm.kernel.locks import SpinLock
from kmm.kernel.machine import CPUS, Machine
from kmm.kernel.task import Task
from kmm.mm.memcontrol import MemCgroup
from kmm.mm.mm_types import (
    MMF_DISABLE_THP_COMPLETELY,
    MMF_DISABLE_THP_EXCEPT_ADVISED,
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_DONTEXPAND,
    VM_DROPPABLE,
    VM_EXEC,
    VM_GROWSDOWN,
    VM_HUGEPAGE,
    VM_HUGETLB,
    VM_IO,
    VM_LOCKED,
    VM_LOCKONFAULT,
    VM_MERGEABLE,
    VM_MIXEDMAP,
    VM_NOHUGEPAGE,
    VM_PFNMAP,
    VM_READ,
    VM_STACK_INCOMPLETE_SETUP,
    VM_UFFD_MISSING,
    VM_UFFD_WP,
    VM_WRITE,
    AnonVma,
    MmStruct,
    VmAreaStruct,
)
from kmm.mm.pgalloc import pmd_label
from kmm.mm.pgtable import PmdPage, PtePage
from kmm.mm.pte import HUGE_ZERO_PFN, KERNPG_TABLE, pfn_pmd, pmd_mkhuge
from kmm.mm.system import Injected, Sysctl, System
from kmm.mm.variant import Variant
from kmm.scenario.actors import driver_name
from kmm.scenario.checks import GAP
from kmm.scenario.model import Failure, Process, Scenario, Tunables, Vma
from kmm.scenario.place import DRIVER_CPU, OWNER, OWNER_CPU, Frames, Placing, count_mapped, place_huge
from kmm.scenario.secondary import connect_secondary

VM_FLAGS: Final = {
    "dontcopy": VM_DONTCOPY,
    "dontdump": VM_DONTDUMP,
    "dontexpand": VM_DONTEXPAND,
    "droppable": VM_DROPPABLE,
    "exec": VM_EXEC,
    "growsdown": VM_GROWSDOWN,
    "hugepage": VM_HUGEPAGE,
    "hugetlb": VM_HUGETLB,
    "io": VM_IO,
    "locked": VM_LOCKED,
    "lockonfault": VM_LOCKONFAULT,
    "mergeable": VM_MERGEABLE,
    "mixedmap": VM_MIXEDMAP,
    "nohugepage": VM_NOHUGEPAGE,
    "pfnmap": VM_PFNMAP,
    "read": VM_READ,
    "temporary_stack": VM_GROWSDOWN | VM_STACK_INCOMPLETE_SETUP,
    "uffd_missing": VM_UFFD_MISSING,
    "uffd_wp": VM_UFFD_WP,
    "write": VM_WRITE,
}
_Tables: TypeAlias = list[PtePage | None]
_THP_DISABLE: Final = {"no": 0, "yes": MMF_DISABLE_THP_COMPLETELY, "except_advised": MMF_DISABLE_THP_EXCEPT_ADVISED}


@attrs.frozen
class World:
    """What a run starts from.

    :param vma: the first one
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
    if driver_name(s) == ("khugepaged",):
        task = Task("khugepaged", machine.cpus[DRIVER_CPU], 0)
    else:
        task = Task("madvise", machine.cpus[OWNER_CPU], OWNER)
    somebody = Task("somebody", machine.cpus[OWNER_CPU], 0, may_block=False)
    this.driver_cpu = task.cpu.number
    this.hwpoison = any(each.op == "memory_failure" for each in (*s.steps, *s.actors))
    with this.running(task):
        mm = _Builder(s, this, somebody, task.cpu.number).address_spaces()
    return World(this, mm, mm._vmas[0], task, somebody)


def _machine(s: Scenario) -> Machine:
    g, c = s.geometry, s.config
    machine = Machine if not s.actors else _exploring(CPUS + len(s.actors))
    return machine(
        page_size=g.page_size,
        ptes=g.ptes,
        lru_batch=g.lru_batch,
        debug_vm=c.debug_vm,
        split_ptlocks=c.split_ptlocks,
        tlb=c.tlb,
        arch=c.arch,
        highpte=c.highpte,
        pt_reclaim=c.pt_reclaim,
        vmemmap=c.sparsemem_vmemmap,
        budget=(100_000 + 2_000 * g.pages) * (max(s.driver.passes, len(s.steps)) + len(s.actors)),
    )


def _exploring(cpus: int) -> Callable[..., Machine]:
    from kmm.explore import ExploringMachine

    return partial(ExploringMachine, cpus=cpus)


def _sysctl(t: Tunables) -> Sysctl:
    sysctl = Sysctl(
        t.max_ptes_none,
        t.max_ptes_swap,
        t.max_ptes_shared,
        t.enabled,
        defrag=t.defrag,
        shrink_underused=t.shrink_underused,
        node_reclaim=t.node_reclaim,
        pages_to_scan=8 * (1 << len(t.hugepages) + 1),
    )
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


class _Builder:
    """Makes the address spaces: writes to storage directly, since the system is nobody's yet."""

    def __init__(self, s: Scenario, this: System, somebody: Task, cpu: int) -> None:
        self.s = s
        self.this = this
        self.somebody = somebody
        self.cpu = cpu
        self.alphabet = s.alphabet()
        self.memcg = MemCgroup("memcg")

    def address_spaces(self) -> MmStruct:
        """Those of the processes, then those of the siblings that map their pages; the first one's."""
        s = self.s
        spaces = s.address_spaces
        roots = [AnonVma("anon_vma" if n == OWNER else f"anon_vma{n}") for n in range(OWNER, OWNER + len(spaces))]
        made = [self._mm(n, process, root) for n, (process, root) in enumerate(zip(spaces, roots, strict=True), OWNER)]
        for process, root, (mm, tables) in zip(spaces, roots, made, strict=True):
            self._fill(process, root, mm, tables, self._siblings(process, root))
        connect_secondary(s, self.this, made)
        count_mapped(self.this)
        if s.memcg_room is not None:
            self.memcg._max = self.memcg._usage + s.memcg_room
        self._shadow()
        self.this.pids._last = len(self.this.mms)
        return made[0][0]

    def _siblings(self, process: Process, root: AnonVma) -> list[tuple[MmStruct, _Tables]]:
        """As many as the page that is mapped most often needs."""
        maps = max((self.alphabet[c].mapped_by for c in set(self.s.pages_of(process)) if c != GAP), default=0)
        first = OWNER + len(self.this.mms)
        return [self._mm(n, process, AnonVma(f"anon_vma{n}", root)) for n in range(first, first + maps)]

    def _fill(self, process: Process, root: AnonVma, mm: MmStruct, tables: _Tables, siblings: list[tuple[MmStruct, _Tables]]) -> None:
        """Put the pages of a process where its map says."""
        s, nr = self.s, self.s.geometry.ptes
        frames = Frames(self.this, mm.ident, self.memcg, root, self.somebody, self.cpu)
        placing = Placing(frames, mm, [other for other, _ in siblings])
        for number, pmd in enumerate(s.pmds_of(process)):
            table = tables[number]
            if pmd in ("huge", "migration"):
                area = next(vma for vma in mm._vmas if vma._vm_start <= self._address(number * nr) < vma._vm_end)
                place_huge(frames, mm, area, number, migrating=pmd == "migration")
            elif pmd == "table" and table is not None:
                theirs = [its[number] for _, its in siblings]
                for vma, area in zip(process.vmas, mm._vmas, strict=True):
                    first = max(vma.first, number * nr)
                    pages = vma.pages[first - vma.first : max((number + 1) * nr - vma.first, 0)]
                    if not pages:
                        continue
                    placing.place(pages, first, self.alphabet, area, [table, *(each for each in theirs if each is not None)])
        placing.finish()

    def _shadow(self) -> None:
        """Where nothing is mapped yet, a process reads zeros."""
        shadow = self.this.shadow
        size, total = self.s.geometry.page_size, self.s.geometry.pages
        for mm in self.this.mms:
            for vma in mm._vmas:
                first, end = ((at - self.this.base) // size for at in (vma._vm_start, vma._vm_end))
                for index in range(max(first, 0), min(end, total)):
                    shadow.setdefault((mm.ident, index), 0)

    def _address(self, index: int) -> int:
        return self.this.base + index * self.s.geometry.page_size

    def _mm(self, ident: int, process: Process, anon_vma: AnonVma) -> tuple[MmStruct, _Tables]:
        s, this = self.s, self.this
        mm = MmStruct(ident, self.memcg)
        mm._flags = _THP_DISABLE[process.thp_disable]
        mm._vmas = tuple([_area(mm, vma, this.base, s.geometry.page_size, anon_vma) for vma in process.vmas])
        anon_vma.root._rb_root = (*anon_vma.root._rb_root, *(area for area in mm._vmas if area._anon_vma is not None))
        this.mms.append(mm)
        lock = SpinLock("pmd_lock", f"pmd_lock of mm{ident}")
        pmds = s.pmds_of(process)
        mm._pmds = [None if pmd == "absent" else PmdPage(lock, pmd_label(mm, number)) for number, pmd in enumerate(pmds)]
        return mm, [self._pmd(mm, number, pmd) for number, pmd in enumerate(pmds)]

    def _pmd(self, mm: MmStruct, number: int, pmd: str) -> PtePage | None:
        """Fill one PMD entry; its table, or the one that is deposited for it."""
        page = mm._pmds[number]
        if page is None:
            return None
        size = self.s.geometry.page_size
        suffix = f".{number}" if number else ""
        waiting = tuple([self._table(f"deposited{mm.ident}{suffix}.{n}") for n in range(self.s.deposited)])
        page._deposited = waiting
        mm._pgtables_bytes += size * len(waiting)
        if pmd == "none":
            return None
        table = self._table(f"table{mm.ident}{suffix}")
        mm._pgtables_bytes += size
        if pmd == "table":
            page.slot._val = pfn_pmd(table.pfn, KERNPG_TABLE)
            return table
        page._deposited = (table, *waiting)
        if pmd == "huge_zero":
            page.slot._val = pmd_mkhuge(pfn_pmd(HUGE_ZERO_PFN, mm._vmas[0]._vm_page_prot))
        return table

    def _table(self, label: str) -> PtePage:
        this = self.this
        numbers = this.per_cpu[0]
        table = PtePage(label, numbers.next_table_pfn, self.s.geometry.ptes, SpinLock("pte_lock", f"pte_lock of {label}"))
        numbers.next_table_pfn += 1
        this.tables[table.pfn] = table
        return table


def _area(mm: MmStruct, vma: Vma, base: int, size: int, anon_vma: AnonVma) -> VmAreaStruct:
    start, end = base + (vma.first - vma.before) * size, base + (vma.end + vma.after) * size
    flags = 0
    for name in vma.flags:
        flags |= VM_FLAGS[name]
    area = VmAreaStruct(mm, start, end, flags, anon_vma if vma.anon_vma else None, vma.first - vma.before)
    area._vm_refcnt = 1
    return area
