"""Memory fails while others use it."""

from __future__ import annotations

from typing import Final

import pytest

from kmm.judge.outcomes import Outcomes
from kmm.mm import memory_failure, poisoned
from kmm.scenario.search import Search
from refactors import v12
from tests.concurrent.making import alone, beside, outcomes, results, violations
from tests.port.merging import LETTERS, MERGEABLE
from tests.test_sanitizers import recompiled

LATER: Final = "recovered, SIGBUS at the next access"
EQUAL: Final = tuple(each for each in LETTERS if each[0] == "E")
PAIRS: Final = {
    "load": alone("memory_failure:0", "load:0", pages="aa......"),
    "store": alone("memory_failure:0", "store:0", pages="aa......"),
    "zap": alone("memory_failure:0", "madvise:0-1:dontneed", pages="aa......"),
    "unmap": alone("memory_failure:0", "munmap:0-1", pages="aa......"),
    "write pin": alone("memory_failure:0", "gup:0:write", pages="aa......"),
    "again": alone("memory_failure:0", "memory_failure:0", pages="aa......"),
    "exit": alone("memory_failure:0", "exit", pages="aa......"),
    "use of what is in the swap cache": alone("memory_failure:0", "load:0", pages="h......."),
    "KSM": alone("memory_failure:0", "ksm:0", pages="EE......", flags=MERGEABLE, letters=EQUAL),
}


@pytest.mark.parametrize("name", PAIRS)
def test_nobody_uses_what_is_freed(name: str) -> None:
    assert violations(outcomes(PAIRS[name])) == set()


@pytest.mark.parametrize("access", ["load", "store"])
def test_an_access_comes_before_or_gets_a_signal(access: str) -> None:
    found = outcomes(PAIRS[access])
    assert {found.observation(each).actors for each in found.all} == {(LATER, "done"), (LATER, "SIGBUS")}


def test_beside_swapping_out() -> None:
    """Every schedule with up to two preemptions."""
    budget = 8_000
    s = alone("memory_failure:0", "swapout:0", pages="a.......")
    found = Outcomes(s, v12.VARIANT, Search(strategy="dfs", preemption_bound=2, budget=budget))
    assert found.exploration.executions < budget, "it ended by itself"
    assert violations(found) == set()
    answers = {found.observation(each).actors for each in found.all}
    assert {(LATER, "locked"), (LATER, "off the LRU"), ("free", "done"), ("ignored", "done")} <= answers


@pytest.mark.full
def test_beside_a_split() -> None:
    """The pages of a folio that is split are found by their frames only when they are whole."""
    found = outcomes(alone("memory_failure:1", "split:0", pages="3333...."))
    assert violations(found) == set()
    assert {("failed", "done"), (LATER, "done"), (LATER, "EAGAIN")} <= {found.observation(each).actors for each in found.all}


@pytest.mark.full
def test_beside_a_collapse() -> None:
    """The reference or the lock of memory failure stops the collapse, or the collapse meets the poison in its copy, or the entry."""
    found = outcomes(beside("memory_failure:0", pages="a......."))
    assert violations(found) == set()
    assert {"SCAN_SUCCEED", "SCAN_FAIL", "SCAN_PAGE_COUNT", "SCAN_PAGE_LOCK"} <= results(found)
    queued = [found.run(each).world.system.poison_queued for each in found.all]
    assert any(queued)
    assert not all(queued)


def test_an_unmapping_without_flush_is_found() -> None:
    """Seeded."""

    def edit(source: str) -> str:
        assert source.count("ptep_clear_flush") == 1
        return source.replace("ptep_clear_flush(vma,", "__import__('kmm.mm.pgtable').mm.pgtable.ptep_get_and_clear(mm,")

    with recompiled(vars(poisoned)["_unmap"], edit):
        assert any(each.startswith("TLB") for each in violations(outcomes(PAIRS["load"])))


def test_a_page_taken_without_looking_at_its_count_is_found() -> None:
    """Seeded: a page that is freed meanwhile."""

    def edit(source: str) -> str:
        assert source.count("not folio_try_get(folio)") == 1
        return source.replace("not folio_try_get(folio)", "__import__('kmm.mm.folio').mm.folio.folio_get(folio)")

    with recompiled(memory_failure.get_hwpoison_page, edit):
        assert any(each.startswith("KASAN") for each in violations(outcomes(PAIRS["zap"])))


def test_unmapping_without_the_folio_lock_is_found() -> None:
    """Seeded: KSM replaces the page meanwhile."""

    def edit(source: str) -> str:
        return source.replace("folio_lock(folio)", "pass")

    with recompiled(vars(memory_failure)["_memory_failure"], edit):
        assert violations(outcomes(PAIRS["KSM"]))
