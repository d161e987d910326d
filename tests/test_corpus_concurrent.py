"""The pairs of the corpus that differ only beside others: their form, and that a witness can fail."""

from __future__ import annotations

from collections import Counter
from typing import Final

import attrs
import pytest

from corpus.pairs import Pair, load_pairs
from corpus.swap import changed
from corpus.witness_concurrent import FILE, HERE, NoWitnessError, witness
from kmm.scenario.spec import actor_text
from kmm.scenario.toml import canonical, load

PAIRS: Final = load_pairs(FILE)
BY_ID: Final = {pair.id: pair for pair in PAIRS}
OF_EACH_OPERATOR: Final = tuple({pair.operator: pair for pair in PAIRS}.values())
QUICK: Final = BY_ID["vma-seq-not-looked-at-again"]
MOST: Final = 5


def test_the_pairs_are_many_and_of_many_kinds() -> None:
    assert len(BY_ID) == len(PAIRS)
    assert {(pair.label, pair.kind) for pair in PAIRS} == {("different", "concurrent")}
    assert max(Counter((pair.operator, pair.function) for pair in PAIRS).values()) <= MOST
    texts = [(pair.file, pair.function, pair.old, pair.new) for pair in PAIRS]
    assert len(set(texts)) == len(texts)


def test_every_pair_applies() -> None:
    for pair in PAIRS:
        with changed(pair):
            pass


def test_every_scenario_is_used_canonical_and_of_its_pair() -> None:
    for pair in PAIRS:
        text = (HERE / "scenarios" / pair.scenario).read_text(encoding="utf-8")
        assert canonical(text) == text
        actors = [actor_text(each) for each in load(HERE / "scenarios" / pair.scenario).actors]
        assert pair.by.startswith((f"{' beside '.join(actors)}: ", f"khugepaged beside {' beside '.join(actors)}: "))


def test_a_witness_is_found_again() -> None:
    assert witness(QUICK) == QUICK.by


def test_code_that_does_the_same_has_no_witness() -> None:
    same = attrs.evolve(QUICK, new=f"# the same\n    {QUICK.old}")
    with pytest.raises(NoWitnessError, match="nothing"):
        witness(same)


def test_code_that_differs_alone_has_no_witness() -> None:
    table = '            spin_lock(pmd_ptl)\n            WARN_ON_ONCE(not pmd_none(pmdp_get(pmd)), "!pmd_none(*pmd)")\n'
    pair: Pair = BY_ID["no-vma-start-write-reviewed"]
    worse = attrs.evolve(pair, old=table, new=table.replace("spin_lock(pmd_ptl)", "pass"))
    with pytest.raises(NoWitnessError, match="without actors"):
        witness(worse)


@pytest.mark.full
@pytest.mark.parametrize("pair", OF_EACH_OPERATOR, ids=lambda pair: pair.id)
def test_one_of_each_operator(pair: Pair) -> None:
    assert witness(pair) == pair.by


@pytest.mark.soak
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.id)
def test_every_witness(pair: Pair) -> None:
    assert witness(pair) == pair.by
