"""The errors that bad input gives."""

from __future__ import annotations


class BadInputError(ValueError):
    """Something that the user gave cannot be used; one line says what, where and what to do.

    :param problem: what is wrong, one clause
    :param remedy: what to do about it, one clause
    :param where: file, file and line, or the name that was asked for; may be empty
    """

    def __init__(self, problem: str, remedy: str, where: str = "") -> None:
        super().__init__(problem, remedy, where)
        self.problem = problem
        self.remedy = remedy
        self.where = where

    def __str__(self) -> str:
        at = f"{self.where}: " if self.where else ""
        return f"{at}{self.problem}; {self.remedy}"


class ScenarioError(BadInputError):
    """A scenario that cannot exist. The place may be filled in later."""

    def at(self, where: str) -> ScenarioError:
        """The same error with a place, unless it has one."""
        return ScenarioError(self.problem, self.remedy, self.where or where)


class StepError(ScenarioError):
    """A step of a scenario that cannot happen when its turn comes, or an actor that cannot begin.

    :param number: of the step or actor, from 1
    :param part: ``step`` or ``actor``
    """

    def __init__(self, problem: str, remedy: str, where: str = "", number: int = 0, part: str = "step") -> None:
        super().__init__(problem, remedy, where)
        self.number = number
        self.part = part

    def at(self, where: str) -> StepError:
        """The same error with a place, unless it has one."""
        return StepError(self.problem, self.remedy, self.where or where, self.number, self.part)


def require(good: bool, problem: str, remedy: str) -> None:
    """Raise :class:`ScenarioError` unless ``good``."""
    if not good:
        raise ScenarioError(problem, remedy)
