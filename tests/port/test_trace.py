"""Reference 1.3 and 1.4: result numbers, their strings, and the fields of each trace event."""

from __future__ import annotations

import pytest

from kmm.judge.observe import observe
from kmm.mm.khugepaged.types import SCAN_STATUS, ScanResult
from kmm.scenario.model import Scenario
from tests.helpers import MADVISE, direct, go, make, traces

TABLE_1_3 = """
FAIL failed|SUCCEED succeeded|PMD_NULL pmd_null|PMD_NONE pmd_none|PMD_MAPPED page_pmd_mapped|EXCEED_NONE_PTE exceed_none_pte
EXCEED_SWAP_PTE exceed_swap_pte|EXCEED_SHARED_PTE exceed_shared_pte|PTE_NON_PRESENT pte_non_present|PTE_UFFD_WP pte_uffd_wp
PTE_MAPPED_HUGEPAGE pte_mapped_hugepage|LACK_REFERENCED_PAGE lack_referenced_page|PAGE_NULL page_null|SCAN_ABORT scan_aborted
PAGE_COUNT not_suitable_page_count|PAGE_LRU page_not_in_lru|PAGE_LOCK page_locked|PAGE_ANON page_not_anon|PAGE_COMPOUND page_compound
ANY_PROCESS no_process_for_page|VMA_NULL vma_null|VMA_CHECK vma_check_failed|ADDRESS_RANGE not_suitable_address_range
DEL_PAGE_LRU could_not_delete_page_from_lru|ALLOC_HUGE_PAGE_FAIL alloc_huge_page_failed|CGROUP_CHARGE_FAIL ccgroup_charge_failed
TRUNCATED truncated|PAGE_HAS_PRIVATE page_has_private|STORE_FAILED store_failed|COPY_MC copy_poisoned_page|PAGE_FILLED page_filled
"""


def test_numbers_and_strings() -> None:
    expected = [tuple(row.split()) for row in TABLE_1_3.strip().replace("\n", "|").split("|")]
    assert [(result.name.removeprefix("SCAN_"), SCAN_STATUS[result]) for result in ScanResult][:31] == expected
    assert [result.value for result in ScanResult] == list(range(len(SCAN_STATUS)))


def test_fields_of_a_pass() -> None:
    r = go(make("awaaaa..", none=7))
    name = "new@1:0"
    assert observe(r).trace == (
        ("mm_collapse_huge_page_swapin", 1, 1, 5, 1, 3),
        ("mm_collapse_huge_page_isolate", "page 5", 2, 6, "succeeded", 3),
        ("mm_collapse_huge_page", 1, True, "succeeded", 3),
        ("mm_khugepaged_scan_pmd", 1, "page 5", 5, 2, "succeeded", 1),
    )
    assert [folio.label for folio in r.world.system.folios if not folio.freed_by] == [name]


def test_fact_13_the_folio_is_the_last_one_that_was_looked_up() -> None:
    def folio(pages: str, *flags: str) -> object:
        return traces(go(make(pages, MADVISE, flags=("read", "write", *flags))), "mm_khugepaged_scan_pmd")[0][1]

    assert folio("aaapaaaa") == "page 3", "refused by count: the refused one"
    assert folio("aa.uaaaa", "uffd_wp") == "page 1", "refused as uffd-wp: the last present one before"
    assert folio("uaaaaaaa", "uffd_wp") is None
    assert folio("2222apaa") == "page 5"
    assert folio("33333333") == "page 0", "the folio, not its page"


def test_the_isolate_event_has_no_folio_when_all_are_holes() -> None:
    r = go(make("........", direct(3, is_khugepaged=False)))
    assert observe(r).trace[0] == ("mm_collapse_huge_page_isolate", None, 8, 0, "succeeded", 3)


@pytest.mark.parametrize(
    ("s", "names"),
    [
        (make("........", pmd="none"), ["mm_khugepaged_scan_pmd"]),
        (make("aaaaaaap"), ["mm_khugepaged_scan_pmd"]),
        (make("aaaaaaaa"), ["mm_collapse_huge_page_isolate", "mm_collapse_huge_page", "mm_khugepaged_scan_pmd"]),
        (make("aaaaaaap", direct(3)), ["mm_collapse_huge_page_isolate", "mm_collapse_huge_page"]),
        (make("aaaaaaaa", direct(2)), ["mm_collapse_huge_page"]),
        (make("aaaaaawa", direct(2, 4), orders=(2,)), ["mm_collapse_huge_page_swapin", "mm_collapse_huge_page"]),
        (make("aaaaaaaa", anon_vma=True, flags=("nohugepage", "read", "write")), []),
    ],
)
def test_which_events(s: Scenario, names: list[str]) -> None:
    assert [event[0] for event in observe(go(s)).trace if isinstance(event, tuple)] == names
