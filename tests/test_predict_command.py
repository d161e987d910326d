"""``kmm predict`` as a command, and on a live process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import jsonschema
import pytest

from kmm.cli.main import main
from kmm.live.capture import capture
from kmm.live.predict_json import schema
from kmm.live.predict_value import Fate
from kmm.scenario.toml import save_many
from tests.judging import ROOT
from tests.test_predict import EINVAL, MIXED, PMD, brief, holed, under

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "memory.toml"
    save_many(path, MIXED)
    return str(path)


def test_the_command_gives_json(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", file, "--knob", "max_ptes_none=0,defrag=0", "--format", "json"]) == 0
    out = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(json.loads(schema()))
    jsonschema.validate(out, json.loads(schema()))
    usual, strict = out["settings"]
    assert usual["knobs"] == []
    assert strict["knobs"] == [{"file": "max_ptes_none", "value": "0"}, {"file": "defrag", "value": "0"}]
    assert usual["growth"] == {"bytes": 212 * 4096, "holes": 212 * 4096, "swapped_in": 0}
    assert usual["folios"] == [{"order": 9, "count": 3, "bytes": 6 << 20}]
    assert out["fates"][3]["under"][0]["code"] == "SCAN_PAGE_COUNT"
    assert out["left_out"] is None


def test_the_schema_wants_every_key_and_no_other(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", file, "--format", "json"]) == 0
    out = json.loads(capsys.readouterr().out)
    for bad in ({**out, "more": 1}, *({k: v for k, v in out.items() if k != key} for key in out)):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, json.loads(schema()))


def test_the_result_is_the_same_for_every_number_of_workers(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    outs = []
    for jobs in ("1", "2"):
        assert main(["predict", file, "--jobs", jobs, "--knob", "max_ptes_none=0"]) == 0
        outs.append(capsys.readouterr().out)
    assert outs[0] == outs[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "kmm: give one of FILE and --pid; see kmm predict --help\n"),
        (["FILE", "--pid", "1"], "kmm: give one of FILE and --pid; see kmm predict --help\n"),
        (["FILE", "--knob", "max_ptes_none=600"], f"kmm: max_ptes_none=600: {EINVAL}; write 0 to 511\n"),
        (
            ["FILE", "--knob", "enabled"],
            'kmm: enabled: "enabled" is not a knob and its value; write it as max_ptes_none=0, several with commas',
        ),
        (["--pid", "999999999"], "kmm: "),
        (["no.toml"], "kmm: no.toml: there is no such file; check the name\n"),
        (["FILE", "--variant", "nobody"], 'kmm: there is no variant "nobody"; '),
    ],
)
def test_bad_input(arguments: list[str], message: str, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", *(file if each == "FILE" else each for each in arguments)]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_an_interrupt_prints_what_is_known(tmp_path: Path) -> None:
    path = tmp_path / "memory.toml"
    save_many(path, [holed(i) for i in range(500)])
    code = "import sys; from kmm.cli.main import main; sys.exit(main())"
    knobs = [each for n in range(2, 12) for each in ("--knob", f"max_ptes_none={n}")]
    command = [sys.executable, "-c", code, "predict", str(path), "--jobs", "1", "--format", "json", *knobs]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, text=True) as process:
        time.sleep(5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    partial = json.loads(out)
    jsonschema.validate(partial, json.loads(schema()))
    assert partial["interrupted"] is True
    assert 0 < partial["predicted"] < 500
    assert f"kmm: interrupted: {partial['predicted']} of 500 ranges were reached" in err
    assert "Traceback" not in err


CHILD = """
import ctypes, mmap, sys
PAGE, RANGE, SIZE = 4096, 2 << 20, 10 << 20
memory = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_NOHUGEPAGE)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
first = -address % RANGE
for page in range(0, 512, 2):
    memory[first + page * PAGE] = 1
for page in range(512):
    memory[first + RANGE + page * PAGE] = 1
print(hex(address + first), flush=True)
sys.stdin.read()
"""

needs_pagemap = pytest.mark.skipif(not os.access("/proc/self/pagemap", os.R_OK), reason="no readable /proc/self/pagemap here")


@pytest.fixture
def child() -> Iterator[tuple[int, int]]:
    """Pid, and address of a half range with a full one behind it, both MADV_NOHUGEPAGE."""
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline(), 16)
        process.communicate("")


@needs_pagemap
def test_a_live_process(child: tuple[int, int], capsys: pytest.CaptureFixture[str]) -> None:
    pid, address = child
    assert main(["predict", "--pid", str(pid), "--format", "json", "--knob", "enabled=always"]) == 0
    out = json.loads(capsys.readouterr().out)
    jsonschema.validate(out, json.loads(schema()))
    fates = {each["name"].rpartition(" ")[2]: each["under"][1] for each in out["fates"]}
    for at, pages in ((address, 256), (address + (2 << 20), 512)):
        found = fates[hex(at)]
        assert (found["fate"], found["reason"], found["resident"]) == ("not_scanned", "VM_NOHUGEPAGE", pages * 4096)
    assert out["left_out"]
    assert "young" in out["assumed"]


@needs_pagemap
def test_live_ranges_without_the_advice(child: tuple[int, int]) -> None:
    """The captured pages, as if the process had not asked to be left alone."""
    pid, address = child
    found = [s for s in capture(pid, names=True).scenarios if int(s.name.rpartition(" ")[2], 16) in (address, address + (2 << 20))]
    free = [
        attrs.evolve(s, vmas=tuple(attrs.evolve(v, flags=tuple(f for f in v.flags if f != "nohugepage")) for v in s.vmas)) for s in found
    ]
    pmd = "enabled=always,hugepages-2048kB=inherit"
    half, full = under(f"{pmd},max_ptes_none=511", *free)
    assert brief(half) == (Fate.COLLAPSED, "", PMD, 256)
    assert brief(full) == (Fate.COLLAPSED, "", PMD, 0)
    half, full = under(f"{pmd},max_ptes_none=255", *free)
    assert brief(half)[0:2] == (Fate.REFUSED, "exceed_none_pte")
