"""The error that a command gives on bad input."""

from __future__ import annotations


class InputError(Exception):
    """Something that the user gave cannot be used; the command ends with exit code 4.

    :param problem: what is wrong, one clause
    :param remedy: what to do about it, one clause
    :param where: file, file and line, or option
    """

    def __init__(self, problem: str, remedy: str, where: str = "") -> None:
        super().__init__(problem, remedy, where)
        self.problem = problem
        self.remedy = remedy
        self.where = where

    def __str__(self) -> str:
        at = f"{self.where}: " if self.where else ""
        return f"{at}{self.problem}; {self.remedy}"
