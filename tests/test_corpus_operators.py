"""The operators that keep the meaning: both forms are run, and where the condition does not hold nothing is rewritten."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Callable
from enum import IntEnum
from itertools import product
from typing import Final

import pytest

from corpus.keep import KEEP
from corpus.places import of_function
from corpus.rename import RENAME, renamed

SMALL: Final = (-1, 0, 1, 2, 3)
SAMPLES: Final = {
    "invert-branch": "if a < b:\n    see(a)\nelif a == b:\n    see(b)\nelse:\n    see(0)",
    "invert-conditional": "see(1 if see(a) < b else see(b))",
    "flip-comparison": "if see(a) < b or b >= see(a) or a == b or see(a) != 1:\n    see(1)",
    "negate-comparison": "if see(a) != see(b):\n    see(1)\nif a is not None and a not in (0, 1):\n    see(2)",
    "extract-condition": "if see(a) and b:\n    see(1)\nelse:\n    see(2)",
    "extract-result": "if a:\n    return see(a) + see(b)\nreturn see(b)",
    "name-first-argument": "see(see(a) + see(b))",
    "expand-augmented": "a += b\nbox.value -= a\nbox.value <<= 1\nsee(box.value)",
    "split-condition": "if see(a) and see(b) and a > b:\n    see(1)",
    "de-morgan": "if see(a) and see(b):\n    see(1)\nif see(a) or not see(b):\n    see(2)\nelse:\n    see(3)",
    "spell-out-conditional": "x = see(1) if see(a) else see(b)\nreturn see(2) if x else see(x)",
    "fold-conditional": "if see(a):\n    x = see(1)\nelse:\n    x = see(b)\nif see(x):\n    return see(b)\nelse:\n    return see(a)",
    "commute-sum": "return see(a + 1) * 2 + (BIT(3) + a) + 4 * b",
    "spell-out-membership": "if a in (ScanResult.SCAN_FAIL, ScanResult.SCAN_SUCCEED):\n    see(1)",
    "test-at-the-top": "while see(a) < 3:\n    a += 1\n    if a == b:\n        continue\n    if a == 2:\n        break\n    see(a)",
    "extract-helper": "see(see(a) + b)\nsee(b)",
    "for-to-while": (
        "for i in range(a, b + 2):\n    if i == 1:\n        continue\n    see(i)\n    if i == 3:\n        break\nelse:\n    see(9)\n"
        "for j in range(b):\n    see(j)\nfor k in range(a, 20, BIT(2)):\n    see(k)"
    ),
    "else-after-leaving": "if see(a):\n    return see(1)\nif b:\n    return see(2)\nsee(3)\nreturn see(b)",
    "repeat-in-branches": "if a:\n    see(1)\nelse:\n    see(2)\nsee(b)",
    "sink-common": "if a:\n    see(1)\n    see(b)\nelse:\n    see(2)\n    see(b)",
    "split-assignment": "x, y = see(a), see(b)\np = q = 0\nsee(x + y + p + q)",
    "join-assignments": "x = see(a)\ny = see(b)\nsee(x - y)",
    "swap-independent": "x = a + 1\ny = b\nx = y\nsee(x + y)",
}
UNTOUCHED: Final = (
    ("flip-comparison", "return see(a) < see(b)", "both read"),
    ("flip-comparison", "return box.value < other.value", "both read"),
    ("expand-augmented", "box.inner.value += 1", "what is stored into would be looked up twice"),
    ("expand-augmented", "a += see(b)", "it is not plain"),
    ("commute-sum", "return box.value + 1", "it reads"),
    ("commute-sum", "return a + b", "these may be lists"),
    ("extract-condition", "condition = 1\nif a:\n    see(condition)", "the name is taken"),
    ("extract-helper", "WARN_ON_ONCE(a)", "it says where it is"),
    ("for-to-while", "for i in range(a):\n    a = 0", "the bound changes"),
    ("for-to-while", "for i in range(a):\n    i = 0", "the counter changes"),
    ("for-to-while", "for i in range(a):\n    see(i)\nsee(i)", "another one reads it"),
    ("for-to-while", "for i in range(a, b, -1):\n    see(i)", "it counts down"),
    ("else-after-leaving", "if a:\n    see(1)\nsee(2)", "it does not leave"),
    ("repeat-in-branches", "if a:\n    return\nelse:\n    see(1)\nsee(2)", "one leaves"),
    ("sink-common", "if a:\n    see(1)\n    see(b)\nelse:\n    see(1)\n    see(a)", "they end otherwise"),
    ("split-assignment", "a, b = b, a", "the second reads what the first set"),
    ("join-assignments", "x = a\ny = x", "the second reads the first"),
    ("swap-independent", "x = a\ny = x", "the second reads the first"),
    ("swap-independent", "x = a\nx = b", "both store into it"),
    ("swap-independent", "x = a\nbox.value = b", "others may look"),
    ("swap-independent", "x = box.value\ny = b", "others may store"),
)


class ScanResult(IntEnum):
    """Of the samples."""

    SCAN_FAIL = 0
    SCAN_SUCCEED = 1


class Box:
    """Something that outlives a function."""

    def __init__(self) -> None:
        self.value = 5


def function(body: str) -> str:
    return f"def sample(a, b, box):\n{textwrap.indent(body, '    ')}\n"


def rewritten(operator: str, source: str) -> list[str]:
    """Each form that an operator gives."""
    node = ast.parse(source).body[0]
    assert isinstance(node, ast.FunctionDef)
    pairs = of_function(operator, KEEP[operator][0], "sample.py", source.splitlines(keepends=True), node, "equivalent", "")
    return [source.replace(pair.old, pair.new) for pair in pairs]


def behaviour(source: str) -> list[tuple[object, ...]]:
    """What it returns, raises and does, of small arguments."""
    found: list[tuple[object, ...]] = []
    for a, b in product(SMALL, SMALL):
        seen: list[int] = []
        box = Box()

        def see(value: int, seen: list[int] = seen) -> int:
            seen.append(value)
            return value

        names: dict[str, Callable[[int, int, Box], object]] = {}
        exec(source, {"see": see, "BIT": lambda n: 1 << n, "ScanResult": ScanResult}, names)
        try:
            end = names["sample"](a, b, box)
        except (ValueError, UnboundLocalError) as error:
            end = type(error)
        found.append((end, seen, box.value))
    return found


def test_every_operator_has_a_sample() -> None:
    assert SAMPLES.keys() == KEEP.keys()


@pytest.mark.parametrize("operator", KEEP)
def test_both_forms_do_the_same(operator: str) -> None:
    source = function(SAMPLES[operator])
    forms = rewritten(operator, source)
    assert forms
    assert len({tuple(map(str, each)) for each in behaviour(source)}) > 1, "the sample shows nothing"
    for form in forms:
        assert form != source
        assert behaviour(form) == behaviour(source), form


@pytest.mark.parametrize(("operator", "body", "why"), UNTOUCHED, ids=lambda each: str(each)[:40])
def test_where_the_condition_does_not_hold_nothing_is_rewritten(operator: str, body: str, why: str) -> None:
    assert not rewritten(operator, function(body)), why


def renames(source: str, name: str) -> list[str]:
    node = ast.parse(source).body[0]
    assert isinstance(node, ast.FunctionDef)
    return [source.replace(old, new) for old, new in renamed(source.splitlines(keepends=True), node, name)]


def test_a_renamed_local_does_the_same() -> None:
    source = function("x = see(a)\nfor y in range(b):\n    x += y\nsee(x)\nreturn x")
    (form,) = renames(source, "x")
    assert "the_x" in form
    assert " x" not in form
    assert behaviour(form) == behaviour(source)


@pytest.mark.parametrize("body", ["x = 1\nthe_x = 2", "x = 1\nsee(lambda: x)", "x = 1\nreturn f'{x}'"])
def test_a_local_that_cannot_be_renamed_for_sure(body: str) -> None:
    assert not renames(function(body), "x"), RENAME


def test_a_parameter_keeps_its_name() -> None:
    assert not renames(function("a = 1"), "a")
