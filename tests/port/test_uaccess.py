"""Loads and stores: TLB, page tables, shadow memory."""

from __future__ import annotations

import pytest

from kmm.kernel.stop import Hang
from kmm.mm.mm_types import VM_WRITE
from kmm.mm.page_alloc import folio_put
from kmm.mm.pgtable import PtePage
from kmm.mm.pte import pte_pfn, pte_soft_dirty, pte_t
from kmm.scenario.build import World
from kmm.scenario.model import Failure
from kmm.scenario.quiescence import table_of
from tests.port.faulting import NR, address, bits, checks, folio, load, memory, process, pte, store, stores

REST = "." * (NR - 1)


def cached(world: World) -> dict[int, int]:
    """Page to frame, as the process's CPU knows them."""
    tlb = world.system.machine.cpus[1].tlb.get(world.mm.ident, {})
    return {(where - world.system.base) // 4096: pte_pfn(pte_t(entry)) for where, entry in tlb.items()}


def entries(world: World) -> list[pte_t]:
    """Of the process's table."""
    table = table_of(world.system, world.mm)
    assert isinstance(table, PtePage)
    return table._entries


def test_a_translation_is_kept() -> None:
    with process(memory("o" + REST)) as world:
        assert cached(world) == {}
        assert (load(world, 0), cached(world)) == ("", {0: folio(world, 0).pfn})
        entries(world)[0] = pte_t(entries(world)[0] & ~0x20)
        assert (load(world, 0), bits(world, 0)) == ("", "p-dw--"), "the TLB answers: nothing marks the entry"


def test_only_the_cpu_of_the_process_keeps_it() -> None:
    with process(memory("o" + REST)) as world:
        assert load(world, 0) == ""
        assert world.system.machine.cpus[0].tlb == {}


def test_a_store_needs_a_translation_that_is_dirty() -> None:
    """A clean one sends the CPU to the tables once more, where it leaves its mark."""
    with process(memory("c" + REST)) as world:
        assert (bits(world, 0), load(world, 0), bits(world, 0)) == ("py-w--", "", "py-w--")
        assert (store(world, 0, 77), bits(world, 0)) == ("", "pydw--")
        entries(world)[0] = pte_t(entries(world)[0] & ~0x40)
        assert (store(world, 0, 78), bits(world, 0)) == ("", "py-w--")


def test_the_hardware_knows_no_soft_dirty_bit() -> None:
    with process(memory("c" + REST)) as world:
        assert (store(world, 0, 77), pte_soft_dirty(pte(world, 0))) == ("", False)


def test_a_load_marks_the_entry_young() -> None:
    with process(memory("o" + REST)) as world:
        assert (bits(world, 0), load(world, 0), bits(world, 0)) == ("p-dw--", "", "pydw--")


def test_a_fault_drops_the_translation() -> None:
    with process(memory("a" + REST)) as world:
        assert cached(world) == {0: folio(world, 0).pfn}
        world.system.machine.cpus[1]._tlb[1][address(world, 0)] &= ~0x2
        entries(world)[0] = pte_t(entries(world)[0] & ~0x2)
        world.vma._vm_flags &= ~VM_WRITE
        assert (store(world, 0, 77), cached(world)) == ("SIGSEGV", {})


def test_a_load_sees_what_was_stored() -> None:
    with process(memory("a" * NR)) as world:
        assert [load(world, page) for page in range(NR)] == [""] * NR
        assert stores(world, range(NR)) == [""] * NR
        assert [world.system.shadow[1, page] for page in range(NR)] == list(range(1000, 1000 + NR))
        assert [load(world, page) for page in range(NR)] == [""] * NR


def test_a_store_that_fails_changes_nothing() -> None:
    with process(memory("a" * NR, flags=("read", "write"))) as world:
        world.vma._vm_flags &= ~VM_WRITE
        world.system.machine.cpus[1].tlb.clear()
        entries(world)[0] = pte_t(entries(world)[0] & ~0x2)
        assert (store(world, 0, 77), world.system.shadow[1, 0], folio(world, 0).pages[0]._contents) == ("SIGSEGV", 1, 1)


def test_a_load_of_something_else_is_reported() -> None:
    with process(memory("a" + REST), expect=("TRANSPARENCY",)) as world:
        folio(world, 0).pages[0]._contents = 99
        assert (load(world, 0), checks(world)) == ("", ["TRANSPARENCY"])
        text = world.system.machine.reports[0].text
        assert text == "mm1 reads contents 99 from page 0, but contents 1 were last written there"


def test_a_load_where_nothing_is_mapped_any_more_is_reported() -> None:
    """A translation that outlived its mapping."""
    with process(memory("a" + REST), expect=("TRANSPARENCY",)) as world:
        del world.system.shadow[1, 0]
        assert load(world, 0) == ""
        assert world.system.machine.reports[0].text == "mm1 reads contents 1 from page 0, but nothing is mapped there"


def test_a_translation_to_a_freed_page_is_found_when_it_is_used() -> None:
    with process(memory("a" + REST), expect=("KASAN", "TLB")) as world:
        page = folio(world, 0)
        page._mapcount, page.pages[0].ptc_count, page._flags = 0, 0, 0
        folio_put(page)
        entries(world)[0] = pte_t(0)
        world.mm._rss_stat[0] = 0
        world.system.node_stat["nr_anon_mapped"] = 0
        assert load(world, 0) == ""
        assert checks(world) == ["KASAN"]
        world.system.shadow[1, 0] = 0


@pytest.mark.parametrize("forgets", [True, False])
def test_only_what_was_freed_lazily_may_become_zeros(forgets: bool) -> None:
    with process(memory("a" + REST), expect=() if forgets else ("TRANSPARENCY",)) as world:
        world.system.lazyfree[1, 0] = 1 if forgets else 2
        folio(world, 0).pages[0]._contents = 0
        assert load(world, 0) == ""
        assert bool(checks(world)) != forgets
        folio(world, 0).pages[0]._contents = 1


def test_a_store_ends_that() -> None:
    with process(memory("a" + REST)) as world:
        world.system.lazyfree[1, 0] = 1
        assert (store(world, 0, 1), world.system.lazyfree) == ("", {})


def test_a_store_to_the_zero_page_is_reported() -> None:
    """With its dirty bit, it counts as one that KSM placed, too."""
    with process(memory("z" + REST), expect=("TRANSPARENCY", "CONSERVATION")) as world:
        world.system.machine.cpus[1].tlb.clear()
        entries(world)[0] = pte_t(entries(world)[0] | 0x2)
        assert store(world, 0, 77) == ""
        assert world.system.machine.reports[0].text == "mm1 writes to the zero page at page 0"


def test_a_huge_entry_is_known_page_by_page() -> None:
    with process(memory(pmd="huge")) as world:
        assert [load(world, page) for page in (3, 9)] == ["", ""]
        first = world.system.folios[0].pfn
        assert cached(world) == {3: first + 3, 9: first + 9}
        assert (store(world, 3, 77), world.system.folios[0].pages[3]._contents) == ("", 77)


def test_the_huge_zero_page_is_looked_up_each_time() -> None:
    with process(memory(pmd="huge_zero")) as world:
        assert (load(world, 3), load(world, 3), cached(world)) == ("", "", {})


def test_a_fault_without_end_is_a_hang() -> None:
    """The page is migrated again and again."""
    again = Failure(kind="migration_again", page=0)
    text = "the fault at page 0 of mm1 comes again and again"
    with process(memory("M" + REST, failures=(again,))) as world, pytest.raises(Hang, match=text):
        load(world, 0)


def test_a_page_behind_the_last_range_is_a_segfault() -> None:
    with process(memory("a" * NR)) as world:
        assert (load(world, NR), load(world, -1)) == ("SIGSEGV", "SIGSEGV")
