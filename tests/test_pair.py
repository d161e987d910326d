"""One scenario on both sides."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmm.judge.chunk import is_different
from kmm.judge.intended import excuses
from kmm.judge.pair import judge_pair
from kmm.judge.variants import load_variant
from kmm.mm.intended import IntendedDifference
from kmm.mm.variant import Variant
from kmm.scenario.model import Driver, DriverKind, Scenario
from refactors import reviewed, v12
from tests.judging import mutant, small, variant

BASE = v12.VARIANT
FULL = small("aaaaaaaa")
READS = "for _ in range({}):\n    mm.mm_users"


def differs(s: Scenario, candidate: Variant) -> tuple[str, ...]:
    return judge_pair(s, BASE, candidate).differs


@pytest.mark.parametrize("pages", ["aaaaaaaa", "aaaa....", "ssaaaaaa", "aaaapaaa", "........"])
def test_agreement(pages: str) -> None:
    pair = judge_pair(small(pages), BASE, reviewed.VARIANT)
    assert pair.applicable
    assert pair.differs == ()
    assert pair.baseline is not None
    assert pair.candidate is not None
    assert pair.baseline.canonical() == pair.candidate.canonical()


def test_only_what_differs_is_named(tmp_path: Path) -> None:
    untraced = mutant(
        tmp_path / "m.py",
        '    current.machine.trace("mm_collapse_huge_page", mm, result == ScanResult.SCAN_SUCCEED, result, order)\n',
        "",
    )
    assert differs(FULL, untraced.variant) == ("trace",)
    assert differs(small("........"), untraced.variant) == ()


def test_true_is_not_one(tmp_path: Path) -> None:
    candidate = variant(tmp_path / "m.py", "mmap_locked.value = int(mmap_locked.value)")
    direct = small("aaaaaaaa", 2, driver=Driver(kind=DriverKind.DIRECT, order=2))
    assert differs(direct, candidate.variant) == ()
    leaves = tmp_path / "leaves.py"
    leaves.write_text(
        candidate.path.read_text().replace("    return v12(", "    result = v12(").replace("offset)\n\n", "offset)\n" + LEAVE)
    )
    assert differs(direct, load_variant(str(leaves)).variant) == ("mmap_locked",)


LEAVE = "    mmap_locked.value = int(mmap_locked.value)\n    return result\n\n"


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ("raise KeyError('x')", "KeyError in changed"),
        ("sys.exit(3)", "SystemExit in changed"),
        ("mm.nonesuch", "AttributeError in changed"),
        ("raise GeneratorExit", "GeneratorExit in changed"),
        ("def f(): f()\nf()", "RecursionError in f"),
    ],
)
def test_a_crash_is_an_observation(tmp_path: Path, body: str, outcome: str) -> None:
    pair = judge_pair(FULL, BASE, variant(tmp_path / "m.py", body).variant)
    assert pair.candidate is not None
    assert pair.candidate.outcome.startswith(outcome)
    assert "outcome" in pair.differs


def test_out_of_scope(tmp_path: Path) -> None:
    candidate = variant(tmp_path / "m.py", "if order == 2:\n    raise NotApplicable").variant
    for one, other in ((BASE, candidate), (candidate, BASE)):
        pair = judge_pair(small("aaaaaaaa", 2), one, other)
        assert (pair.applicable, pair.differs) == (False, ())
    assert judge_pair(small("aaaaaaaa", 3), BASE, candidate).applicable


def test_a_slow_side_is_run_again_at_ten_times_the_budget(tmp_path: Path) -> None:
    slow = variant(tmp_path / "m.py", READS.format(200_000)).variant
    assert differs(FULL, slow) == ()
    assert judge_pair(FULL, slow, BASE).differs == ()


def test_a_hang_is_an_observation(tmp_path: Path) -> None:
    hangs = variant(tmp_path / "m.py", READS.format(10**9)).variant
    pair = judge_pair(FULL, BASE, hangs)
    assert pair.candidate is not None
    assert pair.candidate.outcome.startswith("HANG")
    assert "outcome" in pair.differs


def test_two_that_hang_are_alike(tmp_path: Path) -> None:
    one = variant(tmp_path / "one.py", READS.format(10**9)).variant
    other = variant(tmp_path / "other.py", "mmap_locked.value = False\n" + READS.format(10**9)).variant
    assert judge_pair(FULL, one, other).differs == ()


def test_an_intended_difference_excuses_one_observable_where_it_says(tmp_path: Path) -> None:
    candidate = mutant(tmp_path / "m.py", "        if params.unmapped:\n", "        if False and params.unmapped:\n").variant
    swapped = small("waaaaaaa", 3)
    pair = judge_pair(swapped, BASE, candidate)
    assert {"trace", "result"} < set(pair.differs)
    trace = IntendedDifference(observable="trace", predicate=lambda case: case.swap > 0, why="w", source="s")
    nowhere = IntendedDifference(observable="result", predicate=lambda _: False, why="w", source="s")
    assert excuses(pair, (trace, nowhere)) == {"trace": trace}
    assert is_different(pair, (trace, nowhere))
    everything = tuple(IntendedDifference(observable=each, predicate=lambda _: True, why="w", source="s") for each in pair.differs)
    assert not is_different(pair, everything)
