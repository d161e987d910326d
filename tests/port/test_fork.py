"""fork and exit: what parent and child have afterwards, and what the sanitizers see when a line is wrong."""

from __future__ import annotations

import attrs
import pytest

from kmm.mm import exit as mm_exit
from kmm.mm import fork, fork_huge, fork_ptes
from kmm.scenario.model import Failure, Scenario, Vma
from kmm.scenario.quiescence import slots_in_use
from kmm.scenario.run import run
from kmm.scenario.step import Step
from refactors import v12
from tests.port.test_address_space import KHUGEPAGED, done, system
from tests.test_sanitizers import Change, changed

FORK = Step(op="fork")
LEAVE = Step(op="exit", process=2)


def store(process: int, page: int, length: int = 1) -> Step:
    return Step(op="store", process=process, page=page, length=length)


def load(process: int, page: int, length: int = 1) -> Step:
    return Step(op="load", process=process, page=page, length=length)


def test_the_child_has_the_parents_pages_read_only() -> None:
    r = done(system("a" * 8 + "wwz....." + "." * 8, FORK))
    parent, child = r.world.system.mms
    assert child._rss_stat == parent._rss_stat == [8, 2]
    assert child._pgtables_bytes == 3 * 4096
    table = r.world.system.tables[parent._pmds[0].slot._val >> 12 & 0xFFFFFFFFFF]  # type: ignore[union-attr]
    assert not any(pte & 0x2 for pte in table._entries)
    assert all(slot._count == 2 for slot in slots_in_use(r.world.system).values())
    assert all(folio._refcount == 2 and not folio.pages[0]._flags & 1 for folio in r.world.system.folios)


def test_writes_part_the_two() -> None:
    r = done(system("a" * 24, FORK, store(2, 3), store(1, 4), load(1, 3), load(2, 4), load(2, 3)))
    assert set(r.steps) == {"done"}
    assert sum(not folio.freed_by for folio in r.world.system.folios) == 24 + 2


def test_a_huge_page_is_shared_and_a_write_splits_it() -> None:
    r = done(system("a" * 8 + "." * 16, KHUGEPAGED, FORK))
    (huge,) = [folio for folio in r.world.system.folios if folio.order and not folio.freed_by]
    assert (huge._entire_mapcount, huge._refcount) == (2, 2)
    assert [mm._rss_stat[0] for mm in r.world.system.mms] == [8, 8]
    r = done(system("a" * 8 + "." * 16, KHUGEPAGED, FORK, store(2, 0), load(1, 0), LEAVE))
    assert r.world.system.vm_events["thp_split_pmd"] == 1


@pytest.mark.parametrize("huge", [False, True])
def test_a_pinned_page_is_copied_at_once(huge: bool) -> None:
    first = (KHUGEPAGED,) if huge else ()
    r = done(system("a" * 8 + "." * 16, *first, Step(op="pin", page=1), FORK, store(1, 1), load(2, 1), load(1, 1)))
    assert set(r.steps) == {"done"}
    pinned = [folio for folio in r.world.system.folios if folio._pincount]
    assert [folio.pages[1 if huge else 0]._flags & 1 for folio in pinned] == [1]
    assert r.world.system.mms[1]._rss_stat[0] == 8


def test_without_memory_for_the_copy_there_is_no_child() -> None:
    s = system("a" * 8 + "." * 16, Step(op="pin", page=1), FORK, load(1, 0, 8))
    r = done(attrs.evolve(s, failures=(Failure(kind="alloc"),)))
    assert r.steps == ("done", "ENOMEM", "done")
    assert r.world.system.mms[1]._rss_stat == [0, 0]
    assert r.world.system.mms[1].freed_by == "mmdrop"


def test_poison_in_a_pinned_page_ends_the_fork() -> None:
    r = done(POISONED)
    assert r.steps == ("done", "ENOMEM", "done")
    assert r.world.system.mms[1].freed_by == "mmdrop"
    assert r.world.system.poison_queued


def test_the_reverse_mapping_finds_children_of_children() -> None:
    r = done(GRANDCHILD)
    assert r.steps == ("done",) * 4
    assert [mm._rss_stat for mm in r.world.system.mms] == [[0, 0], [0, 1], [0, 1]]


def test_a_childs_vma_does_not_grow_over_fresh_memory() -> None:
    """Its anon_vma is not the only one of the VMA's chain."""
    r = done(system("a" * 8, FORK, *(Step(op="mmap", process=n, page=8, length=8) for n in (1, 2)), store(2, 8), LEAVE))
    assert set(r.steps) == {"done"}
    r = done(system("a" * 8, FORK, *(Step(op="mmap", process=n, page=8, length=8) for n in (1, 2)), store(2, 8)))
    assert [len(mm._vmas) for mm in r.world.system.mms] == [1, 2]
    first, second = r.world.system.mms[1]._vmas
    assert first._anon_vma is not second._anon_vma


def test_what_a_fault_brings_back_is_not_copied() -> None:
    """Without an anon_vma there is nothing but zero pages and markers; frames without folio are copied."""
    r = done(NOT_COPIED)
    assert r.world.system.mms[1]._pgtables_bytes == 0
    assert r.world.system.shadow[2, 0] == 0
    special = Vma(pages="i" * 24, flags=("mixedmap", "read", "write"), anon_vma=False)
    r = done(attrs.evolve(system("." * 24, FORK, load(2, 0, 24)), vmas=(special,)))
    assert r.steps == ("done", "done")


