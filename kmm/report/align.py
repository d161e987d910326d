"""Two texts beside each other: which line stands next to which."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator, Sequence
from typing import Final

import attrs

ALIKE: Final = 0.6
"""How alike two lines must be to stand beside each other (0 to 1)."""
COMPARED: Final = 10_000
"""Pairs of lines in a passage beyond which it is not searched for lines that are alike."""


@attrs.frozen
class Row:
    """One line of either text, or of both.

    :param a: index of the line in the first text; ``None``: it has none here
    :param same: both have the same line
    """

    a: int | None
    b: int | None
    same: bool

    @property
    def mark(self) -> str:
        """As sdiff writes it."""
        if self.same:
            return " "
        return ">" if self.a is None else "<" if self.b is None else "|"


def aligned(a: Sequence[str], b: Sequence[str]) -> list[Row]:
    """Every line of both texts, in order."""
    rows: list[Row] = []
    for tag, a1, a2, b1, b2 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag == "equal":
            rows += [Row(i, j, True) for i, j in zip(range(a1, a2), range(b1, b2), strict=True)]
        else:
            rows += _changed(a, b, (a1, a2), (b1, b2))
    return rows


def hunks(rows: Sequence[Row], context: int) -> list[list[Row]]:
    """The changed rows, each with so many unchanged ones around it; hunks that touch are one."""
    near = {i for at, row in enumerate(rows) if not row.same for i in range(max(0, at - context), min(len(rows), at + context + 1))}
    found: list[list[int]] = []
    for i in sorted(near):
        if found and found[-1][-1] == i - 1:
            found[-1].append(i)
        else:
            found.append([i])
    return [[rows[i] for i in each] for each in found]


def _changed(a: Sequence[str], b: Sequence[str], left: tuple[int, int], right: tuple[int, int]) -> Iterator[Row]:
    """Rows of two passages without a common line: the two lines most alike stand together, then the rest around them."""
    few = (left[1] - left[0]) * (right[1] - right[0]) <= COMPARED
    pairs = ((_likeness(a[i], b[j]), -i, -j) for i in range(*left) for j in range(*right))
    best = max(pairs, default=(0.0, 0, 0)) if few else (0.0, 0, 0)
    if best[0] < ALIKE:
        yield from (Row(i, None, False) for i in range(*left))
        yield from (Row(None, j, False) for j in range(*right))
        return
    i, j = -best[1], -best[2]
    yield from _changed(a, b, (left[0], i), (right[0], j))
    yield Row(i, j, False)
    yield from _changed(a, b, (i + 1, left[1]), (j + 1, right[1]))


@functools.lru_cache(1 << 16)
def _likeness(a: str, b: str) -> float:
    """How alike two lines are, 0 to 1; their indentation does not count."""
    matcher = difflib.SequenceMatcher(None, a.strip(), b.strip(), autojunk=False)
    if not a.strip() or not b.strip() or matcher.real_quick_ratio() < ALIKE or matcher.quick_ratio() < ALIKE:
        return 0.0
    return matcher.ratio()
