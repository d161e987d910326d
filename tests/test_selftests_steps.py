"""Cells of the kernel's khugepaged selftest as it runs them: from empty memory, over several ranges, and with the process that forks."""

from __future__ import annotations

import tomllib
from typing import Final

import attrs
import pytest

from kmm.mm.pte import pmd_trans_huge
from kmm.mm.variant import Variant
from kmm.scenario.model import Scenario
from kmm.scenario.quiescence import pmd_of
from kmm.scenario.run import run
from kmm.scenario.step import Step
from kmm.scenario.toml import canonical, load
from refactors import base, merged, reviewed, v12
from tests.helpers import reports
from tests.test_selftests import CELLS, DATA, PAGE

HERE: Final = DATA / "steps"
VARIANTS: Final = (v12.VARIANT, reviewed.VARIANT, base.VARIANT, merged.VARIANT)


def _expected() -> dict[str, list[tuple[int, int, list[int]]]]:
    tables = tomllib.loads((HERE / "expected.toml").read_text())["cell"]
    return {table["file"]: [(step, process, ranges) for step, process, ranges in table["after"]] for table in tables}


EXPECTED: Final = _expected()


def huge_after(s: Scenario, variant: Variant, step: int, process: int) -> list[int]:
    """The ranges that a PMD maps when so many steps are done; every one of them was done, and no sanitizer spoke."""
    r = run(attrs.evolve(s, steps=s.steps[:step]), variant)
    assert (r.outcome, r.applicable, reports(r)) == ("returned", True, [])
    assert set(r.steps) <= {"done", "EINVAL"}
    mm = r.world.system.mms[process - 1]
    return [number for number in range(len(mm._pmds)) if pmd_trans_huge(pmd_of(mm, number))]


def test_files_and_expectations_correspond() -> None:
    assert sorted(EXPECTED) == sorted(path.name for path in HERE.glob("*.toml") if path.name != "expected.toml")
    assert {name.partition("-")[0].removesuffix(".toml") for name in EXPECTED} <= set(CELLS)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_is_canonical_and_ends_with_what_is_expected_last(name: str) -> None:
    text = (HERE / name).read_text()
    assert canonical(text) == text
    s = load(HERE / name)
    assert s.name == name.partition("-")[0].removesuffix(".toml")
    assert EXPECTED[name][-1][0] == len(s.steps)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda each: each.name)
@pytest.mark.parametrize("name", EXPECTED)
def test_verdict(name: str, variant: Variant) -> None:
    s = load(HERE / name)
    found = [(step, process, huge_after(s, variant, step, process)) for step, process, _ in EXPECTED[name]]
    assert found == EXPECTED[name]


def test_one_written_page_less_is_one_shared_page_too_many() -> None:
    """The limit decides, in khugepaged alone."""
    s = load(HERE / "collapse_max_ptes_shared-khugepaged.toml")
    fewer = attrs.evolve(s, steps=(*s.steps[:8], Step(op="drain"), *s.steps[9:]))
    assert huge_after(fewer, v12.VARIANT, 12, 2) == []


def test_the_page_names_them() -> None:
    text = PAGE.read_text()
    assert all(f"`steps/{name}`" in text for name in EXPECTED)
