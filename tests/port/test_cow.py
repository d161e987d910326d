"""Write faults on read-only entries: use the page as it is, or copy it (reference 12.4)."""

from __future__ import annotations

import attrs
import pytest

from kmm.kernel import current
from kmm.mm.folio import PG_dirty, PG_mlocked, PG_swapcache
from kmm.mm.mm_types import AnonVma
from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.model import Failure
from kmm.scenario.quiescence import slots_in_use
from tests.port.faulting import NR, address, bits, checks, events, exclusive, folio, load, memory, process, pte, rss, store, stores, usage

REST = "." * (NR - 1)
NOT_OURS = attrs.evolve(ALPHABET["n"], order=2)
SHARED = ALPHABET["S"]


def test_an_exclusive_page_is_used_as_it_is() -> None:
    """Nothing is flushed: what CPUs know allows less."""
    with process(memory("r" + REST)) as world:
        before = folio(world, 0)
        assert (bits(world, 0), store(world, 0, 77)) == ("pyd---", "")
        assert (folio(world, 0), bits(world, 0), events(world, "pgreuse"), usage(world)) == (before, "pydw--", [1], 1)
        assert (world.system.machine.tlb_flushes, world.system.notifier_windows) == ([], [])


def test_what_makes_a_page_exclusive_does_not_matter_to_an_exclusive_one() -> None:
    """A pin, the swap cache and somebody's lock do not make it less so."""
    letter = attrs.evolve(ALPHABET["r"], pins=2, locked=True, swapcache=True)
    with process(memory("A" + REST, A=letter)) as world:
        before = folio(world, 0)
        assert (store(world, 0, 77), folio(world, 0), bool(before._flags & PG_swapcache)) == ("", before, True)


def test_a_page_without_other_references_becomes_exclusive() -> None:
    with process(memory("n" + REST)) as world:
        before = folio(world, 0)
        before._mapping = AnonVma("parent")
        assert (exclusive(world, 0), store(world, 0, 77)) == (False, "")
        assert (folio(world, 0), bits(world, 0), exclusive(world, 0)) == (before, "pydw--", True)
        assert (before._mapping, events(world, "pgreuse")) == (world.vma._anon_vma, [1])


def test_a_shared_page_is_copied() -> None:
    with process(memory("s" + REST)) as world:
        sibling, before = world.system.mms[1], folio(world, 0)
        assert store(world, 0, 77) == ""
        new = folio(world, 0)
        assert new is not before
        assert (bits(world, 0), exclusive(world, 0), new._refcount, new._mapcount, new._index) == ("pydw--", True, 2, 1, 0)
        assert (folio(world, 0, sibling), before._refcount, before._mapcount, before.pages[0]._contents) == (before, 1, 1, 1)
        assert (rss(world), rss(world, sibling), usage(world)) == ((1, 0), (1, 0), 2)
        assert (load(world, 0), load(world, 0, sibling), events(world, "pgreuse", "cow_ksm")) == ("", "", [0, 0])
        where = address(world, 0)
        assert world.system.machine.tlb_flushes == [(where, where + 4096)]
        assert world.system.notifier_windows == [(0, 4096), (-1, -1)]


def test_the_last_one_to_write_need_not_copy() -> None:
    with process(memory("s" + REST)) as world:
        sibling, before = world.system.mms[1], folio(world, 0)
        assert (store(world, 0, 77), store(world, 0, 78, sibling)) == ("", "")
        assert (folio(world, 0, sibling), exclusive(world, 0, sibling), usage(world)) == (before, True, 2)


@pytest.mark.parametrize("changes", [{"pins": 1}, {"pins": 3}, {"locked": True}])
def test_a_page_in_use_is_copied(changes: dict[str, int]) -> None:
    """A pin that was taken before the page was shared keeps its page."""
    letter = attrs.evolve(ALPHABET["n"], **changes)  # type: ignore[arg-type]
    with process(memory("A" + REST, A=letter)) as world:
        before = folio(world, 0)
        assert (store(world, 0, 77), folio(world, 0) is before, exclusive(world, 0)) == ("", False, True)
        assert (before._refcount, before._mapcount, before.pages[0]._contents, rss(world)) == (changes.get("pins", 0), 0, 1, (1, 0))
        assert bool(before.freed_by) == ("pins" not in changes)


