"""What a privileged reader sees behind the entries of one range: frame flags, map counts, and which folio a page belongs to."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import NamedTuple

from kmm.live.proc import FIRST_SPECIAL_TYPE, KPF_HEAD, KPF_HWPOISON, KPF_TAIL, PFN_MASK, PRESENT, SWAP_OFFSET, SWAP_TYPE, SWAPPED, Frames
from kmm.live.reasons import Reason, Skip
from kmm.mm.pte import SWP_PTE_MARKER

BLOCK = 512
"""Frames; no anonymous folio is larger, and each is naturally aligned."""


class Frame(NamedTuple):
    """The frame behind one entry.

    :param pfn: its number
    :param flags: the ``KPF_`` bits of the page
    :param mapcount: how often the page is mapped
    :param head: number of the folio's first frame
    :param order: order of the folio
    :param folio_flags: the ``KPF_`` bits of the folio's first page
    """

    pfn: int
    flags: int
    mapcount: int
    head: int
    order: int
    folio_flags: int


def read_frames(words: array[int], frames: Frames) -> dict[int, Frame]:
    """The frames behind the present entries of ``words``, and behind those of memory failure, by page index.

    :raises Skip: a folio came or went meanwhile
    """
    blocks: dict[int, list[tuple[int, int, int]]] = {}
    out: dict[int, Frame] = {}
    for index, pfn, length in _runs(words):
        flags, counts = frames.flags(pfn, length), frames.mapcounts(pfn, length)
        if len(flags) != length or len(counts) != length:
            raise Skip(Reason.CHANGED)
        for i in range(length):
            head, order, folio_flags = pfn + i, 0, flags[i]
            if flags[i] & (KPF_HEAD | KPF_TAIL):
                head, order, folio_flags = _folio(pfn + i, frames, blocks)
            out[index + i] = Frame(pfn + i, flags[i], counts[i], head, order, folio_flags)
    out.update(_poisoned(words, frames))
    return out


def _poisoned(words: array[int], frames: Frames) -> Iterator[tuple[int, Frame]]:
    """Entries of memory failure: their type depends on the kernel, but the frame that they name is poisoned."""
    for index, word in enumerate(words):
        if word & SWAPPED and FIRST_SPECIAL_TYPE <= word & SWAP_TYPE < SWP_PTE_MARKER:
            pfn = (word & PFN_MASK) >> SWAP_OFFSET
            if any(flags & KPF_HWPOISON for flags in frames.flags(pfn, 1)):
                yield index, Frame(pfn, KPF_HWPOISON, 0, pfn, 0, KPF_HWPOISON)


def _runs(words: array[int]) -> Iterator[tuple[int, int, int]]:
    """Page index, frame number and length of each run of present entries with consecutive frames."""
    start = length = first = 0
    for i, word in enumerate(words):
        if not word & PRESENT:
            continue
        pfn = word & PFN_MASK
        if length and i == start + length and pfn == first + length:
            length += 1
            continue
        if length:
            yield start, first, length
        start, first, length = i, pfn, 1
    if length:
        yield start, first, length


def _folio(pfn: int, frames: Frames, blocks: dict[int, list[tuple[int, int, int]]]) -> tuple[int, int, int]:
    """First frame, order and flags of the large folio that holds ``pfn``."""
    base = pfn - pfn % BLOCK
    if base not in blocks:
        blocks[base] = _folios(base, frames.flags(base, BLOCK))
    for head, order, flags in blocks[base]:
        if head <= pfn < head + (1 << order):
            return head, order, flags
    raise Skip(Reason.CHANGED)


def _folios(base: int, flags: array[int]) -> list[tuple[int, int, int]]:
    """Every large folio in a block of frames."""
    out: list[tuple[int, int, int]] = []
    i = 0
    while i < len(flags):
        end = i + 1
        if flags[i] & KPF_HEAD:
            while end < len(flags) and flags[end] & KPF_TAIL:
                end += 1
            size = end - i
            if size & (size - 1) == 0:
                out.append((base + i, size.bit_length() - 1, flags[i]))
        i = end
    return out
