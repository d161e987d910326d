"""Covering arrays: few rows in which every allowed combination of any t values occurs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, product
from random import Random
from typing import TypeAlias

import attrs

Row: TypeAlias = tuple[int, ...]
"""For each factor the index of its value."""

Possible: TypeAlias = Callable[[Mapping[int, int]], bool]
"""Whether there is a row with these values, given as factor to value."""


@attrs.frozen
class Plan:
    """What is to be covered.

    :param sizes: for each factor how many values it has; fewest rows come out when the largest stands first
    :param strength: how many factors a combination has, 2 to the number of factors
    :param possible: decides exactly: what it allows must fit into a row
    :param asked: the factors that ``possible`` looks at, and all that it is given; ``None``: all
    :raises ValueError: when there is nothing to combine
    """

    sizes: tuple[int, ...]
    strength: int
    possible: Possible
    asked: frozenset[int] | None = None

    def __attrs_post_init__(self) -> None:
        if not 2 <= self.strength <= len(self.sizes) or min(self.sizes) < 1:
            raise ValueError(f"no combinations of {self.strength} factors with {self.sizes} values")

    def combinations(self) -> Iterator[tuple[dict[int, int], bool]]:
        """Every combination of ``strength`` values of different factors, and whether it is allowed."""
        for factors in combinations(range(len(self.sizes)), self.strength):
            asked = any(map(self.asks, factors))
            for values in product(*(range(self.sizes[f]) for f in factors)):
                combination = dict(zip(factors, values, strict=True))
                yield combination, not asked or self.possible({f: v for f, v in combination.items() if self.asks(f)})

    def asks(self, factor: int) -> bool:
        """Whether ``possible`` looks at a factor."""
        return self.asked is None or factor in self.asked

    def count(self) -> tuple[int, int]:
        """How many combinations are allowed, and how many forbidden."""
        allowed = total = 0
        for _, good in self.combinations():
            allowed += good
            total += 1
        return allowed, total - allowed


def covering_rows(plan: Plan, seed: int) -> Iterator[Row]:
    """Rows, each of them possible, that together have every allowed combination.

    :param seed: breaks ties
    :raises ValueError: when ``possible`` allows what no row has
    """
    return _Greedy(plan, seed).rows()


class _Greedy:
    """One row at a time: it starts from a combination that is still open, and each further value closes as many as it can.

    A value is one bit. ``open`` has, for each ``strength - 1`` bits, the bits that make an open combination with them.
    """

    def __init__(self, plan: Plan, seed: int) -> None:
        self.plan = plan
        self.random = Random(seed)
        starts = [sum(plan.sizes[:f]) for f in range(len(plan.sizes))]
        self.bits = [[1 << start + v for v in range(size)] for start, size in zip(starts, plan.sizes, strict=True)]
        self.place = {bit: (f, v) for f, bits in enumerate(self.bits) for v, bit in enumerate(bits)}
        self.open: dict[int, int] = {}
        for combination, allowed in plan.combinations():
            if allowed:
                each = [self.bits[f][v] for f, v in combination.items()]
                whole = sum(each)
                for bit in each:
                    self.open[whole ^ bit] = self.open.get(whole ^ bit, 0) | bit

    def rows(self) -> Iterator[Row]:
        for rest in list(self.open):
            while self.open[rest]:
                last = self.open[rest] & -self.open[rest]
                row = self._row([*_bits(rest), last])
                self._close(row)
                yield tuple(v for _, v in sorted(self.place[bit] for bit in row))

    def _row(self, chosen: list[int]) -> list[int]:
        values = dict(self.place[bit] for bit in chosen)
        others = [f for f in range(len(self.bits)) if f not in values]
        asked = {f: v for f, v in values.items() if self.plan.asks(f)}
        for f in sorted(others, key=lambda _: self.random.random()):
            bit = self._best(f, chosen, asked)
            chosen.append(bit)
            if self.plan.asks(f):
                asked[f] = self.place[bit][1]
        return chosen

    def _best(self, factor: int, chosen: Sequence[int], values: dict[int, int]) -> int:
        """The value that is possible and closes most combinations with those that were chosen.

        :param values: of the factors that ``possible`` looks at
        """
        bits = self.bits[factor]
        turn = int(self.random.random() * len(bits))
        bits = bits[turn:] + bits[:turn]
        gains = self._gains(bits, chosen)
        asked = self.plan.asks(factor)
        while gains:
            best = gains.index(max(gains))
            if not asked or self.plan.possible({**values, factor: self.place[bits[best]][1]}):
                return bits[best]
            bits = bits[:best] + bits[best + 1 :]
            del gains[best]
        raise ValueError(f"{values} are possible, but no value of factor {factor} goes with them")

    def _gains(self, bits: Sequence[int], chosen: Sequence[int]) -> list[int]:
        """For each bit how many combinations it would close, times ``strength - 1``."""
        row, get = sum(chosen), self.open.get
        gains = [0] * len(bits)
        for some in map(sum, combinations(chosen, self.plan.strength - 2)):
            gains = [gain + (get(bit | some, 0) & row).bit_count() for gain, bit in zip(gains, bits, strict=True)]
        return gains

    def _close(self, row: Sequence[int]) -> None:
        whole = sum(row)
        for rest in map(sum, combinations(row, self.plan.strength - 1)):
            if rest in self.open:
                self.open[rest] &= ~whole


def _bits(mask: int) -> Iterator[int]:
    while mask:
        yield mask & -mask
        mask &= mask - 1
