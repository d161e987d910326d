"""From a scenario to a system at rest."""

from __future__ import annotations

from typing import Final

import attrs

from kmm.kernel.locks import SpinLock
from kmm.kernel.machine import Machine
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
from kmm.mm.pgtable import PmdPage, PtePage
from kmm.mm.pte import HUGE_ZERO_PFN, KERNPG_TABLE, pfn_pmd, pmd_mkhuge
from kmm.mm.system import Injected, Sysctl, System
from kmm.mm.variant import Variant
from kmm.scenario.model import GAP, DriverKind, Failure, Scenario, Tunables, Vma
from kmm.scenario.place import DRIVER_CPU, OWNER, OWNER_CPU, Frames, Placing, place_huge

_TABLE_PFN: Final = 1 << 30
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
    khugepaged = s.driver.kind is DriverKind.KHUGEPAGED or (s.driver.kind is DriverKind.DIRECT and s.driver.is_khugepaged)
    if khugepaged:
        task = Task("khugepaged", machine.cpus[DRIVER_CPU], 0)
    else:
        task = Task("madvise", machine.cpus[OWNER_CPU], OWNER)
    somebody = Task("somebody", machine.cpus[OWNER_CPU], 0, may_block=False)
    with this.running(task):
        mm = _Builder(s, this, somebody, task.cpu.number).address_spaces()
    return World(this, mm, mm._vmas[0], task, somebody)


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
        highpte=c.highpte,
        pt_reclaim=c.pt_reclaim,
        vmemmap=c.sparsemem_vmemmap,
        budget=(100_000 + 2_000 * g.ptes) * s.driver.passes,
    )


def _sysctl(t: Tunables) -> Sysctl:
    sysctl = Sysctl(
        t.max_ptes_none,
        t.max_ptes_swap,
        t.max_ptes_shared,
        t.enabled,
        defrag=t.defrag,
        shrink_underused=t.shrink_underused,
        node_reclaim=t.node_reclaim,
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
        self.memcg = MemCgroup("memcg")
        self.root = AnonVma("anon_vma")
        self.frames = Frames(this, self.memcg, self.root, somebody, cpu)

    def address_spaces(self) -> MmStruct:
        """The owner's, and those of the siblings that map its pages."""
        s, this = self.s, self.this
        alphabet = s.alphabet()
        pages = s.pages
        mm, table = self._mm(OWNER, self.root)
        others = range(OWNER + 1, OWNER + 1 + max(alphabet[c].mapped_by for c in set(pages) if c != GAP))
        siblings = [self._mm(ident, AnonVma(f"anon_vma{ident}", self.root)) for ident in others]
        if s.pmd in ("huge", "migration"):
            place_huge(self.frames, mm, mm._vmas[0], migrating=s.pmd == "migration")
        elif table is not None and s.pmd == "table":
            placing = Placing(self.frames, mm, table, [(other, its) for other, its in siblings if its is not None])
            for vma, area in zip(s.vmas, mm._vmas, strict=True):
                placing.place(vma.pages, vma.first, alphabet, area)
            placing.finish()
        if s.memcg_room is not None:
            self.memcg._max = self.memcg._usage + s.memcg_room
        shadow = this.shadow
        for each in this.mms:
            for vma in s.vmas:
                for index in range(vma.first, vma.end):
                    shadow.setdefault((each.ident, index), 0)
        return mm

    def _mm(self, ident: int, anon_vma: AnonVma) -> tuple[MmStruct, PtePage | None]:
        s, this = self.s, self.this
        size = s.geometry.page_size
        mm = MmStruct(ident, self.memcg)
        mm._flags = _THP_DISABLE[s.thp_disable]
        mm._vmas = tuple([_area(mm, vma, this.base, size, anon_vma) for vma in s.vmas])
        this.mms.append(mm)
        if s.pmd == "absent":
            return mm, None
        page = PmdPage(SpinLock("pmd_lock"))
        mm._pmds = [page]
        waiting = [self._table(f"deposited{ident}.{number}", ident << 4 | number) for number in range(s.deposited)]
        page._deposited = tuple(waiting)
        mm._pgtables_bytes = size * len(waiting)
        if s.pmd == "none":
            return mm, None
        table = self._table(f"table{ident}", ident)
        mm._pgtables_bytes += size
        if s.pmd == "table":
            page.slot._val = pfn_pmd(table.pfn, KERNPG_TABLE)
            return mm, table
        page._deposited = (table, *waiting)
        if s.pmd == "huge_zero":
            page.slot._val = pmd_mkhuge(pfn_pmd(HUGE_ZERO_PFN, mm._vmas[0]._vm_page_prot))
        return mm, table

    def _table(self, label: str, number: int) -> PtePage:
        table = PtePage(label, _TABLE_PFN + number, self.s.geometry.ptes, SpinLock("pte_lock"))
        self.this.tables[table.pfn] = table
        return table


def _area(mm: MmStruct, vma: Vma, base: int, size: int, anon_vma: AnonVma) -> VmAreaStruct:
    start, end = base + (vma.first - vma.before) * size, base + (vma.end + vma.after) * size
    flags = 0
    for name in vma.flags:
        flags |= VM_FLAGS[name]
    return VmAreaStruct(mm, start, end, flags, anon_vma if vma.anon_vma else None)
