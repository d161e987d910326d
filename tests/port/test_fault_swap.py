"""Faults of users on swap entries (reference 12.4)."""

from __future__ import annotations

from unittest import mock

import attrs
import pytest

from kmm.kernel import current
from kmm.kernel.stop import Deadlock
from kmm.mm.folio import Folio, PG_dirty, PG_locked, PG_swapcache
from kmm.mm.pte import pte_none, pte_t
from kmm.mm.swap import lru_add_drain_all
from kmm.mm.vmscan import swap_out_folio
from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.build import World
from kmm.scenario.model import Failure
from kmm.scenario.quiescence import slots_in_use
from tests.port.faulting import NR, at_rest, bits, events, exclusive, folio, load, memory, process, pte, rss, stats, store, stores, usage

REST = "." * (NR - 1)
SWPIN = ("swpin", "swpin_fallback", "swpin_fallback_charge")


@pytest.mark.parametrize(("write", "expected"), [(False, "py-w--"), (True, "pydw--")])
def test_a_page_comes_back(write: bool, expected: str) -> None:
    """Alone on its slot it never enters the swap cache."""
    with process(memory("w" + REST)) as world:
        assert (rss(world), usage(world)) == ((0, 1), 0)
        assert (store(world, 0, 77) if write else load(world, 0)) == ""
        assert (bits(world, 0), exclusive(world, 0), rss(world), usage(world)) == (expected, True, (1, 0), 1)
        assert (slots_in_use(world.system), events(world, "pswpin", "swpin_zero")) == ({}, [1, 0])
        assert folio(world, 0)._flags & PG_swapcache == 0


def test_a_page_of_a_read_only_vma_comes_back_read_only() -> None:
    with process(memory("w" + REST, flags=("read",))) as world:
        assert (load(world, 0), bits(world, 0), exclusive(world, 0)) == ("", "py----", True)


def test_a_shared_slot_fills_the_swap_cache() -> None:
    with process(memory("y" + REST)) as world:
        assert load(world, 0) == ""
        assert (bits(world, 0), exclusive(world, 0), slots_in_use(world.system)[1]._count) == ("py----", False, 1)
        assert (slots_in_use(world.system)[1]._cached, folio(world, 0)._refcount) == (folio(world, 0), 3)
        sibling = world.system.mms[1]
        assert load(world, 0, sibling) == ""
        assert folio(world, 0, sibling) is folio(world, 0)
        assert (folio(world, 0)._mapcount, slots_in_use(world.system)[1]._count, events(world, "pswpin")) == (2, 0, [1])
        assert (rss(world), rss(world, sibling)) == ((1, 0), (1, 0))


def test_a_write_to_a_shared_slot_goes_on_as_a_copy() -> None:
    with process(memory("y" + REST)) as world:
        sibling = world.system.mms[1]
        assert store(world, 0, 77) == ""
        assert (bits(world, 0), exclusive(world, 0), folio(world, 0)._flags & PG_swapcache) == ("pydw--", True, 0)
        assert (slots_in_use(world.system)[1]._count, rss(world), load(world, 0, sibling)) == (1, (1, 0), "")
        assert folio(world, 0, sibling) is not folio(world, 0)


def test_the_last_user_of_a_slot_that_writes_frees_it() -> None:
    """A page in the swap cache that nobody else refers to is used as it is."""
    letter = attrs.evolve(ALPHABET["v"], exclusive=False)
    with process(memory("A" + REST, A=letter)) as world:
        cached = slots_in_use(world.system)[1]._cached
        assert cached is not None
        assert (store(world, 0, 77), folio(world, 0)) == ("", cached)
        assert (bits(world, 0), exclusive(world, 0), cached._refcount, slots_in_use(world.system)) == ("pydw--", True, 1, {})
        assert cached._flags & (PG_swapcache | PG_dirty) == PG_dirty


def test_a_read_leaves_the_page_in_the_swap_cache() -> None:
    with process(memory("v" + REST)) as world:
        assert (load(world, 0), bits(world, 0), exclusive(world, 0)) == ("", "py-w--", True)
        assert (folio(world, 0)._flags & PG_swapcache, slots_in_use(world.system)[1]._count, events(world, "pswpin")) == (
            PG_swapcache,
            0,
            [0],
        )


