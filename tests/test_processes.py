"""An observation holds no address and no identity: every process, hash seed and Python gives the same bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = """
import hashlib
from itertools import islice
from kmm.judge.observe import observe
from kmm.scenario.run import run
from kmm.scenario.small_scope import quick_families
from refactors import reviewed, v12
digest = hashlib.sha256()
for family in quick_families(1):
    for s in islice(family.scenarios(), 0, 4000, 97):
        for variant in (v12.VARIANT, reviewed.VARIANT):
            digest.update(observe(run(s, variant)).canonical())
print(digest.hexdigest())
"""


def digest(python: str, seed: str) -> str:
    """What a process says; the run-time dependency is lent to it, for it is pure Python."""
    lent = Path(attrs.__file__).parents[1]
    env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": f"{ROOT}{os.pathsep}{lent}", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([python, "-c", PROGRAM], env=env, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout


@pytest.fixture(scope="module")
def here() -> str:
    """What this Python says."""
    return digest(sys.executable, "0")


@pytest.mark.parametrize("seed", ["1", "4711"])
def test_hash_seeds(here: str, seed: str) -> None:
    assert digest(sys.executable, seed) == here


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_pythons(here: str, version: str) -> None:
    python = find(version)
    if python is None:
        pytest.skip(f"there is no Python {version} on the path or beside this one")
    assert digest(python, "1") == here


def find(version: str) -> str | None:
    """An interpreter of that version that starts."""
    beside = sorted(str(path) for path in Path(sys.base_prefix).parent.glob(f"*{version}.*/bin/python{version}"))
    for python in (shutil.which(f"python{version}"), *beside):
        if python is not None and subprocess.run([python, "-c", "0"], capture_output=True, check=False).returncode == 0:
            return python
    return None
