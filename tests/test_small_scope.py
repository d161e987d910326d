"""The small scope is what its sentences say."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice, product
from pathlib import Path

import pytest

from kmm.judge.observe import observe
from kmm.scenario import small_scope
from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.errors import ScenarioError
from kmm.scenario.factors import Factors, covering_family, drivers
from kmm.scenario.families import Family, distinct, hypothesis_family
from kmm.scenario.model import POINTS, VMA_FLAGS, DriverKind, Geometry
from kmm.scenario.page import Kind, Lru, PageState
from kmm.scenario.run import run
from kmm.scenario.scope import EVERY
from kmm.scenario.small_concurrent import MAPS, beside, concurrent_families
from kmm.scenario.states import MARKS, page_states
from kmm.scenario.toml import canonical_bytes, parse, render
from refactors import reviewed, v12

QUICK = small_scope.quick_families(0)
SMALL = [letter for letter in ALPHABET if 1 << ALPHABET[letter].order <= 8]
AT_16 = [letter for letter in ALPHABET if 1 << ALPHABET[letter].order <= 16]
READ_ONLY = ".zrnstwvyhSNHgP"

# Bits of a present page of node 0: young, dirty, soft-dirty, referenced; and how it is shared, writable and write-protected.
BITS, ACCESS = 2**4, 11
ENTRIES = 6 + 2**2 + 5 * 2**3 + ACCESS * 2**3 * 2 + 5 * 2**3 + 5 * 2


def marked(small: int, swapcache: int, large: int, off_batch: int) -> int:
    """KSM, lazyfree, mlocked, PROT_NONE, young in a secondary MMU: out of so many ways to hold a folio."""
    every = small + swapcache + large
    return 4 * 2 * 2**3 * small + BITS * (ACCESS * (small + large) + ACCESS * off_batch + (ACCESS - 1) * every + ACCESS * every)


# The factors of each sentence, multiplied.
COUNTS = {
    "first look": (8 + 2) * 5 * 2,
    "one deviating page": (3 * 2 + 3 * 2 * 2) * len(SMALL) * 8,
    "two deviating pages": 3 * len(SMALL) ** 2,
    "one page of any state": ENTRIES + ACCESS * BITS * 4 * 2 + marked(1, 1, 2, 4),
    "failures": (2 * 3 + 3 * 8) * 8 * 5,
    "events": (7 + 6 + 5) * len(POINTS) * 2 * 8 * 5,
    "limits": 8 * 4 * 4 * 8 * 3,
    "halves": 2 * 5 * 2 * 2 * (1 + 7 + 2 + 2 + 2) * len(POINTS),
    "passes": 2 * 2 * 8 * (8 + 4) * 2,
    "switches": 4**2 * 3 * 2 * 3 * 5 * 2,
    "configurations": 2**7 * 8,
    "no table": (2 + 12) * (5 + 3),
    "deposited tables": 2 * 8 * 5,
    "64 KiB pages": len(SMALL) * 8,
    "VMA edges": (4 + 7 * 2 + 7 * 2 + 21) * 8 * 5,
    "two VMAs": (7 + 6) * 8 * 5,
    "VMA flags": ((len(VMA_FLAGS) - 2) * 4 + 2 + 1) * 5,
    "process switches": 3 * 2 * 8 * 5,
    "cgroup limits": 10 * 8 * 5,
    "nodes": 3**4 * 2 * 2,
    "migrations": 4 * 4 * 5,
    "few pages present": 4 * 2 * 2 * (1 + 5) * 2,
    "counts": 12 * 3 * 2 * 8,
    "quads": 7**4,
    "maps over au.": 3**8,
    "repeated halves": 7 * (4**4 * 2 - 4**2),
}
LEFT_TO_THE_FULL_SCOPE = (
    beside(("store:0",), MAPS[0], (2,), DriverKind.KHUGEPAGED),
    beside(("madvise:0-3:free",), MAPS[0], (3,), DriverKind.KHUGEPAGED),
)
"""More than a thousand executions each."""
FULL_COUNTS = {
    "one deviating page, other LRU batches": 2 * 3 * 2 * 2 * len(SMALL) * 8,
    "quads, other orders": 7**4 * 2,
    "two deviating pages": 28 * len(SMALL) ** 2,
    "two deviating pages, MADV_COLLAPSE": 28 * len(SMALL) ** 2,
    "one page of any state": ENTRIES + ACCESS * BITS * 2 * 2**2 * (2 * 3 + 2 * 2) + marked(12, 12, 2 * 8, 4 * 8),
    "configurations": 2**7 * 8 * 5,
    "one deviating page of 16": (2 + 7 * 2 * 2) * len(AT_16) * 16,
    "one deviating page, read-only": (2 + 3 * 2 * 2) * len(READ_ONLY) * 8,
    **{f"maps over {letters}": 4**8 for letters in (".aoz", "aKZF", "agMH", "asw2", ".w2s", "rn.s", "au.q")},
}


@functools.cache
def full() -> tuple[Family, ...]:
    return small_scope.full_families(0)


def exhaustive(families: Iterable[Family]) -> dict[str, Family]:
    return {family.name: family for family in families if family.kind == "exhaustive"}


def test_the_sample_keeps_no_parameter_at_one_value() -> None:
    """Its step divides no family's size, so it walks through all values of every parameter."""
    assert [name for counts in (COUNTS, FULL_COUNTS) for name, count in counts.items() if count % EVERY == 0] == []