def test_a_read_in_a_locked_vma_frees_the_slot() -> None:
    with process(memory("v" + REST, flags=("locked", "read", "write"))) as world:
        assert (load(world, 0), slots_in_use(world.system), folio(world, 0)._flags & PG_swapcache) == ("", {}, 0)


def test_the_batch_of_this_cpu_is_no_other_user() -> None:
    """A page that comes back, is shared, and is written before the batch is drained."""
    letter = attrs.evolve(ALPHABET["y"], mapped_by=2)
    with process(memory("A" + REST, A=letter)) as world:
        one, two = world.system.mms[1:]
        for mm in (one, two):
            assert store(world, 0, 70 + mm.ident, mm) == ""
        assert (store(world, 0, 77), slots_in_use(world.system), exclusive(world, 0)) == ("", {}, True)
        assert events(world, "pswpin") == [1]


def test_a_fault_that_would_wait_is_tried_again() -> None:
    """The first time the lock is dropped, and the page is at hand the second time."""
    with process(memory("w" + REST, failures=(Failure(kind="swapin_retry", page=0),))) as world:
        assert load(world, 0) == ""
        taken = [op for op in current.task.lock_ops if op == ("down_read", "mmap_lock")]
        assert (len(taken), bits(world, 0), events(world, "pswpin"), slots_in_use(world.system)[1]._count) == (2, "py-w--", [1], 0)
        assert folio(world, 0)._mapping is world.vma._anon_vma


def test_the_second_time_a_fault_waits_for_the_folio() -> None:
    with process(memory("v" + REST), expect=("REFCOUNT", "LOCKDEP")) as world:
        cached = slots_in_use(world.system)[1]._cached
        assert cached is not None
        cached._flags |= PG_locked
        with pytest.raises(Deadlock, match="waits for the lock of page 0"):
            load(world, 0)
        world.mm.mmap_lock.readers.clear()
        current.task.held.clear()


@pytest.mark.parametrize(
    ("failure", "answer"),
    [
        (Failure(kind="swapin_error", page=0), "SIGBUS"),
        (Failure(kind="alloc", nth=1), "OOM"),
        (Failure(kind="charge", nth=1), "OOM"),
    ],
)
def test_a_page_that_cannot_come_back(failure: Failure, answer: str) -> None:
    with process(memory("w" + REST, failures=(failure,))) as world:
        before = pte(world, 0)
        assert (load(world, 0), pte(world, 0), rss(world), usage(world)) == (answer, before, (0, 1), 0)


def test_userfaultfd_write_protects_a_page_in_swap_too() -> None:
    with process(memory("q" + REST, flags=("read", "uffd_wp", "write"))) as world:
        assert (load(world, 0), bits(world, 0), exclusive(world, 0)) == ("", "py--u-", True)
        assert store(world, 0, 77) == "userfault"
    with process(memory("q" + REST, flags=("read", "uffd_wp", "write"))) as world:
        assert (store(world, 0, 77), bits(world, 0)) == ("userfault", "py--u-")


def test_a_page_that_only_a_device_has_comes_home() -> None:
    with process(memory("D" + REST)) as world:
        assert (load(world, 0), rss(world), exclusive(world, 0)) == ("", (1, 0), True)


def out(world: World, folio: Folio) -> None:
    """Reclaim swaps a folio out."""
    lru_add_drain_all()
    assert (swap_out_folio(folio, force=True), at_rest(world)) == ("", True)


def test_a_page_of_zeros_is_not_read() -> None:
    with process(memory()) as world:
        assert store(world, 3, 0) == ""
        out(world, folio(world, 3))
        assert (load(world, 3), events(world, "pswpin", "swpin_zero"), rss(world)) == ("", [0, 1], (1, 0))


def swapped_block(world: World) -> None:
    """Pages 4 to 7 are swapped out as one folio."""
    assert stores(world, range(4, 8)) == [""] * 4
    assert folio(world, 4).order == 2
    out(world, folio(world, 4))
    assert rss(world) == (0, 4)


