"""mmap, munmap, madvise over VMAs and tables: what becomes of VMAs, entries, counters; the sanitizers at rest have nothing to say."""

from __future__ import annotations

import pytest

from kmm.mm import madvise, mmap_region, mmu_gather, munmap, vma, zap
from kmm.mm.mm_types import VM_HUGEPAGE, VM_NOHUGEPAGE
from kmm.scenario.model import Config, Driver, DriverKind, Geometry, Process, Scenario, Tunables, Vma
from kmm.scenario.quiescence import slots_in_use
from kmm.scenario.run import Run, run
from kmm.scenario.step import Step
from refactors import v12
from tests.test_sanitizers import Change, changed

GEOMETRY = Geometry(ptes=8, lru_batch=3, ranges=3)
KHUGEPAGED = Step(op="khugepaged")


def system(
    pages: str, *steps: Step, pmd: str = "table", flags: tuple[str, ...] = ("read", "write"), config: Config | None = None
) -> Scenario:
    whole = len(pages) == GEOMETRY.pages
    return Scenario(
        geometry=GEOMETRY,
        config=Config() if config is None else config,
        tunables=Tunables.default(GEOMETRY).with_orders(GEOMETRY, 3),
        vmas=(Vma(pages=pages, flags=flags, start=None if whole else 0),),
        pmd=pmd,
        driver=Driver(kind=DriverKind.STEPS),
        steps=steps,
    )


def done(s: Scenario) -> Run:
    """A run without any report."""
    r = run(s, v12.VARIANT)
    assert r.outcome == "returned"
    assert [f"{each.check}: {each.text}" for each in r.world.system.machine.reports] == []
    return r


