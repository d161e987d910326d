"""Reference 5.3 and 5.4: ``__collapse_huge_page_isolate``, row by row, and what a refusal gives back."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from kmm.mm.khugepaged.types import ScanResult
from kmm.mm.pte import pte_mkspecial
from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.build import World
from kmm.scenario.model import Scenario
from kmm.scenario.run import Run
from tests.helpers import direct, folio_of, go, is_huge, make, mapped, reports, table, traces

UFFD = ("read", "uffd_wp", "write")


def isolated(r: Run) -> tuple[object, ...]:
    """The isolate event: folio, none_or_zero, referenced, status, order."""
    (fields,) = traces(r, "mm_collapse_huge_page_isolate")
    status = fields[3]
    assert isinstance(status, ScanResult)
    return (*fields[:3], status.name.removeprefix("SCAN_"), fields[4])


def counted(r: Run) -> list[str]:
    """Refusals that were counted: vm events by name, per-order statistics as order:name."""
    this = r.world.system
    stats = [f"{order}:{name}" for order, name in this.mthp_stats if name.startswith("collapse_exceed")]
    return sorted([name for name in this.vm_events if name.startswith("thp_scan_exceed")] + stats)


NONE, SHARED = "collapse_exceed_none_pte", "collapse_exceed_shared_pte"
FAULT = direct(3, is_khugepaged=False)
NONE_EVENT = "thp_scan_exceed_none_pte"
ROWS = [
    ("a: PMD, within", make("aaaaaa..", direct(3), none=2), ("page 5", 2, 6, "SUCCEED", 3), []),
    ("a: PMD, over", make("aaaaa...", direct(3), none=2), ("page 4", 3, 5, "EXCEED_NONE_PTE", 3), [f"3:{NONE}", NONE_EVENT]),
    ("a: PMD, madvise", make("a.......", FAULT, none=0), ("page 0", 7, 0, "SUCCEED", 3), []),
    ("a: zero", make("aaaz....", direct(2), none=0, orders=(2,)), ("page 2", 1, 3, "EXCEED_NONE_PTE", 2), [f"2:{NONE}"]),
    ("a: order 2, within", make("aaa.....", direct(2), none=3, orders=(2,)), ("page 2", 1, 3, "SUCCEED", 2), []),
    ("a: order 2, over", make("aa......", direct(2), none=7, orders=(2,)), ("page 1", 2, 2, "EXCEED_NONE_PTE", 2), [f"2:{NONE}"]),
    ("a: armed", make("aaa.aaaa", FAULT, flags=UFFD), ("page 2", 1, 0, "EXCEED_NONE_PTE", 3), [f"3:{NONE}", NONE_EVENT]),
    ("a: armed, no hole", make("aaaaaaaa", FAULT, flags=UFFD), ("page 7", 0, 0, "SUCCEED", 3), []),
    ("b: swap entry", make("aawaaaaa", direct(3, unmapped=0)), ("page 1", 0, 2, "PTE_NON_PRESENT", 3), []),
    ("c: uffd-wp", make("aauaaaaa", direct(3), flags=UFFD), ("page 1", 0, 2, "PTE_UFFD_WP", 3), []),
    ("e: order 2", make("asaaaaaa", direct(2), orders=(2,)), ("page 1", 0, 1, "EXCEED_SHARED_PTE", 2), [f"2:{SHARED}"]),
    (
        "e: order 2, not khugepaged",
        make("asaaaaaa", direct(2, is_khugepaged=False), orders=(2,)),
        ("page 1", 0, 0, "EXCEED_SHARED_PTE", 2),
        [f"2:{SHARED}"],
    ),
    ("e: PMD, within", make("ssaaaaaa", direct(3), shared=2), ("page 7", 0, 8, "SUCCEED", 3), []),
    (
        "e: PMD, over",
        make("ssaaaaaa", direct(3), shared=1),
        ("page 1", 0, 1, "EXCEED_SHARED_PTE", 3),
        [f"3:{SHARED}", "thp_scan_exceed_share_pte"],
    ),
    ("e: PMD, madvise", make("ssssssss", FAULT, shared=0), ("page 7", 0, 0, "SUCCEED", 3), []),
    ("e before f", make("SSSSaaaa", direct(2), orders=(2,)), ("page 0", 0, 0, "EXCEED_SHARED_PTE", 2), [f"2:{SHARED}"]),
    ("f: equal", make("2222aaaa", direct(2), orders=(2,)), ("page 0", 0, 0, "PTE_MAPPED_HUGEPAGE", 2), []),
    ("f: larger", make("33333333", direct(2), orders=(2,)), ("page 0", 0, 0, "PTE_MAPPED_HUGEPAGE", 2), []),
    ("f: smaller", make("2222aaaa" + "." * 8, direct(3), orders=(3,)), ("page 7", 0, 8, "SUCCEED", 3), []),
    ("f: not at PMD order", make("33333333", direct(3)), ("page 0", 0, 8, "SUCCEED", 3), []),
    ("h: locked", make("aakaaaaa", direct(3)), ("page 2", 0, 2, "PAGE_LOCK", 3), []),
    ("i: pinned", make("aapaaaaa", direct(3)), ("page 2", 0, 2, "PAGE_COUNT", 3), []),
    ("i: in a batch", make("aabaaaaa", direct(3)), ("page 2", 0, 2, "PAGE_COUNT", 3), []),
    ("i: swap cache expected", make("hhhhhhhh", direct(3)), ("page 7", 0, 8, "SUCCEED", 3), []),
    ("j: off the LRU", make("aaxaaaaa", direct(3)), ("page 2", 0, 2, "DEL_PAGE_LRU", 3), []),
    ("l: old", make("oooaoooo", direct(3)), ("page 7", 0, 1, "SUCCEED", 3), []),
    ("l: referenced folio", make("ooofoooo", direct(3)), ("page 7", 0, 1, "SUCCEED", 3), []),
    ("l: old large folio", make("TTTToooa", direct(3)), ("page 7", 0, 1, "SUCCEED", 3), []),
    ("end: none referenced", make("oooooooo", direct(3)), ("page 7", 0, 0, "LACK_REFERENCED_PAGE", 3), []),
    ("end: madvise", make("oooooooo", FAULT), ("page 7", 0, 0, "SUCCEED", 3), []),
    ("end: per range", make("ooooaaaa", direct(2), orders=(2,)), ("page 3", 0, 0, "LACK_REFERENCED_PAGE", 2), []),
    ("end: no folio", make("........", FAULT), (None, 8, 0, "SUCCEED", 3), []),
]


@pytest.mark.parametrize(("s", "expected", "counts"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_rows(s: Scenario, expected: tuple[object, ...], counts: list[str]) -> None:
    r = go(s)
    assert isolated(r) == expected
    assert counted(r) == counts
    assert r.result == f"SCAN_{expected[3]}"
    assert reports(r) == []
    assert r.world.system.node_stat.get("nr_isolated_anon", 0) == 0


@pytest.mark.parametrize("row", [row for row in ROWS if row[2][3] != "SUCCEED"], ids=lambda row: row[0])
def test_a_refusal_gives_everything_back(row: tuple[str, Scenario, tuple[object, ...], list[str]]) -> None:
    """Locks, references and the LRU: a released small folio is in the batch, a large one drains it."""
    s = row[1]
    r = go(s)
    letters = s.vmas[0].pages
    assert mapped(r) == _unchanged(s)
    batch = {folio.pfn for cpu in r.world.system.per_cpu for folio in cpu._lru_add}
    for i, c in enumerate(letters):
        if c not in ".zw":
            folio = folio_of(r, i)
            state = ALPHABET[c]
            extra = (folio.pfn in batch) + state.pins + (1 << folio.order if state.swapcache else 0)
            assert folio._refcount == folio._mapcount + extra
            assert bool(folio._flags & 1) == state.locked


def _unchanged(s: Scenario) -> list[str]:
    empty = {".": ".", "z": "zero", "w": "swap"}
    return [empty.get(c, f"page {i & -(1 << ALPHABET[c].order)}") for i, c in enumerate(s.vmas[0].pages)]


def test_d_no_normal_page() -> None:
    def special(world: World) -> None:
        entries = table(world)._entries
        entries[2] = pte_mkspecial(entries[2])

    assert isolated(go(make("aaaaaaaa", direct(3)), poke=special)) == ("page 1", 0, 2, "PAGE_NULL", 3)


@pytest.mark.parametrize("debug_vm", [True, False])
def test_not_anonymous_is_a_bug(debug_vm: bool) -> None:
    def file(world: World) -> None:
        folio_of(world, 2)._mapping = None

    s = make("aaaaaaaa", direct(3))
    s = attrs.evolve(s, config=attrs.evolve(s.config, debug_vm=debug_vm))
    outcome = go(s, poke=file).outcome
    assert outcome == ("BUG in __collapse_huge_page_isolate: !folio_test_anon(folio)" if debug_vm else "returned")


def twice(first: int, second: int) -> Callable[[World], None]:
    """Let two entries map one small page, as KSM does."""

    def poke(world: World) -> None:
        entries = table(world)._entries
        gone, kept = folio_of(world, second), folio_of(world, first)
        entries[second] = entries[first]
        kept._mapcount += 1
        kept._refcount += 1
        kept.pages[0].ptc_count += 1
        gone._mapcount = gone._refcount = 0
        gone.pages[0].ptc_count = 0

    return poke


def test_h_a_small_folio_met_twice() -> None:
    poke = twice(0, 3)
    assert isolated(go(make("rrrrrrrr", direct(3)), poke=poke)) == ("page 0", 0, 3, "PAGE_LOCK", 3)
    assert isolated(go(make("rrrrrrrr", direct(2), orders=(2,)), poke=poke)) == ("page 0", 0, 0, "EXCEED_SHARED_PTE", 2)


def test_l_asks_the_secondary_mmu_about_each_address() -> None:
    def young(world: World) -> None:
        world.mm._secondary_young = frozenset({world.system.base + 6 * 4096})
        world.mm.has_notifiers = True

    assert isolated(go(make("oooooooo", direct(3)), poke=young)) == ("page 7", 0, 1, "SUCCEED", 3)
    assert isolated(go(make("oooooooo", direct(2, 4), orders=(2,)), poke=young)) == ("page 7", 0, 1, "SUCCEED", 2)
    assert isolated(go(make("oooooooo", direct(2, 0), orders=(2,)), poke=young))[3] == "LACK_REFERENCED_PAGE"


def test_g_a_large_folio_is_isolated_once() -> None:
    r = go(make("2222222a", direct(3)))
    assert isolated(r) == ("page 7", 0, 8, "SUCCEED", 3)
    assert is_huge(r)


def test_fact_8_a_pte_mapped_thp_collapses() -> None:
    assert is_huge(go(make("33333333")))
    assert is_huge(go(make("33333.33", none=1)))
