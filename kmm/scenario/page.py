"""What one page of a scenario is: the value behind one letter of the map."""

from __future__ import annotations

import enum
from typing import Final

import attrs

from kmm.scenario.errors import ScenarioError


class Kind(enum.Enum):
    """What the page-table entry holds.

    The last six are neither none nor an ordinary page: entries of migration, of memory failure and of devices, the three markers,
    and an entry that maps a frame without a folio.
    """

    NONE = "none"
    ZERO = "zero"
    PRESENT = "present"
    SWAP = "swap"
    DEVICE = "device"
    DEVICE_PRIVATE = "device_private"
    MIGRATION = "migration"
    HWPOISON = "hwpoison"
    GUARD_MARKER = "guard_marker"
    POISON_MARKER = "poison_marker"
    UFFD_WP_MARKER = "uffd_wp_marker"
    SPECIAL = "special"


class Lru(enum.Enum):
    """Where the folio is: on a list, in the driver's LRU-add batch, or on neither."""

    LIST = "list"
    BATCH = "batch"
    OFF = "off"


_ENTRY: Final = ("write", "exclusive", "uffd_wp", "soft_dirty")
_FIELDS: Final[dict[Kind, tuple[str, ...]]] = {
    Kind.ZERO: ("young", "dirty"),
    Kind.SWAP: ("exclusive", "uffd_wp", "soft_dirty", "swapcache", "mapped_by"),
    Kind.DEVICE: ("young", "dirty", *_ENTRY),
    Kind.DEVICE_PRIVATE: _ENTRY,
    Kind.MIGRATION: ("young", "dirty", "mapped_by", "node", *_ENTRY),
}
"""What may be said of a page, by kind; all of a present one, nothing of a kind that is not listed."""

ANON: Final = (Kind.PRESENT, Kind.SWAP, Kind.DEVICE, Kind.DEVICE_PRIVATE, Kind.MIGRATION, Kind.HWPOISON, Kind.GUARD_MARKER)
"""Kinds that only a VMA with an anon_vma has."""

UNMAPPED: Final = (
    Kind.SWAP,
    Kind.DEVICE_PRIVATE,
    Kind.MIGRATION,
    Kind.HWPOISON,
    Kind.GUARD_MARKER,
    Kind.POISON_MARKER,
    Kind.UFFD_WP_MARKER,
)
"""Kinds that a scan counts as unmapped: neither none nor present."""

HOLES: Final = (Kind.NONE, Kind.ZERO)
"""Kinds that a scan counts as none or zero."""


@attrs.frozen(kw_only=True, cache_hash=True)
class PageState:
    """One page-table entry and the folio behind it.

    :param kind: what the entry holds
    :param young: hardware accessed bit
    :param dirty: hardware dirty bit; of a zero page: KSM placed it
    :param write: hardware write permission (needs ``exclusive`` and a writable VMA)
    :param exclusive: PageAnonExclusive, or the exclusive bit of a swap entry
    :param uffd_wp: write-protected by userfaultfd
    :param soft_dirty: soft-dirty bit
    :param prot_none: the entry allows no access though the VMA does, as NUMA balancing leaves it
    :param secondary_young: a secondary MMU has accessed the page
    :param swapcache: the folio is in the swap cache (for a swap entry: the data is at hand there)
    :param ksm: merged by KSM; all pages of the letter are this one folio
    :param lazyfree: freed with MADV_FREE: not backed by swap
    :param mlocked: the folio is mlocked and unevictable
    :param order: order of the folio; its pages are naturally aligned in the table
    :param index: which page of the folio this one must be; ``None``: by position
    :param mapped_by: further address spaces that map (or, swapped, refer to) the page, 0 to 3
    :param pins: references held by somebody unknown to the LRU and to rmap, 0 to 8
    :param locked: PG_locked is held by somebody else
    :param lru: where the folio is
    :param referenced: PG_referenced
    :param node: NUMA node, 0 to 3; 0 and 1 are near each other, as are 2 and 3
    :param contents: pages of the same number are equal, 0: all zeros; ``None``: no other page has what this one has
    :raises ScenarioError: when the state cannot exist
    """

    kind: Kind
    young: bool = False
    dirty: bool = False
    write: bool = False
    exclusive: bool = False
    uffd_wp: bool = False
    soft_dirty: bool = False
    prot_none: bool = False
    secondary_young: bool = False
    swapcache: bool = False
    ksm: bool = False
    lazyfree: bool = False
    mlocked: bool = False
    order: int = 0
    index: int | None = None
    mapped_by: int = 0
    pins: int = 0
    locked: bool = False
    lru: Lru = Lru.LIST
    referenced: bool = False
    node: int = 0
    contents: int | None = None

    def __attrs_post_init__(self) -> None:
        for problem, remedy in _impossible(self):
            raise ScenarioError(problem, remedy)


