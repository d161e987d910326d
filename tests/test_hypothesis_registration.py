"""Hypothesis knows the public types and the profiles once kmm is installed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kmm
from kmm.scenario.strategies import GEOMETRIES
from kmm.scenario.toml import parse, render
from kmm.testing.hypothesis_hook import TYPES
from kmm.testing.strategies import values_of
from tests.judging import ROOT

pytest_plugins = ["pytester"]

DRAW = "from hypothesis import find, strategies as st; import kmm; find(st.from_type(kmm.{name}), lambda _: True)"


def program(text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program of one's own, in which a warning is an error."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, "-W", "error", "-c", text], env=env, capture_output=True, text=True, check=False)


def test_every_public_value_is_registered() -> None:
    values = {kmm.Config, kmm.Driver, kmm.Event, kmm.Failure, kmm.Geometry, kmm.PageState, kmm.Scenario, kmm.Tunables, kmm.Vma}
    assert set(TYPES) == values


@pytest.mark.parametrize("public", TYPES, ids=lambda public: str(public.__name__))
def test_from_type_gives_values(public: type[object]) -> None:
    seen: set[object] = set()

    @given(st.from_type(public))
    @settings(max_examples=60)
    def collect(value: object) -> None:
        assert type(value) is public
        seen.add(value)

    collect()
    assert len(seen) >= (len(GEOMETRIES) if public is kmm.Geometry else 10)


@given(s=...)
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
def test_annotations_are_enough(s: kmm.Scenario) -> None:
    assert parse(render(s)) == s
    assert s.contract == "checked"


@pytest.mark.parametrize("public", TYPES, ids=lambda public: str(public.__name__))
def test_the_strategies_are_those_of_the_entry_point(public: type[object]) -> None:
    assert repr(st.from_type(public)) == repr(values_of(public))


@pytest.mark.parametrize("name", ["Event"])
def test_without_the_entry_point_they_are_not_known(name: str) -> None:
    assert program(DRAW.format(name=name)).returncode == 0
    done = program(DRAW.format(name=name), HYPOTHESIS_NO_PLUGINS="1")
    assert "ScenarioError" in done.stderr or "Unsatisfiable" in done.stderr or "ResolutionFailed" in done.stderr


@pytest.mark.parametrize("module", ["hypothesis", "kmm.scenario.strategies", "kmm.testing.strategies", "kmm.testing.hypothesis_hook"])
def test_any_of_them_may_be_imported_first(module: str) -> None:
    done = program(f"import sys, {module}; print('kmm.scenario.strategies' in sys.modules)")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == str(module in ("kmm.scenario.strategies", "kmm.testing.strategies"))


def test_profiles() -> None:
    dev, ci = settings.get_profile("kmm-dev"), settings.get_profile("kmm-ci")
    assert (dev.max_examples, dev.deadline, dev.derandomize) == (25, None, False)
    assert (ci.max_examples, ci.deadline, ci.derandomize, ci.database, ci.print_blob) == (200, None, True, None, True)


@pytest.mark.parametrize(("profile", "examples"), [("kmm-dev", 25), ("kmm-ci", 200)])
def test_pytest_takes_the_profiles(pytester: pytest.Pytester, profile: str, examples: int) -> None:
    pytester.makepyfile(
        "from hypothesis import given, strategies as st\n"
        "import kmm\n"
        "seen = []\n"
        "@given(st.from_type(kmm.Tunables))\n"
        "def test_draws(value):\n"
        "    seen.append(value)\n"
        "def test_count():\n"
        f"    assert len(seen) == {examples}\n"
    )
    pytester.runpytest_subprocess(f"--hypothesis-profile={profile}").assert_outcomes(passed=2)
