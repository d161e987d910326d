"""Covering sets have every allowed combination and no other: recounted, at first over all rows, then from the scenarios."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import combinations, product
from math import prod

import pytest

from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.covering import Plan, covering_rows
from kmm.scenario.errors import ScenarioError
from kmm.scenario.factors import FLAGS, Factors, covering_family
from kmm.scenario.families import Family
from kmm.scenario.model import POINTS, Driver, DriverKind, Geometry, Scenario, Tunables, Vma
from kmm.scenario.small_scope import full_families, quick_families

SIZES = (4, 3, 3, 2, 2)
VALID = [
    row
    for row in product(*map(range, SIZES))
    if not (row[0] == 1 and row[2] == 2) and not (row[1] == row[2] == 0 and row[3] == 1) and 1 in row[1:]
]
HOLES, SWAPPED, SHARED = ".zZ", "wvyqMHgPUD", "stSK"


def has(row: tuple[int, ...], values: Mapping[int, int]) -> bool:
    return all(row[f] == v for f, v in values.items())


def exists(values: Mapping[int, int]) -> bool:
    return any(has(row, values) for row in VALID)


@pytest.mark.parametrize("strength", [2, 3, 4, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_allowed_combination_occurs_and_no_other_row(strength: int, seed: int) -> None:
    plan = Plan(SIZES, strength, exists)
    rows = list(covering_rows(plan, seed))
    assert set(rows) <= set(VALID)
    assert len(set(rows)) == len(rows)

    def seen(these: list[tuple[int, ...]]) -> set[tuple[tuple[int, int], ...]]:
        return {each for row in these for each in combinations(enumerate(row), strength)}

    assert seen(rows) == seen(VALID)
    every = sum(prod(sizes) for sizes in combinations(SIZES, strength))
    assert plan.count() == (len(seen(VALID)), every - len(seen(VALID)))


def test_few_rows() -> None:
    """Ten factors of four values: no fewer than 16 rows can do, and all are more than a million."""
    assert 16 <= len(list(covering_rows(Plan((4,) * 10, 2, lambda _: True), 0))) <= 40


def test_the_seed_decides() -> None:
    plan = Plan((5, 4, 4, 3, 3), 2, lambda _: True)
    first = [list(covering_rows(plan, seed)) for seed in (0, 0, 1)]
    assert first[0] == first[1] != first[2]


@pytest.mark.parametrize(("sizes", "strength"), [((2, 2), 1), ((2, 2), 3), ((2, 0), 2)])
def test_a_plan_without_combinations(sizes: tuple[int, ...], strength: int) -> None:
    with pytest.raises(ValueError, match=f"no combinations of {strength} factors"):
        Plan(sizes, strength, lambda _: True)


def test_a_wrong_predicate_is_found_out() -> None:
    plan = Plan((2, 2, 2), 2, lambda values: len(values) < 3)
    with pytest.raises(ValueError, match="no value of factor"):
        list(covering_rows(plan, 0))


def test_the_letters_must_allow_every_limit() -> None:
    with pytest.raises(ValueError, match="counts against max_ptes_swap"):
        Factors(Geometry(ptes=8), (".", "r", "s"), 1)


def labels(s: Scenario) -> dict[str, list[object]]:
    """The factors of a scenario and the values that it has, read from the scenario alone."""
    t, c, g, pages = s.tunables, s.config, s.geometry, s.pages
    out: dict[str, list[object]] = {f"page {i}": [letter] for i, letter in enumerate(pages)}
    for name, letters in (("none", HOLES), ("swap", SWAPPED), ("shared", SHARED)):
        n = sum(letter in letters for letter in pages)
        value = getattr(t, f"max_ptes_{name}")
        out[name] = [label for label, is_it in (("0", 0), ("n-1", n - 1), ("n", n), ("NR-1", g.ptes - 1)) if value == is_it]
    out |= {f"order {order}": [mode] for order, mode in enumerate(t.hugepages, 2)}
    out |= {"enabled": [t.enabled], "defrag": [t.defrag], "shrink": [t.shrink_underused], "batch": [g.lru_batch]}
    out |= {"debug_vm": [c.debug_vm], "locks": [c.split_ptlocks], "tlb": [c.tlb], "arch": [c.arch]}
    out |= {"highpte": [c.highpte], "pt_reclaim": [c.pt_reclaim], "vmemmap": [c.sparsemem_vmemmap], "bytes": [g.page_size]}
    out |= {"node_reclaim": [t.node_reclaim], "prctl": [s.thp_disable], "room": [s.memcg_room], "deposited": [s.deposited]}
    out |= {"layout": [(len(s.vmas), s.vmas[0].before)]}
    return out | {"driver": [s.driver], "flags": [s.vmas[0].flags], "disturbance": [(s.failures, s.events)]}


def expected_sizes(ptes: int, letters: int, times: int) -> dict[str, int]:
    """How many values each factor has, by the words of the design."""
    orders = ptes.bit_length() - 2
    attempts = sum(ptes >> order for order in range(2, orders + 2)) * 2 * 2
    operations = orders + 4 + 6 + 5
    disturbances = 1 + 2 * times + 4 * ptes + operations * len(POINTS) * times
    switches = {"enabled": 3, "defrag": 2, "shrink": 2, "batch": 3, "debug_vm": 2, "locks": 2, "tlb": 2, "arch": 2}
    switches |= {"highpte": 2, "pt_reclaim": 2, "vmemmap": 2, "bytes": 2, "node_reclaim": 2}
    switches |= {"prctl": 3, "room": 4, "deposited": 2, "layout": 3}
    limits = dict.fromkeys(("none", "swap", "shared"), 4)
    pages = {f"page {i}": letters for i in range(ptes)}
    modes = {f"order {order}": 4 for order in range(2, orders + 2)}
    return {**pages, **modes, **switches, **limits, "driver": 2 + attempts, "flags": len(FLAGS), "disturbance": disturbances}


def recount(family: Family, strength: int) -> tuple[int, dict[str, int]]:
    """How many combinations of values occur, and how many values each factor has."""
    numbers: dict[tuple[str, object], int] = {}
    found: set[tuple[int, ...]] = set()
    for s in family.scenarios():
        factors = [[numbers.setdefault((name, value), len(numbers)) for value in values] for name, values in sorted(labels(s).items())]
        for some in combinations(factors, strength):
            found.update(product(*some))
    sizes: dict[str, int] = {}
    for name, _ in numbers:
        sizes[name] = sizes.get(name, 0) + 1
    return len(found), sizes


def impossible(letter: str, flags: tuple[str, ...], geometry: Geometry) -> bool:
    """No scenario has the letter in a VMA with the flags."""
    try:
        Scenario(
            geometry=geometry,
            tunables=Tunables.default(geometry),
            vmas=(Vma(pages=letter + "." * (geometry.ptes - 1), flags=flags),),
            driver=Driver(kind=DriverKind.KHUGEPAGED),
        )
    except ScenarioError:
        return True
    return False


def printed(family: Family) -> tuple[int, int]:
    """The numbers of combinations that are allowed and forbidden, in the family's own words."""
    numbers = re.search(r"\(([0-9,]+); ([0-9,]+) are forbidden\)", family.set)
    assert numbers is not None
    return int(numbers[1].replace(",", "")), int(numbers[2].replace(",", ""))


