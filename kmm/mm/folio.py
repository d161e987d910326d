"""``struct folio`` and ``struct page``: flags, reference counts, contents (include/linux/mm_types.h, page-flags.h)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kmm.kernel import current
from kmm.kernel.access import ACQUIRE, ONCE, PLAIN, RELEASE, Field, Shared
from kmm.kernel.barrier import smp_wmb
from kmm.kernel.locks import might_sleep
from kmm.kernel.report import kernel_function
from kmm.kernel.stop import Deadlock, WouldBlock
from kmm.kernel.wait import wait_and_set

if TYPE_CHECKING:
    from kmm.kernel.task import Task
    from kmm.mm.memcontrol import MemCgroup
    from kmm.mm.mm_types import AnonVma

PG_locked: Final = 1 << 0
PG_referenced: Final = 1 << 1
PG_uptodate: Final = 1 << 2
PG_lru: Final = 1 << 3
PG_swapbacked: Final = 1 << 4
PG_swapcache: Final = 1 << 5
PG_partially_mapped: Final = 1 << 6
PG_mlocked: Final = 1 << 7
PG_unevictable: Final = 1 << 8
PG_dirty: Final = 1 << 9
PG_anon_exclusive: Final = 1 << 0
PG_hwpoison: Final = 1 << 1

FOLIO_FLAGS: Final = {
    "locked": PG_locked,
    "referenced": PG_referenced,
    "uptodate": PG_uptodate,
    "lru": PG_lru,
    "swapbacked": PG_swapbacked,
    "swapcache": PG_swapcache,
    "partially_mapped": PG_partially_mapped,
    "mlocked": PG_mlocked,
    "unevictable": PG_unevictable,
    "dirty": PG_dirty,
}
"""Names of the folio flags."""


class Page(Shared):
    """``struct page``: one page of a folio.

    ``contents`` is a token: equal tokens are equal bytes, 0 is all zeros, -1 was never written. ``ptc_count`` is PAGE_TABLE_CHECK's,
    which only reports.
    """

    __slots__ = ("_contents", "_flags", "_mapcount", "folio", "index", "pfn", "ptc_count")

    contents: Field[int] = Field()
    flags: Field[int] = Field()
    mapcount: Field[int] = Field()

    def __init__(self, folio: Folio, index: int, pfn: int, contents: int) -> None:
        self.freed_by = ""
        self.folio = folio
        self.index = index
        self.pfn = pfn
        self.ptc_count = 0
        self._contents = contents
        self._flags = 0
        self._mapcount = 0

    @property
    def name(self) -> str:
        """The folio's name, with the page's index in it."""
        return f"{self.folio.name}[{self.index}]"


class Folio(Shared):
    """``struct folio``.

    :param label: name in observations and reports
    :param pfn: first frame
    :param order: log2 of its pages
    :param nid: NUMA node

    ``zone_device`` folios live in the memory of a device. ``mapcount`` counts all mappings (of a large folio:
    ``_large_mapcount``), ``entire_mapcount`` the PMD mappings; both count from 0.
    ``mm_ids`` is [id, count, id, count] of the two tracked owners. ``pincount`` counts the long-lived references among ``refcount``;
    ``deferred_list``: the shrinker has it in a list. ``order`` and ``pages`` change while ``refcount`` is frozen, ``lock_owner`` belongs to
    who holds the folio lock, ``label`` is for people.
    """

    __slots__ = (
        "_deferred_list",
        "_entire_mapcount",
        "_flags",
        "_index",
        "_mapcount",
        "_mapping",
        "_memcg",
        "_mlock_count",
        "_mm_ids",
        "_pincount",
        "_refcount",
        "_swap",
        "label",
        "lock_owner",
        "maker",
        "nid",
        "order",
        "pages",
        "pfn",
        "zone_device",
    )

    deferred_list: Field[bool] = Field()
    entire_mapcount: Field[int] = Field()
    flags: Field[int] = Field()
    index: Field[int] = Field()
    mapcount: Field[int] = Field()
    mapping: Field[AnonVma | None] = Field()
    memcg: Field[MemCgroup | None] = Field()
    mlock_count: Field[int] = Field()
    mm_ids: Field[list[int]] = Field()
    pincount: Field[int] = Field()
    refcount: Field[int] = Field()
    swap: Field[int] = Field()

    def __init__(self, label: str, pfn: int, order: int, nid: int) -> None:
        self.label = label
        self.freed_by = ""
        self.maker = ""
        self.pfn = pfn
        self.order = order
        self.nid = nid
        self.zone_device = False
        self.pages: list[Page] = [Page(self, i, pfn + i, -1) for i in range(1 << order)]
        self.lock_owner: Task | None = None
        self._deferred_list = False
        self._entire_mapcount = 0
        self._flags = 0
        self._index = 0
        self._mapcount = 0
        self._mapping: AnonVma | None = None
        self._memcg: MemCgroup | None = None
        self._mlock_count = 0
        self._mm_ids = [0, 0, 0, 0]
        self._pincount = 0
        self._refcount = 1
        self._swap = 0

    @property
    def name(self) -> str:
        """The label; where several tasks run, which may make a folio for the same page, the maker, too."""
        return self.label + self.maker


_flags: Final = Folio.flags
_mapcount: Final = Folio.mapcount
_mapping: Final = Folio.mapping
_mm_ids: Final = Folio.mm_ids
_page_flags: Final = Page.flags
_refcount: Final = Folio.refcount


def page_folio(page: Page) -> Folio:
    """Folio of a page."""
    return page.folio


def folio_page(folio: Folio, n: int) -> Page:
    """Page ``n`` of a folio."""
    return folio.pages[n]


def folio_order(folio: Folio) -> int:
    """Order of a folio."""
    return folio.order


def folio_nr_pages(folio: Folio) -> int:
    """Pages of a folio."""
    return 1 << folio.order


def folio_nid(folio: Folio) -> int:
    """NUMA node of a folio."""
    return folio.nid


def folio_test_large(folio: Folio) -> bool:
    """More than one page."""
    return folio.order > 0


def folio_pfn(folio: Folio) -> int:
    """First frame: address arithmetic with a vmemmap; classic sparse memory reads the folio's flags for its section."""
    if not current.machine.vmemmap:
        current.machine.read(folio, _flags, PLAIN)
    return folio.pfn


