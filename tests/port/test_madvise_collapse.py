"""MADV_COLLAPSE over several PMDs: what it does, its errno, and the lock (reference, section 6; recordings of the oracle)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
import pytest

from kmm.kernel.locks import at_quiescence
from kmm.kernel.ref import Ref
from kmm.kernel.stop import Bug, Stop
from kmm.mm.khugepaged import madvise_collapse as module
from kmm.mm.khugepaged.madvise_collapse import madvise_collapse
from kmm.mm.khugepaged.scan import collapse_single_pmd
from kmm.mm.khugepaged.types import CollapseControl, ScanResult
from kmm.mm.mm_types import MMF_DISABLE_THP_COMPLETELY, VmAreaStruct
from kmm.mm.mmap import mmap_read_lock, mmap_read_unlock
from kmm.mm.system import Injected
from kmm.mm.variant import CollapseSinglePmd, Variant
from kmm.scenario.build import World, build
from kmm.scenario.mm_slots import check_mm_slots
from kmm.scenario.model import Failure, Scenario, Vma
from kmm.scenario.quiescence import check_quiescence
from refactors import v12
from tests.areas import BASE, FULL, HOLES, NR, PINNED, areas, huge, said, scanned, with_single
from tests.test_sanitizers import recompiled

ARMED: Final = ("read", "uffd_wp", "write")
PROTECTED: Final = "aauaaaaa"
WHOLE: Final = 999


@attrs.frozen
class Call:
    """What came of a call: the errno, ``lock_dropped``, the ranges that are huge, and the PMDs that were scanned."""

    errno: str
    dropped: bool
    huge: list[bool]
    scanned: list[str]
    world: World


def call(s: Scenario, variant: Variant = v12.VARIANT, *, first: int = 0, end: int = WHOLE, injected: Injected | None = None) -> Call:
    """MADV_COLLAPSE of the pages from ``first`` to before ``end`` of the first VMA; the sanitizers have nothing to say."""
    world = build(s, variant)
    if injected is not None:
        world.system.injected = injected
    with world.system.running(world.task):
        mmap_read_lock(world.mm)
        dropped = Ref(False)
        errno = madvise_collapse(world.vma, BASE + first * 4096, min(BASE + end * 4096, world.vma._vm_end), dropped)
        mmap_read_unlock(world.mm)
        at_quiescence(world.task)
        check_quiescence(world)
        check_mm_slots(world.system)
    assert said(world) == []
    statuses = [each.removeprefix("mm1 ") for each in scanned(world)]
    return Call(errno, dropped.value, huge(world.mm), statuses, world)


def answering(*answers: ScanResult) -> CollapseSinglePmd:
    """A ``collapse_single_pmd`` that gives these results, one a call, and keeps the lock."""
    left = list(answers)
    return lambda addr, vma, mmap_locked, cc: left.pop(0)


def afterwards(poke: Callable[[VmAreaStruct], None]) -> Variant:
    """v12, with ``poke`` done by somebody after the first PMD, while the lock is free."""
    done: list[bool] = []

    def single(addr: int, vma: VmAreaStruct, mmap_locked: Ref[bool], cc: CollapseControl) -> ScanResult:
        result = collapse_single_pmd(addr, vma, mmap_locked, cc)
        if not done:
            assert not mmap_locked.value
            poke(vma)
            done.append(True)
        return result

    return with_single(single)


# Several PMDs


def test_two_pmds() -> None:
    found = call(areas(f"{FULL}|{FULL}"))
    assert (found.errno, found.dropped, found.huge, found.scanned) == ("", True, [True, True], ["SUCCEED", "SUCCEED"])


def test_two_pmds_ok_bad() -> None:
    found = call(areas(f"{FULL}|{PROTECTED}", flags=ARMED))
    assert (found.errno, found.huge, found.scanned) == ("EINVAL", [True, False], ["SUCCEED", "PTE_UFFD_WP"])


def test_two_pmds_bad_ok() -> None:
    found = call(areas(f"{PINNED}|{FULL}"))
    assert (found.errno, found.huge, found.scanned) == ("EAGAIN", [False, True], ["PAGE_COUNT", "SUCCEED"])


def test_two_pmds_bad_bad() -> None:
    """The errno is that of the last one."""
    found = call(areas(f"{PINNED}|{PROTECTED}", flags=ARMED))
    assert (found.errno, found.scanned, found.dropped) == ("EINVAL", ["PAGE_COUNT", "PTE_UFFD_WP"], False)
    assert call(areas(f"{PROTECTED}|{PINNED}", flags=ARMED)).errno == "EAGAIN"


def test_two_pmds_wp_ok() -> None:
    found = call(areas(f"{PROTECTED}|{FULL}", flags=ARMED))
    assert (found.errno, found.huge, found.scanned) == ("EINVAL", [False, True], ["PTE_UFFD_WP", "SUCCEED"])


def test_two_pmds_abort() -> None:
    found = call(areas(f"aaa.aaaa|{FULL}", flags=ARMED))
    assert (found.errno, found.huge, found.scanned, found.dropped) == ("EBUSY", [False, False], ["EXCEED_NONE_PTE"], False)


def test_three_pmds_with_a_bad_one_in_the_middle() -> None:
    """Partial success: all but one are huge, and the errno says which kind of refusal it was."""
    found = call(areas(f"{FULL}|{PINNED}|{FULL}"))
    assert (found.errno, found.huge) == ("EAGAIN", [True, False, True])


def test_an_entry_of_none_stops_a_missing_page_does_not() -> None:
    found = call(areas(f"{HOLES}|{FULL}", pmd="none table"))
    assert (found.errno, found.huge, found.scanned) == ("EINVAL", [False, False], ["PMD_NONE"])
    found = call(areas(f"{HOLES}|{FULL}", pmd="absent table"))
    assert (found.errno, found.huge, found.scanned) == ("EINVAL", [False, True], ["PMD_NULL", "SUCCEED"])


def test_what_is_huge_counts_as_done() -> None:
    found = call(areas(f"{HOLES}|{HOLES}", pmd="huge"))
    assert (found.errno, found.dropped, found.scanned) == ("", False, ["PMD_MAPPED", "PMD_MAPPED"])


def test_a_vma_and_a_half() -> None:
    found = call(areas(f"{FULL}|{FULL}", vmas=(Vma(pages=FULL + "aaaa", start=0),)))
    assert (found.errno, found.huge) == ("", [True, False])


def test_only_the_pmds_of_the_range() -> None:
    found = call(areas(f"{FULL}|{FULL}|{FULL}|{FULL}"), first=NR - 3, end=3 * NR + 1)
    assert (found.errno, found.huge) == ("", [False, True, True, False])


def test_v12_stops_at_what_fails_behind_the_scan() -> None:
    """Reference, sections 4.4 and 6.3: the allocation's failure is lost on the way, and what stays is FAIL."""
    found = call(areas(f"{FULL}|{FULL}", failures=(Failure(kind="alloc", nth=1),)))
    assert (found.errno, found.dropped, found.huge, found.scanned) == ("EINVAL", True, [False, False], ["FAIL"])


