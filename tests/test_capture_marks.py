"""Capture with and without PAGEMAP_SCAN, and every combination of what /proc says of one page."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import itertools
import struct
from array import array
from pathlib import Path

import pytest

from kmm.live.capture import Capture, capture
from kmm.live.frames import Frame
from kmm.live.pages import View, page_states
from kmm.live.proc import Process
from kmm.live.reasons import Skip
from kmm.live.scan import HUGE, ZERO, scan
from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.fits import misfit
from tests import fake_proc as f
from tests.fake_proc import BASE, PID, RANGE, FakeProc

SEEN = f.PRESENT | f.SOFT_DIRTY | f.ONCE
CHANGED = (("changed while it was read", 1),)


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path)


def read(proc: FakeProc, monkeypatch: pytest.MonkeyPatch, marks: bytes) -> Capture:
    """Capture with a kernel that gives these marks for the first pages of the range at ``BASE``."""
    monkeypatch.setattr(Process, "marks", lambda _self, _address, pages: marks.ljust(pages, b"\0"))
    return capture(PID, root=proc.root, page_size=4096)


def fill(proc: FakeProc, word: int, *, shared: int = 0) -> None:
    proc.vma(BASE, BASE + RANGE, kb={"AnonHugePages": 2048, "Shared_Dirty": shared})
    for i in range(512):
        proc.page(BASE + i * 4096, word)


@pytest.mark.parametrize(("mark", "pmd", "page"), [(HUGE, "huge", "."), (HUGE | ZERO, "huge_zero", "."), (0, "table", "a")])
def test_marks_tell_what_a_pmd_maps(proc: FakeProc, monkeypatch: pytest.MonkeyPatch, mark: int, pmd: str, page: str) -> None:
    fill(proc, SEEN)
    found = read(proc, monkeypatch, bytes([mark] * 512))
    assert [(s.pmd, s.pages) for s in found.scenarios] == [(pmd, page * 512)]
    assert found.skipped == ()


def test_marks_count_more_than_the_shape_of_the_folio(proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folio of PMD size that PTEs map, in a VMA that has PMD-mapped ones as well."""
    proc.privileged()
    proc.vma(BASE, BASE + RANGE, kb={"AnonHugePages": 2048})
    proc.folio(BASE, 9, pfn=1024)
    assert [(s.pmd, s.pages) for s in read(proc, monkeypatch, b"").scenarios] == [("table", "9" * 512)]
    assert capture_without(proc, monkeypatch).scenarios[0].pmd == "huge"


