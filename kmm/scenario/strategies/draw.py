"""How values are drawn: from short sequences and booleans only."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Final, TypeVar, cast

from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

from kmm.scenario.model import (
    DriverKind,
    Geometry,
)

T = TypeVar("T")

_TOP_PICKS: Final = 99
_DIGIT: Final = 64


@functools.lru_cache(1024)
def _sampled(values: Sequence[object]) -> st.SearchStrategy[object]:
    if not 1 <= len(values) <= _TOP_PICKS:
        raise InvalidArgument(f"{len(values)} values to pick from; give 1 to {_TOP_PICKS}")
    return st.sampled_from(values)


def pick(draw: st.DrawFn, values: Sequence[T]) -> T:
    """One of at most 99 values, a tuple or a range; a value that is repeated comes more often."""
    return cast(T, draw(_sampled(values)))


def member(draw: st.DrawFn, values: Sequence[T]) -> T:
    """One of any number of values."""
    while len(values) > _DIGIT:
        size = -(-len(values) // _DIGIT)
        start = size * pick(draw, range(-(-len(values) // size)))
        values = values[start : start + size]
    return pick(draw, values)


@st.composite
def drawn(draw: st.DrawFn, build: Callable[[st.DrawFn], T]) -> T:
    return build(draw)


def draw_some(draw: st.DrawFn, item: Callable[[], T]) -> tuple[T, ...]:
    """None mostly, else one or two."""
    return tuple(item() for _ in range(pick(draw, (0, 0, 0, 0, 1, 1, 2))))


def need(good: bool, problem: str, remedy: str) -> None:
    if not good:
        raise InvalidArgument(f"{problem}; {remedy}")


def need_geometry(geometry: Geometry) -> None:
    need(isinstance(geometry, Geometry), f"geometry is {geometry!r}", "give a kmm.scenario.model.Geometry")


def pages_in(geometry: Geometry, at: Sequence[int] | None) -> Sequence[int]:
    """The pages that may be named: ``at``, or all."""
    need_geometry(geometry)
    if at is None:
        return range(geometry.ptes)
    good = len(at) > 0 and all(0 <= page < geometry.ptes for page in at)
    need(good, "at must name pages of the table", f"give one or more of 0 to {geometry.ptes - 1}")
    return tuple(at)


def need_kinds(kinds: Sequence[DriverKind]) -> None:
    good = len(kinds) > 0 and all(isinstance(kind, DriverKind) for kind in kinds)
    good = good and DriverKind.STEPS not in kinds
    need(good, f"kinds = {kinds!r} are not kinds of driver", "give one or more DriverKind, but STEPS")
