"""``smaps``, ``status`` and ``meminfo``: what each entry counts for (fs/proc/task_mmu.c)."""

from __future__ import annotations

import re
from typing import Final

import attrs
import pytest

from kmm.kernel import current
from kmm.mm.mm_types import VmAreaStruct
from kmm.mm.proc import meminfo_proc_show, proc_pid_status
from kmm.mm.smaps import VM_FLAG_NAMES, show_smap_vma_flags, show_smaps, show_smaps_rollup, thp_eligible
from kmm.mm.sysfs import sysfs_write
from kmm.mm.task_mmu import PSS_SHIFT, gathered
from kmm.scenario.build import VM_FLAGS, World
from kmm.scenario.model import Vma
from tests.helpers import make, running

RW = ("read", "write")
PAGE = 4096


def sums(world: World, mm: int = 0) -> dict[str, float]:
    """The sums of an address space that are not zero, in pages."""
    found = gathered(world.system.mms[mm])
    pages = {name: value / PAGE for name, value in found.items() if value}
    shifted = ("Pss", "Pss_Dirty", "Pss_Anon", "SwapPss", "Locked")
    return {name: n / (1 << PSS_SHIFT) if name in shifted else n for name, n in pages.items()}


def counted(**numbers: float) -> dict[str, float]:
    """Sums in pages; an anonymous page is resident."""
    return {name: n for name, n in numbers.items() if n}


def resident(n: float, **others: float) -> dict[str, float]:
    """Anonymous pages that one process maps."""
    return {"Rss": n, "Anonymous": n, "Pss": n, "Pss_Anon": n, **others}


ENTRIES: Final[list[tuple[str, tuple[str, ...], dict[str, float]]]] = [
    ("a", RW, resident(1, Pss_Dirty=1, Private_Dirty=1, Referenced=1)),
    ("o", RW, resident(1, Pss_Dirty=1, Private_Dirty=1)),
    ("f", RW, resident(1, Pss_Dirty=1, Private_Dirty=1, Referenced=1)),
    ("c", RW, resident(1, Private_Clean=1, Referenced=1)),
    ("N", RW, resident(1, Pss_Dirty=1, Private_Dirty=1, Referenced=1)),
    ("p", RW, resident(1, Pss_Dirty=1, Private_Dirty=1, Referenced=1)),
    ("h", RW, resident(1, Pss_Dirty=1, Private_Dirty=1, Referenced=1)),
    ("s", RW, resident(1, Pss=1 / 2, Pss_Anon=1 / 2, Pss_Dirty=1 / 2, Shared_Dirty=1, Referenced=1)),
    ("w", RW, counted(Swap=1, SwapPss=1)),
    ("v", RW, counted(Swap=1, SwapPss=1)),
    ("y", RW, counted(Swap=1, SwapPss=1 / 2)),
    ("F", RW, resident(1, Private_Clean=1, Referenced=1, LazyFree=1)),
    ("L", RW, resident(1, Pss_Dirty=1, Private_Dirty=1, Referenced=1)),
    ("l", ("locked", *RW), resident(1, Pss_Dirty=1, Private_Dirty=1, Referenced=1, Locked=1)),
    ("s", ("locked", *RW), resident(1, Pss=1 / 2, Pss_Anon=1 / 2, Pss_Dirty=1 / 2, Shared_Dirty=1, Referenced=1, Locked=1 / 2)),
    ("K", ("mergeable", *RW), resident(1, Pss=1 / 2, Pss_Anon=1 / 2, Shared_Clean=1, Referenced=1, KSM=1)),
    ("M", RW, resident(1, Shared_Clean=1)),
    ("D", RW, resident(1, Private_Clean=1)),
    ("H", RW, resident(1, Shared_Clean=1)),
    *((letter, RW, {}) for letter in ".zgP"),
    ("Z", ("mergeable", *RW), {}),
    ("U", ("uffd_wp", *RW), {}),
    ("i", ("pfnmap", *RW), {}),
]
"""A letter, the flags of its VMA, and what it counts for."""


@pytest.mark.parametrize(("letter", "flags", "expected"), ENTRIES)
def test_what_one_entry_counts_for(letter: str, flags: tuple[str, ...], expected: dict[str, float]) -> None:
    with running(make("..." + letter + "....", flags=flags)) as world:
        assert sums(world) == expected


def test_three_mappings_round_down_by_page() -> None:
    with running(make("tt......")) as world:
        third = (PAGE << PSS_SHIFT) // 3
        assert gathered(world.mm)["Pss"] == 2 * third
        assert "Pss:                   2 kB\n" in show_smaps(world.mm)


