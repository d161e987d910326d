"""Page faults: rights, tables, small pages, anon_vmas, markers (reference 12.4)."""

from __future__ import annotations

from unittest import mock

import pytest

from kmm.kernel import current
from kmm.mm import pgalloc
from kmm.mm.fault import handle_mm_fault
from kmm.mm.folio import PG_lru, PG_swapbacked, PG_uptodate
from kmm.mm.mm_types import (
    VM_UFFD_WP,
    AnonVma,
    MmStruct,
    VmAreaStruct,
)
from kmm.mm.pgtable import PtePage, pmd_install, pmd_offset
from kmm.mm.pte import pmd_none, pte_t
from kmm.scenario.build import World
from kmm.scenario.model import Config, Vma
from kmm.scenario.quiescence import pmd_of, table_of
from tests.port.faulting import (
    NR,
    SIZE,
    address,
    bits,
    deposited,
    events,
    exclusive,
    folio,
    load,
    memory,
    process,
    pte,
    rss,
    store,
    stores,
    tables,
    usage,
)

HOLES = "." * NR


@pytest.mark.parametrize(
    ("flags", "read", "write"),
    [
        (("read", "write"), "", ""),
        (("read",), "", "SIGSEGV"),
        (("exec",), "", "SIGSEGV"),
        (("write",), "", ""),
        ((), "SIGSEGV", "SIGSEGV"),
    ],
)
def test_the_vma_says_what_is_allowed(flags: tuple[str, ...], read: str, write: str) -> None:
    with process(memory(flags=flags)) as world:
        assert (load(world, 0), store(world, 1, 7)) == (read, write)


def test_an_address_without_vma_is_a_segfault() -> None:
    """Before the first one, in a hole and behind the last one."""
    with process(memory(vmas=(Vma(pages="....", start=2), Vma(pages="....", start=8)))) as world:
        assert [load(world, page) for page in (1, 2, 5, 6, 7, 8, 11, 12)] == ["SIGSEGV", "", "", "SIGSEGV", "SIGSEGV", "", "", "SIGSEGV"]


def test_a_page_of_pmds_and_a_table_come_with_the_first_fault() -> None:
    with process(memory(pmd="absent")) as world:
        assert world.mm._pmds == [None]
        assert load(world, 3) == ""
        table = table_of(world.system, world.mm)
        assert isinstance(table, PtePage)
        assert (table.label, tables(world)) == ("table1.0", 1)
        assert load(world, 4) == ""
        assert table_of(world.system, world.mm) is table
        assert tables(world) == 1


def test_the_second_range_gets_a_table_of_its_own() -> None:
    with process(memory(HOLES * 2, pmd="none", ranges=2)) as world:
        assert store(world, NR + 3, 7) == ""
        assert (pmd_none(pmd_of(world.mm, 0)), tables(world)) == (True, 1)
        table = table_of(world.system, world.mm, 1)
        assert isinstance(table, PtePage)
        assert table.label == "table1.1"


def test_pages_of_pmds_share_their_lock() -> None:
    with process(memory(HOLES * 2, pmd="none absent", ranges=2)) as world:
        assert load(world, NR) == ""
        first, second = world.mm._pmds
        assert first is not None
        assert second is not None
        assert first.ptl is second.ptl


def test_a_table_that_comes_too_late_is_freed() -> None:
    with process(memory(pmd="none")) as world:
        pmd = pmd_offset(world.mm, address(world, 0))
        assert pmd is not None
        real = pgalloc.pte_alloc_one

        def late(mm: MmStruct, where: int) -> PtePage:
            mine, theirs = real(mm, where), real(mm, where)
            assert pmd_install(mm, pmd, theirs) is None
            return mine

        with mock.patch("kmm.mm.pgalloc.pte_alloc_one", late):
            assert load(world, 0) == ""
        assert tables(world) == 1
        assert [table.freed_by for table in world.system.tables.values()] == ["pte_free", ""]


def test_a_read_maps_the_zero_page() -> None:
    """No counter, no folio, no anon_vma."""
    with process(memory(anon_vma=False, orders=(2, 3))) as world:
        assert load(world, 5) == ""
        assert bits(world, 5) == "py---s"
        assert (rss(world), world.system.folios, world.vma._anon_vma, usage(world)) == ((0, 0), [], None, 0)


