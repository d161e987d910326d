"""The cases that the collapse path meets while a scenario with steps runs."""

from __future__ import annotations

from collections import Counter

import attrs

from kmm.kernel.ref import Ref
from kmm.mm.folio import Page, PG_referenced, PG_swapbacked
from kmm.mm.geometry import HPAGE_PMD_SIZE
from kmm.mm.intended import Case
from kmm.mm.khugepaged.limits import collapse_allowable_orders
from kmm.mm.khugepaged.scan import collapse_single_pmd
from kmm.mm.khugepaged.types import CollapseControl, ScanResult
from kmm.mm.mm_types import VM_DROPPABLE, VM_UFFD_MISSING, VM_UFFD_WP, VM_WRITE, VmAreaStruct
from kmm.mm.pgtable import PtePage
from kmm.mm.pte import is_migration_entry, is_zero_pfn, non_swap_entry, pte_none, pte_pfn, pte_present, pte_t, pte_young
from kmm.mm.system import System
from kmm.mm.variant import Variant
from kmm.scenario.build import build
from kmm.scenario.drive import Run
from kmm.scenario.ended import guarded
from kmm.scenario.model import Scenario
from kmm.scenario.quiescence import table_of
from kmm.scenario.steps import Steps


@attrs.frozen
class Visit:
    """khugepaged or MADV_COLLAPSE comes to a range.

    :param step: in which it does, from 1
    :param case: what it finds
    """

    step: int
    case: Case


def visits(s: Scenario, variant: Variant) -> tuple[Visit, ...]:
    """Every visit of a run, in order. The run is made for this alone: looking counts as accesses.

    :param s: with steps, without actors
    """
    found: list[Visit] = []
    single = variant.collapse_single_pmd or collapse_single_pmd

    def watched(addr: int, vma: VmAreaStruct, mmap_locked: Ref[bool], cc: CollapseControl) -> ScanResult:
        found.append(Visit(len(steps.outcomes) + 1, _case_at(s, world.system, addr, vma, cc)))
        return single(addr, vma, mmap_locked, cc)

    world = build(s, attrs.evolve(variant, collapse_single_pmd=watched))
    steps = Steps(world)
    with world.system.running(world.task):
        guarded(lambda: steps.perform(s.steps), Run(s, world))
    return tuple(found)


def _case_at(s: Scenario, this: System, addr: int, vma: VmAreaStruct, cc: CollapseControl) -> Case:
    mm, flags, sysctl = vma._vm_mm, vma._vm_flags, this.sysctl
    table = table_of(this, mm, (addr - this.base) // HPAGE_PMD_SIZE())
    entries = table._entries if isinstance(table, PtePage) else ()
    absent = [pte for pte in entries if not pte_none(pte) and not pte_present(pte)]
    present = [(pte, this.mem_map[pte_pfn(pte)]) for pte in entries if pte_present(pte) and pte_pfn(pte) in this.mem_map]
    times = Counter(page.folio.pfn for _, page in present)
    merged = sum(_is_merged(page) and times[page.folio.pfn] > 1 for _, page in present)
    return Case(
        driver="khugepaged" if cc.is_khugepaged else "madvise",
        is_khugepaged=cc.is_khugepaged,
        order=None,
        offset=0,
        pmd_order=s.geometry.pmd_order,
        ptes=s.geometry.ptes,
        none=sum(map(pte_none, entries)),
        zero=sum(pte_present(pte) and is_zero_pfn(pte_pfn(pte)) for pte in entries),
        unmapped=len(absent),
        swap=sum(not non_swap_entry(pte) for pte in absent),
        migrating=sum(map(is_migration_entry, absent)),
        present=len(present),
        shared=sum(_is_shared(page) for _, page in present),
        merged=merged,
        lazyfree=sum(not page.folio._flags & PG_swapbacked for _, page in present),
        young=sum(_is_young(pte, page) for pte, page in present),
        armed=bool(flags & (VM_UFFD_MISSING | VM_UFFD_WP)),
        writable=bool(flags & VM_WRITE),
        droppable=bool(flags & VM_DROPPABLE),
        enabled_orders=collapse_allowable_orders(vma, flags, cc.is_khugepaged),
        max_ptes_none=sysctl._khugepaged_max_ptes_none,
        max_ptes_swap=sysctl._khugepaged_max_ptes_swap,
        max_ptes_shared=sysctl._khugepaged_max_ptes_shared,
        failures=tuple(failure.kind for failure in s.failures),
        events=(),
        actors=(),
        pmd="table" if isinstance(table, PtePage) else "huge" if isinstance(table, Page) else "none",
        memcg_limited=mm.memcg._max is not None,
        passes=1,
        more=cc.is_khugepaged or addr + 2 * HPAGE_PMD_SIZE() <= vma._vm_end,
        debug_vm=s.config.debug_vm,
        arch=s.config.arch,
        vmemmap=s.config.sparsemem_vmemmap,
    )


def _is_merged(page: Page) -> bool:
    mapping = page.folio._mapping
    return mapping is not None and mapping.label == "ksm"


def _is_shared(page: Page) -> bool:
    folio = page.folio
    return folio._mapcount > 1 and (not folio.order or folio._mapcount not in (folio._mm_ids[1], folio._mm_ids[3]))


def _is_young(pte: pte_t, page: Page) -> bool:
    return pte_young(pte) or bool(page.folio._flags & PG_referenced)
