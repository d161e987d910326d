"""Which VMAs lie in which ranges of PMD size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs

from kmm.live.proc import Mapping


@attrs.frozen
class Span:
    """Consecutive ranges in which the same VMAs lie.

    :param first: number of the first range: its address by the size of a range
    :param count: how many
    :param vmas: in address order; more than one, or one that has only a part of it, where ``count`` is 1
    """

    first: int
    count: int
    vmas: tuple[Mapping, ...]


def spans(mappings: Iterable[Mapping], size: int) -> Iterator[Span]:
    """Every range that some VMA has a part of, by address.

    :param mappings: by address
    :param size: bytes of a range
    """
    open_number, waiting = -1, list[Mapping]()
    for mapping in mappings:
        for first, count in _pieces(mapping, size):
            if waiting and first != open_number:
                yield Span(open_number, 1, tuple(waiting))
                waiting = []
            if mapping.start <= first * size and (first + count) * size <= mapping.end:
                yield Span(first, count, (mapping,))
            else:
                open_number = first
                waiting.append(mapping)
    if waiting:
        yield Span(open_number, 1, tuple(waiting))


def _pieces(mapping: Mapping, size: int) -> Iterator[tuple[int, int]]:
    """The range in which a VMA begins, those that it covers, the one in which it ends: number of the first, and how many."""
    begin, end = mapping.start // size, -(-mapping.end // size)
    inner, behind = -(-mapping.start // size), mapping.end // size
    if begin < inner:
        yield begin, 1
    if inner < behind:
        yield inner, behind - inner
    if inner <= behind < end:
        yield behind, 1
