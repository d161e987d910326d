"""Litmus programs: the published answers of sequential consistency and of PSO, which reorders stores to different places only."""

from __future__ import annotations

import ast

import pytest

from kmm.explore import explore
from tests.explore.lang import Code, Op, load, program, store

MB, WMB = Op("mb"), Op("wmb")


def registers(code: Code, memory: str) -> set[tuple[int, ...]]:
    """What the registers can hold at the end, in the order of their names."""
    found = explore(program(code), memory=memory)
    assert found.complete
    return {tuple(value for _, value in ast.literal_eval(outcome.decode())[0]) for outcome in found.outcomes}


MP: Code = ((store("x", 1), store("y", 1)), (load("y", "0"), load("x", "1")))
MP_WMB: Code = ((store("x", 1), WMB, store("y", 1)), (load("y", "0"), load("x", "1")))
MP_MB: Code = ((store("x", 1), MB, store("y", 1)), (load("y", "0"), load("x", "1")))
MP_RELEASE: Code = ((store("x", 1), store("y", 1, "release")), (load("y", "0", "acquire"), load("x", "1")))
SB: Code = ((store("x", 1), load("y", "0")), (store("y", 1), load("x", "0")))
SB_ONE_MB: Code = ((store("x", 1), MB, load("y", "0")), (store("y", 1), load("x", "0")))
SB_MBS: Code = ((store("x", 1), MB, load("y", "0")), (store("y", 1), MB, load("x", "0")))
SB_WMB: Code = ((store("x", 1), WMB, load("y", "0")), (store("y", 1), WMB, load("x", "0")))
SB_RELEASE: Code = ((store("x", 1, "release"), load("y", "0", "acquire")), (store("y", 1, "release"), load("x", "0", "acquire")))
LB: Code = ((load("x", "0"), store("y", 1)), (load("y", "0"), store("x", 1)))
IRIW: Code = ((store("x", 1),), (store("y", 1),), (load("x", "0"), load("y", "1")), (load("y", "0"), load("x", "1")))
WRC: Code = ((store("x", 1),), (load("x", "0"), store("y", 1)), (load("y", "0"), load("x", "1")))
CO_RR: Code = ((store("x", 1),), (load("x", "0"), load("x", "1")))
CO_WW: Code = ((store("x", 1), store("x", 2)), (load("x", "0"), load("x", "1")))
CO_WR: Code = ((store("x", 1), load("x", "0")), (store("x", 2),))
CO_RW: Code = ((load("x", "0"), store("x", 1)), (store("x", 2),))
RMW: Code = ((Op("add", "x", 1, "0"),), (Op("add", "x", 1, "0"),))
S_2_2W: Code = ((store("x", 1), store("y", 2)), (store("y", 1), store("x", 2)))
R_TEST: Code = ((store("x", 1), store("y", 1)), (store("y", 2), MB, load("x", "0")))


@pytest.mark.parametrize(
    ("code", "weak", "sc", "pso"),
    [
        pytest.param(MP, (1, 0), False, True, id="MP"),
        pytest.param(MP_WMB, (1, 0), False, False, id="MP+wmb"),
        pytest.param(MP_MB, (1, 0), False, False, id="MP+mb"),
        pytest.param(MP_RELEASE, (1, 0), False, False, id="MP+release+acquire"),
        pytest.param(SB, (0, 0), False, True, id="SB"),
        pytest.param(SB_ONE_MB, (0, 0), False, True, id="SB+mb+po"),
        pytest.param(SB_MBS, (0, 0), False, False, id="SB+mbs"),
        pytest.param(SB_WMB, (0, 0), False, True, id="SB+wmbs"),
        pytest.param(SB_RELEASE, (0, 0), False, True, id="SB+release+acquire"),
        pytest.param(LB, (1, 1), False, False, id="LB"),
        pytest.param(IRIW, (1, 0, 1, 0), False, False, id="IRIW"),
        pytest.param(WRC, (1, 1, 0), False, False, id="WRC"),
        pytest.param(CO_RR, (1, 0), False, False, id="CoRR"),
        pytest.param(CO_WW, (2, 1), False, False, id="CoWW"),
        pytest.param(CO_WR, (0,), False, False, id="CoWR"),
        pytest.param(CO_RW, (1,), False, False, id="CoRW"),
        pytest.param(RMW, (0, 0), False, False, id="atomicity"),
    ],
)
def test_litmus(code: Code, weak: tuple[int, ...], sc: bool, pso: bool) -> None:
    """Whether the outcome that no interleaving gives can come out."""
    assert (weak in registers(code, "sc")) is sc
    assert (weak in registers(code, "pso")) is pso


def final_memory(code: Code, memory: str) -> set[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Registers and variables at the end."""
    found = [ast.literal_eval(outcome.decode()) for outcome in explore(program(code), memory=memory).outcomes]
    return {(tuple(value for _, value in regs), tuple(variables.values())) for regs, variables, _ in found}


def test_two_plus_two_writes() -> None:
    """2+2W: each variable can end with the first store of its program only if stores are reordered."""
    weak: tuple[tuple[int, ...], tuple[int, ...]] = ((), (1, 1))
    assert weak not in final_memory(S_2_2W, "sc")
    assert weak in final_memory(S_2_2W, "pso")


def test_r() -> None:
    """R: the second task can win ``y`` and still miss ``x``, for nothing orders the first one's stores."""
    weak = ((0,), (1, 2))
    assert weak not in final_memory(R_TEST, "sc")
    assert weak in final_memory(R_TEST, "pso")


def test_all_answers_of_store_buffering() -> None:
    assert registers(SB, "sc") == {(0, 1), (1, 0), (1, 1)}
    assert registers(SB, "pso") == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert registers(IRIW, "pso") == {(a, b, c, d) for a in (0, 1) for b in (0, 1) for c in (0, 1) for d in (0, 1)} - {(1, 0, 1, 0)}
