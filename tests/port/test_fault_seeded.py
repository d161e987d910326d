"""One-line mistakes in the fault handlers, and which sanitizer sees each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from unittest import mock

import attrs
import pytest

from kmm.kernel.locks import at_quiescence
from kmm.kernel.task import Task
from kmm.mm.fault import handle_mm_fault
from kmm.mm.folio import Folio
from kmm.mm.pgtable import ptep_get_and_clear
from kmm.mm.uaccess import user_load
from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.build import World, build
from kmm.scenario.model import Scenario
from kmm.scenario.place import DRIVER_CPU, OWNER_CPU
from kmm.scenario.quiescence import check_quiescence
from refactors import v12
from tests.port.faulting import NR, address, checks, load, memory, store, stores

REST = "." * (NR - 1)


def nothing(*args: object, **kwargs: object) -> None:
    """In place of a call that was forgotten."""


def no_reuse_test(folio: Folio) -> int:
    return 1


def not_flushed(vma: object, where: int, ptep: object) -> object:
    return ptep_get_and_clear(vma.vm_mm, where, ptep)  # type: ignore[attr-defined, arg-type]


def two_threads(world: World) -> None:
    """One reads on another CPU before and after the other one writes."""
    thread = Task("thread", world.system.machine.cpus[DRIVER_CPU], world.mm.ident)
    for step in ("before", "after"):
        with world.system.running(thread):
            assert user_load(world.mm, address(world, 0)) == ""
        if step == "before":
            store(world, 0, 77)


def every(world: World) -> None:
    """All processes read, all write, all read."""
    for mm in world.system.mms:
        load(world, 0, mm)
    for mm in world.system.mms:
        store(world, 0, 70 + mm.ident, mm)
    for mm in world.system.mms:
        load(world, 0, mm)


def write(world: World) -> None:
    stores(world, range(4))


def one_fault(world: World) -> None:
    """Without the access that follows it."""
    handle_mm_fault(world.mm, address(world, 0), write=False)


def read_and_write(world: World) -> None:
    for page in range(4):
        load(world, page)
    write(world)


@attrs.frozen
class Mistake:
    """What is put in place of what, where it matters, and who says so."""

    where: str
    by: Callable[..., object]
    scenario: Scenario
    does: Callable[[World], None]
    check: str


HINTED: Final = attrs.evolve(ALPHABET["s"], prot_none=True)
SHARED_SLOT: Final = attrs.evolve(ALPHABET["v"], exclusive=False, mapped_by=1)

MISTAKES: Final = {
    "a copy without a flush": Mistake("cow.ptep_clear_flush", not_flushed, memory("s" + REST), two_threads, "TRANSPARENCY"),
    "a shared page is used as it is": Mistake("cow.folio_ref_count", no_reuse_test, memory("s" + REST), every, "TRANSPARENCY"),
    "a merged page is used as it is": Mistake(
        "cow.wp_can_reuse_anon_folio", lambda *_: True, memory("K" + REST, flags=("mergeable", "read", "write")), every, "TRANSPARENCY"
    ),
    "the old page is not unmapped": Mistake("cow.folio_remove_rmap_ptes", nothing, memory("s" + REST), write, "CONSERVATION"),
    "the old page keeps a reference": Mistake("cow._give_up", lambda _, answer: answer, memory("s" + REST), write, "REFCOUNT"),
    "a copy with the table locked": Mistake("cow.pte_unmap_unlock", nothing, memory("s" + REST), write, "LOCKDEP"),
    "a zero page of KSM stays counted": Mistake(
        "cow.ksm_might_unmap_zero_page", nothing, memory("Z" + REST, flags=("mergeable", "read", "write")), write, "CONSERVATION"
    ),
    "a copy of the zero page is not counted": Mistake("cow.add_mm_counter", nothing, memory("z" + REST), write, "CONSERVATION"),
    "a new page is not counted": Mistake("anon_fault.add_mm_counter", nothing, memory(), write, "CONSERVATION"),
    "a large folio has one reference": Mistake("anon_fault.folio_ref_add", nothing, memory(orders=(2,)), write, "REFCOUNT"),
    "a large folio over what is occupied": Mistake(
        "anon_fault.pte_range_none", lambda *_: True, memory("...a" + REST[3:], orders=(2,)), write, "CONSERVATION"
    ),
    "a large folio is not cleared": Mistake("anon_fault.folio_zero_user", nothing, memory(orders=(3,)), write, "TRANSPARENCY"),
    "a missing page keeps the lock": Mistake(
        "anon_fault.handle_userfault", lambda _: "userfault", memory(flags=("read", "uffd_missing", "write")), write, "LOCKDEP"
    ),
    "a huge page without a table for its split": Mistake(
        "huge_fault.pgtable_trans_huge_deposit", nothing, memory(pmd="none", orders=(4,)), write, "CONSERVATION"
    ),
    "a table for a split that is not counted": Mistake(
        "huge_fault.mm_inc_nr_ptes", nothing, memory(pmd="none", orders=(4,)), read_and_write, "CONSERVATION"
    ),
    "a huge page is not counted": Mistake(
        "huge_fault.add_mm_counter", nothing, memory(pmd="none", orders=(4,)), read_and_write, "CONSERVATION"
    ),
    "a huge page is not cleared": Mistake("huge_fault.folio_zero_user", nothing, memory(pmd="none", orders=(4,)), write, "TRANSPARENCY"),
    "a slot that is still counted": Mistake("swap_fault.swap_free", nothing, memory("w" + REST), write, "CONSERVATION"),
    "swap entries that are still counted": Mistake("swap_fault.add_mm_counter", nothing, memory("w" + REST), write, "CONSERVATION"),
    "a shared slot counts as exclusive": Mistake(
        "swap_fault.pte_swp_exclusive", lambda _: True, memory("A" + REST, A=SHARED_SLOT), every, "TRANSPARENCY"
    ),
    "the page of a shared slot gets no reference": Mistake("swapfile.folio_get", nothing, memory("v" + REST), write, "REFCOUNT"),
    "a page is not read": Mistake("swap_fault._swap_read_folio", nothing, memory("w" + REST), read_and_write, "TRANSPARENCY"),
    "a page that comes back stays locked": Mistake("swap_fault.folio_unlock", nothing, memory("w" + REST), write, "LOCKDEP"),
    "a migrated page stays isolated": Mistake("migration_wait.node_stat_mod_folio", nothing, memory("M" + REST), write, "CONSERVATION"),
    "a migrated page stays locked": Mistake("migration_wait.folio_unlock", nothing, memory("M" + REST), write, "LOCKDEP"),
    "entries stay for a migrated page": Mistake(
        "migration_wait.remove_migration_ptes", nothing, memory("M" + REST), one_fault, "CONSERVATION"
    ),
    "a huge page that migrated gets no reference": Mistake("migration_pmd.folio_get", nothing, memory(pmd="migration"), write, "KASAN"),
    "a table is not counted": Mistake("pgtable.mm_inc_nr_ptes", nothing, memory(pmd="none"), write, "CONSERVATION"),
    "an entry of NUMA balancing that anybody may write": Mistake(
        "numa_fault.PageAnonExclusive",
        lambda _: True,
        memory("A" + REST, A=HINTED),
        every,
        "TRANSPARENCY",
    ),
}


def said(mistake: Mistake) -> list[str]:
    """The sanitizers that speak. A task that does not come back has said enough."""
    world = build(mistake.scenario, v12.VARIANT)
    task = Task("process", world.system.machine.cpus[OWNER_CPU], world.mm.ident)
    with world.system.running(task):
        try:
            mistake.does(world)
        except BaseException as error:
            if not checks(world):
                raise AssertionError("no sanitizer was faster") from error
        at_quiescence(task)
        check_quiescence(world)
    return checks(world)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_seen(name: str) -> None:
    mistake = MISTAKES[name]
    assert said(mistake) == []
    with mock.patch(f"kmm.mm.{mistake.where}", mistake.by):
        assert mistake.check in said(mistake)
