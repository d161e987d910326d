"""The fifteen edge facts that real kernels taught (oracle, section 2), on both variants.

Not here, because it is not in this code: the loop of MADV_COLLAPSE over several ranges (in facts 3 and 10: going on, stopping, the errno
of the last failing range, ENOMEM behind a hole) and the retries of fact 6, which are calls one after the other.
"""

from __future__ import annotations

from typing import Final

import attrs
import pytest

from kmm.mm.folio import PG_lru, PG_mlocked, PG_swapbacked
from kmm.mm.variant import Variant
from kmm.scenario.build import build
from kmm.scenario.errors import ScenarioError
from kmm.scenario.model import Config, Driver, Event, Failure, Geometry, Scenario, Tunables, Vma
from kmm.scenario.quiescence import slots_in_use
from kmm.scenario.run import Run, run
from refactors import reviewed, v12
from tests.helpers import MADVISE, direct, folio_of, is_huge, mapped, reports, traces
from tests.port.test_breadth_recorded import FULL, RW, WP, advised, areas, daemon, events, rss_kb, scenario, sizes

pytestmark = pytest.mark.parametrize("variant", [v12.VARIANT, reviewed.VARIANT], ids=lambda variant: variant.name)

ATTEMPT: Final = direct(9, is_khugepaged=False)
"""One attempt of MADV_COLLAPSE, without the scan before it."""


def attempt(pages: str, flags: tuple[str, ...] = RW) -> Scenario:
    return scenario(ATTEMPT, pages, flags)


def clean(s: Scenario, variant: Variant) -> Run:
    """A run in which no sanitizer finds anything."""
    r = run(s, variant)
    assert reports(r) == []
    return r


@pytest.mark.parametrize(("letter", "flags"), [("z", RW), ("U", WP), ("P", RW), (".", RW)])
def test_1_without_anon_vma_einval_before_any_event(variant: Variant, letter: str, flags: tuple[str, ...]) -> None:
    r = clean(areas(advised(letter * 512, flags), Vma(pages=letter * 512, flags=flags, anon_vma=False)), variant)
    assert (r.result, r.errno, events(r)) == ("not scanned", "EINVAL", "")


def test_1_guard_markers_create_an_anon_vma(variant: Variant) -> None:
    with pytest.raises(ScenarioError, match="anon_vma"):
        Scenario(tunables=Tunables.default(Geometry()), vmas=(Vma(pages="g" * 512, anon_vma=False),), driver=MADVISE)
    assert events(clean(advised("g" * 512), variant)) == "scan:failed unm=512"


def test_2_dontneed_of_a_whole_pmd_frees_the_table(variant: Variant) -> None:
    s = attrs.evolve(attempt("a" * 512), events=(Event(op="free_table", before="mmap_read_lock"),))
    r = clean(s, variant)
    assert (r.result, r.world.mm._pgtables_bytes) == ("SCAN_PMD_NONE", 0)


def test_2_a_table_that_is_kept_collapses_when_all_is_none(variant: Variant) -> None:
    """512 none: the attempt succeeds as on 6.18; v12's scan stands before it with a limit of 511 (S-25)."""
    s = attrs.evolve(attempt("a" * 512), config=Config(pt_reclaim=False), events=(Event(op="free_table", before="mmap_read_lock"),))
    r = clean(s, variant)
    assert (r.result, r.world.mm._rss_stat[0]) == ("SCAN_SUCCEED", 512)
    assert clean(attempt("z" * 512), variant).result == "SCAN_SUCCEED"
    for letter in ".z":
        r = clean(advised(letter * 512), variant)
        assert (r.result, r.errno) == ("SCAN_EXCEED_NONE_PTE", "EBUSY"), "6.18: success"


@pytest.mark.parametrize("flag", ["uffd_wp", "uffd_missing"])
def test_3_an_armed_vma_may_not_have_a_hole(variant: Variant, flag: str) -> None:
    flags = tuple(sorted((*RW, flag)))
    for hole in ".z":
        r = clean(advised("a" * 511 + hole, flags), variant)
        assert (r.result, r.errno, is_huge(r)) == ("SCAN_EXCEED_NONE_PTE", "EBUSY", False)
    r = clean(advised("a" * 512, flags), variant)
    assert (r.errno, is_huge(r)) == ("", True)


