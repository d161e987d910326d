"""What the entries of one range are: from pagemap words, and frames where they are seen, to page states."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence

import attrs

from kmm.live.frames import Frame
from kmm.live.proc import (
    FILE,
    FIRST_SPECIAL_TYPE,
    GUARD,
    KPF_ANON,
    KPF_HEAD,
    KPF_HWPOISON,
    KPF_KSM,
    KPF_LOCKED,
    KPF_LRU,
    KPF_MLOCKED,
    KPF_REFERENCED,
    KPF_SWAPBACKED,
    KPF_SWAPCACHE,
    KPF_THP,
    KPF_ZERO_PAGE,
    MAPPED_ONCE,
    PFN_MASK,
    PRESENT,
    SOFT_DIRTY,
    SWAP_OFFSET,
    SWAP_TYPE,
    SWAPPED,
    UFFD_WP,
)
from kmm.live.reasons import Reason, Skip
from kmm.live.scan import HUGE, ZERO
from kmm.mm.pte import PTE_MARKER_GUARD, PTE_MARKER_POISONED, PTE_MARKER_UFFD_WP, SWP_PTE_MARKER
from kmm.scenario.page import Kind, Lru, PageState

_NONE = PageState(kind=Kind.NONE)
_ZERO = PageState(kind=Kind.ZERO)
_HWPOISON = PageState(kind=Kind.HWPOISON)
_GUARD = PageState(kind=Kind.GUARD_MARKER)
_MARKERS = {
    PTE_MARKER_UFFD_WP: PageState(kind=Kind.UFFD_WP_MARKER),
    PTE_MARKER_POISONED: PageState(kind=Kind.POISON_MARKER),
    PTE_MARKER_GUARD: _GUARD,
}
_MAX_SHARERS = 3
_MARKER_BITS = 7


@attrs.frozen(kw_only=True)
class View:
    """What a range's VMA and the machine say about all of its pages.

    :param writable: the VMA is
    :param uffd_wp: the VMA is armed for it
    :param locked: the VMA is
    :param mergeable: KSM may merge the VMA's pages
    :param droppable: the VMA is
    :param soft_dirty: this kernel keeps the soft-dirty bit
    :param huge: some of the VMA is mapped by PMDs
    :param shared: some of the VMA is mapped by another address space as well
    :param swapped: some of the VMA is in swap
    """

    writable: bool
    uffd_wp: bool
    locked: bool
    mergeable: bool
    droppable: bool
    soft_dirty: bool
    huge: bool
    shared: bool
    swapped: bool


def is_untouched(words: array[int]) -> bool:
    """No entry maps, swaps or guards anything."""
    return not any(words) or not any(word & (PRESENT | SWAPPED | GUARD) for word in words)


def mapped_by_pmd(words: array[int], frames: dict[int, Frame] | None, marks: bytes | None, view: View) -> str:
    """What the PMD entry of a range is: ``table``, ``huge`` or ``huge_zero``.

    Huge is, with frames but without marks, one naturally placed folio of PMD size in a VMA of which some is mapped by PMDs.

    :param marks: one byte a page (:func:`kmm.live.scan.scan`); ``None`` where the kernel has none
    :raises Skip: with neither, when the range may be huge; when a huge page came or went meanwhile
    """
    if marks is not None:
        return _marked_pmd(words, marks)
    if not all(word & PRESENT for word in words):
        return "table"
    if frames is None:
        unshared_zero = not view.shared and not any(word & MAPPED_ONCE for word in words)
        if view.huge or unshared_zero:
            raise Skip(Reason.MAYBE_PMD)
        return "table"
    first = frames[0]
    if first.flags & KPF_ZERO_PAGE and first.flags & KPF_THP:
        return "huge_zero"
    contiguous = all(frames[i].pfn == first.pfn + i for i in range(len(words)))
    whole = first.flags & KPF_HEAD and first.flags & KPF_THP and 1 << first.order == len(words)
    return "huge" if view.huge and contiguous and whole else "table"


def _marked_pmd(words: array[int], marks: bytes) -> str:
    if not any(mark & HUGE for mark in marks):
        return "table"
    if not all(mark & HUGE for mark in marks) or not all(word & PRESENT for word in words):
        raise Skip(Reason.CHANGED)
    return "huge_zero" if all(mark & ZERO for mark in marks) else "huge"


def page_states(
    words: array[int], frames: dict[int, Frame] | None, marks: bytes | None, views: Sequence[tuple[range, View]]
) -> list[PageState]:
    """The state of every page; where no VMA is, none.

    :param views: the pages of each VMA, and what it says about them
    :param frames: by page index (:func:`kmm.live.frames.read_frames`); ``None`` when they cannot be seen
    :param marks: one byte a page (:func:`kmm.live.scan.scan`); ``None`` where the kernel has none
    :raises Skip: a page has a shape that scenarios do not have yet
    """
    if frames is not None:
        _check_places(frames)
    out = [_NONE] * len(words)
    for pages, view in views:
        known: dict[tuple[int | None, ...], PageState] = {}
        for i in pages:
            word = words[i]
            frame = frames.get(i) if frames is not None else None
            bits = word & ~PFN_MASK if word & PRESENT else word
            mark = marks[i] if marks is not None else None
            key = (bits, frame.flags, frame.folio_flags, frame.mapcount, frame.order) if frame else (bits, mark)
            state = known.get(key)
            if state is None:
                state = known[key] = _state(word, frame, mark, view)
            out[i] = state
    return out if frames is None else _merged_by_ksm(frames, out)


def _merged_by_ksm(frames: dict[int, Frame], states: list[PageState]) -> list[PageState]:
    """A page merged by KSM is shared with others if it is mapped more often than the range maps it."""
    here: Counter[int] = Counter(frames[i].pfn for i, state in enumerate(states) if state.ksm)
    return [
        attrs.evolve(state, mapped_by=int(frames[i].mapcount > here[frames[i].pfn])) if state.ksm else state
        for i, state in enumerate(states)
    ]


def _check_places(frames: dict[int, Frame]) -> None:
    """Every large folio lies where its alignment puts it, and one in each place."""
    heads: dict[tuple[int, int], int] = {}
    for i, frame in frames.items():
        if not frame.order:
            continue
        if frame.pfn - frame.head != i % (1 << frame.order):
            raise Skip(Reason.MISALIGNED)
        if heads.setdefault((frame.order, i >> frame.order), frame.head) != frame.head:
            raise Skip(Reason.OVERLAP)


def _state(word: int, frame: Frame | None, mark: int | None, view: View) -> PageState:
    if word & GUARD:
        return _GUARD
    if word & UFFD_WP and not view.uffd_wp:
        raise Skip(Reason.CHANGED)
    if word & PRESENT:
        return _without_frame(word, mark, view) if frame is None else _with_frame(word, frame, view)
    if word & SWAPPED:
        return _swapped(word, view) if frame is None else _HWPOISON
    return _NONE


def _swapped(word: int, view: View) -> PageState:
    marker = word >> SWAP_OFFSET & _MARKER_BITS
    if word & SWAP_TYPE == SWP_PTE_MARKER and marker in _MARKERS:
        if marker == PTE_MARKER_UFFD_WP and not view.uffd_wp:
            raise Skip(Reason.CHANGED)
        return _MARKERS[marker]
    if not view.swapped or view.droppable or word & SWAP_TYPE >= FIRST_SPECIAL_TYPE:
        raise Skip(Reason.SPECIAL_ENTRY)
    soft_dirty = view.soft_dirty and bool(word & SOFT_DIRTY)
    return PageState(kind=Kind.SWAP, exclusive=True, uffd_wp=bool(word & UFFD_WP), soft_dirty=soft_dirty)


def _with_frame(word: int, frame: Frame, view: View) -> PageState:
    flags = frame.folio_flags
    refused = (
        (frame.flags & KPF_HWPOISON, Reason.POISON),
        (flags & KPF_KSM and not view.mergeable, Reason.CHANGED),
        (flags & KPF_MLOCKED and not view.locked, Reason.MLOCKED),
    )
    for found, reason in refused:
        if found:
            raise Skip(reason)
    if frame.flags & KPF_ZERO_PAGE:
        return _ZERO
    ksm, lazyfree, swapcache = bool(flags & KPF_KSM), not flags & (KPF_SWAPBACKED | KPF_KSM), bool(flags & KPF_SWAPCACHE)
    shape = (
        (not flags & KPF_ANON, Reason.FOREIGN),
        (frame.order == 1, Reason.SMALL_ORDER),
        (ksm and frame.order > 0, Reason.CHANGED),
        (lazyfree and swapcache, Reason.CHANGED),
        (frame.order > 0 and swapcache, Reason.LARGE_SWAPCACHE),
        (ksm and swapcache, Reason.KSM_SWAPCACHE),
        (lazyfree and flags & KPF_MLOCKED, Reason.LAZYFREE_MLOCKED),
        (frame.mapcount == 0, Reason.CHANGED),
        (frame.mapcount - 1 > _MAX_SHARERS and not ksm, Reason.MANY_SHARERS),
        (view.droppable and not lazyfree, Reason.CHANGED),
    )
    for found, reason in shape:
        if found:
            raise Skip(reason)
    mapped = _mapped(word, 1 if ksm else frame.mapcount - 1, view, swapcache=swapcache)
    return attrs.evolve(
        mapped,
        dirty=mapped.dirty and not ksm and not lazyfree,
        ksm=ksm,
        lazyfree=lazyfree,
        mlocked=bool(flags & KPF_MLOCKED),
        order=frame.order,
        locked=bool(flags & KPF_LOCKED),
        lru=Lru.LIST if flags & KPF_LRU else Lru.OFF,
        referenced=bool(flags & KPF_REFERENCED),
    )


def _without_frame(word: int, mark: int | None, view: View) -> PageState:
    if word & FILE:
        raise Skip(Reason.FOREIGN)
    once = bool(word & MAPPED_ONCE)
    if not once and (not view.shared if mark is None else mark & ZERO):
        return _ZERO
    if not once and not view.shared:
        raise Skip(Reason.CHANGED)
    return attrs.evolve(_mapped(word, 0 if once else 1, view), lazyfree=view.droppable)


def _mapped(word: int, mapped_by: int, view: View, *, swapcache: bool = False) -> PageState:
    """A present page of an anonymous folio; what no file shows is as in the letters a, r, s and h."""
    uffd_wp = bool(word & UFFD_WP)
    exclusive = mapped_by == 0
    return PageState(
        kind=Kind.PRESENT,
        young=True,
        dirty=True,
        write=exclusive and view.writable and not uffd_wp and not swapcache,
        exclusive=exclusive,
        uffd_wp=uffd_wp,
        soft_dirty=bool(word & SOFT_DIRTY) or not view.soft_dirty,
        mapped_by=mapped_by,
        swapcache=swapcache,
    )
