"""Reference 5: the steps of ``collapse_huge_page``, their locks and their exits, in both variants."""

from __future__ import annotations

from unittest import mock

import attrs
import pytest

from kmm.kernel import current
from kmm.mm.khugepaged.types import ScanResult
from kmm.mm.mm_types import VmAreaStruct
from kmm.mm.pgtable import PmdSlot, pmdp_get
from kmm.mm.pte import pmd_t
from kmm.mm.variant import Variant
from kmm.scenario.model import Config, Event, Failure, Scenario
from kmm.scenario.run import run
from refactors import reviewed, v12
from tests.helpers import direct, make, mapped, reports, table, traces

BOTH = pytest.mark.parametrize("variant", [v12.VARIANT, reviewed.VARIANT], ids=lambda variant: variant.name)
WRITE = "mmap_write_lock"


def steps(s: Scenario, variant: Variant) -> list[str]:
    """The log of a run."""
    recorder = run(s, variant, record=True).world.system.machine.recorder
    assert recorder is not None
    return [step.text for step in recorder.steps]


def locks(s: Scenario, variant: Variant) -> list[str]:
    """Lock operations of the task, in order."""
    return [f"{op} {kind}" for op, kind in run(s, variant).world.task.lock_ops]


TO_ISOLATE = [
    "up_read mmap_lock",  # 1
    "down_read mmap_lock",  # 3
    "up_read mmap_lock",  # 6
    "down_write mmap_lock",  # 7
    "down_write anon_vma",  # 9
    "spin_lock pmd_lock",  # 11
    "spin_unlock pmd_lock",
    "spin_lock pte_lock",  # 13
    "spin_unlock pte_lock",
]
COPY_ONE = ["spin_lock pte_lock", "spin_unlock pte_lock"]
INSTALL = ["spin_lock pmd_lock", "spin_unlock pmd_lock"]
INSTALL_HUGE = ["spin_lock pmd_lock", "spin_lock split_queue_lock", "spin_unlock split_queue_lock", "spin_unlock pmd_lock"]


@BOTH
def test_locks_of_a_pmd_order_success(variant: Variant) -> None:
    expected = [*TO_ISOLATE, "up_write anon_vma", *COPY_ONE * 8, *INSTALL_HUGE, "up_write mmap_lock"]
    assert locks(make("aaaaaaaa", direct(3)), variant) == ["down_read mmap_lock", *expected]
    assert locks(make("aaaaaaaa", direct(3, mmap_locked=False)), variant) == expected[1:]


@BOTH
def test_anon_vma_stays_locked_to_the_end_for_smaller_orders(variant: Variant) -> None:
    expected = [*TO_ISOLATE, *COPY_ONE * 4, *INSTALL, "up_write anon_vma", "up_write mmap_lock"]
    assert locks(make("aaaaaaaa", direct(2), orders=(2,)), variant) == ["down_read mmap_lock", *expected]


def position(log: list[str], *prefixes: str) -> list[int]:
    """Where each prefix first occurs after the one before."""
    found: list[int] = []
    for prefix in prefixes:
        start = found[-1] + 1 if found else 0
        found.append(next(i for i in range(start, len(log)) if log[i].startswith(prefix)))
    return found


@BOTH
@pytest.mark.parametrize("order", [2, 3])
def test_order_of_steps_7_to_18(variant: Variant, order: int) -> None:
    log = steps(make("aaaaaaaa", direct(order), orders=(2, 3)), variant)
    position(
        log,
        "down_write mmap_lock",
        "vma@0x80000.vm_lock_seq",
        "down_write anon_vma",
        "mmu notifier start",
        "spin_lock pmd_lock",
        "pmd.val = 0",
        "flush_tlb_range 8 pages",
        "spin_unlock pmd_lock",
        "mmu notifier end",
        "IPI",
        "spin_lock pte_lock",
        "trace mm_collapse_huge_page_isolate",
        "smp_wmb",
        "new order",
        "spin_lock pmd_lock",
        "pmd.val",
        "spin_unlock pmd_lock",
        "up_write mmap_lock",
        "trace mm_collapse_huge_page",
    )


@BOTH
def test_smaller_orders_fill_the_detached_table_before_they_put_it_back(variant: Variant) -> None:
    log = steps(make("aaaaaaaa", direct(2, 4), orders=(2,)), variant)
    copied = position(log, "trace mm_collapse_huge_page_isolate")[0]
    filled = ("new order-2 folio.refcount = 4", "new@1:4.refcount", "table1.entries[4]", "table1.entries[7]")
    position(log[copied:], "smp_wmb", "spin_lock pmd_lock", *filled, "smp_wmb", "pmd.val", "spin_unlock pmd_lock", "up_write anon_vma")


@BOTH
@pytest.mark.parametrize(("order", "offset"), [(2, 0), (2, 4), (3, 8), (4, 0)])
def test_windows_and_flushes(variant: Variant, order: int, offset: int) -> None:
    r = run(make("a" * 16, direct(order, offset), orders=(2, 3, 4)), variant)
    first = offset * 4096
    assert r.world.system.notifier_windows == [(first, first + (4096 << order)), (-1, -1)]
    base = r.world.system.base
    assert r.world.system.machine.tlb_flushes == [(base, base + 16 * 4096)], "the whole table, once"


