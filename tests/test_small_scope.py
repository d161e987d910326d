"""The small scope is what its sentences say."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from kmm.judge.observe import observe
from kmm.scenario import small_scope
from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.families import Family, distinct, hypothesis_family
from kmm.scenario.model import POINTS, Geometry
from kmm.scenario.run import run
from kmm.scenario.toml import canonical_bytes, parse, render
from refactors import reviewed, v12

QUICK = small_scope.quick_families(0)
SMALL = [letter for letter in ALPHABET if 1 << ALPHABET[letter].order <= 8]

# The factors of each sentence, multiplied.
COUNTS = {
    "one deviating page": 3 * (2 + 3 * 2 * 2) * len(SMALL) * 8,
    "two deviating pages": 3 * len(SMALL) ** 2,
    "failures": (2 * 3 + 3 * 8) * 8 * 5,
    "events": (7 + 5 + 5) * len(POINTS) * 2 * 8 * 5,
    "limits": 8 * 4 * 4 * 8 * 3,
    "switches": 4**2 * 3 * 2 * 3 * 5 * 2,
    "configurations": 2**4 * 8 * 5,
    "no table": (5 + 12) * (3 + 2),
    "counts": 12 * 3 * 2 * 8,
    "quads": 7**4 * 3,
    "maps over .ao": 3**8,
    "maps over asw": 3**8,
    "maps over rn.": 3**8,
    "maps over au.": 3**8,
}


@pytest.mark.parametrize("family", QUICK, ids=lambda f: f.name)
def test_the_count_is_that_of_the_sentence(family: Family) -> None:
    assert sum(1 for _ in family.scenarios()) == COUNTS[family.name]


def test_the_quick_scope_is_large_enough() -> None:
    every = {s for family in QUICK for s in family.scenarios()}
    assert len(every) >= 50_000
    assert {s.geometry.ptes for s in every} == {8, 16}
    assert all(s.contract == "checked" for s in every)


def test_distinct_scenarios_have_distinct_canonical_bytes() -> None:
    some = [s for family in QUICK for s in islice(family.scenarios(), 0, None, 97)]
    once = list(distinct(some))
    assert len({canonical_bytes(s) for s in once}) == len(once)


def test_every_scenario_can_be_written_and_read() -> None:
    for family in QUICK:
        for s in islice(family.scenarios(), 0, None, 401):
            assert parse(render(s)) == s


@pytest.mark.parametrize("family", QUICK, ids=lambda f: f.name)
def test_the_variants_agree_on_a_sample(family: Family) -> None:
    for s in islice(family.scenarios(), 3, None, 211):
        assert observe(run(s, v12.VARIANT)) == observe(run(s, reviewed.VARIANT))


def test_the_full_scope_contains_every_pair_of_places() -> None:
    full = {family.name: family for family in small_scope.full_families(0)}
    assert sum(1 for _ in full["two deviating pages"].scenarios()) == 28 * len(SMALL) ** 2
    assert sum(1 for _ in full["maps over .aoz"].scenarios()) == 4**8


def test_a_hypothesis_family_has_its_count() -> None:
    family = hypothesis_family(Geometry(ptes=16), 40, 5)
    first = list(family.scenarios())
    assert len(set(first)) == 40
    assert first == list(family.scenarios())


def test_the_order_does_not_depend_on_the_hash_seed() -> None:
    program = (
        "import hashlib; from kmm.scenario.small_scope import quick_families; from kmm.scenario.toml import canonical_bytes; "
        "print(hashlib.sha256(b''.join(canonical_bytes(s) for f in quick_families(0) for i, s in enumerate(f.scenarios()) "
        "if i % 101 == 0)).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert len(digests) == 1
