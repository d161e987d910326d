"""Captures the anonymous memory of a live process as scenarios, one for each range of PMD size."""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs

from kmm.live.errors import CaptureError
from kmm.live.frames import Frame, read_frames
from kmm.live.letters import draw_map
from kmm.live.pages import View, is_untouched, mapped_by_pmd, page_states
from kmm.live.proc import MAPPED_ONCE, PAGE, PFN_MASK, PRESENT, SWAPPED, Mapping, Process, no_memory
from kmm.live.reasons import Reason, Skip, vma_reason
from kmm.live.settings import memcg_room, thp_disable
from kmm.live.spans import Span, spans
from kmm.live.thp import read_tunables
from kmm.scenario.checks import MIN_MTHP_ORDER
from kmm.scenario.model import Driver, DriverKind, Geometry, Scenario, Tunables, Vma
from kmm.scenario.page import ANON, Kind, Lru, PageState

GEOMETRY: Final = Geometry()
PTES: Final = GEOMETRY.ptes
RANGE: Final = PTES * PAGE
"""Bytes of one range."""

_CHUNK: Final = 64
_VMA_FLAGS: Final = {
    "rd": "read",
    "wr": "write",
    "ex": "exec",
    "hg": "hugepage",
    "nh": "nohugepage",
    "um": "uffd_missing",
    "uw": "uffd_wp",
    "lo": "locked",
    "gd": "growsdown",
    "dc": "dontcopy",
    "dd": "dontdump",
    "de": "dontexpand",
    "io": "io",
    "mg": "mergeable",
    "dp": "droppable",
}


@attrs.frozen(kw_only=True)
class Capture:
    """What a process's memory gave.

    :param scenarios: one for each captured range, in address order
    :param skipped: reason and number of ranges, for those that were left out, the largest number first
    """

    scenarios: tuple[Scenario, ...]
    skipped: tuple[tuple[str, int], ...]


@attrs.frozen(kw_only=True)
class _Surroundings:
    """What is the same for every range."""

    tunables: Tunables
    thp_disable: str
    memcg_room: int | None
    unseen: tuple[str, ...]
    soft_dirty: bool


def capture(pid: int, *, names: bool = False, root: Path = Path("/"), page_size: int | None = None) -> Capture:
    """Read the anonymous memory of a process.

    The process runs on meanwhile; ranges that are seen to change are left out.

    :param names: name scenarios after mapping and address, instead of by number
    :param root: where ``proc`` and ``sys`` are
    :param page_size: bytes; default: this kernel's
    :raises CaptureError: no such process, no permission, no memory, another page size
    """
    size = os.sysconf("SC_PAGE_SIZE") if page_size is None else page_size
    if size != PAGE:
        raise CaptureError(f"this kernel's pages have {size} bytes", f"capture on a kernel with pages of {PAGE} bytes")
    tunables, unseen = read_tunables(GEOMETRY, root)
    disable, disable_seen = thp_disable(pid, root)
    room, room_seen = memcg_room(pid, root)
    hidden = [name for name, seen in (("thp_disable", disable_seen), ("memcg_room", room_seen)) if not seen]
    with Process(pid, root) as process:
        mappings = process.smaps()
        if not mappings:
            raise no_memory(pid)
        surroundings = _Surroundings(
            tunables=tunables,
            thp_disable=disable,
            memcg_room=room,
            unseen=(*unseen, *hidden),
            soft_dirty=any("sd" in each.flags for each in mappings),
        )
        skipped: Counter[Reason] = Counter()
        found: list[tuple[tuple[Mapping, ...], int, Scenario]] = []
        for span in spans(mappings, RANGE):
            reason = next((reason for vma in span.vmas if (reason := vma_reason(vma)) is not None), None)
            if reason is not None:
                skipped[reason] += span.count
                continue
            for address, result in _capture_span(process, span, surroundings):
                if isinstance(result, Reason):
                    skipped[result] += 1
                else:
                    found.append((span.vmas, address, result))
        still = {each.place for each in process.maps()}
    if not still:
        raise no_memory(pid)
    kept = [each for each in found if still.issuperset(vma.place for vma in each[0])]
    skipped[Reason.CHANGED] += len(found) - len(kept)
    named = (attrs.evolve(scenario, name=_name(vmas[0], address, i, names)) for i, (vmas, address, scenario) in enumerate(kept, 1))
    return Capture(scenarios=tuple(named), skipped=_by_number(skipped))


