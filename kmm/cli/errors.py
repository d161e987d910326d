"""The error that a command gives on bad input."""

from __future__ import annotations

from kmm.scenario.errors import BadInputError


class InputError(BadInputError):
    """An argument or option that cannot be used; the command ends with exit code 4."""
