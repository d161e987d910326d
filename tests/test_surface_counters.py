"""``/proc/vmstat`` and the files of the cgroup, and that every counter of the model is in one of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
import pytest

from kmm.mm.memcontrol import MEMORY_FILES, MEMORY_STAT_EVENTS, MemCgroup, count_memcg_event_mm, memory_write
from kmm.mm.vmstat import MTHP_STATS, VM_EVENTS, count_vm_events, vmstat_show
from tests.helpers import direct, go, make, running

ROOT: Final = Path(__file__).parent.parent
COUNTING: Final = {
    "count_vm_event": 0,
    "count_vm_events": 0,
    "count_mthp_stat": 1,
    "mod_mthp_stat": 1,
    "count_memcg_folio_events": 1,
    "count_memcg_event_mm": 1,
}
"""Functions that count, and which argument is the name."""

THP_EVENTS_OF_6_18: Final = {
    *("thp_migration_success", "thp_migration_fail", "thp_migration_split", "thp_fault_alloc", "thp_fault_fallback"),
    *("thp_fault_fallback_charge", "thp_collapse_alloc", "thp_collapse_alloc_failed", "thp_file_alloc", "thp_file_fallback"),
    *("thp_file_fallback_charge", "thp_file_mapped", "thp_split_page", "thp_split_page_failed", "thp_deferred_split_page"),
    *("thp_underused_split_page", "thp_split_pmd", "thp_scan_exceed_none_pte", "thp_scan_exceed_swap_pte"),
    *("thp_scan_exceed_share_pte", "thp_split_pud", "thp_zero_page_alloc", "thp_zero_page_alloc_failed", "thp_swpout"),
    "thp_swpout_fallback",
}


def counted(function: str) -> set[str]:
    """The names that the kernel code counts by a function."""
    files = [*(ROOT / "kmm" / "mm").rglob("*.py"), *(ROOT / "refactors").rglob("*.py")]
    return {name for file in files for name in names_in(ast.parse(file.read_text(encoding="utf-8")), function)}


def names_in(tree: ast.AST, function: str) -> Iterator[str]:
    """The literal names in calls of a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function:
            yield from literals(node.args[COUNTING[function]])


def literals(node: ast.expr) -> list[str]:
    """The texts that an expression may be."""
    branches = [node.body, node.orelse] if isinstance(node, ast.IfExp) else [node]
    return [each.value for each in branches if isinstance(each, ast.Constant) and isinstance(each.value, str)]


def test_names_are_found_in_calls() -> None:
    tree = ast.parse('count_vm_event("a")\ncount_vm_events("b" if x else "c", 2)\nmod_mthp_stat(o, "d", -1)\ncount_vm_event(name)')
    found = {function: list(names_in(tree, function)) for function in ("count_vm_event", "count_vm_events", "mod_mthp_stat")}
    assert found == {"count_vm_event": ["a"], "count_vm_events": ["b", "c"], "mod_mthp_stat": ["d"]}


def test_every_event_that_is_counted_is_shown() -> None:
    events = counted("count_vm_event") | counted("count_vm_events")
    assert "thp_collapse_alloc" in events
    assert events <= set(VM_EVENTS)
    assert {name for name in VM_EVENTS if not name.startswith("thp_")} <= events, "what is not counted is not shown"
    assert {name for name in VM_EVENTS if name.startswith("thp_")} == THP_EVENTS_OF_6_18


def test_every_statistic_that_is_counted_is_shown() -> None:
    stats = counted("count_mthp_stat") | counted("mod_mthp_stat")
    assert "collapse_alloc" in stats
    assert stats <= set(MTHP_STATS)


def test_every_event_of_a_cgroup_that_is_counted_is_shown() -> None:
    events = counted("count_memcg_folio_events") | counted("count_memcg_event_mm")
    assert "thp_collapse_alloc" in events
    assert events <= set(MEMORY_STAT_EVENTS)
    thp = {"thp_fault_alloc", "thp_collapse_alloc", "thp_swpout", "thp_swpout_fallback"}
    assert {name for name in MEMORY_STAT_EVENTS if name not in events} <= thp, "what is not counted is not shown"
    assert thp <= set(MEMORY_STAT_EVENTS)


def vmstat() -> dict[str, int]:
    """The counters by name."""
    lines = [line.split(" ") for line in vmstat_show().splitlines()]
    return {name: int(value) for name, value in lines}


def test_vmstat_of_a_system_at_rest() -> None:
    with running(make("asv.llw.", flags=("locked", "read", "write"))):
        found = vmstat()
    assert {name: value for name, value in found.items() if value} == {
        "nr_mlock": 2,
        "nr_anon_pages": 4,
        "nr_page_table_pages": 2,
        "nr_swapcached": 1,
    }
    assert set(VM_EVENTS) < set(found)


def test_a_huge_page_is_one_huge_page_and_as_many_pages() -> None:
    with running(make("........", pmd="huge")):
        assert (vmstat()["nr_anon_transparent_hugepages"], vmstat()["nr_anon_pages"]) == (1, 8)


