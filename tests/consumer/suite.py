"""A test suite that uses kmm's plugin."""

from __future__ import annotations

from typing import assert_type

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kmm
from kmm.testing import assert_equivalent

pytestmark = pytest.mark.kmm(baseline="v12", seed=7)
V12, MINE = "v12", "reviewed"


def test_defaults() -> None:
    """The quick scope, with the marker's options."""
    verdict = assert_equivalent("./mine.py")
    assert_type(verdict, kmm.Verdict)
    assert verdict.scenarios > 1000


@pytest.mark.kmm(candidate="reviewed", scope="full")
def test_everything() -> None:
    """All from the marker."""
    assert_equivalent()


@given(st.from_type(kmm.Scenario))
def test_drawn(s: kmm.Scenario) -> None:
    """Scenarios that Hypothesis draws."""
    assert kmm.run(s, MINE) == kmm.run(s, V12)