def folio_is_zone_device(folio: Folio) -> bool:
    """The folio is memory of a device."""
    return folio.zone_device


def folio_test_anon(folio: Folio) -> bool:
    """The mapping is an anon_vma."""
    return current.machine.read(folio, _mapping, ONCE) is not None


def folio_test_locked(folio: Folio) -> bool:
    """PG_locked."""
    return bool(current.machine.read(folio, _flags, ONCE) & PG_locked)


def folio_test_lru(folio: Folio) -> bool:
    """PG_lru."""
    return bool(current.machine.read(folio, _flags, ONCE) & PG_lru)


def folio_test_referenced(folio: Folio) -> bool:
    """PG_referenced."""
    return bool(current.machine.read(folio, _flags, ONCE) & PG_referenced)


def folio_test_young(folio: Folio) -> bool:
    """Idle-page tracking is not built in: never young by it."""
    return False


def folio_test_swapcache(folio: Folio) -> bool:
    """PG_swapcache."""
    return bool(current.machine.read(folio, _flags, ONCE) & PG_swapcache)


def folio_test_swapbacked(folio: Folio) -> bool:
    """PG_swapbacked."""
    return bool(current.machine.read(folio, _flags, ONCE) & PG_swapbacked)


def folio_test_mlocked(folio: Folio) -> bool:
    """PG_mlocked."""
    return bool(current.machine.read(folio, _flags, ONCE) & PG_mlocked)


def folio_test_unevictable(folio: Folio) -> bool:
    """PG_unevictable."""
    return bool(current.machine.read(folio, _flags, ONCE) & PG_unevictable)


def folio_test_partially_mapped(folio: Folio) -> bool:
    """PG_partially_mapped."""
    return bool(current.machine.read(folio, _flags, ONCE) & PG_partially_mapped)


def folio_test_dirty(folio: Folio) -> bool:
    """PG_dirty: the contents differ from what the swap slot has."""
    return bool(current.machine.read(folio, _flags, ONCE) & PG_dirty)


def folio_set_flag(folio: Folio, flag: int) -> bool:
    """Test-and-set; the value is the old state."""
    return bool(current.machine.rmw(folio, _flags, flag.__or__, ONCE) & flag)


def folio_clear_flag(folio: Folio, flag: int) -> bool:
    """Test-and-clear; the value is the old state."""
    return bool(current.machine.rmw(folio, _flags, (~flag).__and__, ONCE) & flag)


def folio_trylock(folio: Folio) -> bool:
    """Take the folio lock if it is free."""
    old = current.machine.rmw(folio, _flags, PG_locked.__or__, ACQUIRE)
    if old & PG_locked:
        return False
    folio.lock_owner = current.task
    return True


def folio_lock(folio: Folio) -> None:
    """Take the folio lock. May sleep.

    :raises Deadlock: when it can never be had
    """
    might_sleep()
    if current.machine.scheduler is not None:
        wait_and_set(folio, _flags, _is_unlocked, PG_locked.__or__, ACQUIRE)
        folio.lock_owner = current.task
        return
    if folio_trylock(folio):
        return
    if not current.task.may_block:
        raise WouldBlock(f"{folio.name} is locked")
    raise Deadlock(f"DEADLOCK: {kernel_function()} waits for the lock of {folio.name}")


