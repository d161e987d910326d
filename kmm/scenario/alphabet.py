"""The default alphabet: one letter, one page state."""

from __future__ import annotations

from typing import Final

import attrs

from kmm.scenario.page import Kind, Lru, PageState

_A: Final = PageState(kind=Kind.PRESENT, young=True, dirty=True, write=True, exclusive=True, soft_dirty=True)
_READ_ONLY: Final = attrs.evolve(_A, write=False)
_SWAP: Final = PageState(kind=Kind.SWAP, exclusive=True)

ALPHABET: Final[dict[str, PageState]] = {
    ".": PageState(kind=Kind.NONE),
    "z": PageState(kind=Kind.ZERO),
    "a": _A,
    "o": attrs.evolve(_A, young=False),
    "f": attrs.evolve(_A, young=False, referenced=True),
    "c": attrs.evolve(_A, dirty=False, soft_dirty=False),
    "r": _READ_ONLY,
    "n": attrs.evolve(_READ_ONLY, exclusive=False),
    "s": attrs.evolve(_READ_ONLY, exclusive=False, mapped_by=1),
    "t": attrs.evolve(_READ_ONLY, exclusive=False, mapped_by=2),
    "w": _SWAP,
    "v": attrs.evolve(_SWAP, swapcache=True),
    "y": attrs.evolve(_SWAP, exclusive=False, mapped_by=1),
    "h": attrs.evolve(_READ_ONLY, swapcache=True),
    "p": attrs.evolve(_A, pins=1),
    "k": attrs.evolve(_A, locked=True),
    "x": attrs.evolve(_A, lru=Lru.OFF),
    "b": attrs.evolve(_A, lru=Lru.BATCH),
    "u": attrs.evolve(_READ_ONLY, uffd_wp=True),
    "q": attrs.evolve(_SWAP, uffd_wp=True),
    "m": attrs.evolve(_A, node=1),
    "S": attrs.evolve(_READ_ONLY, exclusive=False, mapped_by=1, order=2),
    "T": attrs.evolve(_A, young=False, order=2),
    "Y": attrs.evolve(_A, young=False, secondary_young=True),
    "N": attrs.evolve(_READ_ONLY, prot_none=True),
    "F": attrs.evolve(_A, dirty=False, lazyfree=True),
    "L": attrs.evolve(_A, lazyfree=True),
    "l": attrs.evolve(_A, mlocked=True),
    "K": attrs.evolve(_READ_ONLY, dirty=False, exclusive=False, ksm=True, mapped_by=1),
    "Z": PageState(kind=Kind.ZERO, dirty=True),
    "R": attrs.evolve(_A, node=3),
    "M": PageState(kind=Kind.MIGRATION, young=True, dirty=True, write=True, exclusive=True, soft_dirty=True),
    "H": PageState(kind=Kind.HWPOISON),
    "g": PageState(kind=Kind.GUARD_MARKER),
    "P": PageState(kind=Kind.POISON_MARKER),
    "U": PageState(kind=Kind.UFFD_WP_MARKER),
    "d": PageState(kind=Kind.DEVICE, young=True, dirty=True, write=True, exclusive=True, soft_dirty=True),
    "D": PageState(kind=Kind.DEVICE_PRIVATE, write=True, exclusive=True, soft_dirty=True),
    "i": PageState(kind=Kind.SPECIAL),
    **{str(order): attrs.evolve(_A, order=order) for order in range(2, 10)},
}

MEANING: Final[dict[str, str]] = {
    ".": "none",
    "z": "zero page",
    "a": "private, young, dirty, writable",
    "o": "private, old",
    "f": "private, old, folio referenced",
    "c": "private, young, clean",
    "r": "private, young, read-only",
    "n": "private, read-only, not exclusive (after fork and exit)",
    "s": "shared with one other address space",
    "t": "shared with two other address spaces",
    "w": "swapped out",
    "v": "swapped out, data in the swap cache",
    "y": "swapped out, shared with one other address space",
    "h": "private, read-only, in the swap cache",
    "p": "private, with one pin",
    "k": "private, folio locked by somebody",
    "x": "private, off the LRU",
    "b": "private, in an LRU-add batch",
    "u": "private, uffd-wp",
    "q": "swapped out, uffd-wp",
    "m": "private, on node 1",
    "S": "page of an order-2 folio that another address space maps too",
    "T": "page of an order-2 folio, old",
    "Y": "private, old, but young in a secondary MMU",
    "N": "private, without access for NUMA balancing",
    "F": "lazyfree, clean",
    "L": "lazyfree, written again",
    "l": "private, mlocked",
    "K": "merged by KSM (all K are one folio), shared with one other address space",
    "Z": "zero page placed by KSM",
    "R": "private, on node 3, which is far from 0 and 1",
    "M": "migration entry",
    "H": "poisoned and unmapped",
    "g": "guard marker",
    "P": "poison marker",
    "U": "uffd-wp marker",
    "d": "page in the memory of a device, mapped",
    "D": "page in memory that only a device reaches",
    "i": "frame without a folio",
    **{str(order): f"page of an order-{order} folio, private" for order in range(2, 10)},
}
