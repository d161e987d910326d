"""ksmd merges equal pages: what is merged, what is left alone, and who notices when a line is wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kmm.mm import ksm, ksm_merge, ksm_scan
from kmm.mm.khugepaged.types import ScanResult
from kmm.mm.pte import ZERO_PFN, pte_dirty, pte_special, pte_write
from kmm.scenario.model import Scenario
from kmm.scenario.run import run
from kmm.scenario.step import Step
from refactors import v12
from tests.port.merging import clean, frames, load, ptes, steps, store
from tests.port.merging import ksm as scan
from tests.test_sanitizers import recompiled


def test_two_equal_pages_become_one_read_only_page() -> None:
    r = clean(steps("EE.aaaaa", scan()))
    first, second, *_ = frames(r)
    assert first == second
    assert len({first, *frames(r)[3:]}) == 6, "no other page was merged"
    assert not any(pte_write(pte) for pte in ptes(r)[:2])
    assert all(pte_write(pte) for pte in ptes(r)[3:])
    folio = r.world.system.mem_map[first].folio
    assert (folio._refcount, folio._mapcount, folio.pages[0]._flags & 1) == (2, 2, 0)
    assert folio._mapping is r.world.system.ksm.stable_node
    assert r.world.system.ksm._stable_tree == (folio,)
    assert r.world.mm._rss_stat == [7, 0], "an entry that maps a merged page counts as anonymous"
    assert sum(not each.freed_by for each in r.world.system.folios) == 6


def test_a_third_joins_the_merged_page_and_a_write_takes_its_own_copy() -> None:
    r = clean(steps("EEE.....", scan(), load(0, 3), store(1), load(0, 3)))
    a, b, c, *_ = frames(r)
    assert a == c != b
    assert pte_write(ptes(r)[1])
    assert r.world.system.vm_events["cow_ksm"] == 1


def test_a_page_that_was_merged_before_the_run_takes_equals_only() -> None:
    """All K are one page; no other letter has its contents."""
    r = clean(steps("KKEE....", scan()))
    assert len(set(frames(r)[:4])) == 2


def test_zeros_become_the_zero_page_if_that_is_wanted() -> None:
    r = clean(steps("00......", scan(zero=True)))
    for pte, frame in zip(ptes(r)[:2], frames(r)[:2], strict=True):
        assert frame == ZERO_PFN
        assert pte_dirty(pte)
        assert pte_special(pte)
        assert not pte_write(pte)
    assert (r.world.mm._ksm_zero_pages, r.world.system.node_stat["ksm_zero_pages"], r.world.mm._rss_stat[0]) == (2, 2, 0)
    assert frames(clean(steps("00......", scan())))[0] != ZERO_PFN


def test_a_write_to_a_placed_zero_page_is_counted_off() -> None:
    r = clean(steps("0.......", scan(zero=True), store(0), load(0)))
    assert r.world.mm._ksm_zero_pages == r.world.system.node_stat["ksm_zero_pages"] == 0


@pytest.mark.parametrize("pages", ["XE......", "EX......"])
def test_a_page_with_a_reference_stays_writable_and_the_other_is_unshared_again(pages: str) -> None:
    """The later page is made a merged page first; when the earlier one cannot follow it gets a page of its own back."""
    r = clean(steps(pages, scan(), store(pages.index("X")), load(0, 2)))
    a, b, *_ = frames(r)
    assert a != b
    assert pte_write(ptes(r)[pages.index("X")])
    assert r.world.system.ksm._stable_tree == ()
    assert not any(each._mapping is r.world.system.ksm.stable_node for each in r.world.system.folios if not each.freed_by)


def test_a_page_that_somebody_reads_elsewhere_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference that is no pin of an exclusive page is seen by the count alone."""
    s = steps("GE......", scan())
    assert len(set(frames(clean(s))[:2])) == 2
    monkeypatch.setattr(ksm_merge, "only_mapped", lambda _folio, *, swapped: True)
    assert len(set(frames(clean(s))[:2])) == 1, "seeded: the references are not counted"


def test_a_shared_page_is_merged_in_each_process_by_itself() -> None:
    r = clean(steps("eE......", scan(), scan(process=2), load(0, 2), load(0, 1, 2), store(0, 2), load(0)))
    assert frames(r)[0] == frames(r)[1]


def test_a_large_folio_is_split_first() -> None:
    r = clean(steps("BBBBE...", scan(), scan(), load(0, 5)))
    assert len(set(frames(r)[:5])) == 1
    assert r.world.system.mem_map[frames(r)[0]].folio._mapcount == 5


