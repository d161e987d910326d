"""Memory fails: what its users have afterwards, who is told, and who notices when a line is wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kmm.mm import memory_failure, poisoned
from kmm.mm.folio import PG_hwpoison, PG_lru
from kmm.mm.pte import is_hwpoison_entry, pte_present, swp_entry_pfn
from kmm.scenario.drive import Run
from kmm.scenario.model import Scenario
from kmm.scenario.run import run
from kmm.scenario.step import Step
from refactors import v12
from tests.port.merging import clean, failure, ksm, load, ptes, steps, store
from tests.test_sanitizers import recompiled

LATER = "recovered, SIGBUS at the next access"
AT_ONCE = "recovered, SIGBUS to process 1"


def bad(r: Run, page: int = 0) -> bool:
    """The entry stands for a bad page, to which memory failure keeps the only reference."""
    pte = ptes(r)[page]
    if pte_present(pte) or not is_hwpoison_entry(pte):
        return False
    page_of = r.world.system.mem_map[swp_entry_pfn(pte)]
    folio = page_of.folio
    return bool(page_of._flags & PG_hwpoison) and not folio._flags & PG_lru and folio._mapcount == 0 and folio._refcount == 1


def test_a_page_becomes_an_entry_of_a_bad_page_and_the_next_access_gets_a_signal() -> None:
    r = clean(steps("aa......", failure(), load(0), store(0), load(1)))
    assert r.steps == (LATER, "SIGBUS", "SIGBUS", "done")
    assert bad(r)
    assert r.world.mm._rss_stat == [1, 0]


@pytest.mark.parametrize(("letter", "outcome"), [("a", AT_ONCE), ("c", LATER), ("n", AT_ONCE), ("b", AT_ONCE), ("p", AT_ONCE)])
def test_who_asked_for_it_is_signalled_at_once_when_contents_are_lost(letter: str, outcome: str) -> None:
    """Only a dirty folio is reason enough not to wait for an access."""
    assert clean(steps(letter + "a......", failure(early=True))).steps == (outcome,)


def test_everybody_who_maps_it_is_signalled() -> None:
    r = clean(steps("s.......", failure(early=True), load(0, process=2)))
    assert r.steps == ("recovered, SIGBUS to process 1, 2", "SIGBUS")


def test_all_users_of_a_merged_page_lose_it() -> None:
    r = clean(steps("EEE.....", ksm(), failure(early=True), load(0), load(1)))
    assert r.steps == ("done", AT_ONCE, "SIGBUS", "SIGBUS")


@pytest.mark.parametrize("first", [(), (Step(op="khugepaged"),)])
def test_a_large_folio_is_split_and_loses_one_page(first: tuple[Step, ...]) -> None:
    pages = "aaaaaaaa" if first else "BBBBaaaa"
    r = clean(steps(pages, *first, failure(1), load(0), load(1), load(2)))
    assert r.steps[-4:] == (LATER, "done", "SIGBUS", "done")
    assert bad(r, 1)
    assert r.world.mm._rss_stat == [7, 0]


def test_a_bad_page_of_zeros_does_not_become_the_zero_page_when_it_is_split_off() -> None:
    r = clean(steps("a.......", Step(op="madvise", page=0, length=8, value="collapse"), failure(3), load(3), load(4)))
    assert r.steps == ("done", LATER, "SIGBUS", "done")


def test_a_large_folio_with_another_reference_is_left() -> None:
    r = clean(steps("BBBBaaaa", Step(op="pin", page=0), failure(1, early=True), load(0), load(1)))
    assert r.steps == ("done", "failed, SIGBUS to process 1", "done", "SIGBUS")
    assert pte_present(ptes(r)[1])


def test_a_page_off_the_lru_is_left() -> None:
    r = clean(steps("x.......", failure()))
    assert r.steps == ("ignored",)
    assert pte_present(ptes(r)[0])


def test_what_the_swap_device_has_is_not_lost() -> None:
    """Clean in the swap cache: it is read again. Dirty: it stays there, for its users to be told."""
    r = clean(steps("J.......", failure(early=True), load(0)))
    assert r.steps == ("recovered", "done")
    assert r.world.mm._rss_stat == [1, 0]
    r = clean(steps("h.......", failure(), load(0)))
    assert r.steps == ("delayed, SIGBUS at the next access", "SIGBUS")
    assert r.world.mm._rss_stat == [0, 1]


def test_a_mlocked_page_is_taken_all_the_same() -> None:
    r = clean(steps("l.......", failure(), flags=("locked", "read", "write")))
    assert r.steps == (LATER,)
    assert r.world.system.node_stat["nr_mlock"] == 0
    assert bad(r)


def test_it_is_bad_only_once() -> None:
    r = clean(steps("x.......", failure(), failure()))
    assert r.steps == ("ignored", "EHWPOISON")


def test_what_is_not_in_memory_does_not_fail() -> None:
    r = run(steps("w.......", failure()), v12.VARIANT)
    assert r.impossible is not None
    assert "no page is in memory" in r.impossible.problem


def test_a_collapse_meets_the_entry() -> None:
    """An entry of a bad page ends the attempt before anything is copied."""
    collapse = Step(op="madvise", page=0, length=8, value="collapse")
    r = clean(steps("aaaaaaaa", failure(3), collapse, load(3)))
    assert r.steps == (LATER, "EINVAL", "SIGBUS")
    assert r.world.system.poison_queued == []


def test_the_copy_of_a_page_that_could_not_be_handled_fails() -> None:
    """Marked while it was off the LRU, back on it since: a write of the child wants a copy."""
    r = clean(steps("x.......", failure(), Step(op="fork"), store(0, 2)))
    assert r.steps[0] == "ignored"
    assert r.steps[2] == "SIGBUS"


@pytest.mark.parametrize("after", [Step(op="fork"), Step(op="munmap", page=0), Step(op="exit"), Step(op="madvise", page=0, value="free")])
def test_the_entry_of_a_bad_page_goes_like_others(after: Step) -> None:
    clean(steps("aa......", failure(), after))


SIMPLE = steps("aa......", failure(), load(0))
UNMAP = vars(poisoned)["_unmap"]
SPLIT = vars(memory_failure)["_try_to_split_thp_page"]
BUGS = [
    ("TLB", UNMAP, "ptep_clear_flush(vma, address, ptep)", "__import__('kmm.mm.pgtable').mm.pgtable.ptep_get_and_clear(mm, address, ptep)"),
    ("CONSERVATION", UNMAP, "add_mm_counter(mm, MM_ANONPAGES, -1)", "pass"),
    ("CONSERVATION", UNMAP, "folio_remove_rmap_ptes(folio, page, 1, vma)", "pass"),
    ("REFCOUNT", UNMAP, "    folio_put(folio)", "    pass"),
    ("TRANSPARENCY", UNMAP, "make_special_entry(SWP_HWPOISON, page.pfn)", "type(pte)(0)"),
    ("REFCOUNT", memory_failure.delete_from_lru_cache, "folio_put(folio)", "pass"),
    ("LOCKDEP", memory_failure.memory_failure, "up_write(mutex)", "pass"),
]
"""Sanitizer, function, what stands in it, what stands there instead."""


@pytest.mark.parametrize(("check", "function", "old", "new"), BUGS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_seeded_bug_is_caught(check: str, function: Callable[..., object], old: str, new: str) -> None:
    def edit(source: str) -> str:
        assert source.count(old) == 1
        return source.replace(old, new)

    assert said(SIMPLE) == set()
    with recompiled(function, edit):
        assert check in said(SIMPLE)


def test_a_huge_page_that_is_not_split_is_a_seeded_bug() -> None:
    def edit(source: str) -> str:
        return source.replace("if folio_test_large(folio):", "if False:")

    s = steps("BBBBaaaa", failure(1))
    assert said(s) == set()
    with recompiled(vars(memory_failure)["_memory_failure"], edit):
        assert said(s)


def said(s: Scenario) -> set[str]:
    """The sanitizers that speak."""
    return {report.check for report in run(s, v12.VARIANT).world.system.machine.reports}
