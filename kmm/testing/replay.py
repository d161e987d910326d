"""Counterexample files as tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kmm.judge.replay import Replay


class NotAsExpectedError(Exception):
    """Something else came out than the file expects."""


def readable(file: Path, option: str) -> None:
    """Check that it can be read.

    :param option: the option that names it, for the error
    :raises pytest.UsageError: it cannot
    """
    from kmm.scenario.errors import ScenarioError
    from kmm.scenario.files import read_text

    try:
        read_text(file)
    except ScenarioError as error:
        raise pytest.UsageError(f"{option}: {error.problem}; {error.remedy}") from None


class ReplayFile(pytest.File):
    """A counterexample file; it holds one test."""

    def collect(self) -> Iterator[pytest.Item]:
        """The test."""
        yield ReplayItem.from_parent(self, name="replay")


class ReplayItem(pytest.Item):
    """Both variants run once more."""

    def runtest(self) -> None:
        """Run them."""
        from kmm.judge.replay import replay
        from kmm.lab.sides import opened

        again = replay(self.path, opened=opened)
        if again.relation != again.expect:
            raise NotAsExpectedError(_message(again))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> str | object:  # type: ignore[override]
        """What came out, or one line on what cannot be used."""
        from kmm.scenario.errors import BadInputError

        if isinstance(excinfo.value, NotAsExpectedError | BadInputError):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, None, str]:
        """What the headline of a failure says."""
        return self.path, None, f"kmm replay {self.path.name}"


def _message(again: Replay) -> str:
    sides = f"{again.candidate.variant.name} ({again.candidate.origin}) against {again.baseline.variant.name} ({again.baseline.origin})"
    head = f"{again.relation}, expected: {again.expect}: {sides}"
    return f"{head}\n\n{again.explanation}" if again.explanation else head
