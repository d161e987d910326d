"""Each sanitizer catches a one-line change that no earlier one catches, and none speaks about unchanged code."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from kmm.kernel.report import CHECKS
from kmm.mm import pgtable, rmap, swap, swapfile, tlb
from kmm.mm.khugepaged import copy, isolate, limits
from kmm.mm.variant import Variant
from kmm.scenario.model import Driver, DriverKind, Event, Failure, Scenario
from kmm.scenario.quiescence import first
from kmm.scenario.run import run
from refactors import reviewed, v12
from tests.helpers import direct, make
from tests.seeded import load, replace_line

ROOT = Path(__file__).parents[1]


@attrs.frozen
class Change:
    """One line changed.

    :param check: the sanitizer that must be the first to report
    :param where: a variant's module, or a function of the port
    """

    check: str
    where: object
    old: str
    new: str
    scenario: Scenario


PMD = make("aaaaaaaa", direct(3))
LEFT = make("aaaaaaaa", direct(2), orders=(2,))
succeeded = vars(copy)["__collapse_huge_page_copy_succeeded"]
copied = vars(copy)["__collapse_huge_page_copy"]

HALF = make("aa" + "." * 14, Driver(kind=DriverKind.KHUGEPAGED, passes=2), none=9, orders=(2, 3))

CHANGES = [
    Change("KASAN", succeeded, "folio_put_refs(src, nr_ptes)", "folio_put_refs(src, nr_ptes + 1)", PMD),
    Change("KASAN", swap.folio_isolate_lru, "folio_get(folio)", "pass", PMD),
    Change("LOCKDEP", v12, "pte_unmap(pte)", "pass", PMD),
    Change(
        "LOCKDEP",
        v12,
        "result = __collapse_huge_page_copy(pte, folio, pmd, _pmd, vma, mthp_address, pte_ptl, order, compound_pagelist)",
        "result = __collapse_huge_page_copy(pte, folio, pmd, _pmd, vma, mthp_address, pmd_ptl, order, compound_pagelist)",
        PMD,
    ),
    Change("LOCKDEP", isolate.release_pte_folio, "folio_unlock(folio)", "pass", make("aaaaaaap", direct(3))),
    Change("PAGE_TABLE_CHECK", pgtable.set_ptes, "pte = pte_next_pfn(pte)", "pte = pte", LEFT),
    Change("PAGE_TABLE_CHECK", pgtable.clear_ptes, "for i in range(nr):", "for i in range(nr - 1):", PMD),
    Change("DEBUG_VM", succeeded, "pte_clear(mm, addr, ptep)", "pass", make("zaaaaaaa", direct(3))),
    Change(
        "DEBUG_VM",
        pgtable.pmdp_huge_get_and_clear,
        "old = current.machine.rmw(pmdp, _val, _pmd_none, ONCE)",
        "old = pmdp_get(pmdp)",
        LEFT,
    ),
    Change("REFCOUNT", v12, "folio_ref_add(folio, nr_pages - 1)", "folio_ref_add(folio, nr_pages)", LEFT),
    Change("REFCOUNT", swapfile.delete_from_swap_cache, "folio_put_refs(folio, 1 << folio.order)", "pass", make("haaaaaaa", direct(3))),
    Change("TLB", pgtable.pmdp_collapse_flush, "flush_tlb_range(vma, address, address + HPAGE_PMD_SIZE())", "pass", PMD),
    Change("TLB", tlb.flush_everywhere, "del mine[address]", "pass", PMD),
    Change("CONSERVATION", succeeded, "add_mm_counter(mm, MM_ANONPAGES, 1)", "pass", make("aaaaaa..", direct(3))),
    Change("CONSERVATION", v12, "pgtable_trans_huge_deposit(mm, pmd, pgtable)", "pass", PMD),
    Change(
        "CONSERVATION",
        rmap.folio_remove_rmap_ptes,
        'node_stat_mod_folio(folio, "nr_anon_mapped", -unmapped)',
        "pass",
        make("33333333", direct(3)),
    ),
    Change("TRANSPARENCY", copied, "page = folio_page(folio, i)", "page = folio_page(folio, 0)", PMD),
    Change("TRANSPARENCY", copied, "clear_user_highpage(page, src_addr)", "pass", make("aaaaaa.z", direct(3))),
    Change(
        "FIXPOINT",
        limits.collapse_max_ptes_none,
        "return min(none, HPAGE_PMD_NR() // 2 - 1) >> (HPAGE_PMD_ORDER() - order)",
        "return none >> (HPAGE_PMD_ORDER() - order)",
        HALF,
    ),
    Change(
        "FIXPOINT",
        limits.collapse_max_ptes_none,
        "return min(none, HPAGE_PMD_NR() // 2 - 1) >> (HPAGE_PMD_ORDER() - order)",
        "return min(none >> (HPAGE_PMD_ORDER() - order), HPAGE_PMD_NR() // 2 - 1)",
        HALF,
    ),
]


@contextmanager
def changed(change: Change) -> Iterator[Variant]:
    """v12 with the change in it: in a copy of its module, or in a function of the port for the time of the block."""
    if inspect.ismodule(change.where):
        assert change.where.__file__ is not None
        yield load(replace_line(Path(change.where.__file__).read_text(encoding="utf-8"), change.old, change.new), "changed")
        return
    function = change.where
    assert inspect.isfunction(function)
    with recompiled(function, lambda source: replace_line(source, change.old, change.new)):
        yield v12.VARIANT


@contextmanager
def recompiled(function: Callable[..., object], edit: Callable[[str], str]) -> Iterator[None]:
    """Give ``function``, wherever it was imported, the code of its edited source."""
    assert inspect.isfunction(function)
    names: dict[str, object] = {}
    exec("from __future__ import annotations\n" + edit(textwrap.dedent(inspect.getsource(function))), function.__globals__.copy(), names)
    new = names[function.__name__]
    assert inspect.isfunction(new)
    before, function.__code__ = function.__code__, new.__code__
    try:
        yield
    finally:
        function.__code__ = before


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: f"{change.check}: {change.old}")
def test_the_change_is_caught_by_its_check_first(change: Change) -> None:
    clean = run(change.scenario, v12.VARIANT)
    assert clean.world.system.machine.reports == []
    with changed(change) as variant:
        found = first(run(change.scenario, variant).world.system.machine.reports, CHECKS)
    assert found is not None
    assert found.check == change.check
    assert run(change.scenario, v12.VARIANT).world.system.machine.reports == [], "the change is undone"


def test_every_check_has_a_change() -> None:
    assert {change.check for change in CHANGES} == set(CHECKS)


LETTERS = ("a", ".", "z", "o", "s", "w", "v", "y", "h", "p", "k", "x", "b", "n", "2", "S")


@pytest.mark.parametrize("variant", [v12.VARIANT, reviewed.VARIANT], ids=lambda variant: variant.name)
@pytest.mark.parametrize("letter", LETTERS)
def test_unchanged_code_is_clean(variant: Variant, letter: str) -> None:
    pages = letter * 4 + "aaaaaa" + letter + "." + "2222"
    drivers = [
        direct(order, offset, mmap_locked=locked)
        for order in (2, 3, 4)
        for offset in (0, 8)
        if order < 4 or not offset
        for locked in (True, False)
    ]
    failures = [(), (Failure(kind="alloc"),), (Failure(kind="charge"),), (Failure(kind="poison", page=5),)]
    events = [(), (Event(op="zap", before="mmap_write_lock", page=1),), (Event(op="munmap", before="mmap_read_lock"),)]
    for driver in drivers:
        for failure in failures:
            for event in events:
                s = make(pages, driver, orders=(2, 3, 4), events=event, failures=failure)
                assert run(s, variant).world.system.machine.reports == [], s


def test_the_page_on_sanitizers_shows_these_changes() -> None:
    page = (ROOT / "docs/sanitizers.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| `(.*)` \| `(.*)` \|$", page, re.MULTILINE)
    assert [row[0] for row in rows] == list(CHECKS)
    shown = {(change.check, change.old, change.new) for change in CHANGES}
    assert set(rows) <= shown
