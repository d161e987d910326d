"""An experiment: a patch on a variant, what to run with and without it, and what the judge is expected to say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Final

import attrs

from kmm.judge.check import Progress, check
from kmm.judge.named import Named
from kmm.judge.variants import LoadedVariant
from kmm.judge.verdict import Relation, Verdict
from kmm.lab.sides import opened
from kmm.live.given import given
from kmm.scenario.families import Family
from kmm.scenario.small_concurrent import LOCKLESS, QUICK, one_actor
from kmm.scenario.toml import load_many

RELATIONS: Final = tuple(each.value for each in Relation if each is not Relation.UNDETERMINED)
GENERAL: Final = "general"
"""The scope that the command names."""
BESIDE: Final = {"actors": QUICK, "lockless": LOCKLESS}
"""Scopes of every schedule beside each of some actors."""
MEMORIES: Final = ("sc", "pso")


@attrs.frozen(kw_only=True)
class Experiment:
    """What is tried, and what comes of it.

    :param question: in words
    :param expect: a relation
    :param patch: file, relative to the directory of the variants; empty: the candidate is judged as it is
    :param baseline: name of the variant that the patch is for
    :param candidate: of the other one, if there is no patch
    :param scenario: file, relative to the directory of the variants
    :param scope: :data:`GENERAL` or one of :data:`BESIDE`, if there is no scenario
    :param memory: ``sc`` or ``pso``, for scenarios with actors
    :param shows: what stands in the explanation of the counterexample
    """

    question: str
    expect: str
    patch: str = ""
    baseline: str = "reviewed"
    candidate: str = ""
    scenario: str = ""
    scope: str = ""
    memory: str = "sc"
    shows: str = ""

    @property
    def expectation(self) -> str:
        """The relation, and what is to be seen of a difference."""
        return f"{self.expect}, by {self.shows}" if self.shows else self.expect

    @property
    def faults(self) -> Iterator[str]:
        """What is wrong with it as written."""
        if self.expect not in RELATIONS:
            yield f"experiment's expect is {self.expect}"
        if self.memory not in MEMORIES:
            yield f"experiment's memory is {self.memory}"
        if self.scope and self.scope not in (GENERAL, *BESIDE):
            yield f"experiment's scope is {self.scope}"
        if bool(self.patch) == bool(self.candidate):
            yield "an experiment has both or neither of patch and candidate"
        if bool(self.scenario) == bool(self.scope):
            yield "an experiment has both or neither of scenario and scope"
        if self.shows and self.expect != Relation.DIFFERENT.value:
            yield "an experiment shows something and is not different"


@attrs.frozen(kw_only=True)
class Tried:
    """An experiment with its verdict."""

    experiment: Experiment
    verdict: Verdict

    @property
    def as_expected(self) -> bool:
        """The relation is the expected one, and the difference the one that was to be seen."""
        example = self.verdict.counterexample
        seen = not self.experiment.shows or (example is not None and self.experiment.shows in example.explanation)
        return self.verdict.relation.value == self.experiment.expect and seen

    @property
    def exit_code(self) -> int:
        """0 as expected, 2 not so, 3 undetermined."""
        if self.verdict.interrupted or self.verdict.relation is Relation.UNDETERMINED:
            return 3
        return 0 if self.as_expected else 2


def try_out(
    experiments: Sequence[Experiment],
    refactors: Path,
    families: Callable[[], Sequence[Family]],
    *,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Tried]:
    """Apply each patch to a copy of the tree, and judge it. An interrupt ends it.

    :param refactors: directory of the variants
    :param families: the scope :data:`GENERAL`
    :raises BadInputError: a patch or a scenario cannot be used
    """
    for (baseline, candidate, patch), group in groupby(experiments, lambda each: (each.baseline, each.candidate, each.patch)):
        with both_sides(refactors, baseline, candidate, patch) as sides:
            for each in group:

                def said(family: str, judged: int, name: str = Path(patch).stem or candidate) -> None:
                    if progress is not None:
                        progress(f"{name}, {family}", judged)

                verdict = check(*sides, _families(each, refactors, families), seed=0, jobs=jobs, progress=said)
                yield Tried(experiment=each, verdict=verdict)
                if verdict.interrupted:
                    return


@contextmanager
def both_sides(
    refactors: Path, baseline: str, candidate: str, patch: str, *, typed: bool = True
) -> Iterator[tuple[LoadedVariant, LoadedVariant]]:
    """The baseline as it is, and with the patch, or the other variant if there is none.

    :param refactors: directory of the variants
    :param typed: type-check what the patch changes
    :raises BadInputError: one of them cannot be used
    """
    tree = str(refactors.parent)
    theirs = Named(baseline, tree, patches=(str(refactors / patch),)) if patch else Named(candidate, tree)
    with opened(Named(baseline, tree), theirs, typed=typed) as sides:
        yield sides


def _families(experiment: Experiment, refactors: Path, general: Callable[[], Sequence[Family]]) -> Sequence[Family]:
    if experiment.scenario:
        return given(load_many(str(refactors / experiment.scenario)), "the experiment", experiment.memory)
    return general() if experiment.scope == GENERAL else (one_actor(BESIDE[experiment.scope], experiment.memory),)
