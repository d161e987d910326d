"""A page of memory fails: it is taken from whoever uses it (mm/memory-failure.c).

An error that is found without an access (the hardware scrubs its memory). Processes are signalled at once only where they asked for that;
any other gets its SIGBUS when it accesses the page.
"""

from __future__ import annotations

from typing import Final

import attrs

from kmm.kernel.locks import down_write, up_write
from kmm.mm import system
from kmm.mm.folio import (
    Folio,
    Page,
    PG_dirty,
    PG_unevictable,
    PG_uptodate,
    TestSetPageHWPoison,
    folio_clear_flag,
    folio_lock,
    folio_mapped,
    folio_ref_count,
    folio_test_dirty,
    folio_test_large,
    folio_test_lru,
    folio_test_mlocked,
    folio_test_swapcache,
    folio_try_get,
    folio_unlock,
    page_folio,
)
from kmm.mm.ksm_merge import split_page
from kmm.mm.memcontrol import mem_cgroup_uncharge
from kmm.mm.page_alloc import folio_put
from kmm.mm.poisoned import collect_procs, unmap_poisoned_folio
from kmm.mm.swap import folio_isolate_lru, lru_add_drain_all
from kmm.mm.swapfile import delete_from_swap_cache

FREE: Final = "free"
IGNORED: Final = "ignored"
RECOVERED: Final = "recovered"
DELAYED: Final = "delayed"
FAILED: Final = "failed"
"""Results. FREE: nobody had the page; IGNORED: nothing could be done; DELAYED: what is left to do is done at the next access."""

_ATTEMPTS: Final = 3


@attrs.frozen
class Failed:
    """What came of a failure of memory.

    :param result: one of :data:`RECOVERED` and the others, or ``EHWPOISON``: the page was known to be bad
    :param signalled: numbers of the address spaces that got a SIGBUS at once
    :param waits: an entry of a bad page is left, or a bad page in the swap cache: the next access gets a SIGBUS
    """

    result: str
    signalled: tuple[int, ...] = ()
    waits: bool = False


def memory_failure(pfn: int, *, early_kill: bool = False) -> Failed:
    """Take a page that has an uncorrected error from its users. May sleep.

    :param pfn: its frame
    :param early_kill: ``vm.memory_failure_early_kill``: who maps a page whose contents are lost is signalled at once
    :source: mm/memory-failure.c, v6.18
    """
    mutex = system.this.mf_mutex
    down_write(mutex)
    known = TestSetPageHWPoison(system.page_at(pfn))
    failed = Failed("EHWPOISON") if known else _memory_failure(pfn, early_kill=early_kill)
    up_write(mutex)
    return failed


def _memory_failure(pfn: int, *, early_kill: bool) -> Failed:
    page, why = get_hwpoison_page(pfn)
    if page is None:
        return Failed(why)
    folio = page_folio(page)
    if folio_test_large(folio):
        page, split = _try_to_split_thp_page(page)
        if not split:
            signalled = collect_procs(page_folio(page), page) if early_kill else ()
            folio_put(page_folio(page))
            return Failed(FAILED, signalled)
        folio = page_folio(page)
    shake_folio(folio)
    folio_lock(folio)
    system.this.poisoned.append(folio)
    return _handle_locked(folio, page, early_kill=early_kill)


def get_hwpoison_page(pfn: int) -> tuple[Page | None, str]:
    """The page with a reference, if it is on the LRU: no other page could be handled. May sleep.

    A split replaces pages, so that the mark goes to the one that is there now.

    :returns: ``None``: and :data:`FREE` or :data:`IGNORED`
    """
    for _ in range(_ATTEMPTS):
        page = system.page_at(pfn)
        folio = page_folio(page)
        if not folio_try_get(folio):
            if folio.freed_by:
                return None, FREE
        elif folio_test_lru(folio) and system.page_at(pfn) is page:
            TestSetPageHWPoison(page)
            return page, ""
        else:
            folio_put(folio)
            lru_add_drain_all()
    return None, IGNORED


def shake_folio(folio: Folio) -> None:
    """Get a folio out of the LRU batches."""
    if not folio_test_lru(folio):
        lru_add_drain_all()


def _try_to_split_thp_page(page: Page) -> tuple[Page, bool]:
    """Make the page a folio of its own.

    :returns: the page to which the reference belongs now; and whether that is the one that was asked for, in a small folio
    """
    folio_lock(page_folio(page))
    pfn = page.pfn
    page, locked = split_page(page_folio(page), page)
    if locked:
        folio_unlock(page_folio(page))
    return page, page.pfn == pfn and not folio_test_large(page_folio(page))


def _handle_locked(folio: Folio, page: Page, *, early_kill: bool) -> Failed:
    """Unmap a locked folio everywhere and give it up; it is unlocked then.

    Nobody is signalled if the contents are on the swap device and the folio could be unmapped.
    """
    lru = folio_test_lru(folio)
    users: tuple[int, ...] = ()
    if not lru or not folio_mapped(folio):
        return _identify_page_state(folio, users, lru=lru, waits=False)
    if early_kill:
        users = collect_procs(folio, page)
    mlocked = folio_test_mlocked(folio)
    unmap_poisoned_folio(folio)
    if mlocked:
        lru_add_drain_all()
    if folio_mapped(folio):
        folio_unlock(folio)
        return Failed(FAILED, users)
    return _identify_page_state(folio, users if folio_test_dirty(folio) else (), lru=lru, waits=True)


def _identify_page_state(folio: Folio, users: tuple[int, ...], *, lru: bool, waits: bool) -> Failed:
    """Take a locked folio that nobody maps off the LRU and, if that loses nothing, out of the swap cache. It is unlocked then.

    :param lru: it was on the LRU
    :param waits: it was mapped
    """
    if not folio_test_swapcache(folio):
        delete_from_lru_cache(folio)
        folio_unlock(folio)
        return Failed(RECOVERED if lru else FAILED, users, waits)
    dirty = folio_test_dirty(folio)
    if dirty:
        folio_clear_flag(folio, PG_dirty)
        folio_clear_flag(folio, PG_uptodate)
    else:
        delete_from_swap_cache(folio)
    off = delete_from_lru_cache(folio)
    folio_unlock(folio)
    alone = folio_ref_count(folio) == 1 + dirty
    return Failed((DELAYED if dirty else RECOVERED) if off and alone else FAILED, users, dirty)


def delete_from_lru_cache(folio: Folio) -> bool:
    """Take a folio off the LRU for good; it is nobody's charge any more."""
    if not folio_isolate_lru(folio):
        return False
    folio_clear_flag(folio, PG_unevictable)
    mem_cgroup_uncharge(folio)
    folio_put(folio)
    return True