def as_captured_drivers(scenario: Scenario) -> tuple[Scenario, ...]:
    """The forms in which a captured range is judged.

    As captured; khugepaged with every order on; khugepaged with PMD order only; MADV_COLLAPSE.
    """
    geometry, tunables = scenario.geometry, attrs.evolve(scenario.tunables, enabled="always")
    every = tunables.with_orders(geometry, *range(MIN_MTHP_ORDER, geometry.pmd_order + 1))
    pmd_only = tunables.with_orders(geometry, geometry.pmd_order)
    khugepaged = Driver(kind=DriverKind.KHUGEPAGED)
    return (
        scenario,
        attrs.evolve(scenario, tunables=every, driver=khugepaged),
        attrs.evolve(scenario, tunables=pmd_only, driver=khugepaged),
        attrs.evolve(scenario, driver=Driver(kind=DriverKind.MADVISE)),
    )


def _by_number(skipped: Counter[Reason]) -> tuple[tuple[str, int], ...]:
    counts = [(reason.value, count) for reason, count in skipped.items() if count]
    return tuple(sorted(counts, key=lambda each: (-each[1], each[0])))


def _name(mapping: Mapping, address: int, number: int, names: bool) -> str:
    return f"{mapping.name or 'anonymous'} {address:#x}" if names else f"range {number}"


def _capture_span(process: Process, span: Span, surroundings: _Surroundings) -> Iterator[tuple[int, Scenario | Reason]]:
    """Address, and scenario or reason, of every range of a span."""
    views = [_view(vma, surroundings) for vma in span.vmas]
    for first in range(span.first, span.first + span.count, _CHUNK):
        numbers = range(first, min(first + _CHUNK, span.first + span.count))
        chunk = process.pagemap(first * RANGE, len(numbers) * PTES)
        marks = process.marks(first * RANGE, len(numbers) * PTES)
        for i, number in enumerate(numbers):
            try:
                pieces = [_piece(vma, number * RANGE, view) for vma, view in zip(span.vmas, views, strict=True)]
                table = slice(i * PTES, (i + 1) * PTES)
                entries = _Entries(chunk[table], None if marks is None else marks[table])
                yield number * RANGE, _capture_range(process, entries, pieces, surroundings)
            except Skip as skip:
                yield number * RANGE, skip.reason


def _view(vma: Mapping, surroundings: _Surroundings) -> View:
    return View(
        writable="wr" in vma.flags,
        uffd_wp="uw" in vma.flags,
        locked="lo" in vma.flags,
        mergeable="mg" in vma.flags,
        droppable="dp" in vma.flags,
        soft_dirty=surroundings.soft_dirty,
        huge=vma.kb.get("AnonHugePages", 0) > 0,
        shared=vma.kb.get("Shared_Clean", 0) + vma.kb.get("Shared_Dirty", 0) > 0,
        swapped=vma.kb.get("Swap", 0) > 0,
    )


@attrs.frozen
class _Entries:
    """The pagemap words of one range, and what PAGEMAP_SCAN says about the pages, where the kernel has it."""

    words: array[int]
    marks: bytes | None


@attrs.frozen
class _Piece:
    """What of a VMA lies in one range: its pages there, and how many it has before and after the range, up to a table of them."""

    vma: Mapping
    view: View
    pages: range
    before: int
    after: int


def _piece(vma: Mapping, address: int, view: View) -> _Piece:
    first, end = (vma.start - address) // PAGE, (vma.end - address) // PAGE
    return _Piece(vma, view, range(max(first, 0), min(end, PTES)), min(max(-first, 0), PTES), min(max(end - PTES, 0), PTES))