@pytest.mark.parametrize(("cpu", "copied"), [(1, False), (0, True)])
def test_the_batch_of_this_cpu_is_drained(cpu: int, copied: bool) -> None:
    """That of another CPU stays, and its reference counts."""
    letter = attrs.evolve(ALPHABET["b"], write=False, exclusive=False)
    with process(memory("A" + REST, A=letter)) as world:
        before, cpus = folio(world, 0), world.system.per_cpu
        assert cpus[1]._lru_add == (before,)
        cpus[1]._lru_add = ()
        cpus[cpu]._lru_add = (before,)
        assert (store(world, 0, 77), folio(world, 0) is not before) == ("", copied)
        assert before not in cpus[1]._lru_add


def test_a_page_in_the_swap_cache_leaves_it() -> None:
    letter = attrs.evolve(ALPHABET["h"], exclusive=False)
    with process(memory("A" + REST, A=letter)) as world:
        before = folio(world, 0)
        assert (before._refcount, store(world, 0, 77), folio(world, 0)) == (2, "", before)
        assert (before._refcount, before._flags & (PG_swapcache | PG_dirty), slots_in_use(world.system)) == (1, PG_dirty, {})


def test_a_slot_that_somebody_else_needs_keeps_the_page_in_the_swap_cache() -> None:
    letter = attrs.evolve(ALPHABET["v"], exclusive=False, mapped_by=1)
    with process(memory("A" + REST, A=letter)) as world:
        sibling = world.system.mms[1]
        assert load(world, 0) == ""
        before = folio(world, 0)
        assert (store(world, 0, 77), folio(world, 0) is before, before._refcount) == ("", False, 1)
        assert (load(world, 0, sibling), folio(world, 0, sibling), slots_in_use(world.system)[1]._count) == ("", before, 0)


def test_the_copy_gives_up_the_slot_that_only_the_old_page_needed() -> None:
    """A pinned page in the swap cache: nobody maps it any more."""
    letter = attrs.evolve(ALPHABET["h"], exclusive=False, pins=1)
    with process(memory("A" + REST, A=letter)) as world:
        before = folio(world, 0)
        assert (store(world, 0, 77), slots_in_use(world.system), before._refcount, before._flags & PG_swapcache) == ("", {}, 1, 0)


def test_a_merged_page_is_copied_by_each() -> None:
    with process(memory("KK" + REST[1:], flags=("mergeable", "read", "write"))) as world:
        sibling, before = world.system.mms[1], folio(world, 0)
        assert (before._mapcount, store(world, 0, 77), store(world, 1, 78), store(world, 0, 79, sibling)) == (4, "", "", "")
        assert (before._mapcount, before.freed_by, store(world, 1, 80, sibling)) == (1, "", "")
        assert (before.freed_by, events(world, "cow_ksm", "pgreuse"), rss(world), usage(world)) == ("folio_put", [4, 0], (2, 0), 4)


def test_a_zero_page_of_ksm_is_uncounted() -> None:
    with process(memory("Zz" + REST[1:], flags=("mergeable", "read", "write"))) as world:
        assert (world.mm._ksm_zero_pages, stores(world, range(2)), world.mm._ksm_zero_pages) == (1, ["", ""], 0)
        assert (world.system.node_stat["ksm_zero_pages"], rss(world)) == (0, (2, 0))


def test_a_frame_without_folio_is_copied() -> None:
    with process(memory("i" + REST, flags=("pfnmap", "read", "write"))) as world:
        assert (load(world, 0), store(world, 0, 77), rss(world), bits(world, 0)) == ("", "", (1, 0), "pydw--")


def test_userfaultfd_is_asked_before_a_write() -> None:
    with process(memory("u" + REST, flags=("read", "uffd_wp", "write"))) as world:
        before = pte(world, 0)
        assert (load(world, 0), store(world, 0, 77), pte(world, 0), rss(world)) == ("", "userfault", before, (1, 0))


@pytest.mark.parametrize(
    ("failure", "answer"),
    [(Failure(kind="alloc", nth=1), "OOM"), (Failure(kind="charge", nth=1), "OOM"), (Failure(kind="poison", page=0), "SIGBUS")],
)
def test_a_copy_that_fails_leaves_everything_as_it_was(failure: Failure, answer: str) -> None:
    with process(memory("s" + REST, failures=(failure,))) as world:
        before, entry = folio(world, 0), pte(world, 0)
        assert (store(world, 0, 77), folio(world, 0), pte(world, 0)) == (answer, before, entry)
        assert (before._refcount, usage(world), rss(world), world.system.notifier_windows) == (2, 1, (1, 0), [])


