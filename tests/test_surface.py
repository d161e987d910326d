"""What an administrator reads before and after a run (``kmm run --surface``)."""

from __future__ import annotations

from typing import Final

import pytest

from kmm.kernel.locks import down_write
from kmm.report import console
from kmm.report.surface import CANNOT, SYSFS, group_lines, print_surface, surface
from kmm.scenario.model import Event
from kmm.scenario.run import Run
from tests.helpers import direct, go, make, running

TITLES: Final = [
    SYSFS,
    "/proc/vmstat",
    "/proc/meminfo",
    "memory.current",
    "memory.events",
    "memory.max",
    "memory.stat",
    "/proc/1/status",
    "/proc/1/smaps, pages 0 to 7",
]


def printed(r: Run) -> str:
    """What is shown of a run."""
    terminal = console.plain()
    with terminal.capture() as captured:
        print_surface(terminal, r)
    return captured.get()


def paragraph(text: str, title: str) -> list[str]:
    """The lines of one group."""
    blocks = text.strip("\n").split("\n\n")
    found = [block.splitlines() for block in blocks if block.splitlines()[0] == title]
    assert len(found) == 1
    return found[0][1:]


def test_every_file_is_there() -> None:
    with running(make("aaaaaaaa")) as world:
        found = surface(world.system)
    assert list(found) == TITLES
    assert found[SYSFS]["enabled"] == "[always] madvise never"
    assert found[SYSFS]["khugepaged/max_ptes_none"] == "7"
    assert found["/proc/vmstat"]["nr_anon_pages"] == "8"
    assert found["/proc/meminfo"]["AnonPages"] == "32 kB"
    assert found["memory.current"] == {"": "32768"}
    assert found["memory.stat"]["anon"] == "32768"
    assert found["/proc/1/status"]["VmRSS"] == "32 kB"
    assert found["/proc/1/smaps, pages 0 to 7"]["Rss"] == "32 kB"
    assert found["/proc/1/smaps, pages 0 to 7"]["VmFlags"] == "rd wr"


def test_each_process_has_its_files() -> None:
    with running(make("stssssss")) as world:
        titles = list(surface(world.system))
    assert [title for title in titles if title.startswith("/proc/") and title.endswith("status")] == [
        f"/proc/{n}/status" for n in (1, 2, 3)
    ]


def test_a_process_that_ended_has_none() -> None:
    with running(make("aaaaaaaa")) as world:
        world.mm._mm_users = 0
        assert [title for title in surface(world.system) if title.startswith("/proc/1")] == []


def test_reading_leaves_no_trace() -> None:
    r = go(make("aaaaaaaa", direct(3)))
    machine = r.world.system.machine
    before = machine.budget, list(machine.reports), list(machine.trace_events), list(machine.tlb_flushes), list(r.world.task.lock_ops)
    first = surface(r.world.system)
    assert (machine.budget, machine.reports, machine.trace_events, machine.tlb_flushes, r.world.task.lock_ops) == before
    assert surface(r.world.system) == first


def test_a_lock_that_is_held_hides_the_maps_only() -> None:
    with running(make("aaaaaaaa")) as world:
        down_write(world.mm.mmap_lock)
        found = surface(world.system)
    assert found["/proc/1/smaps"] == {"": CANNOT}
    assert found["/proc/1/status"]["VmRSS"] == "32 kB"
    assert list(found) == [*TITLES[:-1], "/proc/1/smaps"]


def test_a_table_in_ruins_is_no_crash_and_no_second_report() -> None:
    with running(make("aaaaaaaa")) as world:
        world.system.mem_map.clear()
        assert surface(world.system)["/proc/1/smaps"] == {"": CANNOT}
        assert world.system.machine.reports == []


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ({"a": "1"}, {"a": "1"}, ["a 1"]),
        ({"a": "0"}, {"a": "1"}, ["a 0 -> 1"]),
        ({"a": "1 kB"}, {"a": "0 kB"}, ["a 1 kB -> 0 kB"]),
        ({"a": "0", "b": "0 kB", "c": "max"}, {"a": "0", "b": "0 kB", "c": "max"}, ["c max", "(2 others are 0)"]),
        ({"": "4096"}, {"": "8192"}, ["4096 -> 8192"]),
        ({"": "max"}, {"": "max"}, ["max"]),
    ],
)
def test_lines(before: dict[str, str], after: dict[str, str], lines: list[str]) -> None:
    assert group_lines(before, after) == lines


def test_a_collapse_shows_old_and_new() -> None:
    text = printed(go(make("aaaaaaa.", direct(3))))
    assert [line for line in paragraph(text, SYSFS) if "->" in line] == [
        "  hugepages-32kB/stats/collapse_alloc 0 -> 1",
        "  hugepages-32kB/stats/nr_anon 0 -> 1",
    ]
    assert paragraph(text, "memory.current") == ["  28672 -> 32768"]
    assert paragraph(text, "memory.max") == ["  max"]
    smaps = paragraph(text, "/proc/1/smaps, pages 0 to 7")
    assert [line for line in smaps if "Huge" in line or "Rss" in line] == ["  Rss 28 kB -> 32 kB", "  AnonHugePages 0 kB -> 32 kB"]
    assert smaps[-2] == "  VmFlags rd wr"


def test_a_write_shows_old_and_new() -> None:
    event = Event(op="sysfs", before="mmap_write_lock", name="max_ptes_none", value="0")
    text = printed(go(make("aaaaaaaa", direct(3), events=(event,))))
    assert "  khugepaged/max_ptes_none 7 -> 0" in paragraph(text, SYSFS)


def test_what_came_and_went_is_named() -> None:
    event = Event(op="munmap", before="mmap_write_lock")
    text = printed(go(make("aaaaaaaa", direct(3), events=(event,))))
    assert paragraph(text, "/proc/1/smaps, pages 0 to 7 (gone)")[0] == "  Size 32 kB"
    assert "  VmRSS 32 kB -> 0 kB" in paragraph(text, "/proc/1/status")
    back = Event(op="replace_vma", before="mmap_write_lock", page=4)
    text = printed(go(make("aaaaaaaa", direct(3), events=(back,))))
    assert "/proc/1/smaps, pages 4 to 7 (new)" in text.splitlines()


def test_the_same_run_is_shown_in_the_same_bytes() -> None:
    s = make("aswKz.o.", direct(3), flags=("mergeable", "read", "write"), none=7, swap=7, shared=7)
    assert printed(go(s)) == printed(go(s))
