"""What no scenario can reach, each with its proof. A test fails when one of these is reached, or anything else is not."""

from __future__ import annotations

from typing import Final

import attrs


@attrs.frozen
class UnreachableLine:
    """A line of a variant.

    :param variants: names of the variants in which it stands
    :param function: the function that it stands in
    :param text: the line without its indentation
    :param proof: why no run gets there
    """

    variants: tuple[str, ...]
    function: str
    text: str
    proof: str


@attrs.frozen
class UnreachableCode:
    """A SCAN code that neither a result nor a trace event can show.

    :param name: of the code
    :param proof: why
    """

    name: str
    proof: str


LINES: Final = (
    UnreachableLine(
        ("v12", "reviewed", "merged", "base"),
        "collapse_huge_page",
        "result = ScanResult.SCAN_PMD_NULL",
        "_pmd is a slot of its own and holds what pmdp_collapse_flush returned; check_pmd_still_valid has seen a table there under "
        "the mmap write lock, which everything that frees a table needs in one mode or the other, so mapping it cannot fail",
    ),
    UnreachableLine(
        ("merged", "base"),
        "collapse_scan_pmd",
        "result = ScanResult.SCAN_PMD_NULL",
        "find_pmd_or_thp_or_none has seen a table there, one task runs, and nothing sleeps in between",
    ),
    UnreachableLine(
        ("merged", "base"),
        "_scan_pte",
        "return ScanResult.SCAN_PAGE_ANON",
        "every mapped folio is anonymous",
    ),
    UnreachableLine(
        ("base",),
        "call_site",
        'raise NotApplicable(f"order {order}")',
        "a run that ends here lies outside of the pair's scope, and the lines of such a run do not count",
    ),
    UnreachableLine(
        ("base",),
        "collapse_scan_pmd",
        'raise NotApplicable("an order below PMD order is enabled")',
        "a run that ends here lies outside of the pair's scope, and the lines of such a run do not count",
    ),
    UnreachableLine(
        ("merged",),
        "collapse_max_ptes_swap",
        "return 0",
        "the scan asks for PMD order, and nobody else asks: the swap-in refuses smaller ranges by itself",
    ),
)

_FILE_ONLY: Final = "only the collapse of file mappings gives it, which the model leaves out"

CODES: Final = (
    UnreachableCode("SCAN_PAGE_LAZYFREE", "v12 does not have it: khugepaged refuses lazyfree pages only in the form that was merged"),
    UnreachableCode("SCAN_PAGE_COMPOUND", "nothing in the anonymous path gives it any more: large folios are collapsed"),
    UnreachableCode("SCAN_TRUNCATED", _FILE_ONLY),
    UnreachableCode("SCAN_PAGE_HAS_PRIVATE", _FILE_ONLY),
    UnreachableCode("SCAN_STORE_FAILED", _FILE_ONLY),
    UnreachableCode("SCAN_PAGE_FILLED", _FILE_ONLY),
    UnreachableCode(
        "SCAN_PAGE_ANON",
        "every mapped folio is anonymous, and thp_vma_allowable_orders refuses a VMA without anon_vma before the revalidation asks for one",
    ),
)