def test_a_page_of_a_large_folio_that_is_shared_is_copied_alone() -> None:
    """The others stay; nothing is partially mapped as long as the sibling has all of it."""
    with process(memory("SSSS" + REST[3:])) as world:
        sibling, before = world.system.mms[1], folio(world, 0)
        assert store(world, 2, 77) == ""
        assert [folio(world, page) is before for page in range(4)] == [True, True, False, True]
        assert (before._mapcount, before._refcount, [page._mapcount for page in before.pages]) == (7, 7, [2, 2, 1, 2])
        assert (before in world.system.deferred_split._split_queue, rss(world), folio(world, 2).order) == (False, (4, 0), 0)
        assert (store(world, 2, 78, sibling), folio(world, 2, sibling) is before) == ("", False)
        assert (before in world.system.deferred_split._split_queue, before._mapcount) == (True, 6)


def test_a_large_folio_of_one_process_is_used_page_by_page() -> None:
    with process(memory("AAAA" + REST[3:], A=NOT_OURS)) as world:
        before = folio(world, 0)
        assert (store(world, 2, 77), folio(world, 2)) == ("", before)
        assert [exclusive(world, page) for page in range(4)] == [False, False, True, False]
        assert [bits(world, page)[3] for page in range(4)] == ["-", "-", "w", "-"]


def test_a_large_folio_that_somebody_else_has_too_is_copied() -> None:
    letter = attrs.evolve(NOT_OURS, pins=1)
    with process(memory("AAAA" + REST[3:], A=letter)) as world:
        before = folio(world, 0)
        assert (store(world, 2, 77), folio(world, 2) is before, before in world.system.deferred_split._split_queue) == ("", False, True)


def test_the_last_page_of_a_large_folio_is_given_up() -> None:
    """Three of four pages are copied away from the sibling's; then the fourth does not keep the folio."""
    with process(memory("AA.." + REST[3:], A=NOT_OURS)) as world:
        before = folio(world, 0)
        before._refcount += 1
        before._pincount = 1
        assert (store(world, 0, 77), before._mapcount) == ("", 1)
        before._refcount -= 1
        before._pincount = 0
        assert (store(world, 1, 78), folio(world, 1) is before, before.freed_by) == ("", False, "folio_put")


def test_a_large_folio_leaves_the_swap_cache_for_a_write() -> None:
    from kmm.mm.swapfile import add_to_swap_cache
    from kmm.mm.system import SwapSlot

    with process(memory("AAAA" + REST[3:], A=NOT_OURS)) as world:
        before = folio(world, 0)
        world.system.swap.update({n: SwapSlot(n, 0, None, -1) for n in range(64, 68)})
        add_to_swap_cache(before, 64)
        assert (store(world, 2, 77), folio(world, 2), slots_in_use(world.system), before._refcount) == ("", before, {}, 4)


def test_in_a_locked_vma_the_copy_is_mlocked_and_the_old_page_no_more() -> None:
    letter = attrs.evolve(ALPHABET["l"], write=False, exclusive=False, pins=1)
    with process(memory("A" + REST, flags=("locked", "read", "write"), A=letter)) as world:
        before = folio(world, 0)
        assert (store(world, 0, 77), bool(folio(world, 0)._flags & PG_mlocked)) == ("", True)
        assert [kind for each, kind in list(world.system.per_cpu[1]._mlock_fbatch) if each is before] == ["munlock"]


def test_a_copy_is_not_made_of_what_has_changed_meanwhile() -> None:
    """The first copy finds another entry, is thrown away, and the access tried again."""
    with process(memory("s" + REST)) as world:
        machine, fired = world.system.machine, list[str]()
        before = folio(world, 0)

        def at_point(name: str) -> None:
            if name == "alloc" and not fired:
                fired.append(name)
                table = world.system.tables[min(world.system.tables)]
                table._entries[0] = type(table._entries[0])(table._entries[0] & ~0x20)

        machine.at_point = at_point
        assert (store(world, 0, 77), fired) == ("", ["alloc"])
        assert [each.freed_by for each in world.system.folios if each is not before] == ["folio_put", ""]


def test_nobody_sees_what_another_one_writes() -> None:
    """Whoever of three writes first, second and third."""
    with process(memory("t" * NR)) as world:
        every = world.system.mms
        assert len(every) == 3
        for page in range(6):
            first, second, third = (every[(page + n) % 3] for n in ((0, 1, 2) if page < 3 else (0, 2, 1)))
            for n, mm in enumerate((first, second, third)):
                assert store(world, page, 100 * mm.ident + page, mm) == ""
                assert [load(world, page, each) for each in every] == [""] * 3, n
        assert checks(world) == []
        assert current.task.held == []
