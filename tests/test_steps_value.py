"""Scenarios with steps, ranges and processes: what can be said, and what is refused."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
from hypothesis import given

from kmm.judge.minimise_steps import smaller_systems
from kmm.scenario.errors import ScenarioError
from kmm.scenario.model import Driver, DriverKind, Geometry, Process, Scenario, Tunables, Vma
from kmm.scenario.small_systems import system_families
from kmm.scenario.step import STEP_OPS, VALUES, Step, Takes, said
from kmm.scenario.strategies.systems import systems
from kmm.scenario.toml import canonical_bytes, load, parse, render

_TEXT = """\
format = 1

[geometry]
ptes = 8
ranges = 2

[driver]
kind = "steps"

[[vma]]
map = "rrrrrrrr........"

[[process]]
pmd = "table huge"

[[process.vma]]
map = "rrrr............"

[[process]]

[[step]]
op = "khugepaged"

[[step]]
op = "munmap"
process = 2
page = 3
length = 4
"""


def test_the_canonical_form_is_kept_byte_for_byte() -> None:
    s = parse(_TEXT)
    assert render(s) == _TEXT
    assert [process.pmd for process in s.processes] == ["table huge", "table"]
    assert s.steps == (Step(op="khugepaged"), Step(op="munmap", process=2, page=3, length=4))


@given(systems())
def test_what_is_drawn_round_trips(s: Scenario) -> None:
    assert parse(render(s)) == s
    assert canonical_bytes(parse(render(s))) == canonical_bytes(s)


@pytest.mark.parametrize(
    ("old", "new", "problem", "line"),
    [
        ('op = "khugepaged"', 'op = "khugepage"', "is not a step", 22),
        ('op = "khugepaged"', 'op = "khugepaged"\npage = 3', "khugepaged takes no page", 21),
        ("page = 3\n", "", "munmap needs page", 24),
        ("page = 3", "page = 13", "step 2 leads out of the range", 24),
        ("length = 4", "length = 0", "length = 0 is out of range", 28),
        ('map = "rrrr............"', 'map = "rrrr"', "the map has 4 letters, the range 16 entries (process 2, VMA 1)", 17),
        ("table huge", "huge table", "has no page-table entries", 14),
        ("table huge", "table hug", 'pmd = "table hug" is not known', 14),
        ('kind = "steps"', 'kind = "khugepaged"', "several ranges or processes need steps", 7),
        ('kind = "steps"', 'kind = "steps"\npasses = 2', "passes = 2 of steps", 9),
        ("ranges = 2", "ranges = 65", "ranges = 65 is out of range", 5),
        ('"rrrr............"', '"rrrr?..........."', '"?" is not in the alphabet (process 2, VMA 1)', 17),
    ],
)
def test_bad_files_are_told_with_their_line(tmp_path: Path, old: str, new: str, problem: str, line: int) -> None:
    assert old in _TEXT
    path = tmp_path / "s.toml"
    path.write_text(_TEXT.replace(old, new, 1))
    with pytest.raises(ScenarioError) as caught:
        load(path)
    assert problem in caught.value.problem
    assert caught.value.where == f"{path}:{line}"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"op": "madvise", "page": 0, "value": "willneed"}, 'value = "willneed" is not known to madvise'),
        ({"op": "mprotect", "page": 0, "value": "write read"}, "is not an access"),
        ({"op": "mremap", "page": 0}, "mremap needs to"),
        ({"op": "sysfs", "value": "1"}, "sysfs needs name"),
        ({"op": "load", "page": 0, "value": "1"}, 'value = "1" does not belong to load'),
        ({"op": "drain", "process": 2}, "process = 2 does not belong to drain"),
        ({"op": "load", "process": 0, "page": 0}, "process = 0 is out of range"),
    ],
)
def test_bad_steps_are_refused(values: dict[str, object], problem: str) -> None:
    with pytest.raises(ScenarioError, match=problem):
        Step(**values)  # type: ignore[arg-type]


def test_steps_and_their_driver_belong_together() -> None:
    geometry = Geometry(ptes=8)
    parts = {"geometry": geometry, "tunables": Tunables.default(geometry), "vmas": (Vma(pages="r" * 8),)}
    for driver, steps in ((DriverKind.STEPS, ()), (DriverKind.KHUGEPAGED, (Step(op="drain"),))):
        with pytest.raises(ScenarioError, match="steps and their driver belong together"):
            Scenario(**parts, driver=Driver(kind=driver), steps=steps)  # type: ignore[arg-type]


def test_a_step_is_said_in_words() -> None:
    assert said(Step(op="munmap", process=2, page=3, length=4), 7) == "step 7: munmap pages 3 to 6 of process 2"
    assert said(Step(op="sysfs", name="enabled", value="never"), 1) == 'step 1: sysfs enabled "never"'


def test_every_operation_needs_exactly_what_it_takes() -> None:
    for op, (takes, _) in STEP_OPS.items():
        value = "read" if op == "mprotect" else VALUES.get(op, ("",))[0]
        step = Step(
            op=op,
            page=0 if Takes.PAGE in takes else None,
            to=1 if Takes.TO in takes else None,
            name="enabled" if Takes.NAME in takes else "",
            value=value or ("x" if op == "sysfs" else ""),
        )
        for key, flag in (("page", Takes.PAGE), ("to", Takes.TO)):
            with pytest.raises(ScenarioError):
                attrs.evolve(step, **{key: None if flag in takes else 0})  # type: ignore[arg-type]


def test_the_families_are_distinct_and_whole() -> None:
    counts = {family.name: len({canonical_bytes(s) for s in family.scenarios()}) for family in system_families()}
    ranges, orders, places = 6, 3, 4
    ops = sum((9, 5, 2, 1, 2, 4, 2, 1))
    failing = 5
    assert counts["khugepaged over two ranges"] == ranges**2 * orders * 2 + failing * 2
    assert counts["two operations"] == ops**2
    assert counts["an operation between two passes"] <= places * 2 * 2 * ops
    assert counts["two processes"] == ranges**2 * orders + ranges * orders * 4


def test_every_reduction_is_another_scenario() -> None:
    s = parse(_TEXT)
    process = Process(vmas=(Vma(pages="rrrr" + "." * 12),))
    for each in smaller_systems(attrs.evolve(s, processes=(process, *s.processes))):
        assert each.geometry.ranges == 1 or each != s
