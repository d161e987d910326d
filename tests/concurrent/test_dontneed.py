"""MADV_DONTNEED and MADV_FREE under the lock of the VMA, beside faults, a collapse and each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
import pytest

from kmm.judge.outcomes import Outcomes
from kmm.mm import madvise, mmu_gather, zap
from kmm.scenario.model import Config, Scenario, Vma
from kmm.scenario.search import EXHAUSTIVE, Search
from refactors import reviewed, v12
from tests.concurrent.making import alone, beside, violations
from tests.seeded import replace_line
from tests.test_sanitizers import recompiled

FEW: Final = attrs.evolve(EXHAUSTIVE, budget=300)
DRAWN: Final = Search(strategy="pos", budget=800)
ALL: Final = "madvise:0-7:dontneed"
HUGE: Final = attrs.evolve(alone(ALL, ALL, pages="........"), pmd="huge")
ONE_LOCK: Final = attrs.evolve(alone("store:3", ALL, pages="aaa.aaaa"), config=Config(split_ptlocks=False))
FAULT: Final = alone("store:3", ALL, pages="aaa.aaaa")
UNMAP: Final = alone("madvise:0-3:dontneed", "munmap:0-7")
FREE: Final = alone("madvise:0-3:free", "munmap:0-7")
LOAD: Final = alone("load:0", "madvise:0-3:dontneed")
NOT_PRESENT: Final = alone("load:0", ALL, pages="w.......")
TWO: Final = attrs.evolve(
    alone("madvise:0-7:free", "munmap:4-7"),
    vmas=(Vma(pages="aaaa", start=0), Vma(pages="rrrr", flags=("read",), start=4)),
)


def found(s: Scenario) -> set[str]:
    """What the sanitizers say in some of the schedules, and how tasks end that do not return."""
    said: set[str] = set()
    for search in (DRAWN, FEW):
        outcomes = Outcomes(s, v12.VARIANT, search)
        said |= violations(outcomes)
        said |= {how for each in outcomes.all for how in outcomes.observation(each).actors if " in " in how or ":" in how}
    return said


@pytest.mark.parametrize("s", [HUGE, ONE_LOCK, FAULT, UNMAP, FREE, LOAD, NOT_PRESENT, TWO])
def test_nothing_is_said(s: Scenario) -> None:
    assert found(s) == set()


@pytest.mark.full
@pytest.mark.parametrize("actor", [ALL, "madvise:0-3:free"])
@pytest.mark.parametrize("orders", [(3,), (2,)])
def test_beside_a_collapse(actor: str, orders: tuple[int, ...]) -> None:
    s = beside(actor, orders=orders)
    outcomes = [Outcomes(s, variant, EXHAUSTIVE) for variant in (v12.VARIANT, reviewed.VARIANT)]
    assert all(each.exploration.complete for each in outcomes)
    assert violations(outcomes[0]) == violations(outcomes[1]) == set()
    assert set(outcomes[0].all) == set(outcomes[1].all)


EMPTY: Final = "empty = not any(ptep_get(PtePtr(table, i)) for i in range(HPAGE_PMD_NR()))"
AGAIN: Final = "if not pmd_trans_huge(value) and not is_pmd_migration_entry(value):"
SEEDED: Final = (
    ("", zap.try_to_free_pte, EMPTY, "empty = True", ONE_LOCK),
    ("", zap.zap_huge_pmd, AGAIN, "if False:", HUGE),
    ("LOCKDEP", madvise._unmap, "vma_end_read(vma)", "pass", LOAD),
    ("KASAN", mmu_gather.give_up, "wait_for_instructions()", "pass", NOT_PRESENT),
    ("", zap.zap_page_range, "tlb.ranges.append((start, end))", "pass", LOAD),
)


@pytest.mark.parametrize(("check", "function", "old", "new", "s"), SEEDED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_seeded_bug_is_caught(check: str, function: Callable[..., object], old: str, new: str, s: Scenario) -> None:
    with recompiled(function, lambda source: replace_line(source, old, new)):
        said = found(s)
    assert any(each.startswith(check) for each in said), said
