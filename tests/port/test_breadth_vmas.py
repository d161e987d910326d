"""VMAs, process switches and PMD entries with which collapse must deal. Expected values are the reference's (2.3, 2.7, 2.8, 6.1)."""

from __future__ import annotations

from typing import Final

import attrs
import pytest

from kmm.mm.variant import Variant
from kmm.scenario.model import Driver, DriverKind, Event, Scenario, Vma
from kmm.scenario.run import Run
from refactors import reviewed, v12
from tests.helpers import KHUGEPAGED, MADVISE, direct, folio_of, go, is_huge, make, reports, table

pytestmark = pytest.mark.parametrize("variant", [v12.VARIANT, reviewed.VARIANT], ids=lambda variant: variant.name)

RW: Final = ("read", "write")
DIRECT: Final = direct(3)
DRIVERS: Final = pytest.mark.parametrize("driver", [KHUGEPAGED, MADVISE, DIRECT], ids=lambda driver: driver.kind.value)


def clean(s: Scenario, variant: Variant) -> Run:
    r = go(s, variant)
    assert reports(r) == []
    return r


def outcome(r: Run) -> tuple[str, str]:
    """What the driver says; no event and no change where it did not scan."""
    if r.result == "not scanned":
        assert r.world.system.machine.trace_events == []
        assert r.world.system.machine.tlb_flushes == []
    return r.result.removeprefix("SCAN_"), r.errno


def laid(driver: Driver, *vmas: Vma, orders: tuple[int, ...] = (3,)) -> Scenario:
    """Eight entries, of which the VMAs have some."""
    return attrs.evolve(make("aaaaaaaa", driver, orders=orders), vmas=vmas)


def refused(driver: Driver, direct_result: str, errno: str = "EINVAL") -> tuple[str, str]:
    """What a range gives in which no VMA may be collapsed."""
    if driver.kind is DriverKind.DIRECT:
        return direct_result, ""
    return "not scanned", errno if driver.kind is DriverKind.MADVISE else ""


def vma(pages: str, start: int, *flags: str, before: int = 0, after: int = 0) -> Vma:
    return Vma(pages=pages, start=start, flags=tuple(sorted((*RW, *flags))), before=before, after=after)


# VMAs that do not cover the range (2.3 step 5; 2.8 test 3; 6.1)


@DRIVERS
@pytest.mark.parametrize(
    "vmas",
    [
        (vma("aaaa", 0), vma("aaaa", 4, "dontdump")),
        (vma("aaaaaaa", 1),),
        (vma("aaaaaaa", 0),),
        (vma("aaa", 0), vma("aaa", 5)),
        (vma("a", 3),),
    ],
    ids=["two", "head missing", "tail missing", "hole", "one page"],
)
@pytest.mark.parametrize("orders", [(3,), (2,)])
def test_a_range_that_no_vma_covers(variant: Variant, driver: Driver, vmas: tuple[Vma, ...], orders: tuple[int, ...]) -> None:
    """Not even a smaller order: the table may belong to several VMAs."""
    at = direct(orders[0]) if driver is DIRECT else driver
    assert outcome(clean(laid(at, *vmas, orders=orders), variant)) == refused(driver, "ADDRESS_RANGE")


@DRIVERS
@pytest.mark.parametrize(("before", "after"), [(8, 0), (0, 8), (3, 5), (8, 8)])
def test_a_vma_that_goes_on_is_scanned(variant: Variant, driver: Driver, before: int, after: int) -> None:
    r = clean(laid(driver, Vma(pages="aaaaaaaa", before=before, after=after)), variant)
    assert (outcome(r), is_huge(r)) == (("SUCCEED", ""), True)