@pytest.mark.parametrize("letter", "uqU")
def test_4_uffd_wp_in_an_entry_a_swap_entry_or_a_marker(variant: Variant, letter: str) -> None:
    r = clean(advised("aaa" + letter + "a" * 508, WP), variant)
    assert (r.result, r.errno) == ("SCAN_PTE_UFFD_WP", "EINVAL")


def test_5_a_guard_marker_is_met_after_everything_before_it_was_swapped_in(variant: Variant) -> None:
    s = advised("ww" + "a" * 500 + "g" + "w" * 9)
    before = build(s, variant)
    r = clean(s, variant)
    assert events(r) == "swapin(in=2,ret=0); chp:failed; scan:failed@501 unm=12"
    assert (r.result, r.errno, rss_kb(r)) == ("SCAN_FAIL", "EINVAL", 8)
    assert r.world.system.vm_events["thp_collapse_alloc"] == 1
    assert r.world.mm.memcg._usage == before.mm.memcg._usage + 2
    found = mapped(r)
    assert (found[:3], found[502:]) == (["new@1:0", "new@1:1", "page 2"], ["swap"] * 10)


def test_6_madvise_has_no_swap_limit(variant: Variant) -> None:
    s = advised("w" * 511 + "a")
    r = clean(attrs.evolve(s, tunables=attrs.evolve(s.tunables, max_ptes_swap=0)), variant)
    assert (r.errno, is_huge(r)) == ("", True)


def test_6_a_read_from_the_disk_ends_the_attempt_and_keeps_what_came_in(variant: Variant) -> None:
    """The errno of 6.18 is EAGAIN; v12 loses the result of the attempt (S-15)."""
    failures = (Failure(kind="swapin_retry", page=2),)
    r = clean(attrs.evolve(attempt("www" + "a" * 509), failures=failures), variant)
    assert (r.result, events(r)) == ("SCAN_PAGE_LOCK", "swapin(in=2,ret=16); chp:page_locked")
    assert mapped(r)[:4] == ["new@1:0", "new@1:1", "swap", "page 3"]
    assert slots_in_use(r.world.system)[3]._cached is not None, "the third page waits in the swap cache"
    r = clean(attrs.evolve(advised("www" + "a" * 509), failures=failures), variant)
    assert (r.result, r.errno) == ("SCAN_FAIL", "EINVAL")
    assert clean(advised("aav" + "a" * 509), variant).errno == "", "the next try finds it there"


def test_7_two_entries_on_one_ksm_page(variant: Variant) -> None:
    flags = ("mergeable", "read", "write")
    r = clean(attempt("EE" + "a" * 510, flags), variant)
    assert events(r) == "isolate:page_locked; chp:page_locked"
    assert traces(r, "mm_collapse_huge_page_isolate")[0][:2] == ("page 0", 0)
    merged = folio_of(r, 0)
    assert not merged._flags & PG_lru, "in the LRU-add batch until the next drain"
    assert merged._refcount == merged._mapcount + 1 == 3
    assert clean(attempt("Ea" + "a" * 510, flags), variant).result == "SCAN_SUCCEED"


@pytest.mark.parametrize(
    ("pages", "flags"),
    [
        ("l" * 512, ("locked", "read", "write")),
        ("r" * 512, ("read",)),
        ("r" * 512, ()),
        ("a" * 512, ("growsdown", "read", "write")),
        ("F" * 512, ("droppable", "read", "write")),
        ("F" * 512, RW),
        ("9" * 256 + "a" * 256, RW),
        ("4" * 512, RW),
        ("s" * 512, RW),
    ],
)
def test_8_what_succeeds(variant: Variant, pages: str, flags: tuple[str, ...]) -> None:
    """A sibling keeps its data: TRANSPARENCY reads it."""
    r = clean(advised(pages, flags), variant)
    assert (r.errno, is_huge(r)) == ("", True)
    new = next(folio for folio in r.world.system.folios if folio.label == "new@1:0")
    assert bool(new._flags & PG_swapbacked) == ("droppable" not in flags)
    assert bool(new._flags & PG_mlocked) == ("locked" in flags)


