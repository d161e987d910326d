"""mremap: VMAs, entries, tables and huge entries at another place; and its seeded mistakes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kmm.mm import move_tables, mremap
from kmm.mm.mremap import do_mremap
from kmm.mm.pte import pmd_soft_dirty, pmd_uffd_wp, pte_none, pte_soft_dirty
from kmm.mm.swap import lru_add_drain_all
from kmm.mm.vmscan import swap_out_folio
from kmm.scenario.build import World
from kmm.scenario.model import Config, Scenario, Vma
from kmm.scenario.quiescence import pmd_of, slots_in_use, table_of
from tests.port.faulting import NR, SIZE, address, deposited, events, folio, is_huge, load, memory, process, pte, rss, store, tables
from tests.port.mistakes import notices
from tests.port.reclaiming import split

NONE = "." * NR
BOTH = ("read", "write")


def move(world: World, first: int, length: int, to: int) -> str:
    return do_mremap(world.mm, address(world, first), length * SIZE, address(world, to))


def extents(world: World) -> list[tuple[int, int, int]]:
    """First page, one behind the last, and vm_pgoff of every VMA."""
    base = world.system.base
    return [((v._vm_start - base) // SIZE, (v._vm_end - base) // SIZE, v._vm_pgoff) for v in world.mm._vmas]


def area(pages: str, start: int = 0, *, flags: tuple[str, ...] = BOTH, anon_vma: bool = True) -> Vma:
    return Vma(pages=pages, flags=flags, start=start, anon_vma=anon_vma)


def system(*vmas: Vma, ranges: int = 3, config: Config | None = None) -> Scenario:
    return memory(vmas=vmas, ranges=ranges, config=config)


def test_pages_read_the_same_at_the_new_place() -> None:
    with process(system(area("aw.z"))) as world:
        store(world, 0, 7)
        assert move(world, 0, 4, 20) == ""
        assert extents(world) == [(20, 24, 0)]
        assert rss(world) == (1, 1)
        assert tables(world) == 2, "no VMA needs the first of the three"
        assert [load(world, page) for page in (19, 20, 21, 22, 23, 24)] == ["SIGSEGV", "", "", "", "", "SIGSEGV"]
        assert load(world, 0) == "SIGSEGV"
        assert world.system.shadow[1, 20] == 7
        assert store(world, 21, 8) == ""


@pytest.mark.parametrize(
    ("first", "length", "to", "left"),
    [
        (0, 4, 32, [(4, 12, 4), (32, 36, 0)]),
        (8, 4, 32, [(0, 8, 0), (32, 36, 8)]),
        (4, 4, 32, [(0, 4, 0), (8, 12, 8), (32, 36, 4)]),
        (0, 4, 12, [(4, 12, 4), (12, 16, 0)]),
        (4, 4, 12, [(0, 4, 0), (8, 12, 8), (12, 16, 4)]),
    ],
)
def test_a_part_leaves_the_rest(first: int, length: int, to: int, left: list[tuple[int, int, int]]) -> None:
    with process(system(area("a" * 12))) as world:
        assert move(world, first, length, to) == ""
        assert extents(world) == left
        assert rss(world) == (12, 0)
        assert [load(world, to + i) for i in range(length)] == [""] * length


@pytest.mark.parametrize(("first", "length", "to"), [(4, 8, NR + 12), (12, 8, 2 * NR), (10, 12, 2 * NR + 3), (0, 20, 20)])
def test_over_the_boundaries_of_tables(first: int, length: int, to: int) -> None:
    """Entries of one table go to two others, and those of two to one."""
    with process(system(area("a" * 20 + "w" * 4))) as world:
        expected = [world.system.shadow[1, page] for page in range(first, first + length)]
        assert move(world, first, length, to) == ""
        assert [world.system.shadow[1, page] for page in range(to, to + length)] == expected
        assert [load(world, page) for page in range(to, to + length)] == [""] * length


def test_what_moves_back_is_one_vma_again() -> None:
    with process(system(area("a" * 12))) as world:
        move(world, 4, 4, 32)
        move(world, 32, 4, 4)
        assert extents(world) == [(0, 12, 0)]


def test_a_vma_without_anon_vma_belongs_where_it_is() -> None:
    """The reverse mapping knows nothing of it yet: its pgoff follows, and it may merge with a neighbour."""
    with process(system(area("." * 4, anon_vma=False), area("." * 4, 16, anon_vma=False))) as world:
        assert move(world, 0, 4, 20) == ""
        assert extents(world) == [(16, 24, 16)]
    with process(system(area("." * 8, anon_vma=False))) as world:
        assert move(world, 0, 4, 8) == "", "merged with its own rest"
        assert extents(world) == [(4, 12, 4)]


def test_what_was_there_is_unmapped() -> None:
    with process(system(area("aaaa"), area("wwww", 16))) as world:
        assert move(world, 0, 4, 18) == ""
        assert extents(world) == [(16, 18, 16), (18, 22, 0)]
        assert rss(world) == (4, 2)
        assert len(slots_in_use(world.system)) == 2
    with process(system(area("a" * 8))) as world:
        assert move(world, 4, 4, 0) == "", "also of the VMA itself"
        assert extents(world) == [(0, 4, 4)]
        assert rss(world) == (4, 0)


def test_what_is_refused() -> None:
    with process(system(area("aaaa"), area("aaaa", 6))) as world:
        before = extents(world)
        assert move(world, 0, 4, 3) == "EINVAL"
        assert move(world, 3, 4, 0) == "EINVAL"
        assert move(world, 4, 4, 20) == "EFAULT", "a hole comes first"
        assert move(world, 24, 4, 20) == "EFAULT"
        assert extents(world) == before
        assert move(world, 0, 4, 4) == ""


def test_several_vmas_keep_their_distance() -> None:
    with process(system(area("aaaa"), area("aa", 6), area("aaaa", 8, flags=("dontdump", *BOTH)))) as world:
        assert move(world, 2, 8, 20) == ""
        assert extents(world) == [(0, 2, 0), (10, 12, 10), (20, 22, 2), (24, 26, 6), (26, 28, 8)]
        assert [load(world, page) for page in (20, 21, 22, 23, 24, 25, 26, 27)] == ["", "", "SIGSEGV", "SIGSEGV", "", "", "", ""]


def test_userfaultfd_lets_go() -> None:
    """Nobody asked for remap events: the new VMA is not watched, and bits and markers of write protection go."""
    armed = ("read", "uffd_wp", "write")
    with process(system(area("uUqa", flags=armed))) as world:
        assert move(world, 0, 4, 16) == ""
        assert world.mm._vmas[0]._vm_flags & 1 << 12 == 0
        assert [bool(pte(world, page) & 1 << 10) for page in (16, 19)] == [False, False]
        assert pte_none(pte(world, 17))
        assert not pte(world, 18) & 1 << 2
        assert store(world, 16, 5) == ""
    with process(system(area("aaaa", flags=armed), area("aa", 4))) as world:
        assert move(world, 0, 6, 16) == "EFAULT", "alone, or not at all"
        assert extents(world) == [(0, 4, 0), (4, 6, 4)]
        assert move(world, 0, 4, 16) == ""
    with process(system(area("aaaa"), area("aa", 4, flags=armed))) as world:
        assert move(world, 0, 6, 16) == "EFAULT"
        assert extents(world) == [(4, 6, 4), (16, 20, 0)], "what lies before it has moved"


def test_entries_that_move_are_soft_dirty() -> None:
    with process(system(area("cw"))) as world:
        before = [bool(pte_soft_dirty(pte(world, 0))), bool(pte(world, 1) & 2)]
        move(world, 0, 2, 16)
        assert before == [False, False]
        assert [bool(pte_soft_dirty(pte(world, 16))), bool(pte(world, 17) & 2)] == [True, True]


@pytest.mark.parametrize("letter", "ahsnoKMDdgPHyvFpl2S")
def test_every_entry_moves(letter: str) -> None:
    extra = {"K": ("mergeable",), "l": ("locked",)}.get(letter, ())
    with process(system(area(letter * 4, flags=tuple(sorted((*BOTH, *extra)))))) as world:
        before = [world.system.shadow[1, page] for page in range(4)]
        assert move(world, 0, 4, 20) == ""
        assert [world.system.shadow[1, page] for page in range(20, 24)] == before
        assert not any(pte_none(pte(world, page)) for page in range(20, 24))


def test_a_whole_table_moves() -> None:
    with process(system(area("a" * NR))) as world:
        table = table_of(world.system, world.mm, 0)
        assert move(world, 0, NR, 2 * NR) == ""
        assert table_of(world.system, world.mm, 2) is table
        assert table_of(world.system, world.mm, 0) is None
        assert tables(world) == 2
        assert load(world, 2 * NR) == ""


def test_the_first_table_moves_as_a_whole_where_nothing_else_is_in_it() -> None:
    with process(system(area("a" * (NR - 4), 4), ranges=2)) as world:
        table = table_of(world.system, world.mm, 0)
        assert move(world, 4, NR - 4, NR + 4) == ""
        assert table_of(world.system, world.mm, 1) is table
    with process(system(area("a", 0), area("a" * (NR - 4), 4), ranges=2)) as world:
        table = table_of(world.system, world.mm, 0)
        assert move(world, 4, NR - 4, NR + 4) == ""
        assert table_of(world.system, world.mm, 0) is table, "the page below stays"
        assert load(world, 0) == ""


def test_a_huge_page_moves_as_a_whole() -> None:
    with process(memory(vmas=(area(NONE),), ranges=3, pmd="huge none none")) as world:
        store(world, 3, 9)
        assert move(world, 0, NR, 2 * NR) == ""
        assert is_huge(world, 2)
        assert pmd_soft_dirty(pmd_of(world.mm, 2))
        assert [deposited(world, number) for number in (0, 2)] == [0, 1]
        assert events(world, "thp_split_pmd") == [0]
        assert load(world, 2 * NR + 3) == ""
        assert rss(world) == (NR, 0)
        assert store(world, 2 * NR + 4, 5) == ""


@pytest.mark.parametrize(("pmd", "anon"), [("huge_zero", 0), ("migration", NR)])
def test_other_huge_entries_move_as_a_whole(pmd: str, anon: int) -> None:
    with process(memory(vmas=(area(NONE),), ranges=2, pmd=f"{pmd} none")) as world:
        assert move(world, 0, NR, NR) == ""
        assert rss(world) == (anon, 0)
        assert pmd_of(world.mm, 1)
        assert not pmd_of(world.mm, 0)
        assert not pmd_uffd_wp(pmd_of(world.mm, 1))


@pytest.mark.parametrize(("first", "length", "to"), [(0, NR, NR + 4), (0, 8, NR), (8, 8, 2 * NR), (4, 4, 2 * NR)])
def test_a_huge_page_that_cannot_move_as_a_whole_is_split(first: int, length: int, to: int) -> None:
    with process(memory(vmas=(area(NONE),), ranges=3, pmd="huge none none")) as world:
        assert move(world, first, length, to) == ""
        assert events(world, "thp_split_pmd") == [1]
        assert [load(world, to + i) for i in range(length)] == [""] * length
        assert rss(world) == (NR, 0)


@pytest.mark.parametrize("split_ptlocks", [True, False])
@pytest.mark.parametrize("highpte", [True, False])
def test_both_locks_may_be_one(split_ptlocks: bool, highpte: bool) -> None:
    config = Config(split_ptlocks=split_ptlocks, highpte=highpte)
    with process(system(area("a" * 4), area("a" * NR, NR), config=config)) as world:
        assert move(world, 0, 2, 8) == ""
        assert move(world, 2, 2, 2 * NR) == ""
        assert move(world, NR, NR, 2 * NR) == ""
        assert [load(world, page) for page in (8, 9, 2 * NR, 3 * NR - 1)] == [""] * 4


def test_the_reverse_mapping_follows() -> None:
    """Reclaim finds pages that moved, and so does the split of a folio."""
    with process(system(area("a" * 4 + "2222"))) as world:
        move(world, 0, 8, 20)
        lru_add_drain_all()
        assert swap_out_folio(folio(world, 21), force=True) == ""
        assert rss(world) == (7, 1)
        assert load(world, 21) == ""
        assert split(folio(world, 24)) == ""
        assert [folio(world, page).order for page in range(24, 28)] == [0] * 4
        assert [load(world, page) for page in range(24, 28)] == [""] * 4


def around(world: World) -> list[object]:
    """Pages are used, move twice, and are used again, by all who map them."""
    answers: list[object] = [load(world, 1), store(world, 0, 7)]
    answers += [move(world, 0, 4, NR + 4), load(world, 0), load(world, NR + 4), store(world, NR + 5, 8)]
    answers += [move(world, NR, NR, 2 * NR), load(world, NR + 4), load(world, 2 * NR + 5), extents(world)]
    return answers


def reclaimed(world: World) -> list[object]:
    answers: list[object] = [move(world, 0, 4, NR + 4)]
    lru_add_drain_all()
    return [*answers, swap_out_folio(folio(world, NR + 4), force=True), load(world, NR + 4)]


def whole(world: World) -> list[object]:
    return [store(world, 1, 5), move(world, 0, NR, NR), load(world, 0), load(world, NR + 1), store(world, NR + 2, 6)]


def bits_there(world: World) -> list[object]:
    return [move(world, 0, 4, 16), *(pte(world, page) for page in range(16, 20))]


def upper(world: World) -> list[object]:
    return [move(world, 4, NR - 4, NR + 4), load(world, 0)]


NEIGHBOUR = system(area("a"), area("a" * (NR - 4), 4))
SMALL = system(area("awsa"), area("a" * 4, NR), area("a" * 4, 2 * NR))
HUGE = memory(vmas=(area(NONE),), ranges=3, pmd="huge none none")
RANGE = system(area("a" * NR))
SWAPPED = system(area("aaaa"))
ARMED = system(area("uUqa", flags=("read", "uffd_wp", "write")))
DEPOSIT = "pgtable_trans_huge_deposit(mm, new_pmd, pgtable_trans_huge_withdraw(mm, old_pmd))"
ALIGN = "if can_align_down(pmc.old, pmc.old_addr) and can_align_down(pmc.new, pmc.new_addr):"
MARKER = "return PTE_NONE"
FLUSH = "flush_tlb_range(pmc.old, pmc.old_addr, pmc.old_addr + HPAGE_PMD_SIZE())"
PGOFF = "pgoff = page_number(new) if vma.anon_vma is None else linear_page_index(vma, address)"


@pytest.mark.parametrize(
    ("catches", "function", "old", "new", "s", "do"),
    [
        ("TLB", move_tables.move_ptes, "flush_tlb_range(pmc.old, pmc.old_addr, pmc.old_addr + extent)", "pass", SMALL, around),
        ("TLB", move_tables.move_normal_pmd, FLUSH, "pass", RANGE, whole),
        ("TLB", move_tables.move_huge_pmd, FLUSH, "pass", HUGE, whole),
        ("PAGE_TABLE_CHECK", move_tables._move_pte, "old = ptep_get_and_clear(mm, pmc.old_addr + at, old_pte)", "pass", SMALL, around),
        ("CONSERVATION", move_tables.move_normal_pmd, "pmd_clear(old_pmd)", "pass", RANGE, whole),
        ("LOCKDEP", move_tables.move_ptes, "pte_unmap(new_pte)", "pass", SMALL, around),
        ("answer", mremap.copy_vma, PGOFF, "pgoff = page_number(new)", SWAPPED, reclaimed),
        ("CONSERVATION", move_tables.move_huge_pmd, DEPOSIT, "pgtable_trans_huge_withdraw(mm, old_pmd)", HUGE, whole),
        ("answer", mremap.mremap_to, "do_vmi_munmap(mm, old, old + length)", "pass", SMALL, around),
        ("DEBUG_VM", mremap.mremap_to, "free_pgtables(tlb, new, new + length)", "pass", RANGE, whole),
        ("TLB", mremap.mremap_to, "do_vmi_munmap(mm, new, new + length)", "pass", SMALL, around),
        ("TRANSPARENCY", move_tables.try_realign_addr, ALIGN, "if True:", NEIGHBOUR, upper),
        ("answer", move_tables._moved_pte, MARKER, "return pte", ARMED, bits_there),
    ],
)
def test_a_seeded_mistake_is_caught(
    catches: str, function: object, old: str, new: str, s: Scenario, do: Callable[[World], list[object]]
) -> None:
    assert catches in notices(s, do, function, old, new)
