"""Every page state that can exist, as far as the small scope tells them apart."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Final

from kmm.scenario.page import Kind, Lru, PageState

_EITHER: Final = (False, True)
_FOLIOS: Final = ((0, False), (0, True), (2, False), (3, False))
_SHARING: Final = tuple((exclusive, mapped_by) for exclusive in _EITHER for mapped_by in range(4) if not (exclusive and mapped_by))
_ACCESS: Final = tuple(
    (*sharing, write, uffd_wp)
    for sharing, write, uffd_wp in product(_SHARING, _EITHER, _EITHER)
    if not write or (sharing[0] and not uffd_wp)
)


def page_states(*, held: bool) -> Iterator[PageState]:
    """All states of nodes 0 and 1 and of folio orders 0, 2 and 3.

    :param held: also those in which somebody holds the folio: a pin, the folio lock, in an LRU batch, off the LRU
    """
    yield PageState(kind=Kind.NONE)
    for young in _EITHER:
        yield PageState(kind=Kind.ZERO, young=young)
    for (exclusive, mapped_by), uffd_wp, soft_dirty, swapcache in product(_SHARING, _EITHER, _EITHER, _EITHER):
        yield PageState(
            kind=Kind.SWAP, exclusive=exclusive, mapped_by=mapped_by, uffd_wp=uffd_wp, soft_dirty=soft_dirty, swapcache=swapcache
        )
    yield from _present(held)


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