def extents(r: Run) -> list[tuple[int, int]]:
    base, size = r.world.system.base, r.world.system.machine.page_size
    return [((v._vm_start - base) // size, (v._vm_end - base) // size) for v in r.world.mm._vmas]


def rss(r: Run) -> tuple[int, int]:
    return r.world.mm._rss_stat[0], r.world.mm._rss_stat[1]


def unmap(page: int, length: int) -> Step:
    return Step(op="munmap", page=page, length=length)


def advise(value: str, page: int, length: int) -> Step:
    return Step(op="madvise", page=page, length=length, value=value)


@pytest.mark.parametrize(
    ("page", "length", "left", "anon", "tables"),
    [
        (0, 24, [], 0, 0),
        (0, 8, [(8, 24)], 16, 2),
        (4, 8, [(0, 4), (12, 24)], 16, 3),
        (4, 16, [(0, 4), (20, 24)], 8, 2),
        (8, 8, [(0, 8), (16, 24)], 16, 2),
        (23, 1, [(0, 23)], 23, 3),
    ],
)
def test_munmap_cuts_vmas_and_gives_up_tables(page: int, length: int, left: list[tuple[int, int]], anon: int, tables: int) -> None:
    r = done(system("a" * 24, unmap(page, length)))
    assert extents(r) == left
    assert rss(r) == (anon, 0)
    assert r.world.mm._pgtables_bytes == tables * 4096


def test_munmap_frees_swap_slots_and_markers() -> None:
    r = done(system("w" * 8 + "ww......" + "." * 8, unmap(0, 10)))
    assert slots_in_use(r.world.system) == {}
    assert rss(r) == (0, 0)


def test_munmap_of_a_part_splits_a_huge_page() -> None:
    r = done(system("a" * 8 + "." * 16, KHUGEPAGED, unmap(4, 2)))
    assert extents(r) == [(0, 4), (6, 24)]
    assert rss(r) == (6, 0)
    assert r.world.system.vm_events["thp_split_pmd"] == 1
    assert r.world.system.mthp_stats[3, "nr_anon_partially_mapped"] == 1


def test_munmap_of_a_huge_page_frees_it_and_the_deposited_table() -> None:
    r = done(system("a" * 8 + "." * 16, KHUGEPAGED, unmap(0, 8)))
    assert rss(r) == (0, 0)
    assert r.world.mm._pgtables_bytes == 2 * 4096
    assert all(folio.freed_by for folio in r.world.system.folios)


@pytest.mark.parametrize(("pmd", "anon"), [("huge", 8), ("huge_zero", 0), ("migration", 8)])
def test_dontneed_of_a_pmd_entry(pmd: str, anon: int) -> None:
    before = done(system("." * 24, Step(op="drain"), pmd=f"{pmd} table table"))
    assert rss(before)[0] == anon
    r = run(system("." * 24, advise("dontneed", 0, 8), pmd=f"{pmd} table table"), v12.VARIANT)
    assert rss(r) == (0, 0)
    assert r.world.mm._pgtables_bytes == 2 * 4096


@pytest.mark.parametrize(("reclaim", "tables"), [(True, 2), (False, 3)])
def test_dontneed_of_a_whole_table_gives_it_up_where_that_is_built_in(reclaim: bool, tables: int) -> None:
    r = done(system("a" * 24, advise("dontneed", 8, 8), config=Config(pt_reclaim=reclaim)))
    assert rss(r) == (16, 0)
    assert r.world.mm._pgtables_bytes == tables * 4096
    assert extents(r) == [(0, 24)]


def test_dontneed_of_a_part_keeps_the_table() -> None:
    assert done(system("a" * 24, advise("dontneed", 8, 7))).world.mm._pgtables_bytes == 3 * 4096


@pytest.mark.parametrize(
    ("steps", "errors", "left"),
    [
        ((unmap(4, 4), advise("dontneed", 0, 24)), ["done", "ENOMEM"], 0),
        ((unmap(0, 4), advise("dontneed", 0, 24)), ["done", "ENOMEM"], 0),
        ((unmap(16, 8), advise("dontneed", 8, 16)), ["done", "ENOMEM"], 8),
        ((unmap(8, 16), advise("dontneed", 16, 8)), ["done", "ENOMEM"], 8),
        ((advise("dontneed", 8, 16),), ["done"], 8),
    ],
)
def test_a_hole_is_remembered_and_the_rest_done(steps: tuple[Step, ...], errors: list[str], left: int) -> None:
    r = done(system("a" * 24, *steps))
    assert list(r.steps) == errors
    assert rss(r) == (left, 0)


def test_the_first_error_ends_the_walk() -> None:
    s = system("a" * 24, advise("dontneed", 0, 24), flags=("locked", "read", "write"))
    r = done(s)
    assert r.steps == ("EINVAL",)
    assert rss(r) == (24, 0)


def test_hugepage_advice_splits_and_merges() -> None:
    r = done(system("a" * 24, advise("hugepage", 8, 8)))
    assert extents(r) == [(0, 8), (8, 16), (16, 24)]
    assert [bool(v._vm_flags & VM_HUGEPAGE) for v in r.world.mm._vmas] == [False, True, False]
    r = done(system("a" * 24, advise("hugepage", 8, 8), advise("hugepage", 0, 8), advise("hugepage", 16, 8)))
    assert extents(r) == [(0, 24)]
    r = done(system("a" * 24, advise("hugepage", 0, 24), advise("nohugepage", 0, 8)))
    assert [v._vm_flags & (VM_HUGEPAGE | VM_NOHUGEPAGE) for v in r.world.mm._vmas] == [VM_NOHUGEPAGE, VM_HUGEPAGE]


def test_advice_makes_khugepaged_look() -> None:
    """With ``enabled = madvise`` the first process is unknown to khugepaged until it asks."""
    madvised = Step(op="sysfs", name="enabled", value="madvise")
    never = Step(op="sysfs", name="hugepages-32kB/enabled", value="inherit")
    s = system("a" * 24, never, madvised, KHUGEPAGED, advise("hugepage", 0, 8), KHUGEPAGED)
    r = done(s)
    assert rss(r) == (24, 0)
    assert r.world.system.node_stat.get("pages_collapsed", 0) == 1


def test_mmap_grows_its_neighbour_or_is_refused() -> None:
    r = done(system("a" * 8, Step(op="mmap", page=8, length=8), Step(op="store", page=9)))
    assert extents(r) == [(0, 16)]
    assert rss(r) == (9, 0)
    r = done(system("a" * 8, Step(op="mmap", page=4, length=8)))
    assert r.steps == ("EEXIST",)
    r = done(system("a" * 8, Step(op="mmap", page=8, length=8, value="hugepage read write")))
    assert extents(r) == [(0, 8), (8, 16)]


def test_collapse_advice_goes_through_every_vma() -> None:
    r = done(system("a" * 24, advise("dontdump", 8, 8), advise("collapse", 0, 24)))
    assert r.steps == ("done", "done")
    assert r.world.system.node_stat["nr_anon_thps"] == 3


def test_two_processes_do_not_meet() -> None:
    other = Process(vmas=(Vma(pages="a" * 24),))
    s = system("a" * 24, Step(op="munmap", process=2, page=0, length=24))
    r = done(Scenario(geometry=GEOMETRY, tunables=s.tunables, vmas=s.vmas, processes=(other,), driver=s.driver, steps=s.steps))
    assert rss(r) == (24, 0)
    assert r.world.system.mms[1]._rss_stat == [0, 0]


HUGE = system("a" * 8 + "." * 16, KHUGEPAGED, unmap(0, 8))
PART = system("a" * 8 + "." * 16, KHUGEPAGED, unmap(4, 2))
CUT = system("a" * 24, unmap(4, 16))
TAKEN = system("a" * 8, Step(op="mmap", page=4))


@pytest.mark.parametrize(
    ("check", "function", "old", "new", "s"),
    [
        ("CONSERVATION", zap.zap_huge_pmd, "mm_dec_nr_ptes(mm)", "pass", HUGE),
        ("CONSERVATION", zap.zap_huge_pmd, "folio_remove_rmap_pmd(folio, vma)", "pass", HUGE),
        ("REFCOUNT", zap.zap_huge_pmd, "gathered.append(folio)", "pass", HUGE),
        ("CONSERVATION", zap._zap_pte, "add_mm_counter(mm, MM_ANONPAGES, -1)", "pass", CUT),
        ("TLB", zap.zap_page_range, "tlb.ranges.append((start, end))", "pass", CUT),
        ("CONSERVATION", mmu_gather.pte_free_tlb, "mm_dec_nr_ptes(mm)", "pass", CUT),
        ("CONSERVATION", zap._zap_nonpresent, "free_swap_and_cache(pte_to_swp_offset(old))", "pass", system("w" * 24, unmap(0, 9))),
        ("LOCKDEP", munmap.do_munmap, "mmap_read_unlock(mm)", "pass", CUT),
        ("DEBUG_VM", vma.split_vma, "split_huge_pmd_address(vma, address)", "pass", PART),
        ("LOCKDEP", vma.vma_link, 'lockdep_assert_held(mm.mmap_lock, "write")', "lockdep_assert_held(mm.page_table_lock)", CUT),
        (
            "LOCKDEP",
            mmap_region.do_mmap,
            'return "EEXIST"',
            'mmap_write_lock(mm)\n        return "EEXIST"',
            system("a" * 8, Step(op="mmap", page=4)),
        ),
        ("LOCKDEP", madvise._unmap, "vma_end_read(vma)", "pass", system("a" * 24, advise("dontneed", 0, 8))),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 40 else "",
)
def test_a_seeded_bug_is_caught(check: str, function: object, old: str, new: str, s: Scenario) -> None:
    done(s)
    with changed(Change(check, function, old, new, s)):
        r = run(s, v12.VARIANT)
    assert check in {each.check for each in r.world.system.machine.reports}