@BOTH
def test_2_no_lock_is_held_for_the_allocation(variant: Variant) -> None:
    held: list[int] = []

    def refuse(*args: object) -> None:
        held.append(len(current.task.held))

    with mock.patch("kmm.mm.khugepaged.alloc.__folio_alloc", refuse):
        assert run(make("aaaaaaaa", direct(3)), variant).result == "SCAN_ALLOC_HUGE_PAGE_FAIL"
    assert held == [0]


EXITS = [
    ("2 N", make("aaaaaaaa", direct(3), failures=(Failure(kind="alloc"),)), "ALLOC_HUGE_PAGE_FAIL", 0, 0),
    ("3 N", make("aaaaaaaa", direct(3), orders=(2,)), "VMA_CHECK", 1, 0),
    ("4 N", make("........", direct(3, is_khugepaged=False), pmd="none"), "PMD_NONE", 1, 0),
    ("4 N, huge", make("........", direct(3), pmd="huge"), "PMD_MAPPED", 1, 0),
    ("5 N", make("aaaaaaaw", direct(3), failures=(Failure(kind="swapin_error", page=7),)), "FAIL", 1, 0),
    ("5 N, retry", make("aaaaaaaw", direct(3), failures=(Failure(kind="swapin_retry", page=7),)), "PAGE_LOCK", 1, 0),
    ("7 U", make("aaaaaaaa", direct(3), events=(Event(op="exit", before=WRITE),)), "ANY_PROCESS", 1, 1),
    ("8 U", make("aaaaaaaa", direct(3), events=(Event(op="free_table", before=WRITE),)), "PMD_NONE", 1, 1),
    ("14 U", make("aaaaaaap", direct(3)), "PAGE_COUNT", 1, 1),
    ("14 U, mTHP", make("aaapaaaa", direct(2), orders=(2,)), "PAGE_COUNT", 1, 1),
    ("16 U", make("aaaaaaaa", direct(3), failures=(Failure(kind="poison", page=7),)), "COPY_MC", 1, 1),
    ("16 U, mTHP", make("aaaaaaaa", direct(2), orders=(2,), failures=(Failure(kind="poison", page=3),)), "COPY_MC", 1, 1),
    ("19", make("aaaaaaaa", direct(3)), "SUCCEED", 1, 1),
    ("19, mTHP", make("aaaaaaaa", direct(2), orders=(2,)), "SUCCEED", 1, 1),
]


@BOTH
@pytest.mark.parametrize("locked", [True, False])
@pytest.mark.parametrize("row", EXITS, ids=lambda row: row[0])
def test_exits(row: tuple[str, Scenario, str, int, int], locked: bool, variant: Variant) -> None:
    """Every exit unlocks what was locked, clears the flag, gives the folio up and emits one event."""
    _, s, result, reads, writes = row
    r = run(attrs.evolve(s, driver=attrs.evolve(s.driver, mmap_locked=locked)), variant)
    assert r.result == f"SCAN_{result}"
    assert r.mmap_locked is False
    assert (r.world.task.held, r.world.task.rcu_depth) == ([], 0)
    ops = [op for op, kind in r.world.task.lock_ops if kind == "mmap_lock"]
    assert ops.count("down_read") == ops.count("up_read") == reads + locked
    assert ops.count("down_write") == ops.count("up_write") == writes
    code = getattr(ScanResult, f"SCAN_{result}")
    assert traces(r, "mm_collapse_huge_page") == [(r.world.mm, result == "SUCCEED", code, s.driver.order)]
    assert reports(r) == []
    kept = {f.label for f in r.world.system.folios if not f.freed_by and f.label.startswith("new")}
    assert kept <= ({"new@1:0"} if result == "SUCCEED" else set())


@BOTH
@pytest.mark.parametrize("order", [2, 3])
def test_14_the_table_is_put_back(variant: Variant, order: int) -> None:
    r = run(make("aapaaaaa", direct(order), orders=(2, 3)), variant)
    assert mapped(r) == [f"page {i}" for i in range(8)]
    assert table(r.world).label == "table1"


@BOTH
@pytest.mark.parametrize("config", [Config(split_ptlocks=False), Config(tlb="ipi"), Config(debug_vm=False), Config(arch="walking")])
@pytest.mark.parametrize("order", [2, 3])
def test_configurations(variant: Variant, config: Config, order: int) -> None:
    r = run(make("aaaaaaaa", direct(order), orders=(2, 3), config=config), variant)
    assert r.result == "SCAN_SUCCEED"
    assert reports(r) == []


@BOTH
def test_a_01_the_cache_hook_meets_an_empty_pmd(variant: Variant) -> None:
    """In v12 as posted: only where the CPU has the target's address space loaded."""
    s = make("aaaaaaaa", direct(2, is_khugepaged=False), orders=(2,), config=Config(arch="walking"))
    assert reports(run(s, variant)) == [("DEBUG_VM", "update_mmu_cache_range: the live tables do not lead to the entries that were set")]


@BOTH
@pytest.mark.parametrize("order", [2, 3])
def test_a_pmd_that_is_not_none_warns(variant: Variant, order: int) -> None:
    """A flush that forgets to clear the entry."""

    def forgets(vma: VmAreaStruct, address: int, pmd: PmdSlot) -> pmd_t:
        return pmdp_get(pmd)

    with mock.patch(f"refactors.{variant.name}.pmdp_collapse_flush", forgets):
        r = run(make("aaaaaaaa", direct(order), orders=(2, 3)), variant)
    assert ("collapse_huge_page", "!pmd_none(*pmd)") in r.world.system.machine.warnings