# Nothing to do


def test_a_range_inside_one_pmd() -> None:
    """range_inside_pmd and range_one_page: the number of PMDs is unsigned at the v12 base."""
    for first, end, errno in ((1, NR - 1, "EINVAL"), (1, 2, "EINVAL"), (0, 1, ""), (1, NR, ""), (NR - 1, NR, ""), (0, NR - 1, "")):
        found = call(areas(f"{FULL}|{FULL}"), first=first, end=end)
        assert (found.errno, found.scanned, found.dropped) == (errno, [], False), (first, end)


def test_a_range_over_the_edge_of_two() -> None:
    assert call(areas(f"{FULL}|{FULL}"), first=NR - 1, end=NR + 1).errno == ""


def test_even_then_the_batches_are_drained() -> None:
    assert waiting(call(areas("baaaaaaa"), end=1)) == 0
    assert waiting(call(areas("baaaaaaa"))) == 0


def waiting(found: Call) -> int:
    """Folios in the LRU-add batches."""
    return sum(len(cpu._lru_add) for cpu in found.world.system.per_cpu)


def test_a_vma_that_may_not_collapse() -> None:
    found = call(areas("baaaaaaa", flags=("nohugepage", "read", "write")))
    assert (found.errno, found.scanned, found.dropped) == ("EINVAL", [], False)
    assert (waiting(found), found.world.system.cc_allocations) == (1, 0), "it is found out before anything is done"


def test_no_memory_for_the_control_block() -> None:
    found = call(areas("baaaaaaa"), injected=Injected(cc=frozenset({1})))
    assert (found.errno, found.scanned, waiting(found)) == ("ENOMEM", [], 1)
    assert call(areas(FULL), injected=Injected(cc=frozenset({2}))).errno == ""


def test_sysfs_is_not_asked() -> None:
    s = areas(FULL)
    never = attrs.evolve(s.tunables, enabled="never", hugepages=("never",) * 2)
    assert call(attrs.evolve(s, tunables=never)).errno == ""


@pytest.mark.parametrize(("first", "end", "condition"), [(-1, NR, "vma->vm_start > start"), (0, NR + 1, "vma->vm_end < end")])
def test_a_range_outside_the_vma_is_a_bug(first: int, end: int, condition: str) -> None:
    world = build(areas(FULL), v12.VARIANT)
    with world.system.running(world.task), pytest.raises(Bug, match=condition):
        madvise_collapse(world.vma, BASE + first * 4096, BASE + end * 4096, Ref(False))


