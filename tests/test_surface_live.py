"""The model's files beside those of the kernel that runs here, where it is Linux with transparent huge pages."""

from __future__ import annotations

import re
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from kmm.mm.proc import meminfo_proc_show, proc_pid_status
from kmm.mm.smaps import VM_FLAG_NAMES, show_smaps, show_smaps_rollup
from kmm.mm.sysfs import sysfs_files_of, sysfs_read
from kmm.mm.vmstat import vmstat_show
from kmm.scenario.model import Geometry
from tests.helpers import make, running
from tests.port.test_sysfs import machine

SYSFS: Final = Path("/sys/kernel/mm/transparent_hugepage")
PROC: Final = Path("/proc/self")
ADDED: Final = re.compile(r"/stats/collapse_")
"""What the series adds and no released kernel has."""


def live(path: Path) -> str:
    """The text of a file of the running kernel."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        pytest.skip(f"{path} cannot be read: {error}")


def geometry() -> Geometry:
    """That of this machine."""
    page_size = resource.getpagesize()
    return Geometry(page_size=page_size, ptes=int(live(SYSFS / "hpage_pmd_size")) // page_size)


def here() -> list[str]:
    """The model's files that a released kernel has, on a machine like this one."""
    g = geometry()
    if not (SYSFS / "khugepaged" / "max_ptes_shared").exists() or not any(SYSFS.glob("hugepages-*kB/stats/split_deferred")):
        pytest.skip("the kernel is older than Linux 6.10")
    return [path for path in sysfs_files_of(g.page_size, g.pmd_order) if not ADDED.search(path)]


def shape(text: str) -> str:
    """A text without the numbers and the choice in it."""
    return re.sub(r"\[([a-z+]+)\]", r"\1", re.sub(r"[0-9]+", "N", text))


NEWER: Final = re.compile(r"shrink_underused|/stats/(nr_anon|swpin|zswpout)")
"""Younger than Linux 6.10."""


def test_the_files_exist_here_and_look_alike() -> None:
    paths = here()
    present = [path for path in paths if (SYSFS / path).exists()]
    assert [path for path in paths if path not in present and not NEWER.search(path)] == []
    with machine(geometry()):
        assert {path: shape(sysfs_read(path)) for path in present} == {path: shape(live(SYSFS / path)) for path in present}


def test_who_may_write_is_the_same_here() -> None:
    with machine(geometry()):
        writable = {path: bool((SYSFS / path).stat().st_mode & 0o222) for path in here() if (SYSFS / path).exists()}
    read_only = {path for path, may in writable.items() if not may}
    expected = {"hpage_pmd_size", "khugepaged/full_scans", "khugepaged/pages_collapsed"}
    assert read_only == expected | {path for path in writable if "/stats/" in path}


def in_order(ours: list[str], theirs: list[str]) -> Iterator[str]:
    """The names of ours that theirs has, in their order."""
    return (name for name in theirs if name in ours)


def names(text: str, separator: str) -> list[str]:
    """What the lines are called."""
    return [line.partition(separator)[0] for line in text.splitlines()]


@pytest.mark.parametrize(("file", "separator"), [("/proc/vmstat", " "), ("/proc/meminfo", ":"), ("/proc/self/status", ":")])
def test_the_lines_have_the_names_and_the_order_of_this_kernel(file: str, separator: str) -> None:
    text = live(Path(file))
    with running(make("aaaaaaaa")) as world:
        shows: dict[str, Callable[[], str]] = {
            "/proc/vmstat": vmstat_show,
            "/proc/meminfo": meminfo_proc_show,
            "/proc/self/status": lambda: proc_pid_status(world.mm),
        }
        ours = names(shows[file](), separator)
    found = list(in_order(ours, names(text, separator)))
    if "thp_fault_alloc" in ours and "thp_fault_alloc" not in found:
        pytest.skip("the kernel has no transparent huge pages")
    may_miss = {"thp_split_pud", "nr_swapcached", "pswpin", "pswpout", "swpout_zero", "thp_underused_split_page", "THP_enabled"}
    assert [name for name in ours if name in found or name not in may_miss] == found


def test_smaps_has_the_lines_of_this_kernel() -> None:
    text = live(PROC / "smaps")
    theirs = [line for line in text.splitlines() if not line.startswith("ProtectionKey")]
    starts = [n for n, line in enumerate(theirs) if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line)]
    with running(make("aaaaaaaa")) as world:
        ours = show_smaps(world.mm).splitlines()
    block = theirs[starts[0] : starts[1]]
    if not any(line.startswith("KSM:") for line in block):
        pytest.skip("the kernel is older than Linux 6.7")
    assert names("\n".join(ours[1:]), ":") == names("\n".join(block[1:]), ":")
    assert [shape_of_line(line) for line in ours[1:-1]] == [shape_of_line(line) for line in block[1:-1]]
    assert any(re.fullmatch(r"[0-9a-f]+-[0-9a-f]+ [r-][w-][x-][ps] [0-9a-f]{8} 00:00 0 ", theirs[n]) for n in starts)
    assert re.fullmatch(r"[0-9a-f]+-[0-9a-f]+ rw-p 00000000 00:00 0 ", ours[0])


def shape_of_line(line: str) -> tuple[str, int, str]:
    """The label of a line, its width up to the end of the number, and the unit."""
    number = re.search(r"[0-9]+", line)
    assert number is not None
    return line.partition(":")[0], number.end(), line[number.end() :]


def test_the_rollup_has_the_lines_of_this_kernel() -> None:
    theirs = live(PROC / "smaps_rollup").splitlines()
    with running(make("aaaaaaaa")) as world:
        ours = show_smaps_rollup(world.mm).splitlines()
    if not any(line.startswith("KSM:") for line in theirs):
        pytest.skip("the kernel is older than Linux 6.7")
    assert ours[0].index("[rollup]") == theirs[0].index("[rollup]")
    assert [shape_of_line(line) for line in ours[1:]] == [shape_of_line(line) for line in theirs[1:]]


def test_flags_have_the_names_of_this_kernel() -> None:
    used = {name for line in re.findall(r"^VmFlags: (.*)$", live(PROC / "smaps"), flags=re.MULTILINE) for name in line.split()}
    assert {"rd", "wr", "ex"} <= used
    assert {VM_FLAG_NAMES[bit] for bit in (0, 1, 2)} == {"rd", "wr", "ex"}
