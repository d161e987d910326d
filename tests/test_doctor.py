"""What kmm doctor makes of its probes, and what it says of this machine."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from kmm.cli.main import main
from kmm.live.doctor import AREAS, CORE, PARTS, Part, Row, examine, exit_code, schema, to_json
from kmm.live.doctor_host import Finding, Host, State, limited, missing, ok, one_line
from kmm.report.doctor import render

ROOT = Path(__file__).parent.parent


def broken(_host: Host) -> Finding:
    raise RuntimeError("the sky\nfell")


def test_a_probe_that_fails_is_a_row() -> None:
    (row,) = examine(parts=[Part("x", CORE, "nothing", broken)])
    assert row.finding[:2] == (State.LIMITED, "could not be looked at (RuntimeError: the sky fell)")
    assert row.finding.remedy


def test_the_table() -> None:
    keys = [part.key for part in PARTS]
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", key) for key in keys)
    areas = [list(AREAS).index(part.area) for part in PARTS]
    assert areas == sorted(areas)
    assert set(areas) == set(range(len(AREAS)))
    assert all(part.gives for part in PARTS)


def rows(*states: tuple[str, Finding]) -> list[Row]:
    return [Row(Part(f"part-{i}", area, "something", lambda _host: ok("x")), finding) for i, (area, finding) in enumerate(states)]


@pytest.mark.parametrize(
    ("area", "finding", "code"),
    [
        (CORE, missing("no", "get it"), 2),
        (CORE, limited("some", "get it"), 0),
        (CORE, ok("yes"), 0),
        ("capture", missing("no", "get it"), 0),
    ],
)
def test_exit_codes(area: str, finding: Finding, code: int) -> None:
    assert exit_code(rows((CORE, ok("yes")), (area, finding))) == code


def test_json_has_the_schema() -> None:
    form = json.loads(json.dumps(to_json(rows((CORE, ok("yes")), ("witness", missing("no", "get it"))))))
    assert form == {
        "schema": 1,
        "exit_code": 0,
        "parts": [
            {"key": "part-0", "area": "core", "state": "ok", "found": "yes", "gives": "something", "remedy": None},
            {"key": "part-1", "area": "witness", "state": "missing", "found": "no", "gives": "something", "remedy": "get it"},
        ],
    }
    jsonschema.Draft202012Validator.check_schema(json.loads(schema()))
    jsonschema.validate(form, json.loads(schema()))
    for key in form["parts"][0]:
        bad = {**form, "parts": [{name: value for name, value in form["parts"][0].items() if name != key}]}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, json.loads(schema()))


def test_the_schema_knows_the_words() -> None:
    words = json.loads(schema())["properties"]["parts"]["items"]["properties"]
    assert words["area"]["enum"] == list(AREAS)
    assert words["state"]["enum"] == [state.value for state in State]


def test_text() -> None:
    shown = render(
        rows((CORE, ok("yes")), ("capture", missing("no " * 40, "get it " * 20)), ("capture", limited("some", "get it"))),
        width=70,
        colour=False,
    )
    assert shown.startswith(
        "core: what every command needs\n  ok       part-0           yes\n                            gives: something\n\ncapture: "
    )
    assert "  missing  part-1           no no" in shown
    assert "                            to do: get it\n" in shown
    assert max(map(len, shown.splitlines())) <= 70
    assert shown.endswith("\nThe core is there. 3 parts: 1 ok, 1 limited, 1 missing\n")
    assert "A part of the core is missing." in render(rows((CORE, missing("no", "get it"))), width=10, colour=False)


def test_colour() -> None:
    some = rows((CORE, ok("yes")), (CORE, limited("some", "get it")), (CORE, missing("no", "get it")))
    coloured = render(some, width=80, colour=True)
    assert [f"\033[{code}m" in coloured for code in (32, 33, 31)] == [True] * 3
    assert re.sub(r"\033\[\d+m", "", coloured) == render(some, width=80, colour=False)


def test_one_line() -> None:
    assert one_line("a\n b\x1b[31m\udcff") == "a b?[31m?"
    assert len(one_line("x" * 500)) == 200


def test_for_real(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert main(["doctor", "--format", "json"]) == 0
    form = json.loads(capsys.readouterr().out)
    jsonschema.validate(form, json.loads(schema()))
    assert [part["key"] for part in form["parts"]] == [part.key for part in PARTS]
    assert all((part["remedy"] is None) == (part["state"] == "ok") for part in form["parts"])
    assert all(f"  {part['state']:9}{part['key']:17}" in text for part in form["parts"])
    found = {part["key"]: part for part in form["parts"]}
    assert found["python"]["found"] == sys.version.split()[0]
    assert found["libraries"]["state"] == found["fork"]["state"] == "ok"
    assert f"attrs {importlib.metadata.version('attrs')}" in found["libraries"]["found"]
    assert not any("could not be looked at" in part["found"] for part in form["parts"])


@pytest.mark.skipif(not os.access("/proc/self/status", os.R_OK), reason="no /proc here")
def test_for_real_on_linux() -> None:
    found = {row.part.key: row.finding for row in examine()}
    assert found["kernel"].found == f"Linux {os.uname().release}"
    assert found["privileges"].found.startswith("root" if os.geteuid() == 0 else f"uid {os.geteuid()}")
    assert (found["kpageflags"].state is State.OK) == os.access("/proc/kpageflags", os.R_OK)


WITHOUT_LIBRARIES = """
import importlib.metadata, sys
GONE = ("attr", "attrs", "cattrs", "hypothesis", "rich", "tomli_w")
for name in GONE:
    sys.modules[name] = None
version = importlib.metadata.version
def gone(name):
    if name.replace("-", "_") in GONE:
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)
importlib.metadata.version = gone
from kmm.cli.main import main
sys.exit(main(["doctor"]))
"""


def test_it_runs_where_the_libraries_are_missing(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", WITHOUT_LIBRARIES], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "")
    assert "  missing  libraries        attrs is missing; cattrs is missing; hypothesis is missing; rich is" in done.stdout
    assert "could not be looked at (ModuleNotFoundError" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("A part of the core is missing. ")


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["doctor"]) == 0
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("arguments", [["doctor", "now"], ["doctor", "--format", "yaml"]])
def test_bad_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(arguments) == 4
    assert re.fullmatch(r"kmm: .*; see kmm doctor --help\n", capsys.readouterr().err)


def test_the_page_lists_every_part() -> None:
    shown = re.findall(r"^\| `([a-z-]+)` \| (.+?) \|", (ROOT / "docs/doctor.md").read_text(), re.MULTILINE)
    assert shown == [(part.key, part.gives) for part in PARTS]
