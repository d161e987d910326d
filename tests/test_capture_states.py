"""Capture of the states that a live process can be brought into."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kmm.judge.observe import observe
from kmm.live.capture import as_captured_drivers, capture
from kmm.scenario.checks import GAP
from kmm.scenario.model import Scenario
from kmm.scenario.page import Kind, PageState
from kmm.scenario.run import run
from refactors import reviewed, v12

RANGE = 2 << 20
KSM = Path("/sys/kernel/mm/ksm")

CHILD = """
import ctypes, fcntl, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
PAGE, RANGE = 4096, 2 << 20
def call(name, address, size, last):
    return getattr(libc, name)(ctypes.c_void_p(address), ctypes.c_size_t(size), last)
start = libc.mmap(None, ctypes.c_size_t(11 * RANGE), 3, 0x22, -1, ctypes.c_long(0))
base = -(-start // RANGE) * RANGE
call("madvise", base + RANGE, 5 * RANGE, 15)
call("madvise", base + 7 * RANGE, 3 * RANGE, 15)
def fill(number, pages, value=None):
    for page in range(pages):
        ctypes.memset(base + number * RANGE + page * PAGE, page % 250 + 1 if value is None else value, PAGE)
done = []
fill(0, 512)
done.append(call("madvise", base, RANGE, 25))
fill(1, 512)
done.append(call("madvise", base + RANGE, 20 * PAGE, 8))
fill(2, 512)
done.append(call("madvise", base + 2 * RANGE + 5 * PAGE, PAGE, 102))
fill(3, 512)
done.append(call("mprotect", base + 3 * RANGE + 100 * PAGE, 100 * PAGE, 1))
fill(4, 300)
libc.munmap(ctypes.c_void_p(base + 4 * RANGE + 400 * PAGE), ctypes.c_size_t(50 * PAGE))
fill(5, 64)
done.append(libc.mlock(ctypes.c_void_p(base + 5 * RANGE), ctypes.c_size_t(64 * PAGE)))
call("madvise", base + 6 * RANGE, RANGE, 14)
ctypes.string_at(base + 6 * RANGE, 1)
fill(7, 16, 7)
done.append(call("madvise", base + 7 * RANGE, RANGE, 12))
fill(8, 4)
def request(number, form, *values):
    argument = bytearray(struct.pack(form, *values))
    fcntl.ioctl(uffd, 3 << 30 | len(argument) << 16 | 0xAA << 8 | number, argument)
try:
    uffd = libc.syscall(323, 0o2000001)
    request(0x3F, "=3Q", 0xAA, 1 << 13 | 1 << 14, 0)
    request(0, "=4Q", base + 8 * RANGE, RANGE, 2, 0)
    request(6, "=3Q", base + 8 * RANGE + 2 * PAGE, 4 * PAGE, 1)
    request(8, "=3Qq", base + 8 * RANGE + 8 * PAGE, PAGE, 0, 0)
    done.append(0)
except OSError:
    done.append(-1)
fill(9, 512)
call("madvise", base + 9 * RANGE, 20 * PAGE, 8)
done.append(libc.mlock(ctypes.c_void_p(base + 9 * RANGE), ctypes.c_size_t(RANGE)))
print(hex(base), *done, flush=True)
sys.stdin.read()
"""

pytestmark = pytest.mark.skipif(
    not os.access("/proc/self/pagemap", os.R_OK) or os.geteuid() != 0, reason="needs root: only it sees page frames in /proc/self/pagemap"
)


@contextmanager
def child() -> Iterator[tuple[int, int, list[int]]]:
    """Pid, address of the first range, and what each of the calls returned."""
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        base, *done = process.stdout.readline().split()
        yield process.pid, int(base, 16), [int(each) for each in done]
        process.communicate("")


@pytest.fixture(scope="module")
def ranges() -> Iterator[tuple[dict[int, Scenario], list[int]]]:
    """The captured ranges by number, and what each of the calls returned."""
    with child() as (pid, base, done):
        yield by_number(pid, base), done


def by_number(pid: int, base: int) -> dict[int, Scenario]:
    found = capture(pid, names=True).scenarios
    return {(int(s.name.split()[-1], 16) - base) // RANGE: s for s in found if s.name.split()[-1].startswith("0x")}


def needs(done: list[int], call: int, what: str) -> None:
    if done[call] != 0:
        pytest.skip(f"this machine has no {what}")


def states(s: Scenario) -> list[PageState | None]:
    alphabet = s.alphabet()
    return [None if letter == GAP else alphabet[letter] for letter in s.pages]


def test_a_range_that_a_pmd_maps(ranges: tuple[dict[int, Scenario], list[int]]) -> None:
    needs(ranges[1], 0, "MADV_COLLAPSE")
    assert ranges[0][0].pmd == "huge"


def test_lazyfree_pages(ranges: tuple[dict[int, Scenario], list[int]]) -> None:
    assert [state is not None and state.lazyfree for state in states(ranges[0][1])] == [True] * 20 + [False] * 492


def test_a_guard_marker(ranges: tuple[dict[int, Scenario], list[int]]) -> None:
    needs(ranges[1], 2, "MADV_GUARD_INSTALL")
    assert [i for i, state in enumerate(states(ranges[0][2])) if state is not None and state.kind is Kind.GUARD_MARKER] == [5]


def test_three_vmas_in_a_range(ranges: tuple[dict[int, Scenario], list[int]]) -> None:
    s = ranges[0][3]
    assert [(vma.first, vma.end, "write" in vma.flags) for vma in s.vmas] == [(0, 100, True), (100, 200, False), (200, 512, True)]
    assert {state.kind for state in states(s) if state is not None} == {Kind.PRESENT}


def test_a_hole_between_two_vmas(ranges: tuple[dict[int, Scenario], list[int]]) -> None:
    s = ranges[0][4]
    assert [(vma.first, vma.end) for vma in s.vmas] == [(0, 400), (450, 512)]
    assert s.pages.count(GAP) == 50


def test_mlocked_pages(ranges: tuple[dict[int, Scenario], list[int]]) -> None:
    s = ranges[0][5]
    assert ["locked" in vma.flags for vma in s.vmas] == [True, False]
    assert sum(state is not None and state.mlocked for state in states(s)) == 64
    assert "lockonfault" in s.assumed


def test_the_huge_zero_page(ranges: tuple[dict[int, Scenario], list[int]]) -> None:
    if "[never]" in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text():
        pytest.skip("transparent hugepages are off here")
    if "0" in Path("/sys/kernel/mm/transparent_hugepage/use_zero_page").read_text():
        pytest.skip("the huge zero page is off here")
    assert ranges[0][6].pmd == "huge_zero"


def test_a_mergeable_vma(ranges: tuple[dict[int, Scenario], list[int]]) -> None:
    needs(ranges[1], 5, "KSM")
    assert "mergeable" in ranges[0][7].vmas[0].flags


def test_markers_of_userfaultfd(ranges: tuple[dict[int, Scenario], list[int]]) -> None:
    """Two pages and two holes are write-protected, and one hole is poisoned."""
    needs(ranges[1], 6, "userfaultfd with markers")
    s = ranges[0][8]
    assert "uffd_wp" in s.vmas[0].flags
    present, marker, poison, none = Kind.PRESENT, Kind.UFFD_WP_MARKER, Kind.POISON_MARKER, Kind.NONE
    first = [state for state in states(s)[:10] if state is not None]
    assert [state.kind for state in first] == [*[present] * 4, marker, marker, none, none, poison, none]
    assert [state.uffd_wp for state in first[:4]] == [False, False, True, True]


def test_lazyfree_pages_that_are_mlocked(ranges: tuple[dict[int, Scenario], list[int]]) -> None:
    """Scenarios have no such page: the range is left out, the others are not."""
    needs(ranges[1], 7, "room for mlocked pages")
    assert set(range(9)) <= set(ranges[0])
    assert 9 not in ranges[0]


def test_the_variants_agree_on_all_of_it(ranges: tuple[dict[int, Scenario], list[int]]) -> None:
    for s in ranges[0].values():
        for form in as_captured_drivers(s):
            assert observe(run(form, v12.VARIANT)) == observe(run(form, reviewed.VARIANT))


@pytest.mark.full
def test_merged_pages() -> None:
    """The kernel's merging is switched on for the time of the test."""
    if not os.access(KSM / "run", os.W_OK):
        pytest.skip("KSM cannot be switched on here")
    before = {name: (KSM / name).read_text() for name in ("run", "sleep_millisecs", "pages_to_scan")}
    try:
        for name, value in (("sleep_millisecs", "10"), ("pages_to_scan", "20000"), ("run", "1")):
            (KSM / name).write_text(value)
        with child() as (pid, base, done):
            needs(done, 5, "KSM")
            merged: list[PageState] = []
            for _ in range(40):
                time.sleep(0.25)
                merged = [state for state in states(by_number(pid, base)[7]) if state is not None and state.ksm]
                if len(merged) == 16:
                    break
        assert len(merged) == 16
        assert len(set(merged)) == 1
    finally:
        for name in ("run", "sleep_millisecs", "pages_to_scan"):
            (KSM / name).write_text(before[name])
