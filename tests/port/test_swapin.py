"""Reference 5.2: ``__collapse_huge_page_swapin`` and what ``do_swap_page`` answers."""

from __future__ import annotations

from unittest import mock

import pytest

from kmm.mm.khugepaged import swapin
from kmm.mm.khugepaged.types import ScanResult
from kmm.mm.pte import FLAG_BITS, pte_dirty, pte_uffd_wp, pte_write, pte_young
from kmm.scenario.build import World
from kmm.scenario.model import Event, Failure, Scenario
from kmm.scenario.page import Kind, PageState
from kmm.scenario.quiescence import slots_in_use
from kmm.scenario.run import Run
from tests.helpers import direct, folio_of, go, is_huge, make, mapped, reports, table, traces

S = ScanResult


def swapped(r: Run) -> tuple[object, ...]:
    """The swap-in event: swapped_in, referenced, ret, order; ret is a plain integer."""
    (fields,) = traces(r, "mm_collapse_huge_page_swapin")
    assert type(fields[3]) is int
    return fields[1:]


def test_no_swap_in_without_unmapped() -> None:
    assert traces(go(make("aaaaaaaa", direct(3))), "mm_collapse_huge_page_swapin") == []
    assert swapped(go(make("aaaaaaaa", direct(3, unmapped=1)))) == (0, 8, S.SCAN_SUCCEED, 3)


@pytest.mark.parametrize("pages", ["wwwwwwwa", "vvvvvvva", "yyyyyyya", "wvyw.zaa"])
def test_pmd_order_brings_everything_back(pages: str) -> None:
    r = go(make(pages, direct(3, is_khugepaged=False)))
    assert swapped(r) == (sum(c in "wvy" for c in pages), 0, S.SCAN_SUCCEED, 3)
    assert is_huge(r)
    assert reports(r) == []


def test_the_limit_is_not_consulted_again() -> None:
    assert is_huge(go(make("wwwwaaaa", direct(3), swap=0)))


@pytest.mark.parametrize(("offset", "result"), [(0, S.SCAN_SUCCEED), (4, S.SCAN_EXCEED_SWAP_PTE)])
def test_smaller_orders_refuse_a_swap_entry_in_their_range(offset: int, result: ScanResult) -> None:
    r = go(make("aaaaaawaaaaaaaaa", direct(2, offset), orders=(2,)))
    assert swapped(r) == (0, 15, result, 2)
    assert r.result == result.name
    assert r.world.system.mthp_stats.get((2, "collapse_exceed_swap_pte"), 0) == (result != S.SCAN_SUCCEED)
    assert not any("exceed" in name for name in r.world.system.vm_events)
    assert r.mmap_locked is False
    assert reports(r) == []


def test_1_table_gone() -> None:
    with mock.patch.object(swapin, "pte_offset_map_ro_nolock", lambda mm, pmd, addr: (None, mm.page_table_lock)):
        r = go(make("waaaaaaa", direct(3)))
    assert swapped(r) == (0, 7, S.SCAN_PMD_NULL, 3)
    assert (r.result, r.mmap_locked) == ("SCAN_PMD_NULL", False)
    assert reports(r) == []


@pytest.mark.parametrize("letter", ["w", "v"])
@pytest.mark.parametrize(("kind", "result"), [("swapin_retry", S.SCAN_PAGE_LOCK), ("swapin_error", S.SCAN_FAIL)])
def test_4_a_failure_keeps_what_came_in(letter: str, kind: str, result: ScanResult) -> None:
    s = make(f"w{letter}{letter}aaaaa", direct(3), failures=(Failure(kind=kind, page=1),))
    r = go(s)
    assert swapped(r) == (1, 5, result, 3)
    assert (r.result, r.mmap_locked) == (result.name, False)
    assert mapped(r)[:4] == ["new@1:0", "swap", "swap", "page 3"]
    assert r.world.mm._rss_stat == [6, 2]
    assert reports(r) == []
    cached = slots_in_use(r.world.system)[2]._cached is not None
    assert cached == (letter == "v" or kind == "swapin_retry"), "a retry keeps the page that arrived in the swap cache"


def test_no_memory_is_an_error() -> None:
    for kind in ("alloc", "charge"):
        r = go(make("waaaaaaa", direct(3), failures=(Failure(kind=kind, nth=2),)))
        assert swapped(r) == (0, 7, S.SCAN_FAIL, 3)
        assert reports(r) == []


def test_an_entry_that_changed_meanwhile_counts_as_done() -> None:
    """The allocation for the swapped page lets others in: the page is zapped."""
    zap = Event(op="zap", before="alloc", nth=2, page=0)
    r = go(make("waaaaaaa", direct(3), events=(zap,)))
    assert r.events == ("done",)
    assert swapped(r) == (1, 7, S.SCAN_SUCCEED, 3)
    assert is_huge(r)
    assert reports(r) == []


def pin_the_last(world: World) -> None:
    """Refuse the attempt after the swap-in, at its last page."""
    folio = folio_of(world, 7)
    folio._refcount += 1
    folio._pincount = 1


@pytest.mark.parametrize("letter", ["w", "y"])
def test_a_table_that_went_meanwhile(letter: str) -> None:
    """The page is given up, and the next one finds no table."""
    gone = Event(op="free_table", before="alloc", nth=2)
    r = go(make(f"{letter}aaaaaaa", direct(3), events=(gone,)))
    assert swapped(r) == (1, 7, S.SCAN_PMD_NULL, 3)
    assert r.result == "SCAN_PMD_NULL"
    assert reports(r) == []


SWAP = PageState(kind=Kind.SWAP, exclusive=True, soft_dirty=True)
LETTERS = (("A", SWAP), ("B", PageState(kind=Kind.SWAP, exclusive=True, uffd_wp=True)))


@pytest.mark.parametrize(
    ("letter", "flags", "write", "soft", "uffd"),
    [
        ("w", ("read", "write"), True, False, False),
        ("w", ("read",), False, False, False),
        ("v", ("read", "write"), True, False, False),
        ("y", ("read", "write"), False, False, False),
        ("A", ("read", "write"), True, True, False),
        ("B", ("read", "uffd_wp", "write"), False, False, True),
    ],
)
def test_the_entry_that_is_mapped(letter: str, flags: tuple[str, ...], write: bool, soft: bool, uffd: bool) -> None:
    s: Scenario = make(letter + "aaaaaaa" if "write" in flags else letter + "r" * 7, direct(3), flags=flags, letters=LETTERS, none=0)
    r = go(s, poke=pin_the_last)
    assert r.result == "SCAN_PTE_UFFD_WP" if uffd else "SCAN_PAGE_COUNT"
    pte = table(r.world)._entries[0]
    assert (pte_young(pte), pte_dirty(pte)) == (True, False)
    assert (pte_write(pte), bool(pte & FLAG_BITS["soft_dirty"]), pte_uffd_wp(pte)) == (write, soft, uffd)
    folio = folio_of(r, 0)
    assert bool(folio.pages[0]._flags & 1) == (letter != "y"), "PageAnonExclusive"
    assert r.world.mm._rss_stat == [8, 0]
    assert reports(r) == []


def test_success_drains_the_batch() -> None:
    r = go(make("wbaaaaaa", direct(3)))
    assert is_huge(r), "without the drain both pages would have a reference too many"
    refused = go(make("bwaaaaaa", direct(2, 0), orders=(2,)))
    assert refused.result == "SCAN_EXCEED_SWAP_PTE"
    assert [folio.label for cpu in refused.world.system.per_cpu for folio in cpu._lru_add] == ["page 0"], (
        "nothing came in, nothing is drained"
    )
