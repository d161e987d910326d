"""The errors that the judge gives on bad input."""

from __future__ import annotations


class VariantError(ValueError):
    """A variant that cannot be judged.

    :param problem: what is wrong, one clause
    :param remedy: what to do about it, one clause
    :param where: file, file and line, or the name that was asked for
    """

    def __init__(self, problem: str, remedy: str, where: str = "") -> None:
        super().__init__(problem, remedy, where)
        self.problem = problem
        self.remedy = remedy
        self.where = where

    def __str__(self) -> str:
        at = f"{self.where}: " if self.where else ""
        return f"{at}{self.problem}; {self.remedy}"
