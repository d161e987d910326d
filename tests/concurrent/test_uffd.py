"""The monitor of userfaultfd beside the process and beside a collapse."""

from __future__ import annotations

from typing import Final

import pytest

from kmm.mm import uffd_ioctl, vma
from refactors import reviewed
from tests.concurrent.making import alone, beside, outcomes, results, violations

WP: Final = ("read", "uffd_wp", "write")
MISSING: Final = ("read", "uffd_missing", "write")
HOLE: Final = "aaa.aaaa"

ALONE: Final = {
    "protect, store": (alone("uffd_wp:0-3:protect", "store:0", flags=WP), {("done", "done"), ("done", "userfault")}),
    "resolve, store": (
        alone("uffd_wp:0-3:resolve", "store:0", flags=WP, pages="uuaaaaaa"),
        {("done", "done"), ("done", "userfault")},
    ),
    "marker, store": (
        alone("uffd_wp:0-3:protect unpopulated", "store:3", flags=WP, pages=HOLE),
        {("done", "done"), ("done", "userfault")},
    ),
    "copy, load": (alone("uffd_copy:3", "load:3", flags=MISSING, pages=HOLE), {("done", "done"), ("done", "userfault")}),
    "zero, load": (alone("uffd_copy:3:zero", "load:3", flags=MISSING, pages=HOLE), {("done", "done"), ("done", "userfault")}),
    "copy, copy": (alone("uffd_copy:3", "uffd_copy:3", flags=MISSING, pages=HOLE), {("done", "EEXIST"), ("EEXIST", "done")}),
    "copy, zap of the table": (
        alone("uffd_copy:3", "madvise:0-7:dontneed", flags=MISSING, pages=HOLE),
        {("done", "done"), ("EEXIST", "done"), ("EAGAIN", "done")},
    ),
    "copy, unregister": (
        alone("uffd_unregister:0-7", "uffd_copy:3", flags=MISSING, pages=HOLE),
        {("done", "done"), ("done", "ENOENT")},
    ),
    "register, load": (alone("uffd_register:0-7:missing", "load:3", pages=HOLE), {("done", "done"), ("done", "userfault")}),
    "unregister, store": (
        alone("uffd_unregister:0-3", "store:0", flags=WP, pages="u" * 8),
        {("done", "done"), ("done", "userfault")},
    ),
    "unregister, protect": (alone("uffd_unregister:0-7", "uffd_wp:0-7:protect", flags=WP), {("done", "done"), ("done", "ENOENT")}),
}
"""Two actors, and what they may answer."""


@pytest.mark.parametrize("name", ALONE)
def test_beside_the_process(name: str) -> None:
    s, answers = ALONE[name]
    found = outcomes(s)
    assert violations(found) == set()
    assert {found.observation(each).actors for each in found.all} == answers


@pytest.mark.parametrize("mode", ["missing", "wp"])
def test_a_collapse_fills_no_hole_that_the_monitor_watches(mode: str) -> None:
    """Seen by the scan, or when the pages are isolated; a collapse that was over before has filled it."""
    s = beside(f"uffd_register:0-7:{mode}", pages=HOLE)
    found = outcomes(s)
    assert violations(found) == set()
    assert {"SCAN_SUCCEED", "SCAN_EXCEED_NONE_PTE"} <= results(found)
    assert set(found.all) == set(outcomes(s, reviewed.VARIANT).all)


def test_a_collapse_leaves_what_is_protected() -> None:
    s = beside("uffd_wp:0-3:protect", flags=WP)
    found = outcomes(s)
    assert violations(found) == set()
    assert {"SCAN_SUCCEED", "SCAN_PTE_UFFD_WP"} <= results(found)
    assert set(found.all) == set(outcomes(s, reviewed.VARIANT).all)


@pytest.mark.parametrize("actor", ["uffd_copy:3", "uffd_unregister:0-7"])
def test_a_collapse_beside_what_makes_it_possible(actor: str) -> None:
    found = outcomes(beside(actor, flags=MISSING, pages=HOLE))
    assert violations(found) == set()
    assert "SCAN_EXCEED_NONE_PTE" in results(found)


def test_protection_without_a_flush_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uffd_ioctl, "tlb_finish_mmu", lambda _tlb: None)
    found = violations(outcomes(ALONE["protect, store"][0]))
    assert "TLB: CPU 1 still writes page 0, which the tables forbid: no flush reached it" in found


def test_a_copy_onto_a_page_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uffd_ioctl, "pte_none", lambda _pte: True)
    assert "CONSERVATION: MM_ANONPAGES of mm1 is 9, 8 anonymous pages are mapped" in violations(outcomes(ALONE["copy, copy"][0]))


def test_a_vma_that_is_not_locked_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vma, "vma_start_write", lambda _vma: None)
    found = violations(outcomes(ALONE["register, load"][0]))
    assert found == {"DEBUG_VM: BUG_ON(!__is_vma_write_locked(vma)) in vma_assert_write_locked"}
