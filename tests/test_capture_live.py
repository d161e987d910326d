"""Capture of a process that the test starts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmm.cli.main import main
from kmm.live.capture import Capture, as_captured_drivers, capture
from kmm.scenario.model import Scenario
from kmm.scenario.page import Kind
from kmm.scenario.toml import load_many

CHILD = """
import ctypes, mmap, sys
PAGE, RANGE, SIZE = 4096, 2 << 20, 64 << 20
memory = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_NOHUGEPAGE)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
first = -address % RANGE
for page in range(0, 512, 2):
    memory[first + page * PAGE] = 1
for page in range(0, 512, 3):
    memory[first + RANGE + page * PAGE]
for start in range(first + 2 * RANGE, SIZE - RANGE + 1, RANGE):
    for page in range(512):
        memory[start + page * PAGE] = page % 251
print(hex(address + first), flush=True)
sys.stdin.read()
"""

pytestmark = pytest.mark.skipif(not os.access("/proc/self/pagemap", os.R_OK), reason="no readable /proc/self/pagemap here")


@pytest.fixture(scope="module")
def child() -> Iterator[tuple[int, int]]:
    """Pid, and address of the first range."""
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline(), 16)
        process.communicate("")


@pytest.fixture(scope="module")
def captured(child: tuple[int, int]) -> Capture:
    return capture(child[0], names=True)


def at(captured: Capture, address: int) -> Scenario:
    (scenario,) = (each for each in captured.scenarios if each.name.endswith(f" {address:#x}"))
    return scenario


def kinds(scenario: Scenario) -> list[Kind]:
    alphabet = scenario.alphabet()
    return [alphabet[letter].kind for letter in scenario.vmas[0].pages]


def test_written_pages_are_present(captured: Capture, child: tuple[int, int]) -> None:
    scenario = at(captured, child[1])
    assert kinds(scenario) == [Kind.PRESENT, Kind.NONE] * 256
    assert scenario.vmas[0].flags == ("nohugepage", "read", "write")


def test_read_pages_are_the_zero_page(captured: Capture, child: tuple[int, int]) -> None:
    assert kinds(at(captured, child[1] + (2 << 20))) == ([Kind.ZERO, Kind.NONE, Kind.NONE] * 171)[:512]


def test_full_ranges_are_private_to_the_process(captured: Capture, child: tuple[int, int]) -> None:
    scenario = at(captured, child[1] + (4 << 20))
    alphabet = scenario.alphabet()
    states = [alphabet[letter] for letter in scenario.vmas[0].pages]
    assert {(s.kind, s.order, s.mapped_by, s.exclusive, s.write) for s in states} == {(Kind.PRESENT, 0, 0, True, True)}


def test_all_of_it_is_captured(captured: Capture) -> None:
    assert len(captured.scenarios) >= 31
    assert all(len(as_captured_drivers(scenario)) == 4 for scenario in captured.scenarios)


def test_a_capture_holds_no_frame_numbers_and_no_names(child: tuple[int, int]) -> None:
    plain = capture(child[0])
    assert [s.name for s in plain.scenarios] == [f"range {i}" for i in range(1, len(plain.scenarios) + 1)]


def test_a_capture_is_written_and_read_back(child: tuple[int, int], tmp_path: Path) -> None:
    out = tmp_path / "memory.toml"
    assert main(["capture", "--pid", str(child[0]), "-o", str(out)]) == 0
    assert len(load_many(out)) >= 31


def test_an_empty_answer_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kmm.live.capture.capture", lambda *_, **__: Capture(scenarios=(), skipped=(("file VMA", 3),)))
    out = tmp_path / "memory.toml"
    assert main(["capture", "--pid", "1", "-o", str(out)]) == 4
    assert "process 1 has no range that can be captured" in capsys.readouterr().err
    assert not out.exists()


def test_a_dead_process_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    with subprocess.Popen(["true"]) as process:
        pass
    assert main(["capture", "--pid", str(process.pid)]) == 4
    assert capsys.readouterr().err == f"kmm: there is no process {process.pid}; give the pid of a running process\n"