def test_a_folio_of_ksm_is_counted_in_each_entry() -> None:
    with running(make("KK......", flags=("mergeable", *RW))) as world:
        assert sums(world) == resident(2, Pss=1 / 2, Pss_Anon=1 / 2, Shared_Clean=2, Referenced=2, KSM=2)


@pytest.mark.parametrize("pages", ["2222....", "....2222"])
def test_a_large_folio_is_private_page_by_page(pages: str) -> None:
    with running(make(pages)) as world:
        assert sums(world) == resident(4, Pss_Dirty=4, Private_Dirty=4, Referenced=4)


def test_a_shared_large_folio_is_shared_page_by_page() -> None:
    with running(make("SSSS....")) as world:
        half = resident(4, Pss=2, Pss_Anon=2, Pss_Dirty=2, Shared_Dirty=4, Referenced=4)
        assert sums(world) == half
        assert sums(world, 1) == half


@pytest.mark.parametrize(
    ("pmd", "expected"),
    [
        ("huge", resident(8, AnonHugePages=8, Pss_Dirty=8, Private_Dirty=8, Referenced=8)),
        ("huge_zero", {}),
        ("migration", resident(8, AnonHugePages=8, Shared_Clean=8)),
        ("none", {}),
        ("absent", {}),
    ],
)
def test_a_pmd_entry(pmd: str, expected: dict[str, float]) -> None:
    with running(make("........", pmd=pmd)) as world:
        assert sums(world) == expected


def test_a_huge_page_that_two_processes_map_is_shared() -> None:
    with running(make("........", pmd="huge")) as world:
        folio = next(each for each in world.system.folios if each.order == 3)
        folio._entire_mapcount = folio._mapcount = folio._refcount = 2
        half = resident(8, AnonHugePages=8, Pss=4, Pss_Anon=4, Pss_Dirty=4, Shared_Dirty=8, Referenced=8)
        assert sums(world) == half


def test_a_vma_counts_only_what_lies_inside() -> None:
    s = attrs.evolve(make("aaaaaaaa"), vmas=(Vma(pages="aaw", flags=RW, start=0), Vma(pages="cz", flags=RW, start=5)))
    with running(s) as world:
        texts = [text for text in re.split(r"(?=^[0-9a-f]+-)", show_smaps(world.mm), flags=re.MULTILINE) if text]
        rss = [re.findall(r"^(Size|Rss|Swap): +(\d+) kB$", text, flags=re.MULTILINE) for text in texts]
    assert rss == [[("Size", "12"), ("Rss", "8"), ("Swap", "4")], [("Size", "8"), ("Rss", "4"), ("Swap", "0")]]


SMAPS = """\
00080000-00088000 rw-p 00000000 00:00 0_
Size:                 32 kB
KernelPageSize:        4 kB
MMUPageSize:           4 kB
Rss:                  16 kB
Pss:                  14 kB
Pss_Dirty:            10 kB
Shared_Clean:          0 kB
Shared_Dirty:          4 kB
Private_Clean:         4 kB
Private_Dirty:         8 kB
Referenced:           12 kB
Anonymous:            16 kB
KSM:                   0 kB
LazyFree:              0 kB
AnonHugePages:         0 kB
ShmemPmdMapped:        0 kB
FilePmdMapped:         0 kB
Shared_Hugetlb:        0 kB
Private_Hugetlb:       0 kB
Swap:                  8 kB
SwapPss:               6 kB
Locked:                0 kB
THPeligible:           1
VmFlags: rd wr hg_
""".replace("_\n", " \n")


def test_the_text_of_smaps() -> None:
    with running(make("aocsw.yz", flags=("hugepage", *RW))) as world:
        assert show_smaps(world.mm) == SMAPS
        assert current.task.held == []
        assert world.system.machine.reports == []


def test_the_rollup_has_the_same_sums_over_all_vmas() -> None:
    vmas = (Vma(pages="ao", flags=RW, start=0), Vma(pages="csw.yz", flags=RW, start=2))
    with running(attrs.evolve(make("aaaaaaaa"), vmas=vmas)) as world:
        head, _, body = show_smaps_rollup(world.mm).partition("\n")
    sums_of_smaps = SMAPS.splitlines()[4:-2]
    rollup = ("Pss_Anon:             14 kB", "Pss_File:              0 kB", "Pss_Shmem:             0 kB")
    assert body.splitlines() == [*sums_of_smaps[:3], *rollup, *sums_of_smaps[3:]]
    assert head == "00080000-00088000 ---p 00000000 00:00 0".ljust(73) + "[rollup]"


