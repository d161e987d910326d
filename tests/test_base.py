"""``base``: limits, results and counters of the path before the series, and its bounds."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from kmm.judge.observe import observe
from kmm.judge.variants import load_variant
from kmm.kernel.stop import NotApplicable
from kmm.scenario.model import Config, Driver, Event, Failure, Scenario
from kmm.scenario.run import run
from refactors import base, v12
from tests.data.oracle.convert import HERE, read_cases
from tests.helpers import KHUGEPAGED, MADVISE, direct, go, is_huge, make, reports, statuses, traces

BASE = base.VARIANT
MERGEABLE = ("mergeable", "read", "write")
ARMED = ("read", "uffd_wp", "write")
PMD_ORDER = 3


# What it does with the scan.


@pytest.mark.parametrize("pages", ["........", "zzzzzzzz", "z.z.z.zZ", "wwwwwwww", ".......w", "z.vvww.."])
def test_madvise_has_no_limit(pages: str) -> None:
    r = go(make(pages, MADVISE, none=0, swap=0, shared=0, flags=MERGEABLE), BASE)
    assert (r.result, r.errno, is_huge(r), reports(r)) == ("SCAN_SUCCEED", "", True, [])


def test_madvise_of_an_armed_vma_may_have_no_hole() -> None:
    r = go(make("aaaaaa.a", MADVISE, flags=ARMED), BASE)
    assert (r.result, r.errno, r.mmap_locked) == ("SCAN_EXCEED_NONE_PTE", "EBUSY", True)
    assert r.world.system.vm_events == {"thp_scan_exceed_none_pte": 1}


@pytest.mark.parametrize(
    ("pages", "limits", "result"),
    [
        ("aaaaa...", {"none": 3}, "SCAN_SUCCEED"),
        ("aaaaa..z", {"none": 2}, "SCAN_EXCEED_NONE_PTE"),
        ("aaaaaaaw", {"none": 0, "swap": 1}, "SCAN_SUCCEED"),
        ("aaaa.www", {"none": 1, "swap": 3}, "SCAN_SUCCEED"),
        ("aaaaaaww", {"none": 0, "swap": 1}, "SCAN_EXCEED_SWAP_PTE"),
        ("aaaaaass", {"shared": 2}, "SCAN_SUCCEED"),
        ("aaaaaass", {"shared": 1}, "SCAN_EXCEED_SHARED_PTE"),
        ("oooooooo", {}, "SCAN_LACK_REFERENCED_PAGE"),
        ("aaaooow.", {"swap": 1}, "SCAN_LACK_REFERENCED_PAGE"),
        ("aaaaoow.", {"swap": 1}, "SCAN_SUCCEED"),
    ],
)
def test_limits_of_khugepaged(pages: str, limits: dict[str, int], result: str) -> None:
    """A swap entry is no hole: v12 counts it as one (S-14)."""
    r = go(make(pages, none=limits.get("none"), swap=limits.get("swap"), shared=limits.get("shared")), BASE)
    assert (r.result, is_huge(r), reports(r)) == (result, result == "SCAN_SUCCEED", [])


def test_a_range_with_a_large_folio_is_collapsed_again() -> None:
    """The base knows no order below PMD order, and so no range that is large enough already."""
    assert go(make("2222aaaa", shared=0), BASE).result == "SCAN_SUCCEED"


# What it does with the result of the attempt.


@pytest.mark.parametrize(
    ("failure", "result", "errno"),
    [
        ((Failure(kind="alloc"),), "SCAN_ALLOC_HUGE_PAGE_FAIL", "ENOMEM"),
        ((Failure(kind="charge"),), "SCAN_CGROUP_CHARGE_FAIL", "EBUSY"),
        ((Failure(kind="poison", page=3),), "SCAN_COPY_MC", "EINVAL"),
        ((Failure(kind="swapin_retry", page=7),), "SCAN_PAGE_LOCK", "EAGAIN"),
        ((Failure(kind="swapin_error", page=7),), "SCAN_FAIL", "EINVAL"),
    ],
)
@pytest.mark.parametrize("driver", [MADVISE, KHUGEPAGED], ids=["madvise", "khugepaged"])
def test_the_result_of_the_attempt_is_that_of_the_scan(driver: Driver, failure: tuple[Failure, ...], result: str, errno: str) -> None:
    r = go(make("aaaaaaaw", driver, failures=failure), BASE)
    assert (r.result, r.errno, r.mmap_locked, is_huge(r)) == (result, errno if driver is MADVISE else "", False, False)
    assert [f.name for f in statuses(r, "mm_khugepaged_scan_pmd")] == [result]
    assert reports(r) == []


@pytest.mark.parametrize(
    ("s", "errno"),
    [
        (make("aaaaaaaa", MADVISE, events=(Event(op="pin", before="mmap_write_lock", page=2),)), "EAGAIN"),
        (make("KKaaaaaa", MADVISE, flags=MERGEABLE), "EAGAIN"),
        (make("aaaaaaaa", MADVISE, events=(Event(op="free_table", before="alloc"),)), "EINVAL"),
        (attrs.evolve(make("aaaaaaaa", MADVISE), memcg_room=7), "EBUSY"),
    ],
)
def test_what_comes_between_the_scan_and_the_attempt_has_its_errno(s: Scenario, errno: str) -> None:
    """v12 gives EINVAL for all of them (S-15)."""
    assert (go(s, BASE).errno, go(s, v12.VARIANT).errno) == (errno, "EINVAL")


# Counters and events.


def test_no_statistics_of_orders_but_those_of_the_folio() -> None:
    r = go(make("aaaaaa..", events=(Event(op="sysfs", before="mmap_write_lock", name="max_ptes_none", value="0"),)), BASE)
    assert r.result == "SCAN_EXCEED_NONE_PTE"
    assert r.world.system.mthp_stats == {}
    assert r.world.system.vm_events == {"thp_collapse_alloc": 1, "thp_scan_exceed_none_pte": 1}
    done = go(make("aaaaaaaa"), BASE).world.system
    assert {name for _, name in done.mthp_stats} <= {"nr_anon"}
    assert done.mms[0].memcg.events == {"thp_collapse_alloc": 1}


def test_the_counters_of_a_failed_allocation() -> None:
    r = go(make("aaaaaaaa", failures=(Failure(kind="alloc"),)), BASE)
    assert (r.world.system.vm_events, r.world.system.mthp_stats) == ({"thp_collapse_alloc_failed": 1}, {})


def test_trace_events_have_pmd_order_where_v12_has_an_order() -> None:
    """An equalisation: the events of 6.18 have no order."""
    r = go(make("aaaaaaaw"), BASE)
    for name in ("mm_collapse_huge_page", "mm_collapse_huge_page_isolate", "mm_collapse_huge_page_swapin"):
        assert [fields[-1] for fields in traces(r, name)] == [PMD_ORDER]
    assert [event[0] for event in observe(r).trace if isinstance(event, tuple)] == [
        "mm_collapse_huge_page_swapin",
        "mm_collapse_huge_page_isolate",
        "mm_collapse_huge_page",
        "mm_khugepaged_scan_pmd",
    ]


@pytest.mark.parametrize("highpte", [False, True])
@pytest.mark.parametrize("pages", ["aaaaaaaa", "KKaaaaaa"])
def test_the_table_is_unmapped_on_every_way_out(pages: str, highpte: bool) -> None:
    assert reports(go(make(pages, MADVISE, flags=MERGEABLE, config=Config(highpte=highpte)), BASE)) == []


# What it cannot do.


@pytest.mark.parametrize(
    "s", [make("aaaaaaaa", direct(2)), make("aaaaaaaa", direct(2, 4)), make("aaaaaaaa", orders=(2, 3)), make("aaaaaaaa", orders=(2,))]
)
def test_orders_below_pmd_order_are_outside_of_its_scope(s: Scenario) -> None:
    r = run(s, BASE)
    assert not r.applicable
    assert r.world.system.machine.trace_events == []


def test_madvise_is_inside_whatever_is_enabled() -> None:
    assert go(make("aaaaaaaa", MADVISE, orders=(2,)), BASE).result == "SCAN_SUCCEED"
    assert go(make("aaaaaaaa", direct(3), orders=(2, 3)), BASE).result == "SCAN_SUCCEED"


def test_not_applicable_is_no_result() -> None:
    assert issubclass(NotApplicable, BaseException)
    assert not issubclass(NotApplicable, Exception)


@pytest.mark.parametrize("mmap_locked", [True, False])
def test_a_direct_attempt_may_come_without_the_lock(mmap_locked: bool) -> None:
    r = go(make("aaaaaaaa", direct(3, mmap_locked=mmap_locked)), BASE)
    assert (r.result, r.mmap_locked, reports(r)) == ("SCAN_SUCCEED", False, [])


# Seeded bugs: each is seen in the replay of a recorded call, or by a sanitizer.


MUTANTS: list[tuple[str, str, str]] = [
    ("return not cc.is_khugepaged or none_or_zero <= ", "return none_or_zero <= ", "all_zero_anonvma"),
    ("    if userfaultfd_armed(vma):\n        return False\n", "", "uffd_armed_one_none"),
    ("shared > _tunable(Sysctl.khugepaged_max_ptes_shared):\n            count_vm", "shared > 999:\n            count_vm", "kh_shared_257"),
    ("scan.unmapped > _tunable(", "scan.unmapped >= _tunable(", "kh_swap_64"),
    ("scan.referenced < HPAGE_PMD_NR() // 2", "scan.referenced < 2", "kh_swap_young255"),
    ("PTE_UFFD_WP if pte_swp_uffd_wp_any(pteval) else ScanResult.SCAN_SUCCEED", "SUCCEED", "zram_swap_uffdwp"),
    ("        if unmapped:\n", "        if unmapped > 1:\n", "zram_swap_1"),
    ("                result = attempt(", "                attempt(", "memcg_limit"),
    ("            folio = NULL(Folio)\n\n", "", "all_present"),
    ("            pte_unmap(pte)\n            if result", "            if result", "all_present"),
    ("                if pte is not None:\n                    pte_unmap(pte)\n", "", "ksm_two"),
    ("                pmd_populate(mm, pmd, pmd_pgtable(pmdp_get(_pmd)))\n", "", "ksm_two"),
    ("release_pte_pages(pte, pte + i,", "release_pte_pages(pte, pte,", "ksm_200"),
    ("                anon_vma_unlock_write(vma.anon_vma)\n                goto", "                goto", "ksm_two"),
    ("            pgtable_trans_huge_deposit(mm, pmd, pgtable)\n", "", "all_present"),
    ("        mmap_locked.value = False\n", "", "all_present"),
]


@pytest.mark.parametrize(("old", "new", "ident"), MUTANTS, ids=[each[0].strip()[:40] for each in MUTANTS])
def test_a_bug_is_seen(old: str, new: str, ident: str, tmp_path: Path) -> None:
    from tests.test_oracle_replay import BY_ID, disagreements

    source = Path(base.__file__).read_text(encoding="utf-8")
    assert source.count(old) == 1, f"{source.count(old)} places have {old!r}"
    path = tmp_path / "mutant.py"
    path.write_text(source.replace(old, new), encoding="utf-8")
    assert disagreements(BY_ID[ident], BASE) == []
    assert disagreements(BY_ID[ident], load_variant(str(path)).variant)


def test_the_recordings_are_there() -> None:
    assert len(read_cases(HERE / "recorded.json")) >= 125