_DEFAULTS: Final = {a.name: a.default for a in PageState.__attrs_attrs__ if a.name != "kind"}


def _impossible(page: PageState) -> list[tuple[str, str]]:
    """The reasons why ``page`` cannot exist, each with its remedy."""
    out: list[tuple[str, str]] = []
    if page.kind is not Kind.PRESENT:
        allowed = _FIELDS.get(page.kind, ())
        extra = [name for name, default in _DEFAULTS.items() if name not in allowed and getattr(page, name) != default]
        out += [(f"a page cannot be both {page.kind.value} and {name}", f'drop {name}, or say kind = "present"') for name in extra]
    for name, top in (("mapped_by", 3), ("pins", 8), ("node", 3)):
        if not 0 <= getattr(page, name) <= top:
            out.append((f"{name} = {getattr(page, name)} is out of range", f"use 0 to {top}"))
    if page.write and not page.exclusive:
        out.append(("a writable page must be exclusive", "add exclusive = true, or drop write"))
    if page.write and page.uffd_wp:
        out.append(("a page that userfaultfd write-protects cannot be writable", "drop write or uffd_wp"))
    if page.write and page.prot_none:
        out.append(("a page without access cannot be writable", "drop write or prot_none"))
    if page.exclusive and page.mapped_by:
        out.append(("a page that another address space maps cannot be exclusive", "drop exclusive or mapped_by"))
    if page.mlocked and page.lazyfree:
        out.append(("an mlocked page cannot be lazyfree", "drop mlocked or lazyfree"))
    if page.mlocked and page.lru is Lru.BATCH:
        out.append(("a mlocked page in an LRU batch is not modelled", 'say lru = "list" or "off"'))
    if page.contents is not None and not 0 <= page.contents <= 999:
        out.append((f"contents = {page.contents} is out of range", "use 0 to 999"))
    if page.contents is not None and page.swapcache:
        out.append(("contents of a page in the swap cache cannot be said", "drop contents or swapcache"))
    if page.lazyfree and page.swapcache:
        out.append(("a lazyfree page is not in the swap cache", "drop lazyfree or swapcache"))
    return [*out, *_impossible_folio(page), *_impossible_ksm(page)]


def _impossible_folio(page: PageState) -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    if not 0 <= page.order <= 13:
        out.append((f"folio order {page.order} does not exist", "use 0 to 13"))
    if page.order == 1:
        out.append(("anonymous folios of order 1 do not exist", "use order 0 or 2 and more"))
    if page.index is not None and not 0 <= page.index < 1 << max(page.order, 0):
        out.append((f"index {page.index} lies outside a folio of order {page.order}", f"use 0 to {(1 << page.order) - 1}"))
    if page.order and page.lru is Lru.BATCH:
        out.append(("a large folio is never held in an LRU batch", 'say lru = "list" or "off"'))
    if page.order and page.swapcache:
        out.append(("large folios in the swap cache are not modelled", "drop swapcache, or use order 0"))
    return out


def _impossible_ksm(page: PageState) -> list[tuple[str, str]]:
    if not page.ksm:
        return []
    names = [name for name in ("exclusive", "dirty", "order", "swapcache", "lazyfree") if getattr(page, name)]
    return [(f"a page cannot be both ksm and {name}", f"drop ksm or {name}") for name in names]


def folio_state(page: PageState) -> tuple[object, ...]:
    """What all pages of a large folio have in common."""
    return page.order, page.pins, page.locked, page.lru, page.referenced, page.node, page.lazyfree, page.mlocked
