"""Two tasks beside each other: when the scope has them, and that they show what no collapse does."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from corpus.pairs import ROOT, Pair, load_pairs
from kmm.judge.check import check
from kmm.judge.named import Named
from kmm.judge.verdict import Relation
from kmm.lab.breadth import families_of, others_differ
from kmm.lab.sides import opened
from kmm.scenario.scope import generated
from kmm.scenario.small_pairs import CHANGERS, GUESTS, LOOKERS, pairs_families
from kmm.scenario.spec import actor_text

BY_ID: Final = {pair.id: pair for name in ("concurrent", "compared") for pair in load_pairs(ROOT / f"corpus/{name}.toml")}
BESIDE: Final = BY_ID["gup-fast-fork-not-seen-after"]
CASES: Final = (
    (BESIDE, True),
    (BY_ID["max-ptes-none-inverted"], False),
    (BY_ID["no-vma-start-write-v12"], False),
)


def sides(pair: Pair, directory: Path) -> tuple[Named, Named]:
    patch = directory / "pair.patch"
    patch.write_text(pair.patch())
    return Named("v12", str(ROOT)), Named("v12", str(ROOT), patches=(str(patch),))


@pytest.mark.parametrize(("pair", "wider"), CASES, ids=lambda each: each.file if isinstance(each, Pair) else "")
def test_the_scope_has_them_when_more_than_khugepaged_changes(tmp_path: Path, pair: Pair, wider: bool) -> None:
    with opened(*sides(pair, tmp_path)) as both:
        names = [family.name for family in families_of(*both, "quick", 0)]
        assert others_differ(*both) == wider
    more = [family.name for family in pairs_families()]
    assert [name for name in names if name in more] == more * wider
    assert [name for name in names if name not in more] == [family.name for family in generated("quick", 0)]


def test_two_variants_of_one_tree_stand_on_the_same_code() -> None:
    with opened(Named("v12"), Named("reviewed")) as both:
        assert not others_differ(*both)


def test_every_scenario_is_there_once_and_every_task_somewhere() -> None:
    scenarios = [s for family in pairs_families() for s in family.scenarios()]
    assert len(set(scenarios)) == len(scenarios)
    assert all(len(s.actors) == 2 and not s.steps for s in scenarios)
    tasks = {actor_text(actor) for s in scenarios for actor in s.actors}
    assert tasks >= {*LOOKERS, *GUESTS, *CHANGERS}


@pytest.mark.soak
def test_they_show_what_no_collapse_does(tmp_path: Path) -> None:
    with opened(*sides(BESIDE, tmp_path)) as both:
        verdict = check(*both, pairs_families(), seed=0, jobs=1)
    assert verdict.relation is Relation.DIFFERENT
    assert verdict.counterexample is not None
    assert [each.op for each in verdict.counterexample.scenario.actors] == ["gup_fast", "fork"]