# The lock was lost


def test_a_vma_that_became_shorter() -> None:
    """The third PMD does not belong to it any more, and is not missed."""

    def shorten(vma: VmAreaStruct) -> None:
        vma._vm_end -= NR * 4096

    found = call(areas(f"{FULL}|{FULL}|{FULL}"), afterwards(shorten))
    assert (found.errno, found.huge, found.dropped) == ("", [True, True, False], True)


def test_a_vma_that_became_longer() -> None:
    """What was asked for is what counts."""

    def lengthen(vma: VmAreaStruct) -> None:
        vma._vm_end += NR * 4096

    s = areas(f"{FULL}|{FULL}|{FULL}", vmas=(Vma(pages=FULL + FULL, start=0),))
    found = call(s, afterwards(lengthen), end=2 * NR)
    assert (found.errno, found.huge) == ("", [True, True, False])


def test_thp_was_disabled_meanwhile() -> None:
    """ANY_PROCESS: the call ends, and has the lock."""

    def disable(vma: VmAreaStruct) -> None:
        vma._vm_mm._flags |= MMF_DISABLE_THP_COMPLETELY

    found = call(areas(f"{FULL}|{FULL}"), afterwards(disable))
    assert (found.errno, found.huge, found.scanned, found.dropped) == ("EINVAL", [True, False], ["SUCCEED"], True)


def test_thp_was_disabled_behind_a_refusal() -> None:
    """A kernel that passes results on: EAGAIN for the first PMD, and then the call ends with EINVAL."""

    def single(addr: int, vma: VmAreaStruct, mmap_locked: Ref[bool], cc: CollapseControl) -> ScanResult:
        mmap_read_unlock(vma._vm_mm)
        mmap_locked.value = False
        vma._vm_mm._flags |= MMF_DISABLE_THP_COMPLETELY
        return ScanResult.SCAN_PAGE_COUNT

    found = call(areas(f"{FULL}|{FULL}"), with_single(single))
    assert (found.errno, found.dropped) == ("EINVAL", True)


def test_the_vma_was_replaced_meanwhile() -> None:
    """The old one is not touched any more."""

    def replace(vma: VmAreaStruct) -> None:
        mm = vma._vm_mm
        mm._vmas = (VmAreaStruct(mm, vma._vm_start, vma._vm_end, vma._vm_flags, vma._anon_vma, vma._vm_pgoff),)
        vma.freed_by = "munmap"

    found = call(areas(f"{FULL}|{FULL}"), afterwards(replace))
    assert (found.errno, found.huge) == ("", [True, True])


def test_a_refusal_keeps_the_lock() -> None:
    found = call(areas(f"{PINNED}|{PINNED}"))
    assert (found.errno, found.dropped) == ("EAGAIN", False)
    assert [op for op, kind in found.world.task.lock_ops if kind == "mmap_lock"] == ["down_read", "up_read"]


def test_a_reference_keeps_the_address_space() -> None:
    seen: list[int] = []

    def single(addr: int, vma: VmAreaStruct, mmap_locked: Ref[bool], cc: CollapseControl) -> ScanResult:
        seen.append(vma._vm_mm._mm_count)
        return collapse_single_pmd(addr, vma, mmap_locked, cc)

    found = call(areas(FULL), with_single(single))
    assert (seen, found.world.mm._mm_count) == ([2], 1)


def test_each_pmd_begins_with_a_clean_control_block() -> None:
    """A file mapping's scan would not clear it."""

    def single(addr: int, vma: VmAreaStruct, mmap_locked: Ref[bool], cc: CollapseControl) -> ScanResult:
        assert (cc.is_khugepaged, set(cc.node_load), cc.alloc_nmask) == (False, {0}, set())
        cc.node_load[1] = 5
        cc.alloc_nmask.add(1)
        return ScanResult.SCAN_PMD_MAPPED

    assert call(areas(f"{FULL}|{FULL}"), with_single(single)).errno == ""


# The map from results to errnos

DONE: Final = {"SCAN_SUCCEED", "SCAN_PMD_MAPPED"}
GOES_ON: Final = {
    "SCAN_PTE_MAPPED_HUGEPAGE": "EINVAL",
    "SCAN_PMD_NULL": "EINVAL",
    "SCAN_PTE_NON_PRESENT": "EINVAL",
    "SCAN_PTE_UFFD_WP": "EINVAL",
    "SCAN_LACK_REFERENCED_PAGE": "EINVAL",
    "SCAN_PAGE_NULL": "EINVAL",
    "SCAN_PAGE_COUNT": "EAGAIN",
    "SCAN_PAGE_LOCK": "EAGAIN",
    "SCAN_PAGE_COMPOUND": "EINVAL",
    "SCAN_PAGE_LRU": "EAGAIN",
    "SCAN_DEL_PAGE_LRU": "EAGAIN",
}
STOPS: Final = {
    "SCAN_ALLOC_HUGE_PAGE_FAIL": "ENOMEM",
    "SCAN_CGROUP_CHARGE_FAIL": "EBUSY",
    "SCAN_EXCEED_NONE_PTE": "EBUSY",
    "SCAN_PAGE_FILLED": "EAGAIN",
}


