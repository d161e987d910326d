"""For other people's test suites; the pytest plugin and the Hypothesis strategies register themselves."""

from __future__ import annotations

from kmm.testing.equivalence import assert_equivalent

__all__ = ["assert_equivalent"]