@pytest.mark.parametrize(
    ("s", "errno"),
    [
        (areas(advised("a" * 512), Vma(pages="a" * 511, start=1)), "EINVAL"),
        (areas(advised("a" * 512), Vma(pages="a" * 511, start=0)), "EINVAL"),
        (advised("a" * 512, ("nohugepage", "read", "write")), "EINVAL"),
        (attrs.evolve(advised("a" * 512), thp_disable="yes"), "EINVAL"),
        (attrs.evolve(advised("a" * 512), thp_disable="except_advised"), ""),
        (attrs.evolve(advised("a" * 512), tunables=attrs.evolve(Tunables.default(Geometry()), enabled="never")), ""),
    ],
)
def test_9_what_forbids_and_what_does_not(variant: Variant, s: Scenario, errno: str) -> None:
    r = clean(s, variant)
    assert (r.errno, events(r)) == (errno, "" if errno else FULL)


def test_10_a_range_that_ends_where_a_pmd_begins_is_no_work(variant: Variant) -> None:
    """The range [0,1) of a VMA, and the like at the head of the next one; [1,511) is EINVAL when the VMA has no more (fact 9)."""
    first, second = Vma(pages="a", start=0, before=512), Vma(pages="a" * 511, start=1, flags=("dontdump", *RW), after=512)
    r = clean(areas(advised("a" * 512), first, second), variant)
    assert (r.result, r.errno, events(r)) == ("not scanned", "", "")


@pytest.mark.parametrize("pmd", ["huge", "huge_zero"])
def test_11_what_is_mapped_by_a_pmd_is_success(variant: Variant, pmd: str) -> None:
    r = clean(attrs.evolve(advised("." * 512), pmd=pmd), variant)
    assert (r.result, r.errno, events(r)) == ("SCAN_PMD_MAPPED", "", "scan:page_pmd_mapped")


@pytest.mark.parametrize("driver", [MADVISE, ATTEMPT], ids=["madvise", "attempt"])
def test_11_memcg_limit_and_no_free_block(variant: Variant, driver: Driver) -> None:
    """The errnos of 6.18 are EBUSY and ENOMEM; v12 loses the result of the attempt (S-15)."""
    s = scenario(driver, "a" * 512, RW)
    limited = clean(attrs.evolve(s, memcg_room=511), variant)
    none_free = clean(attrs.evolve(s, failures=(Failure(kind="alloc"),)), variant)
    results = [limited.result, none_free.result]
    assert results == (["SCAN_FAIL"] * 2 if driver is MADVISE else ["SCAN_CGROUP_CHARGE_FAIL", "SCAN_ALLOC_HUGE_PAGE_FAIL"])
    assert (limited.errno, none_free.errno) == (("EINVAL", "EINVAL") if driver is MADVISE else ("", ""))
    assert limited.world.system.vm_events == {"thp_collapse_alloc": 1}, "the charge comes after the allocation"
    assert none_free.world.system.vm_events == {"thp_collapse_alloc_failed": 1}


@pytest.mark.parametrize("pages", ["a" * 512, "a" + "." * 300 + "z" * 11 + "w" * 200, "4" * 16 + "." * 496, "v" * 100 + "s" * 412])
def test_12_rss_grows_by_what_was_not_there_and_the_table_stays(variant: Variant, pages: str) -> None:
    r = clean(advised(pages), variant)
    assert is_huge(r)
    assert rss_kb(r) == 4 * sum(pages.count(letter) for letter in ".zwv")
    assert r.world.mm._pgtables_bytes == 4096


