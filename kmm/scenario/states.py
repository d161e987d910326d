"""Every page state that can exist, as far as the small scope tells them apart."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Final

import attrs

from kmm.scenario.errors import ScenarioError
from kmm.scenario.page import Kind, Lru, PageState

MARKS: Final = ("ksm", "lazyfree", "mlocked", "prot_none", "secondary_young")
"""Of these a state has one or none."""

_EITHER: Final = (False, True)
_FOLIOS: Final = ((0, False), (0, True), (2, False), (3, False))
_SHARING: Final = tuple((exclusive, mapped_by) for exclusive in _EITHER for mapped_by in range(4) if not (exclusive and mapped_by))
_ACCESS: Final = tuple(
    (*sharing, write, uffd_wp)
    for sharing, write, uffd_wp in product(_SHARING, _EITHER, _EITHER)
    if not write or (sharing[0] and not uffd_wp)
)
_ALONE: Final = (Kind.NONE, Kind.HWPOISON, Kind.GUARD_MARKER, Kind.POISON_MARKER, Kind.UFFD_WP_MARKER, Kind.SPECIAL)


def page_states(*, held: bool) -> Iterator[PageState]:
    """All states of nodes 0 and 1 and of folio orders 0, 2 and 3; those with a mark on node 0.

    :param held: also those in which somebody holds the folio: a pin, the folio lock, in an LRU batch, off the LRU
    """
    for kind in _ALONE:
        yield PageState(kind=kind)
    for young, dirty in product(_EITHER, _EITHER):
        yield PageState(kind=Kind.ZERO, young=young, dirty=dirty)
    for (exclusive, mapped_by), uffd_wp, soft_dirty, swapcache in product(_SHARING, _EITHER, _EITHER, _EITHER):
        yield PageState(
            kind=Kind.SWAP, exclusive=exclusive, mapped_by=mapped_by, uffd_wp=uffd_wp, soft_dirty=soft_dirty, swapcache=swapcache
        )
    yield from _behind_entries()
    for state in _present(held):
        yield state
        if state.node == 0:
            for mark in MARKS:
                yield from _marked(state, mark)


def _marked(state: PageState, mark: str) -> Iterator[PageState]:
    """The state with a mark, if it can have it."""
    try:
        yield attrs.evolve(state, **{mark: True})  # type: ignore[arg-type]
    except ScenarioError:
        return


def _behind_entries() -> Iterator[PageState]:
    """Pages that are being migrated, or in the memory of a device."""
    for (exclusive, mapped_by, write, uffd_wp), young, dirty, soft_dirty, node in product(_ACCESS, _EITHER, _EITHER, _EITHER, (0, 1)):
        bits = PageState(
            kind=Kind.MIGRATION,
            young=young,
            dirty=dirty,
            soft_dirty=soft_dirty,
            exclusive=exclusive,
            mapped_by=mapped_by,
            write=write,
            uffd_wp=uffd_wp,
            node=node,
        )
        yield bits
        if not mapped_by and not node:
            yield attrs.evolve(bits, kind=Kind.DEVICE)
            if not young and not dirty:
                yield attrs.evolve(bits, kind=Kind.DEVICE_PRIVATE)


def _present(held: bool) -> Iterator[PageState]:
    holds = tuple(product((0, 1), _EITHER, Lru)) if held else ((0, False, Lru.LIST),)
    bits = product(_EITHER, repeat=4)
    for (order, swapcache), access, (young, dirty, soft_dirty, referenced), node, hold in product(_FOLIOS, _ACCESS, bits, (0, 1), holds):
        exclusive, mapped_by, write, uffd_wp = access
        pins, locked, lru = hold
        if order and lru is Lru.BATCH:
            continue
        yield PageState(
            kind=Kind.PRESENT,
            young=young,
            dirty=dirty,
            write=write,
            exclusive=exclusive,
            uffd_wp=uffd_wp,
            soft_dirty=soft_dirty,
            swapcache=swapcache,
            order=order,
            mapped_by=mapped_by,
            pins=pins,
            locked=locked,
            lru=lru,
            referenced=referenced,
            node=node,
        )
