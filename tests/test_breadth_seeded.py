"""One-line bugs in what the widened model added: each is caught, by the sanitizer or by the observable that must show it."""

from __future__ import annotations

from typing import Final

import attrs
import pytest

from kmm.judge.observe import OBSERVABLES, Observation, observe
from kmm.kernel.report import CHECKS
from kmm.mm import huge_memory, memcontrol, memory, migrate, mlock, pgtable, pte, rmap, swap
from kmm.mm.khugepaged import alloc, copy, isolate, revalidate, scan
from kmm.scenario.model import Config, Event, Scenario, Vma
from kmm.scenario.page import Kind, PageState
from kmm.scenario.quiescence import first
from kmm.scenario.run import run
from refactors import reviewed, v12
from tests.helpers import KHUGEPAGED, MADVISE, direct, make
from tests.test_sanitizers import Change, changed

RW: Final = ("read", "write")
HIGH: Final = Config(highpte=True)
PMD: Final = direct(3)
PROTECTED: Final = (("X", PageState(kind=Kind.MIGRATION, exclusive=True, uffd_wp=True)),)
SOFT_DIRTY: Final = (("X", PageState(kind=Kind.MIGRATION, exclusive=True, soft_dirty=True)),)

collapse_isolate = vars(isolate)["__collapse_huge_page_isolate"]
succeeded = vars(copy)["__collapse_huge_page_copy_succeeded"]
scan_pte = vars(scan)["_scan_pte"]
try_charge = vars(memcontrol)["_try_charge"]
restored = vars(migrate)["_restored"]
undo_migration = vars(migrate)["_undo_migration"]

_YOUNG: Final = "pte_young(pteval) or folio_test_young(folio) or folio_test_referenced(folio) or mmu_notifier_test_young"
_NOT_NORMAL: Final = "if page is None or folio_is_zone_device(page_folio(page)):"


def two_vmas(s: Scenario) -> Scenario:
    """Four pages each."""
    return attrs.evolve(s, vmas=(Vma(pages="aaaa", start=0), Vma(pages="aaaa", start=4, flags=("dontdump", *RW))))


def reclaiming(s: Scenario) -> Scenario:
    return attrs.evolve(s, tunables=attrs.evolve(s.tunables, node_reclaim=True))


LOCKED: Final = make("llllllll", PMD, flags=("locked", *RW))
KSM_ZERO: Final = make("aaaaaaaZ", PMD, flags=("mergeable", *RW))
MIGRATING: Final = make("aaaaaaaM", MADVISE)
GUARD_THERE: Final = make("aaagaaaa", direct(3, unmapped=0))