def _is_unlocked(flags: int) -> bool:
    return not flags & PG_locked


def folio_unlock(folio: Folio) -> None:
    """Release the folio lock."""
    old = current.machine.rmw(folio, _flags, (~PG_locked).__and__, RELEASE)
    if not old & PG_locked:
        current.machine.report("DEBUG_VM", f"folio_unlock: {folio.name} is not locked")
    elif folio.lock_owner is not current.task:
        current.machine.report("LOCKDEP", f"folio_unlock: somebody else holds the lock of {folio.name}")
    folio.lock_owner = None


def folio_ref_count(folio: Folio) -> int:
    """The reference count."""
    return current.machine.read(folio, _refcount, ONCE)


def folio_ref_add(folio: Folio, nr: int) -> None:
    """Take ``nr`` references."""
    current.machine.fetch_add(folio, _refcount, nr)


def folio_get(folio: Folio) -> None:
    """Take a reference."""
    current.machine.fetch_add(folio, _refcount, 1)


def folio_try_get(folio: Folio) -> bool:
    """Take a reference, unless there is none: the folio is freed, or frozen. That it may be freed is no error: ``struct page`` stays."""
    task = current.task
    task.speculates = folio
    before = current.machine.rmw(folio, _refcount, _one_more_unless_none, ONCE)
    task.speculates = None
    return before > 0


def _one_more_unless_none(count: int) -> int:
    return count + 1 if count > 0 else count


def folio_mark_uptodate(folio: Folio) -> None:
    """Order the contents before the flag, then set it, when others may know the folio already."""
    smp_wmb()
    current.machine.rmw(folio, _flags, PG_uptodate.__or__, ONCE)


def folio_ref_freeze(folio: Folio, count: int) -> bool:
    """Let nobody take a reference any more, if there are exactly ``count``."""

    def freeze(found: int) -> int:
        return 0 if found == count else found

    return current.machine.rmw(folio, _refcount, freeze, ONCE) == count


def folio_ref_unfreeze(folio: Folio, count: int) -> None:
    """End :func:`folio_ref_freeze` with ``count`` references."""
    current.machine.write(folio, _refcount, count, RELEASE)


def folio_mapcount(folio: Folio) -> int:
    """Mappings of all its pages."""
    return current.machine.read(folio, _mapcount, ONCE)


def folio_mapped(folio: Folio) -> bool:
    """Some page-table entry maps some page of it."""
    return folio_mapcount(folio) >= 1


def folio_expected_ref_count(folio: Folio) -> int:
    """References that an anonymous folio has when nobody else holds one: mappings and swap cache."""
    refs = folio_nr_pages(folio) if folio_test_swapcache(folio) else 0
    return refs + folio_mapcount(folio)


def folio_maybe_mapped_shared(folio: Folio) -> bool:
    """More than one address space may map it: exact for one or two, conservative beyond."""
    mapcount = folio_mapcount(folio)
    if folio.order == 0:
        return mapcount > 1
    if mapcount <= 1:
        return False
    ids = current.machine.read(folio, _mm_ids, ONCE)
    return mapcount not in (ids[1], ids[3])


def __folio_mark_uptodate(folio: Folio) -> None:
    """Order the contents before the flag, then set it."""
    smp_wmb()
    flags = current.machine.read(folio, _flags, PLAIN)
    current.machine.write(folio, _flags, flags | PG_uptodate, PLAIN)


def PageHWPoison(page: Page) -> bool:
    """PG_hwpoison."""
    return bool(current.machine.read(page, _page_flags, ONCE) & PG_hwpoison)


def TestSetPageHWPoison(page: Page) -> bool:
    """Set PG_hwpoison, also of a page that nobody has; the value is the old state."""
    task = current.task
    task.speculates = page
    old = current.machine.rmw(page, _page_flags, PG_hwpoison.__or__, ONCE)
    task.speculates = None
    return bool(old & PG_hwpoison)


def PageAnonExclusive(page: Page) -> bool:
    """PG_anon_exclusive."""
    return bool(current.machine.read(page, _page_flags, ONCE) & PG_anon_exclusive)


def SetPageAnonExclusive(page: Page) -> None:
    """Set PG_anon_exclusive."""
    current.machine.rmw(page, _page_flags, PG_anon_exclusive.__or__, ONCE)


def ClearPageAnonExclusive(page: Page) -> None:
    """Clear PG_anon_exclusive."""
    current.machine.rmw(page, _page_flags, (~PG_anon_exclusive).__and__, ONCE)
