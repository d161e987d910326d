"""Live verdicts of a thread: the steps, experiments and follow-ups of its comments, judged now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from kmm.judge.check import Progress
from kmm.lab.experiment import Tried, try_out
from kmm.lab.followups import JudgedFollowup, judge_followups
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
    :param followups: by name
    """

    steps: dict[int, Judged] = attrs.field(factory=dict)
    tried: dict[str, tuple[Tried, ...]] = attrs.field(factory=dict)
    followups: dict[str, JudgedFollowup] = attrs.field(factory=dict)

    def exit_code(self, comment: Comment) -> int:
        """0 everything is as expected, else the worst of 2 and 3."""
        codes = [self.steps[number].exit_code for number in comment.steps if number in self.steps]
        codes += [each.exit_code for each in self.tried.get(comment.id, ())]
        return max([0, *codes, *(self.followups[each.name].exit_code for each in comment.followups if each.name in self.followups)])

    def word(self, comment: Comment) -> str:
        """The verdict on all that deals with a comment, in a word or two."""
        if not comment.steps and not comment.experiments and not comment.followups:
            return ""
        relations = {self.steps[number].verdict.relation.value for number in comment.steps if number in self.steps}
        code = self.exit_code(comment)
        if not self._whole(comment):
            return "not judged" if not code else "not as expected"
        if code:
            return "undetermined" if code == 3 else "not as expected"
        return "as expected" if comment.experiments or comment.followups else ", ".join(sorted(relations))

    def _whole(self, comment: Comment) -> bool:
        """All that deals with a comment was judged."""
        steps = all(number in self.steps for number in comment.steps)
        followups = all(each.name in self.followups for each in comment.followups)
        return steps and followups and len(self.tried.get(comment.id, ())) == len(comment.experiments)


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
    evidence = Evidence()
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
        for tried in try_out(comment.experiments, refactors, families, jobs=jobs, progress=progress):
            evidence.tried[comment.id] = (*evidence.tried.get(comment.id, ()), tried)
            if tried.verdict.interrupted:
                return evidence
    followups = {each.name: each for comment in comments for each in comment.followups}
    for found in judge_followups(tuple(followups.values()), refactors, families, jobs=jobs, progress=progress):
        evidence.followups[found.followup.name] = found
    return evidence
