"""``v12`` and ``reviewed`` show the same, and within the contract the checks in which they differ never fire."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings

from kmm.judge.observe import OBSERVABLES, observe
from kmm.kernel import bug
from kmm.mm.variant import Variant
from kmm.scenario.model import Config, Driver, DriverKind, Geometry, Scenario
from kmm.scenario.run import run
from kmm.scenario.small_scope import quick_families
from kmm.scenario.strategies import scenarios
from refactors import reviewed, v12
from tests.helpers import make

CHECKS = {
    "v12": {"VM_BUG_ON": "pmd_address & ~HPAGE_PMD_MASK", "BUG_ON": "!pmd_none(*pmd)"},
    "reviewed": {"VM_WARN_ON_ONCE": "mthp_address & ((PAGE_SIZE << order) - 1)|!pmd_none(*pmd)|*mmap_locked"},
}


def differences(s: Scenario) -> list[str]:
    """Observables that differ."""
    a, b = observe(run(s, v12.VARIANT)), observe(run(s, reviewed.VARIANT))
    return [name for name in OBSERVABLES if getattr(a, name) != getattr(b, name)]


def thinned() -> Iterator[Scenario]:
    """Some scenarios of every small family."""
    for family in quick_families(1):
        yield from islice(family.scenarios(), 0, None, 53)


@pytest.mark.parametrize("ptes", [8, 16, 64])
def test_hypothesis(ptes: int) -> None:
    @settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @given(scenarios(Geometry(ptes=ptes, lru_batch=3)))
    def agree(s: Scenario) -> None:
        assert differences(s) == []

    agree()


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(scenarios(Geometry()))
def test_hypothesis_at_real_geometry(s: Scenario) -> None:
    assert differences(s) == []


def test_thinned_small_scope() -> None:
    for s in thinned():
        assert differences(s) == [], s


def test_every_driver_runs_the_variant_that_it_was_given() -> None:
    """v12 must never be compared with itself."""
    for driver in (Driver(kind=DriverKind.KHUGEPAGED), Driver(kind=DriverKind.MADVISE), Driver(kind=DriverKind.DIRECT, order=3)):
        for module in (v12, reviewed):
            r = run(make("aaaaaaaa", driver), module.VARIANT, record=True)
            recorder = r.world.system.machine.recorder
            assert recorder is not None
            files = {file.rsplit("/", 1)[-1] for step in recorder.steps for file, _, name in step.stack if name == "collapse_huge_page"}
            assert files == {f"{module.VARIANT.name}.py"}


@pytest.mark.parametrize("variant", [v12.VARIANT, reviewed.VARIANT], ids=lambda variant: variant.name)
def test_within_the_contract_the_checks_are_evaluated_and_false(variant: Variant) -> None:
    evaluated: dict[str, int] = {}

    def watched(name: str) -> Callable[[bool, str], object]:
        check = getattr(bug, name)

        def wrapper(condition: bool, text: str) -> object:
            assert not condition, text
            evaluated[text] = evaluated.get(text, 0) + 1
            return check(condition, text)

        return wrapper

    with ExitStack() as stack:
        for name in CHECKS[variant.name]:
            stack.enter_context(mock.patch(f"refactors.{variant.name}.{name}", watched(name)))
        for s in thinned():
            assert run(s, variant).outcome == "returned"
    assert set(evaluated) == {text for texts in CHECKS[variant.name].values() for text in texts.split("|")}


UNALIGNED = Driver(kind=DriverKind.DIRECT, order=2, misalign=1)


@pytest.mark.parametrize("debug_vm", [True, False])
def test_outside_the_contract_one_bugs_and_the_other_warns(debug_vm: bool) -> None:
    s = make("aaaaaaaa", UNALIGNED, orders=(2,), contract="unchecked", config=Config(debug_vm=debug_vm))
    baseline, candidate = observe(run(s, v12.VARIANT)), observe(run(s, reviewed.VARIANT))
    warning = ("collapse_huge_page", "mthp_address & ((PAGE_SIZE << order) - 1)")
    assert (baseline.outcome == "BUG in collapse_huge_page: pmd_address & ~HPAGE_PMD_MASK") == debug_vm
    assert candidate.outcome == "returned"
    assert (warning in candidate.warnings) == debug_vm