BUGS: Final = {
    "H-10, scan: the secondary MMU is asked about the start": Change(
        "result", scan_pte, f"{_YOUNG}(mm, addr)", f"{_YOUNG}(mm, addr - i * PAGE_SIZE())", make("oooYoooo")
    ),
    "H-10, isolate": Change(
        "result", collapse_isolate, f"{_YOUNG}(vma.vm_mm, addr)", f"{_YOUNG}(vma.vm_mm, start_addr)", make("oooYoooo", PMD)
    ),
    "the counters of KSM zero pages are forgotten": Change(
        "CONSERVATION", succeeded, "ksm_might_unmap_zero_page(mm, pteval)", "pass", KSM_ZERO
    ),
    "sources are not munlocked": Change("CONSERVATION", mlock.munlock_vma_folio, "munlock_folio(folio)", "pass", LOCKED),
    "the new folio is not mlocked": Change("folios", swap.folio_add_lru_vma, "mlock_new_folio(folio)", "folio_add_lru(folio)", LOCKED),
    "a munlocked folio stays in the counter": Change(
        "CONSERVATION", vars(mlock)["_munlocked"], 'node_stat_mod_folio(folio, "nr_mlock", -nr)', "pass", LOCKED
    ),
    "an mlock batch keeps its references": Change("REFCOUNT", vars(mlock)["_mlock_folio_batch"], "folio_put(folio)", "pass", LOCKED),
    "S-06: the table is unmapped after isolate, and then copied from": Change(
        "KASAN", v12, "spin_unlock(pte_ptl)", "spin_unlock(pte_ptl); pte_unmap(pte)", make("aaaaaaaa", PMD, config=HIGH)
    ),
    "the table is unmapped twice": Change(
        "LOCKDEP", v12, "pte_unmap(pte)", "pte_unmap(pte); pte_unmap(pte)", make("aaaaaaaa", PMD, config=HIGH)
    ),
    "the table is never unmapped": Change("LOCKDEP", v12, "pte_unmap(pte)", "pass", make("aaaaaaaa", PMD, config=HIGH)),
    "a refused charge is not taken back": Change(
        "CONSERVATION",
        try_charge,
        "machine.fetch_add(memcg, MemCgroup.usage, -nr_pages)",
        "pass",
        attrs.evolve(make("aaaaaaaa", PMD), memcg_room=7),
    ),
    "the limit is not looked at": Change(
        "result",
        try_charge,
        "if limit is None or usage <= limit:",
        "if limit is None or usage <= limit + 8:",
        attrs.evolve(make("aaaaaaaa", PMD), memcg_room=7),
    ),
    "the node load is cleared for each page": Change(
        "folios",
        scan_pte,
        "cc.node_load[node] += 1",
        "cc.node_load = [0] * MAX_NUMNODES; cc.node_load[node] += 1",
        make("mmmmmaaa", MADVISE),
    ),
    "near nodes are far": Change(
        "result",
        alloc.collapse_scan_abort,
        "return any(cc.node_load[i] and node_distance(nid, i) > RECLAIM_DISTANCE for i in range(MAX_NUMNODES))",
        "return any(cc.node_load[i] and node_distance(nid, i) < RECLAIM_DISTANCE for i in range(MAX_NUMNODES))",
        reclaiming(make("aaaaaaam")),
    ),
    "far nodes are near": Change(
        "result",
        alloc.collapse_scan_abort,
        "return any(cc.node_load[i] and node_distance(nid, i) > RECLAIM_DISTANCE for i in range(MAX_NUMNODES))",
        "return any(cc.node_load[i] and node_distance(i, i) > RECLAIM_DISTANCE for i in range(MAX_NUMNODES))",
        reclaiming(make("aaaaaaaR")),
    ),
    "node reclaim is always on": Change(
        "result",
        alloc.collapse_scan_abort,
        "if not current.machine.read(system.this.sysctl, Sysctl.node_reclaim_mode, PLAIN):",
        "if False:",
        make("aaaaaaaR"),
    ),
    "device memory is scanned": Change("result", scan_pte, _NOT_NORMAL, "if page is None:", make("aaaaaaad")),
    "device memory is isolated": Change("result", collapse_isolate, _NOT_NORMAL, "if page is None:", make("aaaaaaad", PMD)),
    "a guard marker is a hole": Change(
        "TRANSPARENCY",
        pte.pte_none_or_zero,
        "return pte == 0 or (bool(pte & 0x101) and (pte >> _PFN_SHIFT) & _PFN_MASK == ZERO_PFN)",
        "return not pte & 0x101 or (pte >> _PFN_SHIFT) & _PFN_MASK == ZERO_PFN",
        GUARD_THERE,
    ),
    "a page without access is not present": Change(
        "result", pte.pte_present, "return bool(pte & 0x101)", "return bool(pte & 0x001)", make("NNNNNNNN", PMD)
    ),
    "the zero page is a normal page": Change(
        "outcome",
        memory.vm_normal_page,
        "if pte_special(pte) or pte_pfn(pte) == ZERO_PFN:",
        "if pte_special(pte) and pte_pfn(pte) != ZERO_PFN:",
        make("aaaaaaaz", PMD, events=(Event(op="zap", before="mmap_read_lock", page=7),)),
    ),
    "NR_ISOLATED_ANON keeps a page that was migrated": Change(
        "CONSERVATION", undo_migration, 'node_stat_mod_folio(folio, "nr_isolated_anon", -folio_nr_pages(folio))', "pass", MIGRATING
    ),
    "a migrated folio stays locked": Change("LOCKDEP", undo_migration, "folio_unlock(folio)", "pass", make("aaaaaaaM", direct(3))),
    "a migrated folio gets no reference": Change(
        "REFCOUNT", migrate.remove_migration_pte, "folio_get(folio)", "pass", make("aaaaaaaM", PMD)
    ),
    "only the owner's entry is restored": Change(
        "CONSERVATION",
        undo_migration,
        "for mm in system.this.mms:",
        "for mm in system.this.mms[:1]:",
        make("aaaaaaaX", PMD, letters=(("X", PageState(kind=Kind.MIGRATION, mapped_by=1)),)),
    ),
    "soft-dirty is lost in migration": Change(
        "address_spaces", restored, "pte = pte_mksoft_dirty(pte)", "pass", make("Xaaaaaaa", PMD, letters=SOFT_DIRTY)
    ),
    "uffd-wp is lost in migration": Change(
        "result",
        restored,
        "pte = pte_mkuffd_wp(pte)",
        "pass",
        make("Xaaaaaaa", PMD, letters=PROTECTED, flags=("read", "uffd_wp", "write")),
    ),
    "a migrated page becomes young": Change(
        "address_spaces",
        restored,
        "pte = pte_mkold(pfn_pte(folio.pfn, vma.vm_page_prot))",
        "pte = pfn_pte(folio.pfn, vma.vm_page_prot)",
        make("Xaaaaaaa", PMD, letters=SOFT_DIRTY),
    ),
    "the tables that wait are lost": Change(
        "CONSERVATION",
        pgtable.pgtable_trans_huge_deposit,
        "current.machine.rmw(pmdp.page, PmdPage.deposited, (pgtable,).__add__, ONCE)",
        "current.machine.rmw(pmdp.page, PmdPage.deposited, lambda _: (pgtable,), ONCE)",
        attrs.evolve(make("aaaaaaaa", PMD), deposited=1),
    ),
    "the new table is put behind the others": Change(
        "address_spaces",
        pgtable.pgtable_trans_huge_deposit,
        "current.machine.rmw(pmdp.page, PmdPage.deposited, (pgtable,).__add__, ONCE)",
        "current.machine.rmw(pmdp.page, PmdPage.deposited, lambda waiting: (*waiting, pgtable), ONCE)",
        attrs.evolve(make("aaaaaaaa", PMD), deposited=1),
    ),
    "a page of a droppable VMA becomes swap-backed": Change(
        "folios",
        rmap.folio_add_new_anon_rmap,
        "if not vma.vm_flags & VM_DROPPABLE:",
        "if True:",
        make("FFFFFFFF", PMD, flags=("droppable", *RW)),
    ),
    "the suitable order is that of the attempt": Change(
        "result",
        revalidate.hugepage_vma_revalidate,
        "if not thp_vma_suitable_order(vma, address, HPAGE_PMD_ORDER()):",
        "if not thp_vma_suitable_order(vma, address, order):",
        two_vmas(make("aaaaaaaa", direct(2), orders=(2,))),
    ),
    "MADV_COLLAPSE is no advice": Change(
        "errno",
        huge_memory.thp_vma_allowable_orders,
        "advised = vm_flags & VM_HUGEPAGE or tva_type == TVA_FORCED_COLLAPSE",
        "advised = vm_flags & VM_HUGEPAGE",
        attrs.evolve(make("aaaaaaaa", MADVISE), thp_disable="except_advised"),
    ),
    "a temporary stack is collapsed": Change(
        "result",
        huge_memory.thp_vma_allowable_orders,
        "if vma_is_temporary_stack(vm_flags):",
        "if False:",
        make("aaaaaaaa", KHUGEPAGED, flags=(*RW, "temporary_stack")),
    ),
    "flags that forbid are not looked at": Change(
        "result",
        huge_memory.thp_vma_allowable_orders,
        "if not in_pf and tva_type != TVA_SMAPS and vm_flags & VM_NO_KHUGEPAGED:",
        "if False:",
        make("aaaaaaaa", KHUGEPAGED, flags=("io", *RW)),
    ),
    "a PMD migration entry is not mapped": Change(
        "result", revalidate.check_pmd_state, "if is_pmd_migration_entry(pmde):", "if False:", make("........", KHUGEPAGED, pmd="migration")
    ),
}


