"""PAGE_TABLE_CHECK: how often each page is mapped, and by whom writable (mm/page_table_check.c)."""

from __future__ import annotations

from collections.abc import Iterable

from kmm.kernel import current
from kmm.mm import system
from kmm.mm.folio import Folio, Page
from kmm.mm.pte import ZERO_PFN, is_huge_zero_pmd, pmd_pfn, pmd_t, pmd_trans_huge, pte_t


def _map(page: Page, writable: bool) -> None:
    page.ptc_count += 1
    if writable and page.ptc_count > 1:
        current.machine.report("PAGE_TABLE_CHECK", f"{page.name} is mapped writable and {page.ptc_count} times at once")


def _unmap(page: Page) -> None:
    page.ptc_count -= 1
    if page.ptc_count < 0:
        current.machine.report("PAGE_TABLE_CHECK", f"{page.name} is unmapped more often than it was mapped")


def pte_set(pte: pte_t) -> None:
    """An entry is stored."""
    if pte & 0x101:
        pfn = (pte >> 12) & 0xFFFFFFFFFF
        page = system.this.mem_map.get(pfn)
        if page is not None:
            _map(page, bool(pte & 2))
        elif pfn != ZERO_PFN and not pte & 0x200:
            current.machine.report("PAGE_TABLE_CHECK", "an entry is stored for a frame that no folio has")


def pte_clear(pte: pte_t) -> None:
    """An entry is removed."""
    if pte & 0x101:
        pfn = (pte >> 12) & 0xFFFFFFFFFF
        page = system.this.mem_map.get(pfn)
        if page is not None:
            _unmap(page)


def pmd_set(pmd: pmd_t) -> None:
    """A huge entry is stored."""
    for page in _pages(pmd):
        _map(page, bool(pmd & 2))


def pmd_clear(pmd: pmd_t) -> None:
    """A huge entry is removed."""
    for page in _pages(pmd):
        _unmap(page)


def _pages(pmd: pmd_t) -> Iterable[Page]:
    """The pages that a huge entry maps; the huge zero page has none."""
    return system.this.mem_map[pmd_pfn(pmd)].folio.pages if pmd_trans_huge(pmd) and not is_huge_zero_pmd(pmd) else ()


def folio_freed(folio: Folio) -> None:
    """A folio is freed: no table may map it."""
    for page in folio.pages:
        if page.ptc_count:
            current.machine.report("PAGE_TABLE_CHECK", f"{page.name} is freed while {page.ptc_count} page-table entries map it")
            return
