"""A cell of the kernel's selftest in which another process runs meanwhile: ``collapse_fork_cow_race``, in a table of 8 entries."""

from __future__ import annotations

from typing import Final

import attrs
import pytest

from kmm.judge.outcomes import Outcomes
from kmm.mm import cow
from kmm.mm.pte import pmd_trans_huge
from kmm.mm.variant import Variant
from kmm.scenario.quiescence import pmd_of
from kmm.scenario.search import SAMPLED
from kmm.scenario.toml import canonical, load
from refactors import v12
from tests.concurrent.making import violations
from tests.test_selftests import DATA, PAGE
from tests.test_selftests_steps import VARIANTS

HERE: Final = DATA / "beside"
FILES: Final = ("collapse_fork_cow_race-khugepaged.toml", "collapse_fork_cow_race-madvise.toml")
SEARCH: Final = attrs.evolve(SAMPLED, budget=200)
CHILD: Final = 1
LOSES_THE_REASON: Final = {"v12", "reviewed"}
"""Give EINVAL where an attempt is refused, whatever the reason (S-15)."""


def explored(name: str, variant: Variant = v12.VARIANT) -> Outcomes:
    """What so many schedules come to."""
    return Outcomes(load(HERE / name), variant, SEARCH)


def is_collapsed(outcomes: Outcomes, outcome: bytes) -> bool:
    """The child's table has become a huge page."""
    return pmd_trans_huge(pmd_of(outcomes.run(outcome).world.system.mms[CHILD], 0))


def test_the_files_are_these() -> None:
    assert sorted(FILES) == sorted(path.name for path in HERE.iterdir())
    assert all(canonical((HERE / name).read_text()) == (HERE / name).read_text() for name in FILES)
    assert all(f"`beside/{name}`" in PAGE.read_text() for name in FILES)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda each: each.name)
@pytest.mark.parametrize("name", FILES)
def test_each_keeps_what_it_wrote_and_the_child_is_collapsed(name: str, variant: Variant) -> None:
    """TRANSPARENCY compares what each process reads with what it last wrote."""
    outcomes = explored(name, variant)
    assert violations(outcomes) == set()
    said = [outcomes.observation(each).actors for each in outcomes.all]
    assert {writes for _, writes in said} == {"done"}
    assert {collapses for collapses, _ in said} <= {"done"} | ({"EAGAIN", "EINVAL"} if "madvise" in name else set())
    assert any(is_collapsed(outcomes, each) for each in outcomes.all)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda each: each.name)
def test_a_call_says_whether_it_may_be_made_again(variant: Variant) -> None:
    outcomes = explored(FILES[1], variant)
    errnos = {each: outcomes.observation(each).actors[0] for each in outcomes.all}
    assert all(is_collapsed(outcomes, each) == (errno == "done") for each, errno in errnos.items())
    assert set(errnos.values()) == {"done", "EAGAIN"} | ({"EINVAL"} if variant.name in LOSES_THE_REASON else set())


def test_a_write_to_a_page_that_is_shared_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cow, "wp_can_reuse_anon_folio", lambda _folio, _vma: True)
    assert "TRANSPARENCY" in {each.partition(":")[0] for each in violations(explored(FILES[1]))}
