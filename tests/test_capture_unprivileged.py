"""Capture by a reader to whom the kernel does not show page frames."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kmm.scenario.model import Scenario
from kmm.scenario.toml import load_many

RANGE = 2 << 20
THP = Path("/sys/kernel/mm/transparent_hugepage")
ROOT = Path(__file__).parent.parent

DROP = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(24, 21, 0, 0, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""Python without CAP_SYS_ADMIN."""

CHILD = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
PAGE, RANGE = 4096, 2 << 20
def madvise(number, advice):
    return libc.madvise(ctypes.c_void_p(base + number * RANGE), ctypes.c_size_t(RANGE), advice)
start = libc.mmap(None, ctypes.c_size_t(5 * RANGE), 3, 0x22, -1, ctypes.c_long(0))
base = -(-start // RANGE) * RANGE
madvise(2, 15), madvise(3, 15)
ctypes.memset(base, 1, RANGE)
collapsed = madvise(0, 25)
madvise(1, 14)
ctypes.string_at(base + RANGE, 1)
ctypes.memset(base + 2 * RANGE, 1, RANGE)
for page in range(512):
    address = base + 3 * RANGE + page * PAGE
    ctypes.memset(address, 1, 1) if page % 2 else ctypes.string_at(address, 1)
other = os.fork()
if other == 0:
    sys.stdin.read()
    os._exit(0)
print(hex(base), collapsed, flush=True)
sys.stdin.read()
os.waitpid(other, 0)
"""

pytestmark = pytest.mark.skipif(not os.access("/proc/self/pagemap", os.R_OK), reason="no readable /proc/self/pagemap here")


@pytest.fixture(scope="module")
def ranges(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[int, Scenario], int, str]:
    """The captured ranges by number, what MADV_COLLAPSE returned, and the report on standard error."""
    out = tmp_path_factory.mktemp("capture") / "memory.toml"
    python = [sys.executable, "-c", DROP]
    with subprocess.Popen([*python, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        base, collapsed = process.stdout.readline().split()
        command = [*python, "-m", "kmm", "capture", "--pid", str(process.pid), "--names", "-o", str(out)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        process.communicate("")
    assert done.returncode == 0, done.stderr
    found = {(int(s.name.split()[-1], 16) - int(base, 16)) // RANGE: s for s in load_many(out)}
    return found, int(collapsed), done.stderr


@pytest.fixture(scope="module")
def scanned() -> None:
    """PAGEMAP_SCAN is there."""
    if tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) < (6, 7):
        pytest.skip("this kernel has no PAGEMAP_SCAN")


def test_frames_are_hidden(ranges: tuple[dict[int, Scenario], int, str]) -> None:
    assert {"order", "lru", "mapped_by"} <= set(ranges[0][2].assumed)


@pytest.mark.usefixtures("scanned")
def test_a_range_that_a_pmd_maps(ranges: tuple[dict[int, Scenario], int, str]) -> None:
    if ranges[1] != 0:
        pytest.skip("this kernel has no MADV_COLLAPSE")
    assert (ranges[0][0].pmd, ranges[0][2].pmd) == ("huge", "table")
    assert "perhaps" not in ranges[2]


@pytest.mark.usefixtures("scanned")
def test_the_huge_zero_page(ranges: tuple[dict[int, Scenario], int, str]) -> None:
    if "[never]" in (THP / "enabled").read_text() or "0" in (THP / "use_zero_page").read_text():
        pytest.skip("the huge zero page is off here")
    assert ranges[0][1].pmd == "huge_zero"


@pytest.mark.usefixtures("scanned")
def test_the_zero_page_and_a_shared_page_differ(ranges: tuple[dict[int, Scenario], int, str]) -> None:
    s = ranges[0][3]
    assert s.pages == "zs" * 256
    assert "kind" not in s.assumed
