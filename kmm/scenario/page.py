"""What one page of a scenario is: the value behind one letter of the map."""

from __future__ import annotations

import enum

import attrs

from kmm.scenario.errors import ScenarioError


class Kind(enum.Enum):
    """What the page-table entry holds."""

    NONE = "none"
    ZERO = "zero"
    PRESENT = "present"
    SWAP = "swap"


class Lru(enum.Enum):
    """Where the folio is: on a list, in the driver's LRU-add batch, or on neither."""

    LIST = "list"
    BATCH = "batch"
    OFF = "off"


_PRESENT_ONLY = ("young", "dirty", "write", "locked", "referenced", "pins", "order", "lru", "node")


@attrs.frozen(kw_only=True)
class PageState:
    """One page-table entry and the folio behind it.

    :param kind: what the entry holds
    :param young: hardware accessed bit
    :param dirty: hardware dirty bit
    :param write: hardware write permission (needs ``exclusive`` and a writable VMA)
    :param exclusive: PageAnonExclusive, or the exclusive bit of a swap entry
    :param uffd_wp: write-protected by userfaultfd
    :param soft_dirty: soft-dirty bit
    :param swapcache: the folio is in the swap cache (for a swap entry: the data is at hand there)
    :param order: order of the folio; its pages are naturally aligned in the table
    :param index: which page of the folio this one must be; ``None``: by position
    :param mapped_by: further address spaces that map (or, swapped, refer to) the page, 0 to 3
    :param pins: references held by somebody unknown to the LRU and to rmap, 0 to 8
    :param locked: PG_locked is held by somebody else
    :param lru: where the folio is
    :param referenced: PG_referenced
    :param node: NUMA node, 0 to 3
    :raises ScenarioError: when the state cannot exist
    """

    kind: Kind
    young: bool = False
    dirty: bool = False
    write: bool = False
    exclusive: bool = False
    uffd_wp: bool = False
    soft_dirty: bool = False
    swapcache: bool = False
    order: int = 0
    index: int | None = None
    mapped_by: int = 0
    pins: int = 0
    locked: bool = False
    lru: Lru = Lru.LIST
    referenced: bool = False
    node: int = 0

    def __attrs_post_init__(self) -> None:
        for problem, remedy in _impossible(self):
            raise ScenarioError(problem, remedy)


def _impossible(page: PageState) -> list[tuple[str, str]]:
    """The reasons why ``page`` cannot exist, each with its remedy."""
    out: list[tuple[str, str]] = []
    if page.kind in (Kind.NONE, Kind.ZERO):
        default = PageState.__attrs_attrs__
        extra = [
            a.name
            for a in default
            if a.name != "kind" and getattr(page, a.name) != a.default and not (page.kind is Kind.ZERO and a.name == "young")
        ]
        out += [(f"a page cannot be both {page.kind.value} and {name}", f'drop {name}, or say kind = "present"') for name in extra]
        return out
    if page.kind is Kind.SWAP:
        defaults = {a.name: a.default for a in PageState.__attrs_attrs__}
        out += [
            (f"a swapped page cannot have {name}", f'drop {name}, or say kind = "present"')
            for name in _PRESENT_ONLY
            if getattr(page, name) != defaults[name]
        ]
    if page.write and not page.exclusive:
        out.append(("a writable page must be exclusive", "add exclusive = true, or drop write"))
    if page.write and page.uffd_wp:
        out.append(("a page that userfaultfd write-protects cannot be writable", "drop write or uffd_wp"))
    if page.exclusive and page.mapped_by:
        out.append(("a page that another address space maps cannot be exclusive", "drop exclusive or mapped_by"))
    if not 0 <= page.order <= 13:
        out.append((f"folio order {page.order} does not exist", "use 0 to 13"))
    if page.order == 1:
        out.append(("anonymous folios of order 1 do not exist", "use order 0 or 2 and more"))
    if page.index is not None and not 0 <= page.index < 1 << max(page.order, 0):
        out.append((f"index {page.index} lies outside a folio of order {page.order}", f"use 0 to {(1 << page.order) - 1}"))
    for name, top in (("mapped_by", 3), ("pins", 8), ("node", 3)):
        if not 0 <= getattr(page, name) <= top:
            out.append((f"{name} = {getattr(page, name)} is out of range", f"use 0 to {top}"))
    if page.order and page.lru is Lru.BATCH:
        out.append(("a large folio is never held in an LRU batch", 'say lru = "list" or "off"'))
    if page.order and page.swapcache:
        out.append(("large folios in the swap cache are not modelled", "drop swapcache, or use order 0"))
    return out
