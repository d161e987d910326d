"""The error that the judge gives on bad input."""

from __future__ import annotations

from kmm.scenario.errors import BadInputError


class VariantError(BadInputError):
    """A variant that cannot be judged."""