@pytest.mark.parametrize("write", [False, True])
def test_a_large_folio_comes_back_large(write: bool) -> None:
    with process(memory(orders=(2,))) as world:
        swapped_block(world)
        assert (store(world, 6, 77) if write else load(world, 6)) == ""
        back = folio(world, 6)
        assert (back.order, back._refcount, back._mapcount, back._index) == (2, 4, 4, 4)
        assert [each._contents for each in back.pages] == [1004, 1005, 77 if write else 1006, 1007]
        assert ({exclusive(world, page) for page in range(4, 8)}, rss(world), slots_in_use(world.system)) == ({True}, (4, 0), {})
        assert (stats(world, 2, *SWPIN), events(world, "pswpin")) == ([1, 0, 0], [4])


@pytest.mark.parametrize("why", ["disabled", "hole", "cached", "armed", "moved"])
def test_a_large_folio_comes_back_page_by_page(why: str) -> None:
    with process(memory(orders=(2,))) as world:
        swapped_block(world)
        table = world.system.tables[min(world.system.tables)]
        if why == "disabled":
            world.system.sysctl._huge_anon_orders_always = 0
        elif why == "hole":
            assert load(world, 4) == ""
            out(world, folio(world, 4))
            world.system.sysctl._huge_anon_orders_always = 0
            assert load(world, 5) == ""
            world.system.sysctl._huge_anon_orders_always = 1 << 2
        elif why == "cached":
            slots_in_use(world.system)[next(iter(slots_in_use(world.system))) + 1]._zeromap = True
        elif why == "armed":
            world.vma._vm_flags |= 1 << 12
        else:
            table._entries[8:12], table._entries[4:8] = table._entries[4:8], table._entries[8:12]
            table._entries[9:13], table._entries[8] = table._entries[8:12], pte_t(0)
            for index in range(4):
                world.system.shadow[1, 9 + index] = 1004 + index
                world.system.shadow[1, 4 + index if index else 8] = 0
            world.system.shadow[1, 4] = 0
        page = 10 if why == "moved" else 6
        assert (load(world, page), folio(world, page).order, stats(world, 2, "swpin_fallback")) == ("", 0, [0])


@pytest.mark.parametrize(("kind", "expected"), [("alloc", [0, 1, 0]), ("charge", [0, 1, 1])])
def test_without_memory_for_a_large_folio_one_page_comes_back(kind: str, expected: list[int]) -> None:
    with process(memory(orders=(2,), failures=(Failure(kind=kind, nth=2),))) as world:
        swapped_block(world)
        assert (load(world, 6), folio(world, 6).order, rss(world), usage(world)) == ("", 0, (1, 3), 1)
        assert stats(world, 2, *SWPIN) == expected


def in_cache(world: World) -> Folio:
    """Pages 4 to 7 are swap entries, and their large folio is still in the swap cache: somebody had a reference for a moment."""
    assert stores(world, range(4, 8)) == [""] * 4
    large = folio(world, 4)
    with mock.patch("kmm.mm.vmscan.folio_ref_freeze", return_value=False):
        assert swap_out_folio(large, force=True) == "in use"
    assert rss(world) == (0, 4)
    return large


@pytest.mark.parametrize("write", [False, True])
def test_a_large_folio_in_the_swap_cache_is_mapped_whole(write: bool) -> None:
    with process(memory(orders=(2,))) as world:
        large = in_cache(world)
        assert (store(world, 6, 77) if write else load(world, 6)) == ""
        assert ([folio(world, page) for page in range(4, 8)], rss(world), large._mapcount) == ([large] * 4, (4, 0), 4)
        assert ({exclusive(world, page) for page in range(4, 8)}, bool(large._flags & PG_swapcache)) == ({True}, not write)
        assert [bits(world, page) for page in (4, 6)] == (["pydw--"] * 2 if write else ["py-w--"] * 2)


def test_a_large_folio_in_the_swap_cache_is_mapped_page_by_page_where_an_entry_is_missing() -> None:
    with process(memory(orders=(2,))) as world:
        large = in_cache(world)
        table = world.system.tables[min(world.system.tables)]
        offset = large._swap
        table._entries[7] = pte_t(0)
        slots_in_use(world.system)[offset + 3]._count -= 1
        world.mm._rss_stat[1] -= 1
        world.system.shadow[1, 7] = 0
        assert (load(world, 5), load(world, 6), rss(world), large._mapcount) == ("", "", (2, 1), 2)
        assert (pte_none(pte(world, 7)), folio(world, 5), folio(world, 6)) == (True, large, large)
        assert [page._mapcount for page in large.pages] == [0, 1, 1, 0]