def _capture_range(process: Process, entries: _Entries, pieces: Sequence[_Piece], surroundings: _Surroundings) -> Scenario:
    words, marks = entries.words, entries.marks
    if is_untouched(words):
        raise Skip(Reason.UNTOUCHED)
    frames = _frames(process, words)
    whole = pieces[0] if len(pieces[0].pages) == PTES else None
    pmd = "table" if whole is None else mapped_by_pmd(words, frames, marks, whole.view)
    if pmd != "table":
        words, frames = array("Q", bytes(8 * PTES)), {} if frames is not None else None
    states = page_states(words, frames, marks, [(piece.pages, piece.view) for piece in pieces])
    merged = {i: frame.head for i, frame in (frames or {}).items() if states[i].ksm}
    pages, letters = draw_map(states, merged)
    unseen = {*surroundings.unseen, *_unseen(states, entries, frames, pieces)}
    if pmd == "huge":
        unseen |= {"mapped_by", "pins", "referenced"}
    return Scenario(
        geometry=GEOMETRY,
        tunables=surroundings.tunables,
        vmas=tuple(_vma(piece, pages, pmd) for piece in pieces),
        letters=letters,
        pmd=pmd,
        thp_disable=surroundings.thp_disable,
        memcg_room=surroundings.memcg_room,
        driver=Driver(kind=DriverKind.KHUGEPAGED),
        assumed=tuple(sorted(unseen)),
    )


def _vma(piece: _Piece, pages: str, pmd: str) -> Vma:
    flags = tuple(sorted(_VMA_FLAGS[flag] for flag in piece.vma.flags if flag in _VMA_FLAGS))
    own = pages[piece.pages.start : piece.pages.stop]
    start = None if len(own) == PTES else piece.pages.start
    return Vma(pages=own, flags=flags, start=start, before=piece.before, after=piece.after)


def _frames(process: Process, words: array[int]) -> dict[int, Frame] | None:
    """The frames; ``None`` to a reader without the privilege to see their numbers."""
    hidden = any(word & (PRESENT | SWAPPED) and not word & PFN_MASK for word in words)
    return None if process.frames is None or hidden else read_frames(words, process.frames)


def _unseen(states: Sequence[PageState], entries: _Entries, frames: dict[int, Frame] | None, pieces: Sequence[_Piece]) -> Iterator[str]:
    """Names of what no file shows about this range; ``kind`` where two kinds look the same."""
    kinds = {state.kind for state in states}
    views = [piece.view for piece in pieces]
    yield "config"
    yield from ("deposited", "secondary_young", "prot_none")
    if any(view.locked for view in views):
        yield "lockonfault"
    if Kind.ZERO in kinds:
        yield from ("young", *(("dirty",) if any(view.mergeable for view in views) else ()))
    if Kind.PRESENT in kinds:
        yield from ("dirty", "exclusive", "node", "pins", "write", "young")
        if frames is None:
            yield from ("ksm", "lazyfree", "locked", "lru", "mapped_by", "mlocked", "order", "referenced", "swapcache")
        elif any(state.lru is Lru.OFF for state in states):
            yield "lru"
        if any(state.ksm for state in states):
            yield "mapped_by"
    if Kind.SWAP in kinds:
        yield from ("exclusive", "mapped_by", "swapcache")
    if not views[0].soft_dirty and kinds & {Kind.PRESENT, Kind.SWAP}:
        yield "soft_dirty"
    alike = entries.marks is None and any(view.shared for view in views) and _some_mapped_often(entries.words)
    if frames is None and (Kind.SWAP in kinds or alike):
        yield "kind"
    if not all(_has_anon_vma(piece, states) for piece in pieces):
        yield "anon_vma"


def _some_mapped_often(words: array[int]) -> bool:
    return any(word & PRESENT and not word & MAPPED_ONCE for word in words)


def _has_anon_vma(piece: _Piece, states: Sequence[PageState]) -> bool:
    """The VMA certainly has one: it has anonymous pages, here or elsewhere."""
    anonymous = piece.vma.kb.get("Anonymous", 0) + piece.vma.kb.get("Swap", 0) > 0
    return anonymous or any(states[i].kind in ANON for i in piece.pages)
