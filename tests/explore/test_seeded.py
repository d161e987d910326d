"""One mistake at a time in the explorer: the random programs or the litmus programs notice."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Final, TypeAlias

import pytest

from kmm.explore import NotDeterministic, dpor, explore, forest, reversal
from kmm.explore.buffered import Buffer, BufferedMemory
from kmm.explore.grace import Grace
from kmm.explore.run import Run
from kmm.explore.trace import Trace
from kmm.explore.wakeup import Branch, Sequence, _append
from tests.explore.checked import checked, random_code
from tests.explore.lang import Op, load, program, store

Patch: TypeAlias = Callable[[pytest.MonkeyPatch], None]

SEEDS: Final = range(400)


def _no_wait_races(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Trace, "wait_races", lambda *args: None)


def _no_lock_races(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Trace, "lock_races", lambda *args: None)


def _lock_holders_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reversal, "_holders", lambda *args: [])


def _no_sleep(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reversal.Reversals, "may_start_with", lambda *args: False)


def _no_cover(patch: pytest.MonkeyPatch) -> None:
    def take(branches: list[Branch], sequence: Sequence) -> bool:
        _append(branches, sequence)
        return True

    patch.setattr(dpor, "insert", take)


def _only_the_late_step(patch: pytest.MonkeyPatch) -> None:
    right = reversal.Reversals.sequence
    patch.setattr(reversal.Reversals, "sequence", lambda *args: Sequence(right(*args).steps[-1:]))


def _no_waiting_for_answers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Grace, "_ended", lambda grace, answers: True)


def _stores_need_not_arrive(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(BufferedMemory, "arrived", lambda memory, proc, stores: True)


def _barriers_do_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Buffer, "may_go", lambda buffer, place: buffer.oldest(place) is not None)
    patch.setattr(Buffer, "kept", lambda buffer, held: [])


def _reads_pass_their_own_stores(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Buffer, "newest", lambda buffer, place: None)


MISTAKES: dict[str, tuple[Patch, str]] = {
    "no wait races": (_no_wait_races, "sc"),
    "no lock races": (_no_lock_races, "sc"),
    "lock holders forgotten": (_lock_holders_forgotten, "sc"),
    "no sleep sets": (_no_sleep, "sc"),
    "wakeup trees take everything": (_no_cover, "sc"),
    "only the later step is planned": (_only_the_late_step, "sc"),
    "no waiting for answers": (_no_waiting_for_answers, "sc"),
    "stores need not arrive": (_stores_need_not_arrive, "pso"),
    "write barriers do nothing": (_barriers_do_nothing, "pso"),
    "loads do not see their own CPU's stores": (_reads_pass_their_own_stores, "pso"),
}


def check_all(memory: str) -> None:
    """Check random programs until one fails."""
    for seed in SEEDS:
        checked(seed, memory)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_shows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mistake, memory = MISTAKES[name]
    mistake(monkeypatch)
    with pytest.raises((AssertionError, NotDeterministic)):
        check_all(memory)


def test_forgetting_known_races_loses_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not enough to look at the races of an execution's new steps: here the rest of the execution makes the difference."""
    right = dpor.Dpor.next

    def only_new(search: dpor.Dpor, run: Run) -> bool:
        run.trace.races = [race for race in run.trace.races if race.late >= search.known]
        return right(search, run)

    assert checked(4932, "pso") is not None
    monkeypatch.setattr(dpor.Dpor, "next", only_new)
    with pytest.raises(AssertionError):
        checked(4932, "pso")


def test_telling_out_of_turn_loses_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forest, "SLICE", 8)
    code = program(random_code(3_352))
    traces = explore(code).traces
    assert explore(code, jobs=2).traces == traces
    monkeypatch.setattr(forest.Part, "order", lambda part: tuple(-entry for _, entry in part.path))
    assert explore(code, jobs=2).traces != traces


def test_a_long_branch_can_be_sent() -> None:
    branch = top = Branch("A", ())
    for _ in range(5_000):
        branch.children = [Branch("B", (("x", 1),)), Branch("C", ())]
        branch = branch.children[0]
    sent = pickle.loads(pickle.dumps(top))
    while top.children:
        assert [(each.who, each.footprint) for each in sent.children] == [(each.who, each.footprint) for each in top.children]
        top, sent = top.children[0], sent.children[0]
    assert sent.children == []


def test_a_write_barrier_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    code = ((store("x", 1), Op("wmb"), store("y", 1)), (load("y", "0"), load("x", "1")))
    before = len(explore(program(code), memory="pso").outcomes)
    _barriers_do_nothing(monkeypatch)
    assert (before, len(explore(program(code), memory="pso").outcomes)) == (3, 4)