@pytest.mark.parametrize(
    ("s", "stop"),
    [
        (advised("a" * 7 + "p" + "a" * 504), "not_suitable_page_count@7"),
        (advised("a" * 7 + "k" + "a" * 504), "page_locked@7"),
        (advised("a" * 7 + "x" + "a" * 504), "page_not_in_lru@7"),
        (daemon("a" * 7 + "s" + "a" * 504, shared=0), "exceed_shared_pte@7"),
        (advised("4" * 16 + "C" * 16 + "4" * 480), "not_suitable_page_count@16"),
        (daemon("a" * 7 + "." + "a" * 504, none=0), "exceed_none_pte@6 none=1"),
        (advised("a" * 7 + "u" + "a" * 504, WP), "pte_uffd_wp@6"),
        (daemon("a" * 7 + "w" + "a" * 504, swap=0), "exceed_swap_pte@6 unm=1"),
        (advised("u" + "a" * 511, WP), "pte_uffd_wp"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_13_the_scan_event_shows_the_last_folio_looked_up(variant: Variant, s: Scenario, stop: str) -> None:
    assert events(clean(s, variant)) == f"scan:{stop}"


@pytest.mark.parametrize(
    ("s", "result"),
    [
        (daemon("s" * 256 + "a" * 256), "SUCCEED"),
        (daemon("s" * 257 + "a" * 255), "EXCEED_SHARED_PTE"),
        (daemon("w" * 64 + "a" * 448), "SUCCEED"),
        (daemon("w" * 65 + "a" * 447), "EXCEED_SWAP_PTE"),
        (daemon("." * 255 + "a" * 257, none=255), "SUCCEED"),
        (daemon("." * 256 + "a" * 256, none=255), "EXCEED_NONE_PTE"),
        (daemon("z" * 255 + "a" * 257, none=255), "SUCCEED"),
        (daemon("z" * 256 + "a" * 256, none=255), "EXCEED_NONE_PTE"),
        (daemon("w" + "a" * 256 + "o" * 255), "SUCCEED"),
        (daemon("w" + "a" * 255 + "o" * 256), "LACK_REFERENCED_PAGE"),
        (daemon("G" * 512), "LACK_REFERENCED_PAGE"),
    ],
)
def test_14_the_limits_of_khugepaged(variant: Variant, s: Scenario, result: str) -> None:
    assert clean(s, variant).result == f"SCAN_{result}"


EVERY: Final = tuple(range(2, 10))


@pytest.mark.parametrize(("letter", "flags", "result"), [("p", RW, "PAGE_COUNT"), ("u", WP, "PTE_UFFD_WP")])
def test_15_some_pages_refuse_every_order(variant: Variant, letter: str, flags: tuple[str, ...], result: str) -> None:
    r = clean(sizes(EVERY, "a" * 300 + letter + "a" * 211, 511, flags), variant)
    assert (r.result, traces(r, "mm_collapse_huge_page")) == (f"SCAN_{result}", [])


def test_15_a_lazyfree_page_refuses_no_order_in_v12(variant: Variant) -> None:
    """7.2 refuses the whole table as page_lazyfree (H-22)."""
    r = clean(sizes((4, 9), "a" * 20 + "G" + "a" * 491, 0), variant)
    assert (r.result, is_huge(r)) == ("SCAN_SUCCEED", True)


@pytest.mark.parametrize("letter", [".", "z", "s"])
def test_15_others_exclude_only_the_blocks_that_hold_them(variant: Variant, letter: str) -> None:
    r = clean(sizes((4,), "a" * 20 + letter + "a" * 491, 0), variant)
    assert r.result == "SCAN_SUCCEED"
    assert [folio_of(r, index).order for index in (0, 19, 32, 511)] == [4, 0, 4, 4]


def test_15_swap_excludes_its_block_or_with_too_many_the_table(variant: Variant) -> None:
    r = clean(sizes((4,), "a" * 20 + "w" + "a" * 491, 0), variant)
    assert [folio_of(r, index).order for index in (0, 19, 32, 511)] == [4, 0, 4, 4]
    swapins = traces(r, "mm_collapse_huge_page_swapin")
    assert {(fields[1], fields[3]) for fields in swapins} == {(0, 1)}
    assert len(swapins) == 31, "each block that is tried looks for swap entries"
    assert clean(sizes((4,), "w" * 65 + "a" * 447, 0), variant).result == "SCAN_EXCEED_SWAP_PTE"


def test_15_a_second_pass_over_a_collapsed_block(variant: Variant) -> None:
    r = clean(sizes((4, 9), "4" * 16 + "." * 496, 0), variant)
    assert events(r) == "isolate:pte_mapped_hugepage; chp:pte_mapped_hugepage; scan:failed@0 none=496"


def test_15_a_limit_of_255_is_scaled_in_v12(variant: Variant) -> None:
    """7.2 takes it as 0 below PMD order and makes 128 + 64 + 8 pages."""
    r = clean(sizes(EVERY, "a" * 200 + "." * 312, 255), variant)
    assert [fields[-1] for fields in traces(r, "mm_collapse_huge_page")] == [8]
    assert [folio_of(r, index).order for index in (0, 255)] == [8, 8]