def test_vmstat_after_a_collapse() -> None:
    r = go(make("aaaaaaaw", direct(3), swap=7))
    with r.world.system.running(r.world.task):
        found = {name: value for name, value in vmstat().items() if value}
    assert found == {
        "nr_anon_pages": 8,
        "nr_anon_transparent_hugepages": 1,
        "nr_page_table_pages": 1,
        "pswpin": 1,
        "thp_collapse_alloc": 1,
    }


def test_an_event_is_shown_under_its_name() -> None:
    with running(make("........")):
        before = vmstat()
        count_vm_events("thp_split_pmd", 3)
        assert vmstat() == {**before, "thp_split_pmd": before["thp_split_pmd"] + 3}


def shown(memcg: MemCgroup, name: str) -> str:
    """The text of a file."""
    return MEMORY_FILES[name](memcg)


def test_the_files_of_a_cgroup() -> None:
    with running(make("asv.l.w.", flags=("locked", "read", "write"))) as world:
        found = {name: shown(world.mm.memcg, name) for name in MEMORY_FILES}
    events = "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n"
    assert {name: found[name] for name in ("memory.current", "memory.max", "memory.events")} == {
        "memory.current": "16384\n",
        "memory.max": "max\n",
        "memory.events": events,
    }
    lines = found["memory.stat"].splitlines()
    assert lines[:3] == ["anon 12288", "swapcached 4096", "anon_thp 0"]
    assert lines[3:] == [f"{name} 0" for name in MEMORY_STAT_EVENTS]


def test_the_cgroup_after_a_huge_collapse() -> None:
    r = go(make("aaaaaaaa", direct(3)))
    with r.world.system.running(r.world.task):
        lines = shown(r.world.mm.memcg, "memory.stat").splitlines()
        assert shown(r.world.mm.memcg, "memory.current") == "32768\n"
    assert [line for line in lines if not line.endswith(" 0")] == ["anon 32768", "anon_thp 32768", "thp_collapse_alloc 1"]


def test_a_charge_beyond_the_limit_is_an_event() -> None:
    r = go(attrs.evolve(make("aaaaaaaa", direct(3)), memcg_room=7))
    with r.world.system.running(r.world.task):
        assert shown(r.world.mm.memcg, "memory.max") == "61440\n"
        assert "\nmax 1\n" in shown(r.world.mm.memcg, "memory.events")


@pytest.mark.parametrize(
    ("value", "limit", "text"),
    [
        ("65536", 16, "65536\n"),
        ("64K\n", 16, "65536\n"),
        (" 64k ", 16, "65536\n"),
        ("65535", 15, "61440\n"),
        ("0x10000", 16, "65536\n"),
        ("1M", 256, "1048576\n"),
        ("0", 0, "0\n"),
        ("\n", 0, "0\n"),
        ("4095", 0, "0\n"),
        ("max", None, "max\n"),
        (" max\n", None, "max\n"),
        (str((1 << 63) - 1), None, "max\n"),
        (str((1 << 63) - 4097), (1 << 51) - 2, f"{(1 << 63) - 8192}\n"),
    ],
)
def test_the_limit_is_set(value: str, limit: int | None, text: str) -> None:
    with running(make("........")) as world:
        memcg = world.mm.memcg
        memcg._max = 7
        assert memory_write(memcg, "memory.max", value) == ""
        assert memcg._max == limit
        assert shown(memcg, "memory.max") == text


@pytest.mark.parametrize("value", ["-1", "+1", "1x", "1 M", "Max", "maximum", "1KK", "08", "\N{ARABIC-INDIC DIGIT ONE}"])
def test_a_limit_that_is_refused(value: str) -> None:
    with running(make("........")) as world:
        world.mm.memcg._max = 7
        assert memory_write(world.mm.memcg, "memory.max", value) == "EINVAL"
        assert world.mm.memcg._max == 7


@pytest.mark.parametrize(
    ("name", "value", "errno"),
    [
        ("memory.max", "", ""),
        ("memory.current", "0", "EINVAL"),
        ("memory.events", "0", "EINVAL"),
        ("memory.stat", "", ""),
        ("memory.high", "0", "ENOENT"),
    ],
)
def test_other_writes_to_a_cgroup_change_nothing(name: str, value: str, errno: str) -> None:
    with running(make("aaaaaaaa")) as world:
        world.mm.memcg._max = 7
        before = {file: shown(world.mm.memcg, file) for file in MEMORY_FILES}
        assert memory_write(world.mm.memcg, name, value) == errno
        assert {file: shown(world.mm.memcg, file) for file in MEMORY_FILES} == before


def test_a_limit_below_what_is_charged_stops_the_next_charge() -> None:
    with running(make("aaaaaaaa")) as world:
        assert memory_write(world.mm.memcg, "memory.max", "4K") == ""
        assert shown(world.mm.memcg, "memory.current") == "32768\n", "nothing is reclaimed"
        count_memcg_event_mm(world.mm, "thp_fault_alloc")
        assert "\nthp_fault_alloc 1\n" in shown(world.mm.memcg, "memory.stat")
