"""Live verdicts of a thread: the steps and experiments of its comments, judged now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from kmm.judge.check import Progress
from kmm.lab.experiment import Tried, try_out
from kmm.lab.series import Judged, judge_steps, patches_of, unfold
from kmm.lab.thread import Comment, ThreadError
from kmm.scenario.families import Family

STEPS = "steps"
START = "v12.py"


@attrs.frozen(kw_only=True)
class Evidence:
    """What was judged for some comments.

    :param steps: by number
    :param tried: by the comment's id, in the order of its experiments
    """

    steps: dict[int, Judged]
    tried: dict[str, tuple[Tried, ...]]

    def exit_code(self, comment: Comment) -> int:
        """0 everything is as expected, else the worst of 2 and 3."""
        codes = [self.steps[number].exit_code for number in comment.steps if number in self.steps]
        return max([0, *codes, *(each.exit_code for each in self.tried.get(comment.id, ()))])

    def word(self, comment: Comment) -> str:
        """The verdict on all that deals with a comment, in a word or two."""
        if not comment.steps and not comment.experiments:
            return ""
        relations = {self.steps[number].verdict.relation.value for number in comment.steps if number in self.steps}
        code = self.exit_code(comment)
        if len(self.tried.get(comment.id, ())) < len(comment.experiments) or not all(number in self.steps for number in comment.steps):
            return "not judged" if not code else "not as expected"
        if code:
            return "undetermined" if code == 3 else "not as expected"
        return ", ".join(sorted(relations)) if not comment.experiments else "as expected"


def gather(
    comments: Sequence[Comment],
    refactors: Path,
    scratch: Path,
    families: Callable[[], Sequence[Family]],
    *,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Evidence:
    """Judge what the comments name, each once. An interrupt ends it, and what was judged is kept.

    :param refactors: directory of the thread's file
    :param scratch: an empty directory
    :param families: what a step is judged by
    :raises BadInputError: a step or an experiment that cannot be used
    """
    evidence = Evidence(steps={}, tried={})
    wanted = sorted({number for comment in comments for number in comment.steps})
    if wanted:
        unfolded = unfold(patches_of(refactors / STEPS), refactors / START, scratch)
        if unfolded.fault is not None:
            raise unfolded.fault
        if wanted[-1] > len(unfolded.steps):
            raise ThreadError(f"there is no step {wanted[-1]}", "correct the thread", str(refactors / STEPS))
        for number in wanted:
            for judged in judge_steps([unfolded.steps[number - 1]], families, typed=False, jobs=jobs, progress=progress):
                evidence.steps[number] = judged
                if judged.verdict.interrupted:
                    return evidence
    for comment in comments:
        for number, experiment in enumerate(comment.experiments, 1):
            place = scratch / f"{comment.id}-{number}"
            tried = try_out(experiment, refactors, place, jobs=jobs, progress=progress)
            evidence.tried[comment.id] = (*evidence.tried.get(comment.id, ()), tried)
            if tried.verdict.interrupted:
                return evidence
    return evidence
