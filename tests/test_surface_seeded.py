"""One-line bugs in what an administrator reads and writes: each is caught."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import pytest

from kmm.mm import kstrtox, memcontrol, proc, smaps, task_mmu, vmstat
from kmm.mm.sysfs import attribute, hugepage, khugepaged, sysfs_write, thpsize
from kmm.report import surface
from tests import test_surface, test_surface_counters, test_surface_smaps
from tests.port import test_sysfs
from tests.seeded import replace_line
from tests.test_sanitizers import recompiled

account: Final = task_mmu.__dict__["_smaps_account"]
accumulate: Final = task_mmu.__dict__["_smaps_page_accumulate"]
pmd_entry: Final = task_mmu.__dict__["_smaps_pmd_entry"]
pte_entry: Final = task_mmu.__dict__["_smaps_pte_entry"]
swapped: Final = task_mmu.__dict__["_smaps_swapped"]
RW: Final = ("read", "write")


def entry(letter: str) -> Callable[[], None]:
    """The test of one letter."""
    flags, expected = next((flags, expected) for each, flags, expected in test_surface_smaps.ENTRIES if each == letter)
    return partial(test_surface_smaps.test_what_one_entry_counts_for, letter, flags, expected)


BUGS: Final[list[tuple[Callable[..., object], str, str, Callable[[], None]]]] = [
    (
        khugepaged.max_ptes_store,
        "if err or value > HPAGE_PMD_NR() - 1:",
        "if err or value > HPAGE_PMD_NR():",
        partial(test_sysfs.test_numbers_beyond_the_ends_are_refused, "khugepaged/max_ptes_swap", 512),
    ),
    (
        khugepaged.pages_to_scan_store,
        "if err or not pages:",
        "if err:",
        partial(test_sysfs.test_numbers_beyond_the_ends_are_refused, "khugepaged/pages_to_scan", 0),
    ),
    (
        khugepaged.sleep_millisecs_store,
        "khugepaged_sleep_changed()",
        "pass",
        partial(test_sysfs.test_a_new_sleep_ends_the_old_one, "khugepaged/scan_sleep_millisecs"),
    ),
    (
        attribute.single_hugepage_flag_store,
        "return err",
        'return "EINVAL"',
        partial(test_sysfs.test_only_the_flags_say_that_a_number_is_too_large_to_be_parsed, "use_zero_page"),
    ),
    (
        attribute.chosen_by,
        'return next((word for word in words if sysfs_streq(buf, word)), "")',
        'return next((word for word in words if word in buf), "")',
        partial(test_sysfs.test_other_words_are_refused, "enabled", "always madvise"),
    ),
    (
        hugepage.enabled_store,
        "return start_stop_khugepaged()",
        'return ""',
        partial(test_sysfs.test_khugepaged_ends_with_the_last_size_and_starts_with_the_first, "enabled"),
    ),
    (
        thpsize.anon_enabled_store,
        "current.machine.rmw(system.this.sysctl, field, bit.__or__ if mode == chosen else (~bit).__and__, ONCE)",
        "current.machine.rmw(system.this.sysctl, field, bit.__or__ if mode == chosen else bit.__and__, ONCE)",
        test_sysfs.test_an_order_is_in_one_mask_and_the_others_stay,
    ),
    (
        thpsize.stat_show,
        'return f"{system.this.mthp_stats.get((order, name), 0) & ULONG_MAX}\\n"',
        'return f"{sum(n for (_, each), n in system.this.mthp_stats.items() if each == name)}\\n"',
        test_sysfs.test_statistics_are_those_of_their_order,
    ),
    (
        sysfs_write,
        'return attribute.store(c_string(value)) if value else ""',
        'return attribute.store(value) if value else ""',
        test_sysfs.test_a_nul_ends_what_was_written,
    ),
    (
        kstrtox.kstrtoul,
        'if not digits or behind not in ("", "\\n"):',
        "if not digits or behind.strip():",
        partial(test_sysfs.test_kstrtoul, "1 ", "EINVAL", 0),
    ),
    (
        kstrtox.memparse,
        "behind = behind[1:]",
        "pass",
        partial(test_sysfs.test_memparse, "1k", 1 << 10, ""),
    ),
    (
        account,
        "_smaps_page_accumulate(mss, vma, folio, size, size << PSS_SHIFT, dirty=dirty, private=present)",
        "_smaps_page_accumulate(mss, vma, folio, size, size << PSS_SHIFT, dirty=dirty, private=True)",
        entry("M"),
    ),
    (
        account,
        "if not folio_test_swapbacked(folio) and not dirty and not folio_test_dirty(folio):",
        "if not folio_test_swapbacked(folio):",
        entry("L"),
    ),
    (
        account,
        "if young or folio_test_young(folio) or folio_test_referenced(folio):",
        "if young:",
        entry("f"),
    ),
    (accumulate, "if vma.vm_flags & VM_LOCKED:", "if vma.vm_flags:", entry("a")),
    (
        pmd_entry,
        'mss["AnonHugePages"] += HPAGE_PMD_SIZE()',
        "pass",
        partial(
            test_surface_smaps.test_a_pmd_entry,
            "migration",
            test_surface_smaps.resident(8, AnonHugePages=8, Shared_Clean=8),
        ),
    ),
    (pmd_entry, "if is_huge_zero_pmd(pmd):", "if False:", partial(test_surface_smaps.test_a_pmd_entry, "huge_zero", {})),
    (pte_entry, "present = present or is_device_private_entry(pte)", "pass", entry("D")),
    (swapped, "users = 0 if slot is None else slot.count", "users = 1", entry("y")),
    (
        task_mmu.folio_precise_page_mapcount,
        "return read(page, Page.mapcount, ONCE) + read(folio, Folio.entire_mapcount, ONCE)",
        "return read(page, Page.mapcount, ONCE)",
        test_surface_smaps.test_a_huge_page_that_two_processes_map_is_shared,
    ),
    (
        task_mmu.smap_gather_stats,
        "following = min((address & HPAGE_PMD_MASK()) + HPAGE_PMD_SIZE(), end)",
        "following = (address & HPAGE_PMD_MASK()) + HPAGE_PMD_SIZE()",
        test_surface_smaps.test_a_vma_counts_only_what_lies_inside,
    ),
    (smaps.show_smaps, "mmap_read_unlock(mm)", "pass", test_surface_smaps.test_the_text_of_smaps),
    (
        proc.task_thp_status,
        "return not current.machine.read(mm, MmStruct.flags, ONCE) & MMF_DISABLE_THP_COMPLETELY",
        "return not current.machine.read(mm, MmStruct.flags, ONCE)",
        partial(test_surface_smaps.test_prctl_shows, "except_advised", 1, RW, False),
    ),
    (
        vmstat.nr_swapcached,
        "return sum(current.machine.read(slot, SwapSlot.cached, ONCE) is not None for slot in system.this.swap.values())",
        "return len(system.this.swap)",
        test_surface_counters.test_the_files_of_a_cgroup,
    ),
    (
        memcontrol.memory_max_write,
        "if behind:",
        "if False:",
        partial(test_surface_counters.test_a_limit_that_is_refused, "1x"),
    ),
    (
        surface.__dict__["_lines"],
        "return {name: value.strip() for name, _, value in pairs}",
        "return {name: value for name, _, value in pairs}",
        test_surface.test_every_file_is_there,
    ),
    (
        surface.group_lines,
        "if old == new and new in _ZERO:",
        "if new in _ZERO:",
        partial(test_surface.test_lines, {"a": "1 kB"}, {"a": "0 kB"}, ["a 1 kB -> 0 kB"]),
    ),
]


@pytest.mark.parametrize(("function", "old", "new", "story"), BUGS, ids=lambda each: each if isinstance(each, str) else "")
def test_a_bug_is_caught(function: Callable[..., object], old: str, new: str, story: Callable[[], None]) -> None:
    story()
    with recompiled(function, lambda source: replace_line(source, old, new)), pytest.raises((AssertionError, KeyError)):
        story()
    story()
