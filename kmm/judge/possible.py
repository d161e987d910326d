"""A step that cannot happen is an error in the scenario, and is told before anything is judged."""

from __future__ import annotations

import os

from kmm.judge.pool import Beat, Skip, guarded
from kmm.judge.side import impossible
from kmm.judge.variants import LoadedVariant
from kmm.scenario.errors import StepError
from kmm.scenario.files import MAX_BYTES_MANY, read_text
from kmm.scenario.lines import line_of
from kmm.scenario.model import Scenario


def need_possible(s: Scenario, loaded: LoadedVariant, path: str | os.PathLike[str], number: int | None = None) -> None:
    """Raise for a step that cannot happen with this variant.

    :param path: the scenario's file, for the place of the step
    :param number: which ``[[scenario]]`` of the file it is, from 0
    :raises StepError: with file and line
    """
    if not s.steps and not s.actors:
        return

    def work(_task: None, skip: Skip, beat: Beat) -> StepError | None:
        if 0 in skip:
            return None
        beat(0)
        try:
            return impossible(s, loaded.variant)
        except StepError as error:
            return error

    error = guarded(work).value
    if error is not None:
        own = () if number is None else ("scenario", number)
        line = line_of(read_text(path, MAX_BYTES_MANY), (*own, error.part, error.number - 1))
        raise error.at(f"{os.fspath(path)}:{line}")
