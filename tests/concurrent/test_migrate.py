"""Migration beside a collapse, and beside everybody else: what the anon_vma lock is kept for when less than a table is collapsed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs
import pytest

from kmm.judge.outcomes import Outcomes
from kmm.judge.sets import judge_sets
from kmm.mm.variant import Variant
from kmm.scenario.model import Scenario
from kmm.scenario.search import EXHAUSTIVE, SAMPLED
from refactors import reviewed, v12
from tests.concurrent.making import beside, outcomes, results, violations
from tests.seeded import load

HELD: Final = "if order == HPAGE_PMD_ORDER():\n                anon_vma_unlock_write(vma.anon_vma)"
ORPHAN: Final = "CONSERVATION: mm1 has a migration entry for page {0}, which nobody migrates any more"
FREED: Final = "TRANSPARENCY: page {0} of mm1 leads to page {0}[0], which folio_put freed"


def released_early(module: object) -> Variant:
    """C-02: the anon_vma is let go after the pages are isolated, whatever the order."""
    file = getattr(module, "__file__", None)
    assert isinstance(file, str)
    text = Path(file).read_text(encoding="utf-8")
    assert text.count(HELD) == 1
    return load(text.replace(HELD, HELD.replace("order == HPAGE_PMD_ORDER()", "True")), "released_early")


def one_half(*actors: str) -> Scenario:
    """The first four pages are worth a collapse; one page of the same table is outside."""
    s = beside(*actors, pages="aaaa...a", orders=(2,))
    return attrs.evolve(s, tunables=attrs.evolve(s.tunables, max_ptes_none=0))


@pytest.mark.parametrize("page", [0, 7])
def test_a_migration_and_a_collapse_get_out_of_each_others_way(page: int) -> None:
    """12.11: an entry in the range is found when the pages are isolated or before; one outside is carried along."""
    found = outcomes(one_half(f"migrate:{page}"))
    assert violations(found) == set()
    assert "SCAN_SUCCEED" in results(found)
    answers = {found.observation(each).actors for each in found.all}
    assert answers == ({("done",)} if page == 7 else {("done",), ("EAGAIN",)})


@pytest.mark.parametrize("module", [v12, reviewed])
def test_the_anon_vma_released_early_leaves_an_orphan(module: object) -> None:
    """C-02: the migration does not find its entry in the hole, and the table comes back with it."""
    s, candidate = one_half("migrate:7"), released_early(module)
    assert violations(outcomes(s, candidate)) == {ORPHAN.format(7), FREED.format(7)}
    sound = module.VARIANT  # type: ignore[attr-defined]
    assert violations(outcomes(s, sound)) == set()
    assert judge_sets(s, sound, candidate, EXHAUSTIVE).relation == "different"


def test_in_the_hole_a_migration_cannot_begin() -> None:
    """The walk that should put entries in steps over the empty PMD entry: the page stays mapped, and where it is."""
    found = outcomes(one_half("migrate:7"), released_early(v12))
    assert {found.observation(each).actors for each in found.all} == {("done",), ("EAGAIN",)}


@pytest.mark.full
def test_v12_and_reviewed_can_do_the_same() -> None:
    for page in (0, 7):
        s = one_half(f"migrate:{page}")
        assert judge_sets(s, v12.VARIANT, reviewed.VARIANT, EXHAUSTIVE).relation == "equal"


@pytest.mark.full
@pytest.mark.parametrize("page", [0, 7])
def test_the_orphan_is_found_from_the_general_scenario(page: int) -> None:
    s = beside(f"migrate:{page}", orders=(2,))
    assert violations(outcomes(s)) == set()
    assert violations(outcomes(s, reviewed.VARIANT)) == set()
    assert ORPHAN.format(page) in violations(outcomes(s, released_early(v12)))


@pytest.mark.full
def test_who_touches_the_orphan_ends_in_a_bug() -> None:
    """As it was found in the field: a load waits for a migration that is over."""
    s = one_half("migrate:7", "load:7")
    found = Outcomes(s, released_early(v12), attrs.evolve(SAMPLED, budget=2_000))
    said = "BUG in pfn_swap_entry_folio: is_migration_entry(entry) && !folio_test_locked(folio)"
    assert said in {found.observation(each).actors[1] for each in found.all}
    sound = Outcomes(s, v12.VARIANT, attrs.evolve(SAMPLED, budget=200))
    assert violations(sound) == set()


@pytest.mark.full
def test_at_pmd_order_nothing_is_left_for_a_walk() -> None:
    """All of the table is isolated: an early release is what v12 does, and no entry can be lost."""
    found = outcomes(beside("migrate:0"))
    assert violations(found) == set()
    assert {"SCAN_SUCCEED", "SCAN_PAGE_LRU", "SCAN_PAGE_LOCK", "SCAN_PAGE_COUNT"} <= results(found)
