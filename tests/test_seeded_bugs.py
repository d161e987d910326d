"""Each of the seeded bugs shows on its scenario, where it is expected to."""

from __future__ import annotations

import pytest

from kmm.judge.observe import OBSERVABLES, observe
from kmm.kernel.report import CHECKS
from kmm.scenario.run import run
from refactors import reviewed, v12
from tests.seeded import SEEDED_BUGS, SeededBug, load, mutate, replace_line

BUGS = pytest.mark.parametrize("bug", SEEDED_BUGS, ids=lambda bug: bug.name)


def test_ten_different_ones() -> None:
    assert len({bug.name for bug in SEEDED_BUGS}) == len({bug.old for bug in SEEDED_BUGS}) == 10


@BUGS
def test_the_bug_shows(bug: SeededBug) -> None:
    baseline = observe(run(bug.scenario, v12.VARIANT))
    candidate = observe(run(bug.scenario, load(mutate(bug), bug.name)))
    differs = [name for name in OBSERVABLES if getattr(baseline, name) != getattr(candidate, name)]
    assert baseline.violations == ()
    if bug.shows in CHECKS:
        assert bug.shows in [violation[0] for violation in candidate.violations if isinstance(violation, tuple)]
    else:
        assert bug.shows in differs


@BUGS
def test_without_the_bug_nothing_shows(bug: SeededBug) -> None:
    assert observe(run(bug.scenario, v12.VARIANT)) == observe(run(bug.scenario, reviewed.VARIANT))


@pytest.mark.parametrize("source", ["a\nb\na", "b"])
def test_a_line_that_is_not_there_exactly_once_is_refused(source: str) -> None:
    with pytest.raises(AssertionError, match="times in the source"):
        replace_line(source, "a", "c")
