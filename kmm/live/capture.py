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
from kmm.live.pages import View, check_mapped_by_ptes, is_untouched, page_states
from kmm.live.proc import MAPPED_ONCE, PAGE, PFN_MASK, PRESENT, Mapping, Process, no_memory
from kmm.live.reasons import Reason, Skip, vma_reason
from kmm.live.thp import read_tunables
from kmm.scenario.model import MIN_MTHP_ORDER, Driver, DriverKind, Geometry, Scenario, Tunables, Vma
from kmm.scenario.page import Kind, Lru, PageState

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
class _Machine:
    """What is the same for every range."""

    tunables: Tunables
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
    with Process(pid, root) as process:
        mappings = process.smaps()
        if not mappings:
            raise no_memory(pid)
        machine = _Machine(tunables=tunables, unseen=unseen, soft_dirty=any("sd" in each.flags for each in mappings))
        skipped: Counter[Reason] = Counter(_skipped_whole(mappings))
        found: list[tuple[Mapping, int, Scenario]] = []
        for mapping in mappings:
            if vma_reason(mapping) is not None:
                continue
            for address, result in _capture_vma(process, mapping, machine):
                if isinstance(result, Reason):
                    skipped[result] += 1
                else:
                    found.append((mapping, address, result))
        still = {each.place for each in process.maps()}
    if not still:
        raise no_memory(pid)
    kept = [each for each in found if each[0].place in still]
    skipped[Reason.CHANGED] += len(found) - len(kept)
    named = (attrs.evolve(scenario, name=_name(mapping, address, i, names)) for i, (mapping, address, scenario) in enumerate(kept, 1))
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


def _whole_ranges(mapping: Mapping) -> range:
    """Start addresses of the ranges wholly inside the VMA."""
    return range(-(-mapping.start // RANGE) * RANGE, mapping.end - RANGE + 1, RANGE)


def _skipped_whole(mappings: Sequence[Mapping]) -> Iterator[Reason]:
    """The reason of every range that is left out because of its VMA, or because several VMAs share it."""
    edges: dict[int, Reason] = {}
    for mapping in mappings:
        reason = vma_reason(mapping)
        if reason is not None:
            for _ in _whole_ranges(mapping):
                yield reason
        for address, aligned in ((mapping.start, mapping.start % RANGE), (mapping.end - 1, mapping.end % RANGE)):
            if not aligned:
                continue
            number = address // RANGE
            if reason is None:
                edges[number] = Reason.EDGE
            else:
                edges.setdefault(number, reason)
    yield from edges.values()


def _capture_vma(process: Process, mapping: Mapping, machine: _Machine) -> Iterator[tuple[int, Scenario | Reason]]:
    """Address, and scenario or reason, of every range wholly inside one anonymous VMA."""
    ranges = _whole_ranges(mapping)
    view = View(
        writable="wr" in mapping.flags,
        uffd_wp="uw" in mapping.flags,
        soft_dirty=machine.soft_dirty,
        huge=mapping.kb.get("AnonHugePages", 0) > 0,
        shared=mapping.kb.get("Shared_Clean", 0) + mapping.kb.get("Shared_Dirty", 0) > 0,
        swapped=mapping.kb.get("Swap", 0) > 0,
    )
    for first in range(0, len(ranges), _CHUNK):
        addresses = ranges[first : first + _CHUNK]
        chunk = process.pagemap(addresses[0], len(addresses) * PTES)
        for i, address in enumerate(addresses):
            try:
                yield address, _capture_range(process, chunk[i * PTES : (i + 1) * PTES], mapping, view, machine)
            except Skip as skip:
                yield address, skip.reason


def _capture_range(process: Process, words: array[int], mapping: Mapping, view: View, machine: _Machine) -> Scenario:
    if is_untouched(words):
        raise Skip(Reason.UNTOUCHED)
    frames = _frames(process, words)
    check_mapped_by_ptes(words, frames, view)
    states = page_states(words, frames, view)
    pages, letters = draw_map(states)
    unseen = {*machine.unseen, *_unseen(states, words, frames, view), *_unseen_anon_vma(states, mapping)}
    return Scenario(
        geometry=GEOMETRY,
        tunables=machine.tunables,
        vmas=(Vma(pages=pages, flags=tuple(sorted(_VMA_FLAGS[flag] for flag in mapping.flags if flag in _VMA_FLAGS))),),
        letters=letters,
        driver=Driver(kind=DriverKind.KHUGEPAGED),
        assumed=tuple(sorted(unseen)),
    )


def _frames(process: Process, words: array[int]) -> dict[int, Frame] | None:
    """The frames; ``None`` to a reader without the privilege to see their numbers."""
    hidden = any(word & PRESENT and not word & PFN_MASK for word in words)
    return None if process.frames is None or hidden else read_frames(words, process.frames)


def _unseen(states: Sequence[PageState], words: array[int], frames: dict[int, Frame] | None, view: View) -> Iterator[str]:
    """Names of what no file shows about the pages of this range; ``kind`` where two kinds look the same."""
    kinds = {state.kind for state in states}
    yield "config"
    if Kind.ZERO in kinds:
        yield "young"
    if Kind.PRESENT in kinds:
        yield from ("dirty", "exclusive", "node", "pins", "write", "young")
        if frames is None:
            yield from ("locked", "lru", "mapped_by", "order", "referenced", "swapcache")
        elif any(state.lru is Lru.OFF for state in states):
            yield "lru"
    if Kind.SWAP in kinds:
        yield from ("exclusive", "mapped_by", "swapcache")
    if not view.soft_dirty and kinds & {Kind.PRESENT, Kind.SWAP}:
        yield "soft_dirty"
    if frames is None and (Kind.SWAP in kinds or (view.shared and _some_mapped_often(words))):
        yield "kind"


def _some_mapped_often(words: array[int]) -> bool:
    return any(word & PRESENT and not word & MAPPED_ONCE for word in words)


def _unseen_anon_vma(states: Sequence[PageState], mapping: Mapping) -> Iterator[str]:
    anonymous = mapping.kb.get("Anonymous", 0) + mapping.kb.get("Swap", 0) > 0
    if not anonymous and not any(state.kind in (Kind.PRESENT, Kind.SWAP) for state in states):
        yield "anon_vma"
