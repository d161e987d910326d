"""The error that reading a live process gives."""

from __future__ import annotations

from kmm.scenario.errors import BadInputError


class CaptureError(BadInputError):
    """A process that cannot be captured."""
