"""The corpus as a whole: its form, its numbers, and that its lists are what makes them."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Final

import attrs
import pytest

from corpus.change import CHANGE
from corpus.generate import FUNCTIONS, LOOKED_AT, RENAMED, equivalent, fitting, sequential, text_of
from corpus.keep import KEEP
from corpus.pairs import ROOT, Pair, PairError, all_pairs, load_pairs
from corpus.places import candidates, renames
from corpus.witness_sequential import witness
from kmm.lab.patch import read_patches

PAIRS: Final = all_pairs()
EQUIVALENT: Final = load_pairs(ROOT / "corpus/equivalent.toml")
SEQUENTIAL: Final = load_pairs(ROOT / "corpus/sequential.toml")
MOST: Final = 5
SAMPLE: Final = SEQUENTIAL[10::40]
ONE_OF_EACH: Final = tuple({pair.operator: pair for pair in SEQUENTIAL}.values())


@cache
def offered() -> dict[str, Pair]:
    """Everything that the operators give, by name."""
    rewrites = {name: rewrite for name, (rewrite, _) in KEEP.items()}
    why = {name: reason for name, (_, reason) in KEEP.items()}
    lists = [*candidates(rewrites, "equivalent", why), *candidates(CHANGE, "different", {}), ("", renames(RENAMED))]
    return {pair.id: pair for _, functions in lists for pairs in functions for pair in pairs}


def test_there_are_as_many_as_there_should_be() -> None:
    labels = Counter((pair.label, pair.kind) for pair in PAIRS)
    assert len(PAIRS) >= 300
    assert labels["equivalent", "sequential"] >= 0.4 * len(PAIRS)
    assert labels["different", "concurrent"] >= 60
    assert max(Counter((pair.operator, pair.file, pair.function) for pair in PAIRS).values()) <= MOST


def test_every_pair_is_a_patch_of_its_own(tmp_path: Path) -> None:
    texts = Counter((pair.file, pair.changed()[1]) for pair in PAIRS)
    assert [each for each, count in texts.items() if count > 1] == []
    for pair in PAIRS:
        before, after = pair.changed()
        assert before != after
    file = tmp_path / "pair.patch"
    for pair in PAIRS[::20]:
        file.write_text(pair.patch())
        (patch,) = read_patches(str(file))
        assert [change.after for change in patch.changes] == [f"b/{pair.file}"]


def test_every_label_says_what_it_rests_on() -> None:
    for pair in PAIRS:
        assert len(pair.by) > 10
        assert pair.label == "equivalent" or pair.by.startswith("scenario ") == (pair.kind == "sequential")


def test_the_lists_hold_what_the_operators_give() -> None:
    compared = {pair.id for pair in load_pairs(ROOT / "corpus/compared.toml")}
    for pair in EQUIVALENT:
        assert offered()[pair.id] == pair
    for pair in SEQUENTIAL:
        assert pair.id in compared or attrs.evolve(offered()[pair.id], by=pair.by) == pair
    for name, pairs in (("equivalent", EQUIVALENT), ("sequential", SEQUENTIAL)):
        counts = Counter((pair.operator, pair.file, pair.function) for pair in pairs if pair.id not in compared)
        assert set(counts.values()) == {1}
        assert max(Counter(operator for operator, _, _ in counts).values()) <= FUNCTIONS[name]
        assert (ROOT / f"corpus/{name}.toml").read_text() == text_of(pairs)


@pytest.mark.parametrize("pair", SAMPLE, ids=lambda pair: pair.id)
def test_a_witness_is_found_again(pair: Pair) -> None:
    assert witness(pair) == pair.by


def test_what_does_the_same_has_no_witness() -> None:
    pair = next(pair for pair in EQUIVALENT if pair.id.startswith("invert-branch.v12"))
    assert witness(pair, LOOKED_AT) == ""


def test_a_pair_that_does_not_type_check_is_not_taken() -> None:
    good = EQUIVALENT[0]
    bad = attrs.evolve(good, id="bad", file="kmm/mm/khugepaged/limits.py", function="collapse_test_exit", old="== 0", new='== ""')
    worse = attrs.evolve(bad, id="worse", new="+ nothing")
    assert fitting([good, bad, worse]) == {good.id}


def test_a_text_that_does_not_stand_once_is_refused() -> None:
    with pytest.raises(PairError, match="stands 0 times"):
        attrs.evolve(EQUIVALENT[0], old="nowhere").changed()


@pytest.mark.full
@pytest.mark.parametrize("pair", ONE_OF_EACH, ids=lambda pair: pair.id)
def test_a_witness_of_each_operator(pair: Pair) -> None:
    assert witness(pair) == pair.by


@pytest.mark.soak
def test_the_generator_gives_the_lists() -> None:
    for name, make in (("equivalent", equivalent), ("sequential", sequential)):
        assert text_of(make()) == (ROOT / f"corpus/{name}.toml").read_text()


@pytest.mark.soak
@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair.label == "equivalent"], ids=lambda pair: pair.id)
def test_the_plain_loop_sees_nothing_of_an_equivalence(pair: Pair) -> None:
    assert witness(pair) == ""
