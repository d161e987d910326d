"""A verdict's counterexample as a file."""

from __future__ import annotations

from pathlib import Path

import attrs

from kmm.judge.named import Named, Opener, open_here
from kmm.judge.replay import DIFFERENT, default_name, replay, write_counterexample
from kmm.judge.verdict import Counterexample, Verdict
from kmm.scenario.errors import BadInputError, ScenarioError


def with_file(verdict: Verdict, directory: Path, *, baseline: str | Named, candidate: str | Named, opened: Opener = open_here) -> Verdict:
    """Write the counterexample, if there is one that shows the difference on its own, and run it again from the file.

    When that fails, the explanation says so and the verdict names no file.

    :param directory: where to write it
    :param baseline: name of the variant, or its path from the current directory, or where else it is
    :param candidate: likewise
    :param opened: loads the variants
    """
    example = verdict.counterexample
    if example is None or not example.differs:
        return verdict
    file = directory / default_name(example.scenario)
    try:
        _write_and_replay(file, example, baseline, candidate, opened)
    except BadInputError as error:
        return attrs.evolve(verdict, counterexample=attrs.evolve(example, explanation=f"{example.explanation}\n{error}"))
    return attrs.evolve(verdict, counterexample=attrs.evolve(example, file=str(file)))


def _write_and_replay(file: Path, example: Counterexample, baseline: str | Named, candidate: str | Named, opened: Opener) -> None:
    write_counterexample(file, example.scenario, baseline=baseline, candidate=candidate, schedule=example.schedule)
    if replay(file, opened=opened).relation != DIFFERENT:
        raise ScenarioError(
            "run again from its file it shows no difference", "look for what one of the variants keeps between runs", str(file)
        )
