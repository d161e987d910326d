"""GUP-fast beside a collapse: what the interrupt, the second look at the PMD entry and the barrier are for."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from kmm.judge.sets import judge_sets
from kmm.kernel.access import ONCE
from kmm.mm import folio, gup_fast, page_alloc
from kmm.scenario.search import EXHAUSTIVE
from refactors import reviewed, v12
from tests.concurrent.making import alone, beside, outcomes, results, violations
from tests.seeded import load, replace_line

PSO = attrs.evolve(EXHAUSTIVE, memory="pso")


def without(line: str) -> str:
    """The reviewed form's text without one line."""
    assert reviewed.__file__ is not None
    return replace_line(Path(reviewed.__file__).read_text(encoding="utf-8"), line, "pass")


@pytest.mark.parametrize("actor", ["gup:0", "gup:0:write", "gup_fast:0"])
@pytest.mark.parametrize("orders", [(3,), (2,)])
def test_a_reference_keeps_the_page_or_comes_too_late(actor: str, orders: tuple[int, ...]) -> None:
    """The scan or the attempt sees the reference and leaves the page alone; or GUP meets the hole, or the new folio."""
    found = outcomes(beside(actor, orders=orders))
    assert violations(found) == set()
    assert {"SCAN_SUCCEED", "SCAN_PAGE_COUNT"} <= results(found)
    answers = {found.observation(each).actors[0] for each in found.all}
    assert answers == ({"done", "EAGAIN"} if actor == "gup_fast:0" else {"done"})


def test_what_a_device_writes_is_not_lost() -> None:
    for each in (v12.VARIANT, reviewed.VARIANT):
        found = outcomes(beside("gup:0:write"), each)
        for outcome in found.all:
            pages = found.run(outcome).world.system
            assert pages.shadow[1, 0] == 1 << 40 | 1


def test_without_interrupt_and_second_look_a_write_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """H-01: the reference is taken to a page that has been copied, and the device writes there."""
    candidate = load(without("tlb_remove_table_sync_one()"), "no_ipi")
    s = beside("gup:0:write")
    assert violations(outcomes(s, candidate)) == set()
    monkeypatch.setattr(gup_fast, "_changed", lambda _pmd, _pmdp: False)
    lost = "TRANSPARENCY: page 0 of mm1 reads contents 1, but contents 1099511627777 was last written there"
    assert violations(outcomes(s, candidate)) == {lost}
    assert judge_sets(s, reviewed.VARIANT, candidate, EXHAUSTIVE).relation == "different"


def test_the_second_look_alone_is_enough_with_the_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the interrupt nobody is inside when the pages are isolated: either guard does."""
    monkeypatch.setattr(gup_fast, "_changed", lambda _pmd, _pmdp: False)
    assert violations(outcomes(beside("gup:0:write"))) == set()


def test_the_barrier_of_a_new_page_is_needed_where_nothing_else_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault maps a cleared page: KCSAN's edge from its contents to who finds it in the table is the barrier of PG_uptodate."""
    s = alone("store:3", "gup_fast:3", pages="aaa.aaaa")
    contents = {each for each in violations(outcomes(s, search=PSO)) if "contents" in each}
    assert contents == set()
    monkeypatch.setattr(folio, "smp_wmb", lambda: None)
    assert any("clear_user_highpage" in each and "contents" in each for each in violations(outcomes(s, search=PSO)))


@pytest.mark.parametrize("order", [2, 3])
def test_in_a_collapse_the_barriers_are_masked_for_gup_by_the_lru_s_reference(order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large folio passes the LRU batch at once, before its entries stand; the reference that is given back there is a release."""
    monkeypatch.setattr(folio, "smp_wmb", lambda: None)
    candidate = load(without("smp_wmb()"), "no_barrier")
    s = beside("gup_fast:0", orders=(order,))
    assert violations(outcomes(s, candidate, PSO)) == set()
    assert judge_sets(s, reviewed.VARIANT, candidate, PSO).relation == "equal"
    monkeypatch.setattr(page_alloc, "RELEASE", ONCE)
    for search in (EXHAUSTIVE, PSO):
        early = "nothing orders the marked read by gup_fast in dma_read and the plain write by khugepaged in copy_mc_user_highpage"
        assert any(early in each for each in violations(outcomes(s, candidate, search)))


@pytest.mark.parametrize("actor", ["load:0", "store:0"])
def test_in_a_collapse_the_barrier_is_needed_for_who_takes_no_reference(actor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folio, "smp_wmb", lambda: None)
    found = violations(outcomes(beside(actor, orders=(2,), pages="aaaa...."), load(without("smp_wmb()"), "no_barrier")))
    assert any(each.startswith("KCSAN: nothing orders") and "copy_mc_user_highpage" in each for each in found)


def test_fork_shuts_out_a_pin_that_began_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that is pinned is not shared with the child, whoever came first."""
    found = outcomes(alone("gup_fast:0", "fork"))
    assert {each for each in violations(found) if "KCSAN" not in each} == set()
    assert {found.observation(each).actors for each in found.all} == {("done", "done"), ("EAGAIN", "done")}