def differing(one: Observation, other: Observation) -> list[str]:
    """Observables in which two runs differ."""
    return [name for name in OBSERVABLES if getattr(one, name) != getattr(other, name)]


@pytest.mark.parametrize("name", BUGS)
def test_the_bug_is_caught(name: str) -> None:
    bug = BUGS[name]
    baseline = run(bug.scenario, v12.VARIANT)
    assert baseline.world.system.machine.reports == []
    with changed(bug) as variant:
        candidate = run(bug.scenario, variant)
    found = first(candidate.world.system.machine.reports, CHECKS)
    if bug.check in CHECKS:
        assert found is not None
        assert found.check == bug.check
    else:
        assert bug.check in OBSERVABLES
        assert bug.check in differing(observe(baseline), observe(candidate))
        assert found is None, "no sanitizer can see it"
    assert observe(run(bug.scenario, v12.VARIANT)) == observe(baseline), "the change is undone"


@pytest.mark.parametrize("name", BUGS)
def test_without_the_bug_the_variants_agree(name: str) -> None:
    assert differing(observe(run(BUGS[name].scenario, v12.VARIANT)), observe(run(BUGS[name].scenario, reviewed.VARIANT))) == []


def test_no_bug_is_there_twice() -> None:
    assert len({(bug.where, bug.old, bug.new) for bug in BUGS.values()}) == len(BUGS)
