"""An experiment: a patch on a variant, scenarios, and what the judge is expected to say."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs

from kmm.judge.check import Progress, check
from kmm.judge.errors import VariantError
from kmm.judge.variants import load_variant
from kmm.judge.verdict import Relation, Verdict
from kmm.lab.patch import PatchError
from kmm.lab.series import patches_of, unfold
from kmm.live.given import given
from kmm.scenario.toml import load_many

RELATIONS: Final = tuple(each.value for each in Relation if each is not Relation.UNDETERMINED)


@attrs.frozen(kw_only=True)
class Experiment:
    """What is tried, and what comes of it.

    :param question: in words
    :param patch: file, relative to the thread's; empty: the candidate is judged as it is
    :param baseline: name of the variant that the patch is against
    :param candidate: of the other one, if there is no patch
    :param scenario: file, relative to the thread's
    :param memory: ``sc`` or ``pso``
    :param expect: a relation
    :param shows: what stands in the explanation of the counterexample
    """

    question: str
    scenario: str
    expect: str
    patch: str = ""
    baseline: str = "reviewed"
    candidate: str = ""
    memory: str = "sc"
    shows: str = ""


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


def try_out(experiment: Experiment, refactors: Path, scratch: Path, *, jobs: int | None = None, progress: Progress | None = None) -> Tried:
    """Apply the patch to a copy, and judge it.

    :param refactors: directory of the thread's file and the variants
    :param scratch: an empty directory
    :raises BadInputError: the patch or a scenario cannot be used
    """
    base = refactors / f"{experiment.baseline}.py"
    candidate = refactors / f"{experiment.candidate}.py"
    if experiment.patch:
        unfolded = unfold(patches_of(refactors / experiment.patch), base, scratch)
        if unfolded.fault is not None:
            raise unfolded.fault
        candidate = unfolded.steps[-1].after
    try:
        ours, theirs = load_variant(str(base)), load_variant(str(candidate))
    except VariantError as error:
        raise PatchError(error.problem, error.remedy, experiment.patch or experiment.candidate) from error
    if experiment.patch:
        theirs = attrs.evolve(theirs, variant=attrs.evolve(theirs.variant, name=Path(experiment.patch).stem))
    families = given(load_many(str(refactors / experiment.scenario)), "the experiment", experiment.memory)
    return Tried(experiment=experiment, verdict=check(ours, theirs, families, seed=0, jobs=jobs, progress=progress))