@DRIVERS
@pytest.mark.parametrize(
    ("vmas", "errno"),
    [
        ((vma("aaaa", 0, before=8),), "ENOMEM"),
        ((vma("aaaa", 4, after=8),), "ENOMEM"),
        ((vma("aaaa", 0, before=8), vma("aaaa", 4, "dontdump", after=8)), ""),
        ((vma("aaaa", 0, before=8), vma("aaaa", 4, "dontdump", after=7)), "EINVAL"),
        ((vma("aaaa", 0, before=8), vma("aaa", 5, after=8)), "ENOMEM"),
        ((vma("aaaa", 0, "nohugepage", before=8), vma("aaaa", 4, after=8)), "EINVAL"),
    ],
    ids=["tail missing", "head missing", "none missing", "second too short", "hole", "first not allowed"],
)
def test_a_vma_with_a_pmd_elsewhere(variant: Variant, driver: Driver, vmas: tuple[Vma, ...], errno: str) -> None:
    """Its own range ends or begins where a PMD begins: MADV_COLLAPSE has nothing to do there; a part without VMA is ENOMEM."""
    assert outcome(clean(laid(driver, *vmas), variant)) == refused(driver, "ADDRESS_RANGE", errno)


def test_seven_pages_more_are_no_pmd(variant: Variant) -> None:
    """A VMA from page 4 on, with 7 pages behind the table: no aligned PMD lies inside it."""
    assert outcome(clean(laid(MADVISE, vma("aaaa", 4, after=7)), variant)) == ("not scanned", "EINVAL")
    assert outcome(clean(laid(MADVISE, vma("aaaa", 4, after=8)), variant)) == ("not scanned", "ENOMEM")


def test_no_vma_at_all(variant: Variant) -> None:
    unmapped = (Event(op="munmap", before="mmap_read_lock"),)
    assert clean(make("aaaaaaaa", direct(3), events=unmapped), variant).result == "SCAN_VMA_NULL"
    again = (Event(op="replace_vma", before="mmap_read_lock", page=4),)
    assert clean(make("aaaaaaaa", direct(3), events=again), variant).result == "SCAN_ADDRESS_RANGE", "find_vma looks above, too"


# Flags (2.3 steps 3, 4 and 6)


@DRIVERS
@pytest.mark.parametrize("flag", ["io", "dontexpand", "pfnmap", "mixedmap", "temporary_stack", "nohugepage"])
def test_flags_that_forbid(variant: Variant, driver: Driver, flag: str) -> None:
    r = clean(make("aaaaaaaa", driver, flags=(*RW, flag)), variant)
    assert outcome(r) == refused(driver, "VMA_CHECK")


@DRIVERS
def test_hugetlb_and_frames_without_folio(variant: Variant, driver: Driver) -> None:
    assert outcome(clean(make("........", driver, flags=(*RW, "hugetlb")), variant)) == refused(driver, "VMA_CHECK")
    assert outcome(clean(make("iiiiiiii", driver, flags=(*RW, "mixedmap")), variant)) == refused(driver, "VMA_CHECK")


@DRIVERS
def test_without_anon_vma(variant: Variant, driver: Driver) -> None:
    assert outcome(clean(make("z.......", driver, anon_vma=False), variant)) == refused(driver, "VMA_CHECK")


@DRIVERS
@pytest.mark.parametrize(
    ("letter", "flags"),
    [
        ("a", (*RW, "growsdown")),
        ("l", (*RW, "locked")),
        ("F", (*RW, "droppable")),
        ("a", (*RW, "dontcopy")),
        ("a", (*RW, "dontdump")),
        ("a", (*RW, "exec")),
        ("a", (*RW, "mergeable")),
        ("a", (*RW, "hugepage")),
        ("r", ("read",)),
        ("r", ()),
    ],
    ids=lambda each: "+".join(each) if isinstance(each, tuple) else each,
)
def test_flags_that_do_not(variant: Variant, driver: Driver, letter: str, flags: tuple[str, ...]) -> None:
    r = clean(make(letter * 8, driver, flags=flags), variant)
    assert (outcome(r), is_huge(r)) == (("SUCCEED", ""), True)
    r = clean(make(letter * 8, direct(2, 4), orders=(2,), flags=flags), variant)
    entry = table(r.world)._entries[4]
    assert bool(entry & 0x2) == ("write" in flags)
    assert bool(entry & 0x100) == (not flags), "PROT_NONE stays PROT_NONE"
    assert folio_of(r, 4).order == 2


def test_a_stack_is_temporary_only_while_it_grows_and_is_set_up(variant: Variant) -> None:
    assert outcome(clean(make("aaaaaaaa", flags=(*RW, "growsdown")), variant)) == ("SUCCEED", "")
    assert outcome(clean(make("aaaaaaaa", flags=(*RW, "temporary_stack")), variant)) == ("not scanned", "")


