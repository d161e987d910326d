"""Run a series from its patches to a result."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import attrs

from kmm.judge.check import Progress
from kmm.judge.verdict import Relation
from kmm.lab.patch import Patch
from kmm.lab.series import Judged, first_difference, judge_steps, type_checked, unfold
from kmm.scenario.errors import BadInputError
from kmm.scenario.families import Family

DIFFERENT: Final = 2
BAD_INPUT: Final = 4


@attrs.frozen(kw_only=True)
class SeriesResult:
    """What became of a series.

    :param total: its steps
    :param judged: those that were judged, in order
    :param fault: why the next one could not be taken
    :param differs: first line in which the last step is not the goal
    """

    total: int
    judged: tuple[Judged, ...]
    fault: BadInputError | None = None
    differs: int | None = None

    @property
    def complete(self) -> bool:
        """Every step was taken, and is good."""
        return len(self.judged) == self.total and not self._code

    @property
    def bad(self) -> int | None:
        """The first bad step."""
        if self._code:
            return len(self.judged)
        return None if self.fault is None else len(self.judged) + 1

    @property
    def reached(self) -> bool | None:
        """The last step is the goal, byte for byte; ``None``: it was not come to."""
        return self.differs is None if self.complete else None

    @property
    def exit_code(self) -> int:
        """0 all is well, 2 it is not, 3 undetermined, 4 a step cannot be taken."""
        if self._code:
            return self._code
        if self.fault is not None:
            return BAD_INPUT
        return DIFFERENT if self.differs is not None else 0

    @property
    def relation(self) -> Relation:
        """Of the last step that was judged."""
        return self.judged[-1].verdict.relation if self.judged else Relation.UNDETERMINED

    @property
    def _code(self) -> int:
        return self.judged[-1].exit_code if self.judged else 0


def run_series(
    patches: Sequence[Patch],
    first: Path,
    last: Path,
    scratch: Path,
    families: Callable[[], Sequence[Family]],
    *,
    typed: bool = True,
    seed: int = 0,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> SeriesResult:
    """Apply, type-check and judge, up to the first bad step.

    :param first: the file of the variant that it begins with
    :param last: and of the one that it must end as
    :param scratch: an empty directory, which holds every step's file afterwards
    :raises BadInputError: there is no mypy
    """
    unfolded = unfold(patches, first, scratch)
    if typed:
        with tempfile.TemporaryDirectory(prefix="kmm-types-") as directory:
            unfolded = type_checked(unfolded, Path(directory))
    judged: list[Judged] = []
    fault = unfolded.fault
    try:
        for each in judge_steps(unfolded.steps, families, typed=typed, seed=seed, jobs=jobs, progress=progress):
            judged.append(each)  # noqa: PERF402 (what was judged is kept when the next one cannot be)
    except BadInputError as error:
        fault = error
    result = SeriesResult(total=len(patches), judged=tuple(judged), fault=fault)
    if not result.complete:
        return result
    return attrs.evolve(result, differs=first_difference(judged[-1].step.after, last))
