"""SPIN, given the same programs, finds the same outcomes."""

from __future__ import annotations

import shutil
from pathlib import Path

import attrs
import pytest

from kmm.explore import explore
from tests.explore.checked import random_code
from tests.explore.lang import Code, Op, load, program, store
from tests.explore.promela import Model

pytestmark = pytest.mark.skipif(
    shutil.which("spin") is None or shutil.which("gcc") is None, reason="needs the Debian packages spin and gcc"
)

MODELS: dict[str, tuple[Code, str]] = {
    "SB": (((store("x", 1), load("y", "r0")), (store("y", 1), load("x", "r0"))), "pso"),
    "SB+mbs": (((store("x", 1), Op("mb"), load("y", "r0")), (store("y", 1), Op("mb"), load("x", "r0"))), "pso"),
    "MP": (((store("x", 1), store("y", 1)), (load("y", "r0"), load("x", "r1"))), "pso"),
    "2+2W": (((store("x", 1), store("y", 2)), (store("y", 1), store("x", 2))), "pso"),
    "IRIW": (((store("x", 1),), (store("y", 1),), (load("x", "r0"), load("y", "r1")), (load("y", "r0"), load("x", "r1"))), "pso"),
    "coherence": (((store("x", 1), store("x", 2), Op("add", "x", 4, "r0")), (load("x", "r0"), load("x", "r1"), store("x", 3))), "pso"),
    "AB-BA": (
        (
            (Op("lock", "m"), Op("lock", "n"), store("x", 1), Op("unlock", "n"), Op("unlock", "m")),
            (Op("lock", "n"), Op("try", "m", reg="r0", body=(store("x", 2), Op("unlock", "m"))), Op("lock", "m"), Op("unlock", "m")),
        ),
        "sc",
    ),
    "waits": (
        (
            (Op("await", "x", 1), store("y", 1), Op("swap", "x", 2, other=0)),
            (store("x", 1), load("y", "r0"), store("x", 2)),
            (store("x", 3),),
        ),
        "sc",
    ),
    "readers": (
        (
            (Op("read", "s"), load("x", "r0"), Op("trywrite", "t", reg="r1", body=(Op("unwrite", "t"),)), Op("unread", "s")),
            (Op("write", "s"), store("x", 1), Op("downgrade", "s"), load("x", "r0"), Op("unread", "s")),
            (Op("write", "t"), Op("tryread", "s", reg="r0", body=(store("x", 5), Op("unread", "s"))), Op("unwrite", "t")),
        ),
        "sc",
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_spin_agrees(name: str, tmp_path: Path) -> None:
    code, memory = MODELS[name]
    assert set(explore(program(code), memory=memory).outcomes) == Model(code, buffered=memory == "pso").outcomes(tmp_path)


@pytest.mark.full
def test_spin_agrees_on_random_programs(tmp_path: Path) -> None:
    compared = 0
    for seed in range(200):
        code = random_code(seed)
        if renderable(code) and compared < 40:
            folder = tmp_path / str(seed)
            folder.mkdir()
            assert set(explore(program(code)).outcomes) == Model(code, buffered=False).outcomes(folder), seed
            compared += 1
    assert compared == 40


def renderable(code: Code) -> bool:
    """Whether the model can say it."""
    return not any(op.what in ("irqoff", "irqon", "ipi", "rcu", "unrcu", "call", "sync", "wmb") for ops in code for op in _all(ops))


def _all(ops: tuple[Op, ...]) -> list[Op]:
    return [each for op in ops for each in (attrs.evolve(op, body=()), *_all(op.body))]