def capture_without(proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> Capture:
    monkeypatch.setattr(Process, "marks", lambda *_: None)
    return capture(PID, root=proc.root, page_size=4096)


@pytest.mark.parametrize("word", [SEEN, f.SWAP])
def test_a_huge_page_that_comes_or_goes(proc: FakeProc, monkeypatch: pytest.MonkeyPatch, word: int) -> None:
    """Half of the marks are of before, or the words are no longer those of a huge page."""
    fill(proc, word)
    assert read(proc, monkeypatch, bytes([HUGE] * (256 if word == SEEN else 512))).skipped == CHANGED


def test_the_zero_page_and_a_shared_page_differ(proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    proc.vma(BASE, BASE + RANGE, kb={"Shared_Dirty": 4})
    proc.page(BASE, f.PRESENT | f.SOFT_DIRTY)
    proc.page(BASE + 4096, f.PRESENT | f.SOFT_DIRTY)
    (scenario,) = read(proc, monkeypatch, bytes([ZERO, 0])).scenarios
    assert scenario.pages[:3] == "zs."
    assert "kind" not in scenario.assumed


def test_a_page_that_was_the_zero_page_a_moment_ago(proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    proc.vma(BASE, BASE + RANGE)
    proc.page(BASE, f.PRESENT)
    assert read(proc, monkeypatch, b"").skipped == CHANGED


def test_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that gives one region in each answer."""
    regions = [(0x3000, 0x5000, HUGE), (0x6000, 0x7000, ZERO)]
    asked = []

    def answer(fd: int, request: int, argument: bytearray) -> int:
        fields = list(struct.unpack("=12Q", argument))
        asked.append((fd, request, fields[0], fields[2], fields[3]))
        start, end, marks = regions[len(asked) - 1]
        ctypes.memmove(fields[5], struct.pack("=3Q", start, end, marks), 24)
        fields[4] = end if len(asked) < len(regions) else 0x8000
        argument[:] = struct.pack("=12Q", *fields)
        return 1

    monkeypatch.setattr(fcntl, "ioctl", answer)
    assert scan(5, 0x2000, 6, 0x1000) == bytes([0, HUGE, HUGE, 0, ZERO, 0])
    assert asked == [(5, 0xC0606610, 96, 0x2000, 0x8000), (5, 0xC0606610, 96, 0x5000, 0x8000)]


def test_a_kernel_without_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOTTY, "no such request")

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    assert scan(5, 0x2000, 6, 0x1000) is None


def test_a_request_that_does_not_advance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "ioctl", lambda *_: 0)
    assert scan(5, 0x2000, 6, 0x1000) is None


def test_a_poisoned_page_that_is_unmapped(proc: FakeProc) -> None:
    proc.privileged()
    proc.vma(BASE, BASE + RANGE)
    proc.page(BASE, f.SWAP | 27 | 9 << 5)
    proc.frame(9, f.HWPOISON | f.ANON)
    (scenario,) = capture(PID, root=proc.root, page_size=4096).scenarios
    assert scenario.pages == "H" + "." * 511


def test_a_reader_who_may_open_the_frames_but_sees_no_numbers(proc: FakeProc) -> None:
    """Without CAP_SYS_ADMIN a swap entry and a marker look alike."""
    proc.privileged()
    proc.vma(BASE, BASE + RANGE, kb={"Swap": 4})
    proc.page(BASE, f.SWAP)
    (scenario,) = capture(PID, root=proc.root, page_size=4096).scenarios
    assert scenario.pages[0] == "w"
    assert "kind" in scenario.assumed


@pytest.mark.parametrize(
    ("reason", "vma_flags", "flags"),
    [
        ("lazyfree page that is mlocked", "rd wr sd lo", f.ANON | f.UNEVICTABLE | f.MLOCKED),
        ("merged page in the swap cache", "rd wr sd mg", f.PLAIN | f.KSM | f.SWAPCACHE),
    ],
)
def test_states_that_exist_but_that_scenarios_lack(proc: FakeProc, reason: str, vma_flags: str, flags: int) -> None:
    proc.privileged()
    proc.vma(BASE, BASE + RANGE, flags=vma_flags)
    proc.page(BASE, SEEN, pfn=7, flags=flags)
    assert capture(PID, root=proc.root, page_size=4096).skipped == ((reason, 1),)


def subsets(bits: tuple[int, ...]) -> list[int]:
    return [sum(each) for size in range(len(bits) + 1) for each in itertools.combinations(bits, size)]


FLAGS = subsets((f.ANON, f.SWAPBACKED, f.SWAPCACHE, f.LRU, f.KSM, f.MLOCKED, f.HWPOISON, f.ZERO_PAGE))
WORDS = [kind | bits for kind in (f.PRESENT, f.SWAP, f.SWAP | 25, f.SWAP | 31 | 1 << 5) for bits in subsets((f.UFFD_WP, f.ONCE, f.FILE))]


@pytest.mark.parametrize("names", subsets((1, 2, 4, 8, 16)))
def test_every_page_is_left_out_or_fits_its_vma(names: int) -> None:
    """Whatever the files say: never a page that cannot exist, nor one that its VMA cannot have."""
    flags = [name for i, name in enumerate(("write", "uffd_wp", "locked", "mergeable", "droppable")) if names >> i & 1]
    kept = 0
    for swapped in (False, True):
        view = View(
            writable="write" in flags,
            uffd_wp="uffd_wp" in flags,
            locked="locked" in flags,
            mergeable="mergeable" in flags,
            droppable="droppable" in flags,
            soft_dirty=True,
            huge=False,
            shared=True,
            swapped=swapped,
        )
        for word in WORDS:
            seen = (
                [None, *((kpf, order, maps) for kpf in FLAGS for order, maps in ((0, 1), (0, 3), (2, 1)))] if word & f.PRESENT else [None]
            )
            for each in seen:
                frames = {0: Frame(8, each[0], each[2], 8, each[1], each[0])} if each else None
                try:
                    (page,) = page_states(array("Q", [word]), frames, None if frames else b"\0", [(range(1), view)])
                except Skip:
                    continue
                assert misfit(page, flags) is None, (word, each, page)
                kept += page != ALPHABET["."]
    assert kept > 50