def test_what_is_not_to_be_copied_is_not() -> None:
    advice = Step(op="madvise", page=8, length=8, value="dontfork")
    r = done(system("a" * 24, advice, FORK, load(2, 8)))
    assert r.steps[-1] == "SIGSEGV"
    assert r.world.system.mms[1]._rss_stat[0] == 16


def test_shared_pages_collapse_again_when_the_child_has_gone() -> None:
    never = Step(op="sysfs", name="khugepaged/max_ptes_shared", value="0")
    s = system("a" * 8 + "." * 16, never, FORK, KHUGEPAGED, LEAVE, KHUGEPAGED)
    r = done(s)
    assert r.world.system.vm_events["thp_scan_exceed_share_pte"] == 2
    assert r.world.system.node_stat["pages_collapsed"] == 1


def test_khugepaged_knows_the_child_and_forgets_it() -> None:
    r = done(system("a" * 24, FORK))
    assert [slot._mm.ident for slot in r.world.system.khugepaged_scan._mm_head] == [1, 2]
    r = done(system("a" * 24, FORK, LEAVE))
    assert [slot._mm.ident for slot in r.world.system.khugepaged_scan._mm_head] == [1]
    assert r.world.system.mms[1].freed_by == "mmdrop"


@pytest.mark.parametrize("pages", ["a" * 24, "wwwwwwww........aaaa....", "." * 24])
def test_exit_leaves_nothing(pages: str) -> None:
    r = done(system(pages, Step(op="exit")))
    assert r.world.mm._vmas == ()
    assert (r.world.mm._rss_stat, r.world.mm._pgtables_bytes) == ([0, 0], 0)
    assert all(folio.freed_by for folio in r.world.system.folios)
    assert slots_in_use(r.world.system) == {}


PART = system("a" * 24, FORK, store(1, 3), store(2, 4), load(2, 3), load(1, 4))
SWAPPED = system("w" * 8 + "." * 16, FORK)
HUGE = system("a" * 8 + "." * 16, KHUGEPAGED, FORK, store(1, 3), load(2, 3))
PINNED = system("a" * 8 + "." * 16, Step(op="pin", page=1), FORK, store(1, 1), load(2, 1))
LEFT = system("a" * 8 + "." * 16, FORK, LEAVE)
POISONED = attrs.evolve(system("a" * 8 + "." * 16, Step(op="pin", page=1), FORK, load(1, 1)), failures=(Failure(kind="poison", page=1),))
NOT_COPIED = attrs.evolve(system("." * 24, FORK), vmas=(Vma(pages="P" + "." * 23, flags=("read", "write"), anon_vma=False),))
GRANDCHILD = system("." * 24, FORK, store(2, 0), Step(op="fork", process=2), Step(op="swapout", process=2, page=0))
COPY = "if copy_mc_user_highpage(fresh.pages[0], page, address, vma):"
REMEMBER = "if copied:"
OWN = 'anon_vma = AnonVma(f"anon_vma{new.vm_mm.ident}", parent.root, parent)'


@pytest.mark.parametrize(
    ("check", "function", "old", "new", "s"),
    [
        ("TRANSPARENCY", fork_ptes.copy_one, "ptep_set_wrprotect(src)", "pass", PART),
        ("TRANSPARENCY", fork.dup_mmap, "flush_tlb_range(vma, vma.vm_start, vma.vm_end)", "pass", PART),
        ("TRANSPARENCY", fork_ptes._share, "ClearPageAnonExclusive(page)", "pass", PART),
        ("CONSERVATION", fork_ptes._share, "add_mm_counter(new.vm_mm, MM_ANONPAGES, 1)", "pass", PART),
        ("REFCOUNT", fork_ptes._share, "folio_get(folio)", "pass", PART),
        ("CONSERVATION", fork_ptes._copy_nonpresent, "swap_duplicate(offset)", "pass", SWAPPED),
        ("CONSERVATION", fork_huge.copy_huge_pmd, "mm_inc_nr_ptes(new.vm_mm)", "pass", HUGE),
        ("CONSERVATION", fork_huge.copy_huge_pmd, "pgtable_trans_huge_deposit(new.vm_mm, child, pgtable)", "pass", HUGE),
        ("TRANSPARENCY", fork_huge._share_huge, "pmdp_set_wrprotect(pmd)", "pass", HUGE),
        ("PAGE_TABLE_CHECK", fork_ptes.copy_one, "pte = pte_wrprotect(pte)", "pass", PART),
        ("TRANSPARENCY", fork_ptes.copy_present_page, COPY, "if False:", PINNED),
        ("REFCOUNT", fork._put_unused, "folio_put(prealloc.value)", "pass", POISONED),
        ("TRANSPARENCY", fork._remember, REMEMBER, "if True:", NOT_COPIED),
        ("steps", fork.anon_vma_fork, OWN, OWN.replace("parent)", "parent.root)"), GRANDCHILD),
        ("LOCKDEP", fork.dup_mmap, "mmap_write_unlock(oldmm)", "pass", PART),
        ("REFCOUNT", mm_exit.mmput, "mmdrop(mm)", "pass", LEFT),
        ("KASAN", mm_exit.mmput, "khugepaged_exit(mm)", "mmdrop(mm)", LEFT),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 40 else "",
)
def test_a_seeded_bug_is_caught(check: str, function: object, old: str, new: str, s: Scenario) -> None:
    clean = done(s)
    with changed(Change(check, function, old, new, s)):
        r = run(s, v12.VARIANT)
    assert check in {each.check for each in r.world.system.machine.reports} | {"steps"} - {"steps" if r.steps == clean.steps else ""}