def test_a_write_maps_a_new_page() -> None:
    with process(memory(anon_vma=False)) as world:
        assert store(world, 5, 77) == ""
        assert bits(world, 5) == "pydw--"
        new = folio(world, 5)
        assert new._flags & (PG_uptodate | PG_swapbacked | PG_lru) == PG_uptodate | PG_swapbacked
        assert (new._refcount, new._mapcount, new.order, new.pages[0]._contents) == (2, 1, 0, 77)
        assert list(world.system.per_cpu[1]._lru_add) == [new]
        assert (exclusive(world, 5), rss(world), usage(world), new._index) == (True, (1, 0), 1, 5)
        assert new._mapping is world.vma._anon_vma is not None


def test_a_write_to_a_page_that_was_read_gives_up_the_zero_page() -> None:
    with process(memory()) as world:
        assert (load(world, 5), store(world, 5, 77), load(world, 5)) == ("", "", "")
        assert (bits(world, 5), rss(world)) == ("pydw--", (1, 0))


def neighbours(world: World) -> tuple[VmAreaStruct, VmAreaStruct]:
    first, second = world.mm._vmas
    return first, second


def test_a_vma_shares_the_anon_vma_of_its_neighbour() -> None:
    with process(memory(vmas=(Vma(pages="." * 8, start=0, anon_vma=False), Vma(pages="." * 8, start=8, flags=("read",))))) as world:
        first, second = neighbours(world)
        assert (store(world, 0, 7), first._anon_vma) == ("", second._anon_vma)


@pytest.mark.parametrize("why", ["flags", "gap", "pgoff", "forked"])
def test_neighbours_that_can_never_be_merged_do_not_share(why: str) -> None:
    other = Vma(
        pages="." * (7 if why == "gap" else 8), start=9 if why == "gap" else 8, flags=("mergeable",) if why == "flags" else ("read",)
    )
    with process(memory(vmas=(Vma(pages="." * 8, start=0, anon_vma=False), other))) as world:
        first, second = neighbours(world)
        if why == "pgoff":
            second._vm_pgoff += 8
        if why == "forked":
            second._anon_vma = AnonVma("child", second._anon_vma)
        assert store(world, 0, 7) == ""
        assert first._anon_vma is not None
        assert first._anon_vma is not second._anon_vma
        assert (first._anon_vma.label, first._anon_vma.root) == ("anon_vma1@0", first._anon_vma)


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("orders", [(), (2,), (4,)])
def test_a_monitor_is_asked_for_missing_pages(write: bool, orders: tuple[int, ...]) -> None:
    """Nobody answers; nothing is mapped, nothing stays allocated, and the lock is free."""
    pmd = "none" if orders == (4,) else "table"
    with process(memory(flags=("read", "uffd_missing", "write"), orders=orders, pmd=pmd)) as world:
        assert (store(world, 0, 77) if write else load(world, 0)) == "userfault"
        assert (rss(world), usage(world), deposited(world)) == ((0, 0), 0, 0)
        assert all(each.freed_by for each in world.system.folios)


@pytest.mark.parametrize(("letter", "answer"), [("g", "SIGSEGV"), ("P", "SIGBUS"), ("H", "SIGBUS")])
def test_markers_and_poison_are_fatal(letter: str, answer: str) -> None:
    with process(memory(letter + HOLES[1:])) as world:
        before = pte(world, 0)
        assert (load(world, 0), store(world, 0, 7), pte(world, 0)) == (answer, answer, before)


def test_a_uffd_wp_marker_protects_what_is_mapped_there() -> None:
    with process(memory("U." + HOLES[2:], flags=("read", "uffd_wp", "write"))) as world:
        assert (load(world, 0), bits(world, 0)) == ("", "py--us")
    with process(memory("U." + HOLES[2:], flags=("read", "uffd_wp", "write"))) as world:
        assert store(world, 0, 7) == "userfault"
        assert (bits(world, 0), rss(world)) == ("pyd-u-", (1, 0))
        assert load(world, 0) == ""


