"""A search finds the same on every Python, in the same order, with the same schedules."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_processes import find

ROOT = Path(__file__).parents[2]
PROGRAM = """
import hashlib
from kmm.judge.outcomes import Outcomes
from kmm.scenario.search import EXHAUSTIVE, SAMPLED
from refactors import reviewed, v12
from tests.concurrent.making import beside
digest = hashlib.sha256()
for actors in (("fork",), ("munmap:0-3",), ("madvise:0-7:collapse",), ("load:3", "store:0")):
    for variant in (v12.VARIANT, reviewed.VARIANT):
        found = Outcomes(beside(*actors, pages="aaa.aaaa"), variant, SAMPLED if len(actors) > 1 else EXHAUSTIVE)
        for outcome in found.all:
            digest.update(outcome + repr((found.exploration.outcomes[outcome], found.schedule(outcome))).encode())
print(digest.hexdigest())
"""


def digest(python: str, seed: str) -> str:
    """What a process says."""
    env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([python, "-c", PROGRAM], env=env, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
    return done.stdout


def test_hash_seeds() -> None:
    assert digest(sys.executable, "1") == digest(sys.executable, "4711")


@pytest.mark.full
@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_pythons(version: str, tmp_path: Path) -> None:
    python = find(version)
    if python is None:
        pytest.skip(f"there is no Python {version} on the path or beside this one")
    subprocess.run([python, "-m", "venv", tmp_path / "venv"], check=True, capture_output=True)
    own = str(tmp_path / "venv" / "bin" / "python")
    lock = ROOT / "requirements-dev.lock"
    install = [own, "-m", "pip", "install", "-q", "-c", str(lock), "attrs", "greenlet", "hypothesis", "tomli-w"]
    if subprocess.run(install, check=False, capture_output=True).returncode:
        pytest.skip(f"greenlet cannot be installed for Python {version}: no package index is reachable")
    assert digest(own, "1") == digest(sys.executable, "0")