def test_the_rollup_of_nothing() -> None:
    with running(make("........")) as world:
        world.mm._vmas = ()
        assert show_smaps(world.mm) == ""
        assert show_smaps_rollup(world.mm).startswith("00000000-00000000 ---p ")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), "VmFlags: \n"),
        (("exec", "read"), "VmFlags: rd ex \n"),
        (("dontcopy", "dontdump", "droppable", "hugepage", "mergeable", *RW), "VmFlags: rd wr dc dd hg mg dp \n"),
        (("locked", "lockonfault", "nohugepage", "uffd_missing", "uffd_wp", *RW), "VmFlags: rd wr um uw lo lf nh \n"),
    ],
)
def test_vm_flags(flags: tuple[str, ...], expected: str) -> None:
    with running(make("........", flags=flags)) as world:
        assert show_smap_vma_flags(world.vma) == expected


def test_every_flag_of_a_scenario_has_a_name() -> None:
    bits = 0
    for flag in VM_FLAGS.values():
        bits |= flag
    assert {bit for bit in range(64) if bits & 1 << bit} == set(VM_FLAG_NAMES)


def eligible(world: World) -> bool:
    """The first VMA's bit."""
    return thp_eligible(world.vma)


@pytest.mark.parametrize(
    ("flags", "enabled", "mode", "expected"),
    [
        (RW, "always", "inherit", True),
        (RW, "madvise", "inherit", False),
        (("hugepage", *RW), "madvise", "inherit", True),
        (("hugepage", *RW), "never", "inherit", False),
        (RW, "never", "always", True),
        (RW, "always", "never", False),
        (RW, "always", "madvise", False),
        (("nohugepage", *RW), "always", "always", False),
        (("pfnmap", *RW), "always", "always", True),
    ],
)
def test_eligible_by_the_switches(flags: tuple[str, ...], enabled: str, mode: str, expected: bool) -> None:
    with running(make("........", flags=flags)) as world:
        assert sysfs_write("enabled", enabled) == sysfs_write("hugepages-32kB/enabled", mode) == ""
        assert eligible(world) == expected


def test_eligible_before_the_first_fault() -> None:
    with running(make("........", anon_vma=False)) as world:
        assert eligible(world)


@pytest.mark.parametrize(("orders", "expected"), [((3,), False), ((2,), True)])
def test_eligible_by_the_size_of_the_vma(orders: tuple[int, ...], expected: bool) -> None:
    s = make("........", orders=orders)
    with running(attrs.evolve(s, vmas=(Vma(pages="....", flags=RW, start=0),))) as world:
        assert isinstance(world.vma, VmAreaStruct)
        assert eligible(world) == expected


@pytest.mark.parametrize(
    ("thp_disable", "enabled", "flags", "expected"),
    [
        ("no", 1, RW, True),
        ("yes", 0, RW, False),
        ("yes", 0, ("hugepage", *RW), False),
        ("except_advised", 1, RW, False),
        ("except_advised", 1, ("hugepage", *RW), True),
    ],
)
def test_prctl_shows(thp_disable: str, enabled: int, flags: tuple[str, ...], expected: bool) -> None:
    with running(attrs.evolve(make("........", flags=flags), thp_disable=thp_disable)) as world:
        assert f"THP_enabled:\t{enabled}\n" in proc_pid_status(world.mm)
        assert eligible(world) == expected


STATUS = """\
VmSize:\t      32 kB
VmLck:\t      12 kB
VmRSS:\t      16 kB
RssAnon:\t      16 kB
VmPTE:\t       4 kB
VmSwap:\t       8 kB
THP_enabled:\t1
"""


def test_the_text_of_status() -> None:
    vmas = (Vma(pages="ao", flags=RW, start=0), Vma(pages="llw", flags=("locked", *RW), start=2), Vma(pages="w.z", flags=RW, start=5))
    with running(attrs.evolve(make("aaaaaaaa"), vmas=vmas)) as world:
        assert proc_pid_status(world.mm) == STATUS


def test_special_mappings_are_not_locked() -> None:
    with running(make("........", flags=("io", "locked", *RW))) as world:
        assert "VmLck:\t       0 kB\n" in proc_pid_status(world.mm)


MEMINFO = """\
SwapCached:            4 kB
Mlocked:               4 kB
AnonPages:            12 kB
PageTables:            8 kB
AnonHugePages:         0 kB
"""


def test_the_text_of_meminfo() -> None:
    with running(make("lsh.....", flags=("locked", *RW))):
        assert meminfo_proc_show() == MEMINFO


def test_meminfo_counts_huge_pages_whole() -> None:
    with running(make("........", pmd="huge")):
        assert "AnonPages:            32 kB\n" in meminfo_proc_show()
        assert "AnonHugePages:        32 kB\n" in meminfo_proc_show()
