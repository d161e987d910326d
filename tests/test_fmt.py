"""``kmm fmt``."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmm.cli.main import main
from kmm.scenario.toml import parse, parse_replay

CANONICAL = """\
format = 1
name = "one"

[geometry]
ptes = 8

[driver]
kind = "madvise"

[[vma]]
map = "aaaa...."

[replay]
candidate = "reviewed"
"""

LOOSE = """\
name = 'one' # a comment
format = 1
driver = {kind = "madvise"}
[[vma]]
map = "aaaa ...."
flags = ["write", "read"]
[geometry]
ptes = 8
page_size = 4096
[replay]
candidate = "reviewed"
"""


@pytest.fixture
def loose(tmp_path: Path) -> Path:
    path = tmp_path / "loose.toml"
    path.write_text(LOOSE)
    return path


@pytest.fixture
def tidy(tmp_path: Path) -> Path:
    path = tmp_path / "tidy.toml"
    path.write_text(CANONICAL)
    return path


def test_rewrites(loose: Path, tidy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tidy.stat().st_mtime_ns
    assert main(["fmt", str(loose), str(tidy)]) == 0
    assert loose.read_text() == CANONICAL
    assert tidy.stat().st_mtime_ns == before
    assert capsys.readouterr().out == f"rewrote {loose}\n"
    assert main(["fmt", str(loose)]) == 0
    assert capsys.readouterr().out == ""


def test_meaning_is_kept() -> None:
    assert parse_replay(LOOSE) == parse_replay(CANONICAL)
    assert parse(LOOSE).name == "one"


def test_check(loose: Path, tidy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fmt", "--check", str(tidy)]) == 0
    assert capsys.readouterr().out == ""
    assert main(["fmt", "--check", str(tidy), str(loose)]) == 2
    assert capsys.readouterr().out == f"would rewrite {loose}\n"
    assert loose.read_text() == LOOSE


def test_files_of_several(tmp_path: Path) -> None:
    path = tmp_path / "many.toml"
    one = '[[scenario]]\ndriver.kind = "madvise"\ngeometry.ptes = 8\nvma = [{map = "aaaaaaaa"}]\n'
    path.write_text("format = 1\n" + one * 2)
    assert main(["fmt", str(path)]) == 0
    assert path.read_text() == "format = 1\n" + 2 * (
        '\n[[scenario]]\n\n[scenario.geometry]\nptes = 8\n\n[scenario.driver]\nkind = "madvise"\n\n[[scenario.vma]]\nmap = "aaaaaaaa"\n'
    )
    assert main(["fmt", "--check", str(path)]) == 0


def test_one_bad_file_and_nothing_is_written(loose: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("format = 1\nspeed = 9\n")
    assert main(["fmt", str(loose), str(wrong)]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f'kmm: {wrong}:2: unknown key "speed"; use ')
    assert err.count("\n") == 1
    assert loose.read_text() == LOOSE


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fmt"]) == 4
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["fmt", "--help"]) == 0
    assert "kmm fmt --check scenarios/*.toml" in capsys.readouterr().out