def test_a_page_in_an_lru_batch_is_drained_first() -> None:
    r = clean(steps("0.......", scan(zero=True)))
    later = clean(steps("0.......", store(0), scan(zero=True), load(0)))
    assert frames(r)[0] == ZERO_PFN != frames(later)[0], "it is no page of zeros any more"


def test_where_ksm_may_not_merge_the_step_says_so() -> None:
    r = run(steps("EE......", scan(), flags=("read", "write")), v12.VARIANT)
    assert r.impossible is not None
    assert r.impossible.problem.endswith("KSM may not merge there")


def test_a_merged_page_stops_the_collapse_only_where_it_is_mapped_twice() -> None:
    """Isolating the second mapping finds the folio locked, by the collapse itself; v12 makes EINVAL of that."""
    collapse = Step(op="madvise", page=0, length=8, value="collapse")
    r = clean(steps("EEaaaaaa", scan(), collapse, store(0), collapse, load(0, 8)))
    assert r.steps == ("done", "EINVAL", "done", "done", "done")
    isolate = [fields[3] for name, fields in r.world.system.machine.trace_events if name == "mm_collapse_huge_page_isolate"]
    assert isolate == [ScanResult.SCAN_PAGE_LOCK, ScanResult.SCAN_SUCCEED]
    assert not any(each._mapping is r.world.system.ksm.stable_node for each in r.world.system.folios if not each.freed_by)


@pytest.mark.parametrize("after", [Step(op="fork"), Step(op="swapout", page=0), Step(op="munmap", page=0), Step(op="mlock", page=0)])
def test_a_merged_page_lives_on_like_others(after: Step) -> None:
    clean(steps("EEE.....", scan(), after, load(1, 2), scan(), store(1), load(1, 2)))


PAIR = steps("EE......", scan(), store(1), load(0, 2))
ZEROS = steps("0.......", scan(zero=True), load(0), store(0))
LARGE = steps("BBBBE...", scan(), scan(), load(0, 5))

WRITE_PROTECT, REPLACE = vars(ksm_merge)["_write_protect"], vars(ksm_merge)["_replace"]
FLUSH = "ptep_clear_flush(vma, pvmw.address, ptep)"
SEEN_DIRTY = "pte_mkdirty(mk_zero_pte(vma.vm_page_prot))"

BUGS = [
    ("TLB", WRITE_PROTECT, FLUSH, "ptep_get(ptep)", PAIR),
    ("TRANSPARENCY", WRITE_PROTECT, "pte_wrprotect(pte_mkclean(entry))", "pte_mkclean(entry)", PAIR),
    ("DEBUG_VM", vars(ksm_merge)["_share"], "folio_try_share_anon_rmap(folio, page)", "True", PAIR),
    ("TRANSPARENCY", ksm_merge.pages_identical, "return contents ==", "return True or contents ==", steps("Ea......", scan(), load(0, 2))),
    ("KASAN", REPLACE, "folio_get(kfolio)", "pass", PAIR),
    ("REFCOUNT", REPLACE, "folio_put(folio)", "pass", PAIR),
    ("CONSERVATION", REPLACE, "folio_remove_rmap_ptes(folio, page, 1, vma)", "pass", PAIR),
    ("CONSERVATION", REPLACE, "add_mm_counter(mm, MM_ANONPAGES, -1)", "pass", ZEROS),
    ("CONSERVATION", REPLACE, SEEN_DIRTY, "mk_zero_pte(vma.vm_page_prot)", ZEROS),
    ("CONSERVATION", ksm.ksm_map_zero_page, "current.machine.fetch_add(mm, MmStruct.ksm_zero_pages, 1)", "pass", ZEROS),
    ("LOCKDEP", ksm_merge.split_page, "if errno:", "if not errno:", LARGE),
    ("REFCOUNT", ksm_scan.cmp_and_merge_page, "folio_put(page_folio(page))", "pass", PAIR),
    ("REFCOUNT", vars(ksm_scan)["_merge"], "folio_put(kfolio)", "pass", steps("EEE.....", scan())),
]
"""Sanitizer, function, what stands in it, what stands there instead, scenario."""


@pytest.mark.parametrize(("check", "function", "old", "new", "s"), BUGS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_seeded_bug_is_caught(check: str, function: Callable[..., object], old: str, new: str, s: Scenario) -> None:
    def edit(source: str) -> str:
        assert source.count(old) == 1
        return source.replace(old, new)

    assert said(s) == set()
    with recompiled(function, edit):
        assert check in said(s)


def said(s: Scenario) -> set[str]:
    """The sanitizers that speak."""
    return {report.check for report in run(s, v12.VARIANT).world.system.machine.reports}
