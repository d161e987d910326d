"""What the monitor asks of userfaultfd: registration, write protection, filling holes (fs/userfaultfd.c, mm/userfaultfd.c)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from kmm.mm import uffd_ioctl
from kmm.mm.mm_types import VM_UFFD_MISSING, VM_UFFD_WP
from kmm.mm.pte import PTE_MARKER_GUARD, PTE_MARKER_UFFD_WP, ZERO_PFN, pte_marker_get, pte_none, pte_pfn
from kmm.mm.uffd_ioctl import mfill_atomic, mwriteprotect_range, userfaultfd_register, userfaultfd_unregister
from kmm.scenario.build import World
from kmm.scenario.model import Failure, Vma
from tests.port.faulting import NR, SIZE, address, bits, exclusive, folio, is_huge, load, memory, process, pte, rss, store, tables

RW: Final = ("read", "write")
WP: Final = ("read", "uffd_wp", "write")
MISSING: Final = ("read", "uffd_missing", "write")
BOTH: Final = ("read", "uffd_missing", "uffd_wp", "write")
ALL: Final = "a" * NR
HOLES: Final = "." * NR


def register(world: World, first: int, length: int, flags: int) -> str:
    return userfaultfd_register(world.mm, address(world, first), length * SIZE, flags)


def unregister(world: World, first: int, length: int) -> str:
    return userfaultfd_unregister(world.mm, address(world, first), length * SIZE)


def protect(world: World, first: int, length: int, *, unpopulated: bool = False) -> str:
    return mwriteprotect_range(world.mm, address(world, first), length * SIZE, enable=True, unpopulated=unpopulated)


def resolve(world: World, first: int, length: int) -> str:
    return mwriteprotect_range(world.mm, address(world, first), length * SIZE, enable=False)


def copy(world: World, first: int, length: int = 1, *, wp: bool = False) -> str:
    return mfill_atomic(world.mm, address(world, first), length * SIZE, token, wp=wp)


def zero(world: World, first: int, length: int = 1) -> str:
    return mfill_atomic(world.mm, address(world, first), length * SIZE, None)


def token(page: int) -> int:
    return 5000 + page


def watched(world: World) -> list[tuple[int, int, int]]:
    """First page, one behind the last, and registration of every VMA."""
    base, flags = world.system.base, VM_UFFD_MISSING | VM_UFFD_WP
    return [((v._vm_start - base) // SIZE, (v._vm_end - base) // SIZE, v._vm_flags & flags) for v in world.mm._vmas]


def has_marker(world: World, page: int) -> bool:
    return pte_marker_get(pte(world, page)) == PTE_MARKER_UFFD_WP


def test_registration_splits_and_merges() -> None:
    with process(memory(ALL)) as world:
        assert register(world, 4, 4, VM_UFFD_MISSING) == ""
        assert watched(world) == [(0, 4, 0), (4, 8, VM_UFFD_MISSING), (8, NR, 0)]
        assert register(world, 8, 4, VM_UFFD_MISSING) == ""
        assert watched(world) == [(0, 4, 0), (4, 12, VM_UFFD_MISSING), (12, NR, 0)]
        assert register(world, 4, 8, VM_UFFD_WP) == "", "the new mode replaces the old one"
        assert watched(world) == [(0, 4, 0), (4, 12, VM_UFFD_WP), (12, NR, 0)]
        assert unregister(world, 0, NR) == ""
        assert watched(world) == [(0, NR, 0)]


def test_a_vma_that_has_the_mode_keeps_the_others() -> None:
    with process(memory(ALL, flags=BOTH)) as world:
        assert register(world, 0, NR, VM_UFFD_WP) == ""
        assert watched(world) == [(0, NR, VM_UFFD_MISSING | VM_UFFD_WP)]


def test_holes_between_vmas_are_no_error_but_nothing_at_all_is() -> None:
    vmas = (Vma(pages="aaaa", flags=RW, start=0), Vma(pages="aaaa", flags=RW, start=8))
    with process(memory(vmas=vmas)) as world:
        assert register(world, 4, 4, VM_UFFD_WP) == "EINVAL"
        assert unregister(world, 4, 4) == "EINVAL"
        assert register(world, 2, 8, VM_UFFD_WP) == ""
        assert watched(world) == [(0, 2, 0), (2, 4, VM_UFFD_WP), (8, 10, VM_UFFD_WP), (10, 12, 0)]


def test_one_vma_that_cannot_be_watched_spoils_it_for_all() -> None:
    vmas = (Vma(pages="aaaa", flags=RW, start=0), Vma(pages="....", flags=("droppable", *RW), start=4))
    with process(memory(vmas=vmas)) as world:
        assert register(world, 0, 8, VM_UFFD_WP) == "EINVAL"
        assert watched(world) == [(0, 4, 0), (4, 8, 0)]


def test_the_monitor_is_asked_only_where_it_is_registered() -> None:
    with process(memory(HOLES)) as world:
        register(world, 0, 8, VM_UFFD_MISSING)
        assert load(world, 3) == "userfault"
        assert store(world, 3, 7) == "userfault"
        assert store(world, 8, 7) == ""
        assert unregister(world, 0, 8) == ""
        assert store(world, 3, 7) == ""


def test_a_protected_page_is_read_but_not_written() -> None:
    with process(memory(ALL, flags=WP)) as world:
        store(world, 3, 7)
        assert protect(world, 0, 4) == ""
        assert [bits(world, page) for page in (3, 4)] == ["pyd-u-", "pydw--"]
        assert load(world, 3) == ""
        assert store(world, 3, 8) == "userfault"
        assert store(world, 4, 8) == ""
        assert resolve(world, 0, 4) == ""
        assert bits(world, 3) == "pydw--", "exclusive: no fault is needed"
        assert store(world, 3, 8) == ""


@pytest.mark.parametrize(("letter", "writable"), [("a", True), ("n", False), ("s", False), ("z", False)])
def test_what_was_not_writable_is_not_made_so(letter: str, writable: bool) -> None:
    with process(memory(letter * NR, flags=WP)) as world:
        protect(world, 0, NR)
        assert "w" not in bits(world, 0)
        resolve(world, 0, NR)
        assert ("w" in bits(world, 0)) == writable
        assert "u" not in bits(world, 0)


def test_a_vma_that_may_not_be_written_stays_so() -> None:
    with process(memory("r" * NR, flags=("read", "uffd_wp"))) as world:
        protect(world, 0, NR)
        resolve(world, 0, NR)
        assert bits(world, 0) == "pyd---"


def test_swapped_pages_come_back_protected() -> None:
    with process(memory("w" * NR, flags=WP)) as world:
        assert protect(world, 0, 1) == ""
        assert load(world, 0) == ""
        assert load(world, 1) == ""
        assert ["u" in bits(world, page) for page in (0, 1)] == [True, False]
        assert store(world, 0, 7) == "userfault"
        assert store(world, 1, 7) == ""


def test_holes_are_protected_only_where_that_is_asked_for() -> None:
    with process(memory(HOLES, flags=WP)) as world:
        assert protect(world, 0, 4) == ""
        assert pte_none(pte(world, 0))
        assert store(world, 0, 7) == ""
        assert protect(world, 4, 4, unpopulated=True) == ""
        assert has_marker(world, 4)
        assert store(world, 4, 7) == "userfault"
        assert bits(world, 4) == "pyd-u-", "the fault has mapped a page, and asks about the write"
        assert resolve(world, 4, 4) == ""
        assert pte_none(pte(world, 5))
        assert [store(world, page, 7) for page in (4, 5)] == ["", ""]


def test_markers_get_a_table() -> None:
    with process(memory(HOLES, pmd="none", flags=WP)) as world:
        assert protect(world, 0, NR) == ""
        assert tables(world) == 0
        assert protect(world, 0, 2, unpopulated=True) == ""
        assert tables(world) == 1
        assert [has_marker(world, page) for page in range(3)] == [True, True, False]


def test_markers_of_others_stay() -> None:
    with process(memory("g" + "." * (NR - 1), flags=WP)) as world:
        assert protect(world, 0, 1, unpopulated=True) == ""
        assert pte_marker_get(pte(world, 0)) == PTE_MARKER_GUARD
        assert resolve(world, 0, 1) == ""
        assert pte_marker_get(pte(world, 0)) == PTE_MARKER_GUARD
        assert copy(world, 0) == "EEXIST"


def test_write_protection_ends_at_the_first_vma_that_is_not_registered_for_it() -> None:
    vmas = (Vma(pages="aaaa", flags=WP, start=0), Vma(pages="aaaa", flags=MISSING, start=4), Vma(pages="aaaa", flags=WP, start=8))
    with process(memory(vmas=vmas)) as world:
        assert protect(world, 0, 12) == "ENOENT"
        assert ["u" in bits(world, page) for page in (0, 4, 8)] == [True, False, False]
        assert protect(world, 12, 4) == "ENOENT", "nothing is mapped there"


def test_unregistering_ends_the_protection() -> None:
    with process(memory("aa.." + "a" * (NR - 4), flags=WP)) as world:
        protect(world, 0, NR, unpopulated=True)
        assert unregister(world, 0, 4) == ""
        assert [bits(world, page) for page in (0, 4)] == ["pydw--", "pyd-u-"]
        assert pte_none(pte(world, 2))
        assert store(world, 0, 7) == ""
        assert store(world, 4, 7) == "userfault"


def test_a_huge_page_is_protected_as_a_whole_or_split() -> None:
    with process(memory(HOLES, pmd="huge", orders=(4,), flags=WP)) as world:
        assert protect(world, 0, NR) == ""
        assert is_huge(world)
        assert store(world, 1, 3) == "userfault"
        assert resolve(world, 0, NR) == ""
        assert is_huge(world)
        assert store(world, 1, 3) == ""
        assert protect(world, 0, 2) == ""
        assert not is_huge(world)
        assert [bits(world, page)[3:5] for page in (0, 1, 2)] == ["-u", "-u", "w-"]


def test_a_copy_is_a_new_page_that_is_there_at_once() -> None:
    with process(memory(HOLES, flags=MISSING)) as world:
        assert copy(world, 3) == ""
        assert bits(world, 3) == "pydw--"
        assert exclusive(world, 3)
        assert rss(world) == (1, 0)
        assert folio(world, 3) in [each for cpu in world.system.per_cpu for each in cpu._lru_add]
        assert load(world, 3) == "", "and the contents are compared"
        assert store(world, 3, 7) == ""


def test_a_copy_may_be_protected_from_the_start() -> None:
    with process(memory(HOLES, flags=BOTH)) as world:
        assert copy(world, 3, wp=True) == ""
        assert bits(world, 3) == "pyd-u-"
        assert load(world, 3) == ""
        assert store(world, 3, 7) == "userfault"
    with process(memory(HOLES, flags=MISSING)) as world:
        assert copy(world, 3, wp=True) == "EINVAL"
        assert pte_none(pte(world, 3))


def test_a_copy_replaces_a_marker_of_userfaultfd_and_nothing_else() -> None:
    with process(memory(".azw" + "." * (NR - 4), flags=BOTH)) as world:
        protect(world, 0, 1, unpopulated=True)
        assert copy(world, 0) == ""
        assert [copy(world, page) for page in (0, 1, 2, 3)] == ["EEXIST"] * 4
        assert rss(world) == (2, 1)
        protect(world, 4, 1, unpopulated=True)
        assert zero(world, 4) == "EEXIST", "the zero page does not even replace that"


def test_the_zero_page_fills_a_hole() -> None:
    with process(memory(HOLES, flags=MISSING)) as world:
        assert zero(world, 3) == ""
        assert pte_pfn(pte(world, 3)) == ZERO_PFN
        assert bits(world, 3)[5] == "s"
        assert rss(world) == (0, 0)
        assert store(world, 3, 7) == ""
        assert rss(world) == (1, 0)


def test_a_part_is_done_up_to_what_is_there() -> None:
    with process(memory("..a." + "." * (NR - 4), flags=MISSING)) as world:
        assert copy(world, 0, 4) == "EAGAIN", "2 of 4 pages: the rest may be asked for again"
        assert [pte_none(pte(world, page)) for page in (0, 1, 3)] == [False, False, True]
        assert copy(world, 2, 2) == "EEXIST"


def test_one_vma_must_have_it_all_and_be_registered() -> None:
    vmas = (Vma(pages="....", flags=MISSING, start=0), Vma(pages="....", flags=RW, start=4))
    with process(memory(vmas=vmas)) as world:
        assert copy(world, 2, 4) == "ENOENT"
        assert copy(world, 4) == "ENOENT"
        assert copy(world, 9) == "ENOENT"
        assert rss(world) == (0, 0)


def test_a_huge_page_is_in_the_way() -> None:
    with process(memory(HOLES, pmd="huge", orders=(4,), flags=MISSING)) as world:
        assert copy(world, 3) == "EEXIST"
        assert zero(world, 3) == "EEXIST"


def test_without_anon_vma_and_without_table() -> None:
    with process(memory(HOLES, pmd="absent", anon_vma=False, flags=MISSING)) as world:
        assert copy(world, 3) == ""
        assert world.vma._anon_vma is not None
        assert tables(world) == 1
        assert load(world, 3) == ""


def test_without_memory() -> None:
    with process(memory(HOLES, flags=MISSING, failures=(Failure(kind="alloc", nth=1),))) as world:
        assert copy(world, 3) == "ENOMEM"
        assert pte_none(pte(world, 3))
        assert copy(world, 3) == ""


BUGS: Final[dict[str, tuple[str, object, Callable[[], None]]]] = {
    "no marker for a hole": ("MM_CP_UFFD_WP_UNPOPULATED", 0, test_holes_are_protected_only_where_that_is_asked_for),
    "no flush after the protection": ("tlb_finish_mmu", lambda _tlb: None, test_a_protected_page_is_read_but_not_written),
    "resolving does not try to make writable": ("MM_CP_TRY_CHANGE_WRITABLE", 0, test_a_protected_page_is_read_but_not_written),
    "a copy lands on what is there": ("pte_none", lambda _pte: True, test_a_copy_replaces_a_marker_of_userfaultfd_and_nothing_else),
    "a marker is in the way": ("pte_marker_get", lambda _pte: 0, test_a_copy_replaces_a_marker_of_userfaultfd_and_nothing_else),
    "a copy is not counted": ("add_mm_counter", lambda *_: None, test_a_copy_is_a_new_page_that_is_there_at_once),
    "a copy is on no list": ("folio_add_lru_vma", lambda *_: None, test_a_copy_is_a_new_page_that_is_there_at_once),
    "a copy is not protected": ("pte_mkuffd_wp", lambda entry: entry, test_a_copy_may_be_protected_from_the_start),
    "a copy is clean": ("pte_mkdirty", lambda entry: entry, test_a_copy_is_a_new_page_that_is_there_at_once),
    "a page that was not needed is kept": ("folio_put", lambda _folio: None, test_a_part_is_done_up_to_what_is_there),
    "a VMA without anon_vma": ("anon_vma_prepare", lambda _vma: None, test_without_anon_vma_and_without_table),
    "the VMA stays locked": ("vma_end_read", lambda _vma: None, test_a_copy_is_a_new_page_that_is_there_at_once),
    "protection survives": ("uffd_wp_range", lambda *_, **__: None, test_unregistering_ends_the_protection),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_seeded_bug_is_caught(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, instead, caught_by = BUGS[bug]
    monkeypatch.setattr(uffd_ioctl, name, instead)
    with pytest.raises((AssertionError, AttributeError)):
        caught_by()


def test_a_flush_is_what_tells_the_cpu() -> None:
    """One flush covers the pages whose entries changed, and there is none when none did."""
    with process(memory(ALL, flags=WP)) as world:
        protect(world, 0, 4)
        protect(world, 0, 4)
        assert len(world.system.machine.tlb_flushes) == 1