def test_every_exhaustive_family_has_a_count() -> None:
    assert set(exhaustive(QUICK)) == set(COUNTS)
    assert set(exhaustive(full())) == set(FULL_COUNTS) | {name for name in COUNTS if not name.startswith("maps over")}


@pytest.mark.parametrize("name", COUNTS)
def test_the_count_is_that_of_the_sentence(name: str) -> None:
    assert sum(1 for _ in exhaustive(QUICK)[name].scenarios()) == COUNTS[name]


@pytest.mark.parametrize("name", FULL_COUNTS)
def test_the_full_count_is_that_of_the_sentence(name: str) -> None:
    assert sum(1 for _ in exhaustive(full())[name].scenarios()) == FULL_COUNTS[name]


def test_every_page_state_that_can_exist_is_there() -> None:
    """Recounted by trying all, those that cannot exist included."""
    either = (False, True)
    bits = ("young", "dirty", "write", "exclusive", "uffd_wp", "soft_dirty", "swapcache")
    found = set()
    for kind, mapped_by, node, *values in product(Kind, range(4), (0, 1), *[either] * len(bits)):
        entry = {"mapped_by": mapped_by, "node": node, **dict(zip(bits, values, strict=True))}
        folios = product((0, 2, 3), (0, 1), Lru, either, either) if kind is Kind.PRESENT else [(0, 0, Lru.LIST, False, False)]
        for order, pins, lru, locked, referenced in folios:
            folio = {"order": order, "pins": pins, "lru": lru, "locked": locked, "referenced": referenced}
            for mark in ("", *MARKS) if node == 0 else ("",):
                with suppress(ScenarioError):
                    found.add(PageState(kind=kind, **entry, **folio, **({mark: True} if mark else {})))  # type: ignore[arg-type]
    assert set(page_states(held=True)) == found
    assert set(page_states(held=False)) == {page for page in found if (page.pins, page.locked, page.lru) == (0, False, Lru.LIST)}


def test_a_verdict_can_tell_the_families_apart() -> None:
    for families in (QUICK, full()):
        assert len({family.name for family in families}) == len(families)
        assert len({family.set for family in families}) == len(families)
        assert {family.kind for family in families} == {"exhaustive", "covering"}
        assert not [family.set for family in families if "\n" in family.set]


@pytest.mark.full
def test_the_full_scope_contains_the_quick_one() -> None:
    every = {hash(s) for family in full() if family.name != "triples of factors" for s in family.scenarios()}
    assert not [s for family in QUICK for s in family.scenarios() if hash(s) not in every]
    assert len(every) >= 300_000


def test_the_full_scope_has_more_beside_one_actor_than_the_quick_one() -> None:
    quick, full = ({s for f in concurrent_families(scope) if f.kind == "exhaustive" for s in f.scenarios()} for scope in ("quick", "full"))
    assert quick < full
    khugepaged = {s for s in full if s.driver.kind is DriverKind.KHUGEPAGED}
    assert {(s.actors, s.tunables) for s in khugepaged - quick} == {(each.actors, each.tunables) for each in LEFT_TO_THE_FULL_SCOPE}


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
    agree(family, 211)


@pytest.mark.parametrize("name", FULL_COUNTS)
def test_the_variants_agree_on_a_sample_of_the_full_scope(name: str) -> None:
    agree(exhaustive(full())[name], 911)


def agree(family: Family, stride: int) -> None:
    for s in islice(family.scenarios(), 3, None, stride):
        assert observe(run(s, v12.VARIANT)) == observe(run(s, reviewed.VARIANT))


def test_every_direct_attempt_at_16_is_aligned_and_inside() -> None:
    attempts = [d for d in drivers(Geometry(ptes=16)) if d.kind is DriverKind.DIRECT]
    places = {(d.order, d.offset) for d in attempts}
    assert places == {(4, 0), (3, 0), (3, 8), (2, 0), (2, 4), (2, 8), (2, 12)}
    assert len(attempts) == len(set(attempts)) == 4 * len(places)


def test_every_limit_of_the_covering_set_is_one_of_four() -> None:
    factors = Factors(Geometry(ptes=8), tuple(SMALL), 1)
    family = covering_family("some", factors, 2, 0)
    for s in family.scenarios():
        pages = s.pages
        limits = s.tunables.max_ptes_none, s.tunables.max_ptes_swap, s.tunables.max_ptes_shared
        for letters, limit in zip((".zZ", "wvyqMHgPUD", "stSK"), limits, strict=True):
            n = sum(letter in letters for letter in pages)
            assert limit in (0, n - 1, n, 7)


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
