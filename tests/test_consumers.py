"""The programs in ``consumer`` as type checkers see them where kmm is installed: away from the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.judging import ROOT

CONSUMERS = ROOT / "tests" / "consumer"
NEEDLESS = "kmm.check('reviewed', seed=1)  # type: ignore[arg-type]\n"
UNSEEN = "kmm.check('reviewed', seed='1')\n"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory with the programs."""
    shutil.copytree(CONSUMERS, tmp_path / "consumer", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "consumer"


def run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a tool of this interpreter outside of the checkout, as if nothing told it where that is."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MYPY"))}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=600)


def mypy(directory: Path, python: str = sys.executable) -> tuple[int, str]:
    """Exit code and report of ``mypy --strict``."""
    options = ["--strict", "--no-error-summary", "--python-executable", python]
    done = run([sys.executable, "-m", "mypy", *options, "."], directory)
    return done.returncode, done.stdout + done.stderr


def pyright(directory: Path) -> tuple[int, str]:
    """Exit code and report of pyright in strict mode; skips where it cannot be had."""
    settings = {"typeCheckingMode": "strict", "reportUnnecessaryTypeIgnoreComment": "error"}
    (directory / "pyrightconfig.json").write_text(json.dumps(settings))
    probe = run([sys.executable, "-m", "pyright", "--version"], directory)
    if probe.returncode:
        last = (probe.stderr or probe.stdout).strip().splitlines()
        pytest.skip(f"pyright does not run here; it downloads itself when it is first used: {last[-1] if last else 'no message'}")
    done = run([sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "."], directory)
    return done.returncode, done.stdout + done.stderr


def spoil(directory: Path, line: str) -> str:
    """Add a line to the program of misuse, and give its place."""
    program = directory / "misuse.py"
    program.write_text(program.read_text() + line)
    return f"misuse.py:{len(program.read_text().splitlines())}:"


def test_mypy_accepts_the_programs_and_refuses_misuse(outside: Path) -> None:
    assert mypy(outside) == (0, "")


def test_mypy_sees_what_is_wrong(outside: Path) -> None:
    needless, unseen = spoil(outside, NEEDLESS), spoil(outside, UNSEEN)
    code, out = mypy(outside)
    assert code == 1
    assert [f"{line.split(': ')[0]}:" for line in out.splitlines()] == [needless, unseen]


@pytest.mark.full
def test_pyright_accepts_the_programs_and_refuses_misuse(outside: Path) -> None:
    code, out = pyright(outside)
    assert code == 0, out


@pytest.mark.full
def test_pyright_sees_what_is_wrong(outside: Path) -> None:
    needless, unseen = spoil(outside, NEEDLESS), spoil(outside, UNSEEN)
    code, out = pyright(outside)
    assert code == 1
    errors = [line for line in out.splitlines() if " - error: " in line]
    assert len(errors) == 2
    assert needless in errors[0]
    assert unseen in errors[1]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The interpreter of an environment with kmm installed as users have it, and everything else from this one."""
    venv.create(tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    paths = run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], tmp_path)
    site = Path(paths.stdout.strip())
    (site / "further.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    done = run([*pip, "install", "--no-deps", "--no-build-isolation", "--target", str(site), str(ROOT)], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    where = run([str(python), "-c", "import kmm; print(kmm.__file__)"], tmp_path)
    assert where.stdout.strip() == str(site / "kmm" / "__init__.py")
    return python


@pytest.mark.full
def test_the_installed_package_is_typed(installed: Path, outside: Path) -> None:
    assert mypy(outside, str(installed)) == (0, "")


@pytest.mark.full
def test_the_installed_plugin_works(installed: Path, outside: Path) -> None:
    broken = (
        (ROOT / "refactors" / "reviewed.py").read_text().replace("folio_ref_add(folio, nr_pages - 1)", "folio_ref_add(folio, nr_pages)")
    )
    (outside / "mine.py").write_text(broken)
    done = run([str(installed), "-m", "pytest", "-W", "error", "--strict-markers", "suite.py", "-k", "defaults or drawn"], outside)
    assert "1 failed, 1 passed, 1 deselected" in done.stdout, done.stdout[-3000:]
    assert "AssertionError: different: reviewed does not behave as v12 does" in done.stdout
    assert "run it again with: kmm replay .pytest_cache/d/kmm/counterexample-" in done.stdout