# PR_SET_THP_DISABLE (2.1, 2.3 step 3, 2.8 test 1)


@pytest.mark.parametrize(
    ("switch", "hugepage", "khugepaged", "madvise", "attempt"),
    [
        ("no", False, "SUCCEED", "SUCCEED", "SUCCEED"),
        ("yes", False, "not scanned", "not scanned", "ANY_PROCESS"),
        ("yes", True, "not scanned", "not scanned", "ANY_PROCESS"),
        ("except_advised", False, "not scanned", "SUCCEED", "VMA_CHECK"),
        ("except_advised", True, "SUCCEED", "SUCCEED", "SUCCEED"),
    ],
)
def test_thp_disable(variant: Variant, switch: str, hugepage: bool, khugepaged: str, madvise: str, attempt: str) -> None:
    flags = (*RW, "hugepage") if hugepage else RW

    def result(driver: Driver) -> str:
        return outcome(clean(attrs.evolve(make("aaaaaaaa", driver, flags=flags), thp_disable=switch), variant))[0]

    assert (result(KHUGEPAGED), result(MADVISE), result(direct(3))) == (khugepaged, madvise, attempt)
    assert result(direct(3, is_khugepaged=False)) == ("ANY_PROCESS" if switch == "yes" else "SUCCEED"), "MADV_COLLAPSE is advice"


@pytest.mark.parametrize(("value", "result"), [("", "ANY_PROCESS"), ("except_advised", "VMA_CHECK")])
@pytest.mark.parametrize("point", ["mmap_read_lock", "mmap_write_lock"])
def test_thp_disable_in_the_middle(variant: Variant, value: str, result: str, point: str) -> None:
    events = (Event(op="prctl", before=point, value=value),)
    assert outcome(clean(make("aaaaaaaa", direct(3), events=events), variant)) == (result, "")
    advised = make("aaaaaaaa", direct(3), flags=(*RW, "hugepage"), events=events)
    assert outcome(clean(advised, variant)) == (result if not value else "SUCCEED", "")


# PMD entries (2.7)


@pytest.mark.parametrize(
    ("pmd", "result", "errno"),
    [
        ("huge", "PMD_MAPPED", ""),
        ("huge_zero", "PMD_MAPPED", ""),
        ("migration", "PMD_MAPPED", ""),
        ("none", "PMD_NONE", "EINVAL"),
        ("absent", "PMD_NULL", "EINVAL"),
    ],
)
@DRIVERS
def test_pmd_entries(variant: Variant, driver: Driver, pmd: str, result: str, errno: str) -> None:
    r = clean(make("........", driver, pmd=pmd), variant)
    assert outcome(r) == (result, errno if driver is MADVISE else "")
    if pmd == "migration":
        assert r.world.system.node_stat["nr_isolated_anon"] == 8, "nobody waited for it"


def test_the_huge_zero_page_needs_no_anon_vma_but_to_be_scanned(variant: Variant) -> None:
    assert outcome(clean(make("........", MADVISE, pmd="huge_zero", anon_vma=False), variant)) == ("not scanned", "EINVAL")


# Deposited tables (5.6, 12.18)


@pytest.mark.parametrize("waiting", [0, 1, 2])
def test_deposited_tables_stay_and_the_new_one_is_put_in_front(variant: Variant, waiting: int) -> None:
    r = clean(attrs.evolve(make("aaaaaaaa", direct(3)), deposited=waiting), variant)
    page = r.world.mm._pmds[0]
    assert page is not None
    assert [each.label for each in page._deposited] == ["table1", *(f"deposited1.{number}" for number in range(waiting))]
    assert r.world.mm._pgtables_bytes == 4096 * (1 + waiting)
    assert not any(page._deposited[0]._entries), "a deposited table is empty"


def test_below_pmd_order_no_table_is_deposited(variant: Variant) -> None:
    r = clean(attrs.evolve(make("aaaaaaaa", direct(2), orders=(2,)), deposited=1), variant)
    page = r.world.mm._pmds[0]
    assert page is not None
    assert [each.label for each in page._deposited] == ["deposited1.0"]
    assert (table(r.world).label, r.world.mm._pgtables_bytes) == ("table1", 8192)
