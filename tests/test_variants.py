"""Loading variants: where they are found, and what a bad one says."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import pytest

from kmm.judge import variants
from kmm.judge.errors import VariantError
from kmm.judge.pool import guarded
from kmm.judge.variants import load_variant, variant_names
from tests.judging import REVIEWED, ROOT

GOOD = REVIEWED.read_text()


def problem(path: Path, source: str | bytes) -> VariantError:
    path.write_bytes(source.encode() if isinstance(source, str) else source)
    with pytest.raises(VariantError) as caught:
        load_variant(str(path))
    assert "\n" not in str(caught.value)
    assert caught.value.remedy
    return caught.value


def test_a_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(GOOD)
    loaded = load_variant(str(path))
    assert (loaded.variant.name, loaded.origin, loaded.path) == ("reviewed", str(path), path)
    assert loaded.sha256 == hashlib.sha256(GOOD.encode()).hexdigest()
    assert loaded.files == {str(path)}
    assert loaded.intended == {}


def test_a_path_without_a_slash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "v12.py").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    assert load_variant("v12.py").path == tmp_path / "v12.py"


def test_a_name_is_looked_up_in_the_checkout_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "refactors").mkdir()
    (tmp_path / "refactors" / "__init__.py").touch()
    (tmp_path / "refactors" / "v12.py").write_text(GOOD)
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    here = load_variant("v12")
    assert (here.path, here.origin) == (tmp_path / "refactors" / "v12.py", "refactors/v12.py of the checkout")
    assert here.variant.name == "reviewed"
    assert variant_names() == ["v12"]
    installed = load_variant("reviewed")
    assert (installed.path, installed.origin) == (REVIEWED, "installed refactors.reviewed")


def test_a_name_without_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_variant("v12").path == ROOT / "refactors" / "v12.py"
    assert {"v12", "reviewed"} <= set(variant_names())


def test_an_unknown_name() -> None:
    with pytest.raises(VariantError, match=r'no variant "nonesuch"; .*reviewed.*v12.*path that ends in \.py'):
        load_variant("nonesuch")


@pytest.mark.parametrize("name", ["", "v 12", "..", "v12.", "-x", "__init__"])
def test_no_name(name: str) -> None:
    with pytest.raises(VariantError):
        load_variant(name)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(VariantError, match="no such file"):
        load_variant(str(tmp_path / "none.py"))
    with pytest.raises(VariantError, match="directory"):
        load_variant(f"{tmp_path}/")
    with pytest.raises(VariantError, match="cannot be read"):
        load_variant("a\0b.py")


@pytest.mark.parametrize(
    ("source", "line", "text"),
    [
        ("", 0, "empty"),
        (b"\x7fELF\x02\x01\0\0", 0, "not Python"),
        (b"\xff\xfe\xfd", 0, "not Python"),
        (" " * (variants.MAX_BYTES + 1), 0, "larger than 4 MiB"),
        ("a = 1\nb = (\n", 2, "not Python"),
        ("a = 1\nimport nonesuch\n", 2, "ModuleNotFoundError"),
        ("def f():\n    raise KeyError('x')\n\nf()\n", 2, "KeyError"),
        ("import sys\nsys.exit(7)\n", 2, "SystemExit: 7"),
        ("import os\nos._exit(7)\n", 0, "ended the process with code 7"),
        ("import ctypes\nctypes.string_at(0)\n", 0, "killed by signal 11"),
        ("a = 1\n", 0, "no VARIANT"),
        ("a = 1\nVARIANT = 'v12'\n", 2, "of type str"),
        (GOOD.replace('name="reviewed"', "name=''"), len(GOOD.splitlines()), "the name of VARIANT"),
        (GOOD.replace("collapse_huge_page=call_site", "collapse_huge_page=None"), len(GOOD.splitlines()), "not a function"),
        (GOOD.replace('name="reviewed",', 'name="reviewed", collapse_scan_pmd=3,'), len(GOOD.splitlines()), "collapse_scan_pmd"),
        (GOOD + "INTENDED = ['x']\n", len(GOOD.splitlines()) + 1, "INTENDED is not a dict"),
        (GOOD + "INTENDED = {'v12': 'x'}\n", len(GOOD.splitlines()) + 1, "INTENDED is not a dict"),
        (
            GOOD + "from kmm.mm.intended import IntendedDifference\n"
            "INTENDED = {'v12': (IntendedDifference(observable='time', predicate=lambda _: True, why='w', source='s'),)}\n",
            len(GOOD.splitlines()) + 2,
            'INTENDED names "time", which is not an observable',
        ),
    ],
)
def test_a_bad_file(tmp_path: Path, source: str | bytes, line: int, text: str) -> None:
    path = tmp_path / "bad.py"
    error = problem(path, source)
    assert text in error.problem
    if line:
        assert error.where == f"{path}:{line}"
    else:
        assert error.where.startswith(str(path))


def test_an_import_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "guarded", functools.partial(guarded, stall_s=0.6))
    assert "made no step" in problem(tmp_path / "hangs.py", "while True:\n    pass\n").problem


def test_an_import_that_prints(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "prints.py"
    path.write_text(GOOD + "print('hello')\n")
    load_variant(str(path))
    assert capfd.readouterr().out == ""


def test_intended_differences_are_read(tmp_path: Path) -> None:
    path = tmp_path / "declares.py"
    path.write_text(
        GOOD + "from kmm.mm.intended import IntendedDifference\n"
        "INTENDED = {'v12': (IntendedDifference(observable='trace', predicate=lambda s: True, why='because', source='nobody'),)}\n"
    )
    assert [each.observable for each in load_variant(str(path)).intended["v12"]] == ["trace"]
    error = problem(path, path.read_text().replace("'trace'", "'tracing'"))
    assert error.where == f"{path}:{len(GOOD.splitlines()) + 2}"
    assert "is not an observable" in error.problem
