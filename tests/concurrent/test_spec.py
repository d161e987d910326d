"""Actors in their short form."""

from __future__ import annotations

import pytest

from kmm.scenario.errors import ScenarioError
from kmm.scenario.spec import actor_text, parse_actor
from kmm.scenario.step import Step


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("store:3", Step(op="store", page=3)),
        ("store", Step(op="store", page=0)),
        ("munmap", Step(op="munmap", page=0, length=8)),
        ("madvise:2-5:free", Step(op="madvise", page=2, length=4, value="free")),
        ("madvise:dontneed", Step(op="madvise", page=0, length=8, value="dontneed")),
        ("mremap:0-3>4", Step(op="mremap", page=0, length=4, to=4)),
        ("fork@2", Step(op="fork", process=2)),
        ("prctl:yes", Step(op="prctl", value="yes")),
        ("sysfs:khugepaged/max_ptes_none=0", Step(op="sysfs", name="khugepaged/max_ptes_none", value="0")),
        ("mprotect:0-7:read write", Step(op="mprotect", page=0, length=8, value="read write")),
    ],
)
def test_forms(text: str, step: Step) -> None:
    assert parse_actor(text, 8) == step
    assert parse_actor(actor_text(step), 8) == step


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        ("gap", '"gap" is not an actor', "use khugepaged"),
        ("madvise", "is not known to madvise", "use cold"),
        ("madvise:5-2:free", "5-2 are no pages", "name the first one first"),
        ("madvise:all:free", '"all" are no pages', "write 3"),
        ("fork:3", 'value = "3" does not belong to fork', "drop it"),
        ("store:0:x", 'value = "x" does not belong to store', "drop it"),
        ("store@0:0", "process = 0 is out of range", "use 1 to 99"),
    ],
)
def test_what_is_none(text: str, problem: str, remedy: str) -> None:
    with pytest.raises(ScenarioError) as error:
        parse_actor(text, 8)
    assert problem in error.value.problem
    assert remedy in error.value.remedy