def test_a_marker_of_a_monitor_that_is_gone_is_cleared() -> None:
    with process(memory("U." + HOLES[2:], flags=("read", "uffd_wp", "write"))) as world:
        world.vma._vm_flags &= ~VM_UFFD_WP
        assert (store(world, 0, 7), bits(world, 0)) == ("", "pydw--")


def test_an_entry_that_numa_balancing_took_away_comes_back() -> None:
    with process(memory("N" + HOLES[1:])) as world:
        assert (load(world, 0), bits(world, 0)) == ("", "pydw--")
        assert (rss(world), events(world, "pgreuse")) == ((1, 0), [0])


def test_it_comes_back_read_only_where_it_is_not_exclusive() -> None:
    with process(memory("N" + HOLES[1:])) as world:
        folio(world, 0).pages[0]._flags = 0
        assert (load(world, 0), bits(world, 0)) == ("", "pyd---")
    with process(memory("N" + HOLES[1:], flags=("read",))) as world:
        assert (load(world, 0), bits(world, 0)) == ("", "pyd---")


def test_numa_balancing_gives_back_a_whole_folio() -> None:
    with process(memory("2222" + HOLES[4:])) as world:
        table = table_of(world.system, world.mm)
        assert isinstance(table, PtePage)
        world.system.machine.cpus[1].tlb.clear()
        for page in range(3):
            table._entries[page] = pte_t(table._entries[page] & ~0x27 | 0x100)
        assert (load(world, 1), [bits(world, page) for page in range(4)]) == ("", ["pydw--"] * 4)


@pytest.mark.parametrize("write", [False, True])
def test_a_migrating_page_is_waited_for(write: bool) -> None:
    with process(memory("M" + HOLES[1:])) as world:
        assert (store(world, 0, 7) if write else load(world, 0)) == ""
        assert bits(world, 0)[:2] == "py"
        assert (world.system.migrations._under_way, world.system.node_stat["nr_isolated_anon"], exclusive(world, 0)) == ({}, 0, True)


def test_a_fault_that_was_not_needed_leaves_the_entry_alone() -> None:
    """x86 leaves the young bit to the hardware, and sets the dirty bit only for a write."""
    with process(memory("o" + HOLES[1:])) as world:
        before = pte(world, 0)
        assert (handle_mm_fault(world.mm, address(world, 0), write=False), pte(world, 0)) == ("", before)
    with process(memory("c" + HOLES[1:])) as world:
        assert (bits(world, 0), handle_mm_fault(world.mm, address(world, 0), write=True), bits(world, 0)) == ("py-w--", "", "pydw--")


@pytest.mark.parametrize("config", [Config(highpte=True), Config(split_ptlocks=False), Config(arch="walking"), Config(debug_vm=False)])
def test_other_kernels(config: Config) -> None:
    pages = "arnzwvUh" if config.debug_vm else "arnzwv.h"
    flags = ("read", "uffd_wp", "write") if "U" in pages else ("read", "write")
    with process(memory(pages + HOLES[8:], flags=flags, config=config, orders=(2,))) as world:
        assert [load(world, page) for page in range(NR)] == [""] * NR
        assert stores(world, range(NR)) == ["userfault" if letter == "U" else "" for letter in (pages + HOLES[8:])]


TAKEN, RELEASED = ("down_read", "mmap_lock"), ("up_read", "mmap_lock")


def test_the_lock_is_taken_and_released_at_each_fault() -> None:
    with process(memory()) as world:
        ops, vma = current.task.lock_ops, world.mm._vmas[0]
        assert (handle_mm_fault(world.mm, address(world, 0), write=False), ops[0], ops[-1]) == ("", TAKEN, RELEASED)
        assert (load(world, 1), ops.count(TAKEN), vma._vm_refcnt) == ("", 1, 1), "the VMA's lock is enough, and was given back"
        vma._vm_lock_seq = world.mm._mm_lock_seq
        assert (load(world, 2), ops.count(TAKEN), ops[-1]) == ("", 2, RELEASED), "somebody seems to write the VMA"
        ops.clear()
        assert (load(world, 0), ops) == ("", [])


def test_an_address_inside_a_page_is_as_good_as_its_first() -> None:
    with process(memory()) as world:
        assert handle_mm_fault(world.mm, address(world, 3) + SIZE - 1, write=True) == ""
        assert bits(world, 3) == "pydw--"