@pytest.mark.parametrize("result", ScanResult, ids=lambda each: each.name)
def test_each_result(result: ScanResult) -> None:
    """Of the first of two PMDs; the second one succeeds, where the call comes to it."""
    calls = answering(result, ScanResult.SCAN_SUCCEED)
    asked: list[int] = []

    def single(addr: int, vma: VmAreaStruct, mmap_locked: Ref[bool], cc: CollapseControl) -> ScanResult:
        asked.append(addr)
        return calls(addr, vma, mmap_locked, cc)

    errno = call(areas(f"{FULL}|{FULL}"), with_single(single)).errno
    if result.name in DONE:
        assert (errno, len(asked)) == ("", 2)
    elif result.name in GOES_ON:
        assert (errno, len(asked)) == (GOES_ON[result.name], 2)
    else:
        assert (errno, len(asked)) == (STOPS.get(result.name, "EINVAL"), 1)


# Every rule above can fail

BUGS: Final[list[tuple[str, str, Callable[[], None]]]] = [
    ("else:\n                last_fail = result", "else:\n                last_fail = last_fail or result", test_two_pmds_bad_bad),
    ("last_fail = result\n                    goto(out_nolock)", "goto(out_nolock)", test_thp_was_disabled_behind_a_refusal),
    ("goto(out_nolock)", "pass", test_thp_was_disabled_meanwhile),
    ("if result not in _GO_ON:", "if result in _GO_ON:", test_two_pmds_bad_ok),
    ("if result not in _GO_ON:", "if False:", test_two_pmds_abort),
    ("hend = min(hend, vma.vm_end & HPAGE_PMD_MASK())", "pass", test_a_vma_that_became_shorter),
    ("min(hend, vma.vm_end & HPAGE_PMD_MASK())", "vma.vm_end & HPAGE_PMD_MASK()", test_a_vma_that_became_longer),
    ("hend = end & HPAGE_PMD_MASK()", "hend = max(hstart, end & HPAGE_PMD_MASK())", test_a_range_inside_one_pmd),
    ("mmdrop(mm)", "pass", test_two_pmds),
    ("mmgrab(mm)", "pass", test_a_reference_keeps_the_address_space),
    ("lru_add_drain_all()", "pass", test_even_then_the_batches_are_drained),
    ("lock_dropped.value = True", "pass", test_two_pmds),
    (
        "if not mmap_locked.value:\n                lock_dropped",
        "if mmap_locked.value:\n                lock_dropped",
        test_a_refusal_keeps_the_lock,
    ),
    ("in (ScanResult.SCAN_SUCCEED, ScanResult.SCAN_PMD_MAPPED)", "in (ScanResult.SCAN_SUCCEED,)", test_what_is_huge_counts_as_done),
    ("if not mmap_locked.value:\n            mmap_read_lock(mm)", "if False:\n            pass", test_two_pmds),
    ("mmap_locked.value = True", "pass", test_two_pmds),
    ("addr += HPAGE_PMD_SIZE()", "addr = hend", test_two_pmds),
    ("-(-start & HPAGE_PMD_MASK())", "start & HPAGE_PMD_MASK()", test_only_the_pmds_of_the_range),
    ("result, vma = hugepage", "result, _ = hugepage", test_the_vma_was_replaced_meanwhile),
    ("allowable_orders(vma, vma.vm_flags, False)", "allowable_orders(vma, vma.vm_flags, True)", test_sysfs_is_not_asked),
]


def edited(source: str, old: str, new: str) -> str:
    assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in the source"
    return source.replace(old, new)


@pytest.mark.parametrize(("old", "new", "story"), BUGS)
def test_a_bug_is_caught(old: str, new: str, story: Callable[[], None]) -> None:
    story()
    with recompiled(madvise_collapse, lambda source: edited(source, old, new)), pytest.raises((AssertionError, AttributeError, Stop)):
        story()


@pytest.mark.parametrize("gone", ["cc.node_load = [0] * MAX_NUMNODES", "cc.alloc_nmask.clear()"])
def test_what_the_pmd_before_left_is_caught(gone: str) -> None:
    one_pmd = vars(module)["_collapse_pmd"]
    with recompiled(one_pmd, lambda source: edited(source, gone, "pass")), pytest.raises(AssertionError):
        test_each_pmd_begins_with_a_clean_control_block()
