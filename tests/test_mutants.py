"""Whatever a variant does wrong is an observation: no broken variant breaks the tool."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from kmm.judge.observe import observe
from kmm.scenario.model import Scenario
from kmm.scenario.run import run
from kmm.scenario.small_scope import quick_families
from refactors import v12
from tests.seeded import load

assert v12.__file__ is not None
LINES = Path(v12.__file__).read_text(encoding="utf-8").split("\n")
BODY = range(next(i for i, line in enumerate(LINES) if line.startswith("    compound_pagelist")), len(LINES) - 4)
SWAPS = (
    ("==", "!="),
    ("not ", ""),
    ("_unlock", "_lock"),
    ("nr_pages", "8"),
    ("mthp_address", "pmd_address"),
    ("_pmd", "pmd"),
    ("pte,", "pte + 3,"),
)


def mutants() -> list[tuple[int, str]]:
    """(line number, text of the module) for each line left out or changed, as far as the text still compiles."""
    found = []
    for i in BODY:
        line = LINES[i]
        indent = line[: len(line) - len(line.lstrip())]
        for new in (indent + "pass", *(line.replace(old, new, 1) for old, new in SWAPS if old in line)):
            source = "\n".join([*LINES[:i], new, *LINES[i + 1 :]])
            try:
                compile(source, "mutant", "exec")
            except SyntaxError:
                continue
            if new.strip() != line.strip() and line.strip():
                found.append((i + 1, source))
    return found


@pytest.fixture(scope="module")
def few() -> list[Scenario]:
    """Some scenarios of every small family."""
    return [s for family in quick_families(1) for s in islice(family.scenarios(), 0, None, 1499)]


@pytest.mark.parametrize("source", [source for _, source in mutants()], ids=[str(line) for line, _ in mutants()])
def test_every_mutant_is_observed(source: str, few: list[Scenario]) -> None:
    variant = load(source, "mutant")
    for s in few:
        assert observe(run(s, variant)).canonical()