def covering(families: tuple[Family, ...]) -> dict[str, Family]:
    return {family.name: family for family in families if family.kind == "covering"}


def check_pairs(family: Family, geometry: Geometry, times: int) -> None:
    letters = [c for c in ALPHABET if 1 << ALPHABET[c].order <= geometry.ptes]
    sizes = expected_sizes(geometry.ptes, len(letters), times)
    forbidden = geometry.ptes * sum(impossible(letter, flags, geometry) for letter, flags in product(letters, FLAGS))
    allowed = sum(prod(pair) for pair in combinations(sizes.values(), 2)) - forbidden
    assert recount(family, 2) == (allowed, sizes)
    assert printed(family) == (allowed, forbidden)


def test_pairs_of_factors() -> None:
    check_pairs(covering(quick_families(0))["pairs of factors"], Geometry(ptes=8), 1)


def test_another_seed_covers_as_well() -> None:
    one, other = (covering(quick_families(seed))["pairs of factors"] for seed in (0, 1))
    assert set(one.scenarios()) != set(other.scenarios())
    check_pairs(other, Geometry(ptes=8), 1)


@pytest.mark.full
def test_pairs_of_factors_at_16() -> None:
    check_pairs(covering(full_families(0))["pairs of factors, 16 PTEs"], Geometry(ptes=16), 2)


@pytest.mark.full
def test_triples_of_factors() -> None:
    family = covering(full_families(0))["triples of factors"]
    letters, geometry = ".orswp2u", Geometry(ptes=8)
    sizes = expected_sizes(8, len(letters), 1)
    unfit = {flags: sum(impossible(letter, flags, geometry) for letter in letters) for flags in FLAGS}
    others = sum(size for name, size in sizes.items() if name != "flags" and not name.startswith("page"))
    with_one_page = 8 * others * sum(unfit.values())
    with_two_pages = 28 * sum(len(letters) ** 2 - (len(letters) - n) ** 2 for n in unfit.values())
    allowed = sum(prod(three) for three in combinations(sizes.values(), 3)) - with_one_page - with_two_pages
    assert recount(family, 3) == (allowed, sizes)
    assert printed(family) == (allowed, with_one_page + with_two_pages)


def test_a_dropped_scenario_is_missed() -> None:
    """The recount can fail."""
    whole = covering_family("some", Factors(Geometry(ptes=8), tuple(".rsw"), 1), 2, 0)
    rows = list(whole.scenarios())
    part = Family("some", "covering", whole.set, lambda: iter(rows[:-20]))
    assert recount(whole, 2)[0] == printed(whole)[0] > recount(part, 2)[0]
