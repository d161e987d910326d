"""What is shipped: the wheel works where there is no checkout, the sdist holds what the tests need, nothing names a local path."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHIPPED = (".ci", "benchmarks", "corpus", "docs", "kmm", "refactors", "tests")
TOP_LEVEL = (".gitignore", "CHANGELOG.md", "LICENSE", "Makefile", "README.md", "pyproject.toml", "requirements-dev.lock")
LOCAL_PATH = re.compile(r"(?<![\w.~-])/(?:home|root|Users)/\w")


def shipped_files() -> Iterator[Path]:
    """Every file of the project, without what tools leave behind."""
    yield from (ROOT / name for name in TOP_LEVEL)
    for top in SHIPPED:
        yield from (path for path in sorted((ROOT / top).rglob("*")) if path.is_file() and not {"__pycache__", "_build"} & set(path.parts))


def test_no_file_names_a_local_path() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in shipped_files()}
    named = [str(path.relative_to(ROOT)) for path, text in texts.items() if LOCAL_PATH.search(text) or str(ROOT) in text]
    assert named == []


@pytest.mark.parametrize("top", ["home", "root", "Users"])
def test_local_paths_are_recognised(top: str) -> None:
    assert LOCAL_PATH.search(f"see '/{top}/me/x'")
    assert not LOCAL_PATH.search(f"see docs/{top}/me/x")


def test_the_lock_pins_exact_versions_and_names_no_host() -> None:
    lines = (ROOT / "requirements-dev.lock").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#") and not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


def test_both_lists_of_development_tools_are_equal() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["dependency-groups"]["dev"] == project["project"]["optional-dependencies"]["dev"]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist, and the wheel that was built from it."""
    out = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)], cwd=out)
    return out


def run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command outside the checkout; its output where it fails."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done


@pytest.mark.full
def test_the_sdist_holds_what_the_tests_need(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    expected = {str(path.relative_to(ROOT)) for path in shipped_files()}
    assert expected - names == set()
    assert names - expected == {"PKG-INFO"}


@pytest.mark.full
def test_the_wheel_holds_both_packages(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    sources = {path.relative_to(ROOT).as_posix() for path in shipped_files() if path.relative_to(ROOT).parts[0] in ("kmm", "refactors")}
    assert sources - names == set()
    assert {name.partition("/")[0] for name in names} == {"kmm", "refactors", "kmm_sandbox-0.1.0.dist-info"}
    assert any(name.endswith("/licenses/LICENSE") for name in names)


@pytest.mark.full
def test_the_installed_wheel_judges_in_an_empty_directory(dist: Path, tmp_path: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    environment, empty = tmp_path / "env", tmp_path / "empty"
    empty.mkdir()
    venv.create(environment, with_pip=True)
    lock = str(ROOT / "requirements-dev.lock")
    pip = [str(environment / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run([*pip, "install", "-c", lock, str(wheel)], empty)
    done = run([str(environment / "bin" / "kmm"), "check", "--format", "json"], empty)
    verdict = json.loads(done.stdout)
    assert (verdict["schema"], verdict["relation"], verdict["exit_code"]) == (1, "equivalent", 0)
    assert list(empty.iterdir()) == []
