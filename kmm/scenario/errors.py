"""The errors that a bad scenario gives."""

from __future__ import annotations


class ScenarioError(ValueError):
    """A scenario that cannot exist.

    :param problem: what is wrong, one clause
    :param remedy: what to do about it, one clause
    :param where: file and line, or the part of the scenario; may be filled in later
    """

    def __init__(self, problem: str, remedy: str, where: str = "") -> None:
        super().__init__(problem, remedy, where)
        self.problem = problem
        self.remedy = remedy
        self.where = where

    def __str__(self) -> str:
        at = f"{self.where}: " if self.where else ""
        return f"{at}{self.problem}; {self.remedy}"

    def at(self, where: str) -> ScenarioError:
        """The same error with a place, unless it has one."""
        return ScenarioError(self.problem, self.remedy, self.where or where)
