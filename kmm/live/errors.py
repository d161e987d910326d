"""The error that reading a live process gives."""

from __future__ import annotations


class CaptureError(Exception):
    """A process that cannot be captured.

    :param problem: what is wrong, one clause
    :param remedy: what to do about it, one clause
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}"
