"""ksmd beside others: what write protection, the count of references and the second look at the entry are for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from kmm.mm import ksm_merge
from kmm.scenario.model import Scenario
from tests.concurrent.making import Letters, alone, beside, outcomes, results, violations
from tests.port.merging import LETTERS, MERGEABLE
from tests.test_sanitizers import recompiled

WRITE_PROTECT: Final = vars(ksm_merge)["_write_protect"]
PAIR: Final = "EE......"


def merging(*actors: str, pages: str = PAIR) -> Scenario:
    return alone(*actors, pages=pages, flags=MERGEABLE, letters=_used(pages))


def _used(pages: str) -> Letters:
    return tuple(each for each in LETTERS if each[0] in pages)


ALONE: Final = {
    "load": merging("ksm:0-1", "load:0"),
    "store to what becomes the zero page": merging("ksm:0:use_zero_pages", "store:0", pages="0......."),
    "store to a page that joins": merging("ksm:1", "store:1", pages="EEE....."),
    "write pin": merging("ksm:0-1", "gup_fast:0:write"),
    "write pin of the other": merging("ksm:0-1", "gup_fast:1:write"),
    "write pin of zeros": merging("ksm:0:use_zero_pages", "gup:0:write", pages="0......."),
    "fork": merging("ksm:0-1", "fork"),
    "zap": merging("ksm:0-1", "madvise:0-1:dontneed"),
    "unmap": merging("ksm:0-1", "munmap:0-1"),
    "protect": merging("ksm:0-1", "mprotect:0-1:read"),
    "two of them": merging("ksm:0-1", "ksm:0-1"),
    "age": merging("ksm:0-1", "age:0"),
}


@pytest.mark.parametrize("name", ALONE)
def test_nothing_is_lost(name: str) -> None:
    assert violations(outcomes(ALONE[name])) == set()


@pytest.mark.full
def test_a_store_to_one_of_a_pair() -> None:
    assert violations(outcomes(merging("ksm:0-1", "store:0"))) == set()


@pytest.mark.parametrize("pages", ["E.......", PAIR])
def test_beside_a_collapse(pages: str) -> None:
    """KSM's reference or its lock stops the collapse, or the collapse takes the pages first; merged, one page cannot be isolated twice."""
    found = outcomes(beside("ksm:0-1", pages=pages, flags=MERGEABLE, letters=_used(pages)))
    assert violations(found) == set()
    expected = {"SCAN_SUCCEED", "SCAN_FAIL", "SCAN_PAGE_COUNT"}
    assert results(found) == expected | ({"SCAN_PAGE_LOCK"} if pages == PAIR else set())


BEFORE_THE_FLUSH: Final = """
    entry = ptep_get(ptep)
    good = only_mapped(folio, swapped=swapped) and (not exclusive or _share(folio, page))
    entry = ptep_clear_flush(vma, pvmw.address, ptep)
    if not good:
"""
UNCOUNTED: Final = "exclusive and __import__('kmm.mm.folio').mm.folio.ClearPageAnonExclusive(page)"
SEEDED: Final = (
    (
        "the references are counted before the entry is empty",
        WRITE_PROTECT,
        (
            ("    entry = ptep_clear_flush(vma, pvmw.address, ptep)\n", ""),
            ("    if not only_mapped(folio, swapped=swapped) or (exclusive and not _share(folio, page)):\n", BEFORE_THE_FLUSH[1:]),
        ),
        "write pin of zeros",
        "TRANSPARENCY",
    ),
    (
        "the references are not counted",
        WRITE_PROTECT,
        (("not only_mapped(folio, swapped=swapped) or (exclusive and not _share(folio, page))", UNCOUNTED),),
        "write pin of zeros",
        "TRANSPARENCY",
    ),
    (
        "no flush when the entry becomes read-only",
        WRITE_PROTECT,
        (
            (
                "ptep_clear_flush(vma, pvmw.address, ptep)",
                "__import__('kmm.mm.pgtable').mm.pgtable.ptep_get_and_clear(mm, pvmw.address, ptep)",
            ),
        ),
        "store to what becomes the zero page",
        "TRANSPARENCY",
    ),
    (
        "the entry is not looked at again",
        ksm_merge.replace_page,
        (("ptep_get(ptep) == orig_pte", "True"),),
        "store to what becomes the zero page",
        "TRANSPARENCY",
    ),
    (
        "no flush when the entry maps another page",
        vars(ksm_merge)["_replace"],
        (("ptep_clear_flush(vma, address, ptep)", "pass"),),
        "load",
        "TLB",
    ),
    (
        "the contents are not looked at again",
        vars(ksm_merge)["_merge_locked"],
        (("if pages_identical(page, kpage) else EFAULT", ""),),
        "store to what becomes the zero page",
        "TRANSPARENCY",
    ),
)


@pytest.mark.parametrize(("what", "function", "edits", "name", "check"), SEEDED, ids=[each[0] for each in SEEDED])
def test_a_seeded_bug_is_found(
    what: str, function: Callable[..., object], edits: tuple[tuple[str, str], ...], name: str, check: str
) -> None:
    def edit(source: str) -> str:
        for old, new in edits:
            assert source.count(old) == 1
            source = source.replace(old, new)
        return source

    with recompiled(function, edit):
        assert any(each.startswith(check) for each in violations(outcomes(ALONE[name]))), what
