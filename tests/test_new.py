"""``kmm new``: the copy is a variant by itself, nothing is overwritten, and what is printed can be typed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from kmm.cli.main import main
from kmm.judge.lint import lint
from kmm.judge.variants import load_variant
from kmm.scenario.toml import save_many
from tests.helpers import direct, make
from tests.judging import REVIEWED, ROOT

SCENARIOS = [make("aaaaaaaa"), make(".....aaa", orders=(2,)), make("aaaa....", direct(2, 4))]
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "PYTHONPATH": str(ROOT),
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """The commands that ``kmm new`` prints."""
    assert main(["new", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return re.findall(r"^  (.*)$", captured.out, re.MULTILINE)


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that ``kmm new`` gives on bad input."""
    assert main(["new", *arguments]) == 4
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    return captured.err.removeprefix("kmm: ").rstrip("\n")


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("source", ["reviewed", "v12"])
def test_the_copy_is_equivalent_and_clean(source: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = commands(capsys, "fewer_branches", "--from", source)
    assert found == [
        "kmm check ./fewer_branches.py --baseline v12",
        "pytest ./test_fewer_branches.py",
        f"kmm diff {source} ./fewer_branches.py",
    ]
    assert files(here) == ["fewer_branches.py", "test_fewer_branches.py"]
    loaded = load_variant("./fewer_branches.py")
    assert loaded.variant.name == "fewer_branches"
    assert [str(each) for each in lint(loaded)] == []
    save_many("s.toml", SCENARIOS)
    assert main(["check", "./fewer_branches.py", "--scenario", "s.toml"]) == 0
    assert "equivalent: fewer_branches behaves as v12 does in all 3 scenarios" in capsys.readouterr().out
    assert main(["diff", source, "./fewer_branches.py", "--exit-code"]) == 0


def test_only_the_docstring_and_the_name_are_new(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands(capsys, "mine")
    before, after = REVIEWED.read_text().split("\n"), (here / "mine.py").read_text().split("\n")
    changed = [(i, new) for i, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    assert changed == [
        (0, '"""``mine``, which began as a copy of ``reviewed``."""'),
        (len(after) - 2, 'VARIANT = Variant(name="mine", collapse_huge_page=call_site)'),
    ]


def test_the_test_is_one(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands(capsys, "mine")
    text = (here / "test_mine.py").read_text()
    compile(text, "test_mine.py", "exec")
    assert "from kmm.testing import assert_equivalent\n" in text
    assert 'assert_equivalent(VARIANT, "v12")\n' in text


@pytest.mark.full
def test_the_commands_work_as_printed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("kmm.testing")
    for command in commands(capsys, "mine"):
        done = subprocess.run(command, shell=True, cwd=here, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


@pytest.mark.full
def test_the_test_finds_a_mistake(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("kmm.testing")
    command = commands(capsys, "mine")[1]
    text = (here / "mine.py").read_text()
    (here / "mine.py").write_text(text.replace("folio_ref_add(folio, nr_pages - 1)", "folio_ref_add(folio, nr_pages)"))
    done = subprocess.run(command, shell=True, cwd=here, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout[-2000:]
    assert "1 failed" in done.stdout


def test_a_directory_whose_name_needs_quotes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "a b").mkdir()
    (here / "-x").mkdir()
    assert [shlex.split(each)[-1] for each in commands(capsys, "mine", "--dir", "a b")] == [
        "v12",
        "./a b/test_mine.py",
        "./a b/mine.py",
    ]
    assert commands(capsys, "mine", "--dir=-x")[2] == "kmm diff reviewed ./-x/mine.py"
    assert commands(capsys, "other", "--dir", str(here))[1] == f"pytest {shlex.quote(str(here / 'test_other.py'))}"


def test_from_a_path(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands(capsys, "first")
    assert commands(capsys, "second", "--from", "./first.py")[2] == "kmm diff ./first.py ./second.py"
    assert (here / "second.py").read_text() == (here / "first.py").read_text().replace("``reviewed``", "``first``").replace(
        "``first``, which began as a copy of ``first``", "``second``, which began as a copy of ``first``"
    ).replace('name="first"', 'name="second"')


SOURCES = {
    "without a docstring": "from refactors import v12\nimport attrs\n\nVARIANT = attrs.evolve(v12.VARIANT, name='x')\n",
    "with a name on several lines": (
        '"""Över\nlines."""; from refactors import v12\nimport attrs\nVARIANT = attrs.evolve(\n    v12.VARIANT, name="ä"\n    "b", \n)\n'
    ),
    "with everything in one line": '"""D"""; import attrs; from refactors import v12; VARIANT = attrs.evolve(v12.VARIANT, name="é")',
    "with more after VARIANT": (
        "from refactors import v12\nimport attrs\nVARIANT = attrs.evolve(v12.VARIANT, name='x')\nOTHER = dict(name='y')\n"
        "assert OTHER == {'name': 'y'}\n"
    ),
    "with a call first": "len('')\nfrom refactors import v12\nimport attrs\nVARIANT = attrs.evolve(v12.VARIANT, name='x')\n",
    "with Windows line ends": '"""D."""\r\nimport attrs\r\nfrom refactors import v12\r\nVARIANT = attrs.evolve(v12.VARIANT, name="x")\r\n',
}


@pytest.mark.parametrize("text", SOURCES.values(), ids=SOURCES)
def test_sources_of_many_shapes(text: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "x.py").write_bytes(text.encode())
    commands(capsys, "mine", "--from", "./x.py")
    loaded = load_variant("./mine.py")
    assert loaded.variant.name == "mine"
    after = (here / "mine.py").read_text()
    assert after.startswith('"""``mine``, which began as a copy of ')
    assert ("len('')" in after) == ("len('')" in text)


BAD_NAMES = {
    "": "cannot be the name of a variant; use letters",
    "a-b": "cannot be the name of a variant",
    "a.b": "cannot be the name of a variant",
    "../a": "cannot be the name of a variant",
    "3a": "cannot be the name of a variant",
    "mïne": "cannot be the name of a variant",
    "__init__": "cannot be the name of a variant",
    "a" * 200: "cannot be the name of a variant",
    "class": '"class" is a word of Python; choose another name',
    "v12": 'there is a variant "v12" already; choose another name',
    "types": "is the name of a Python module",
    "click": "is the name of a Python module",
    "kmm": "is the name of a Python module",
    "test_mine": 'pytest takes "test_mine.py" for one of its own files',
    "conftest": 'pytest takes "conftest.py" for one of its own files',
}


@pytest.mark.parametrize(("name", "problem"), BAD_NAMES.items(), ids=[name[:20] for name in BAD_NAMES])
def test_bad_names(name: str, problem: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert problem in complaint(capsys, name)
    assert files(here) == []


BAD_SOURCES = {
    "does not spell its name out": (
        "from refactors import v12\nVARIANT = v12.VARIANT\n",
        "./x.py: the name of VARIANT does not stand in it; ",
    ),
    "is no variant": ("x = 1\n", "./x.py: the module has no VARIANT; "),
    "is in another encoding": (
        "# coding: latin-1\nfrom refactors import v12\nimport attrs\nVARIANT = attrs.evolve(v12.VARIANT, name='x')\n",
        "./x.py: the source is not UTF-8 text; ",
    ),
}


@pytest.mark.parametrize(("text", "problem"), BAD_SOURCES.values(), ids=BAD_SOURCES)
def test_bad_sources(text: str, problem: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "x.py").write_text(text)
    assert complaint(capsys, "mine", "--from", "./x.py").startswith(problem)
    assert files(here) == ["x.py"]


def test_bad_arguments(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Missing argument" in complaint(capsys)
    assert "unexpected extra argument" in complaint(capsys, "a", "b")
    assert complaint(capsys, "mine", "--from", "v13").startswith('there is no variant "v13"; ')
    assert complaint(capsys, "mine", "--dir", "none").startswith("none: there is no such directory; ")
    assert files(here) == []


@pytest.mark.parametrize("name", ["mine.py", "test_mine.py"])
@pytest.mark.parametrize("kind", ["file", "directory", "dangling link"])
def test_nothing_is_overwritten(name: str, kind: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = here / name
    if kind == "file":
        path.write_text("x")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(here / "nowhere")
    assert complaint(capsys, "mine").startswith(f"{name}: the file exists, and is not overwritten; ")
    assert files(here) == [name]


def test_both_files_or_none(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def fail(source: str, target: str) -> None:
        if Path(target).name == "test_mine.py":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    assert complaint(capsys, "mine") == "test_mine.py: cannot be written (No space left on device); name a writable file"
    assert files(here) == []
