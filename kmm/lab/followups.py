"""Follow-ups that the review leaves open: a patch each, what speaks for it, and the experiments that judge it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs

from kmm.judge.check import Progress
from kmm.lab.experiment import Experiment, Tried, try_out
from kmm.lab.toml_file import key, read_toml
from kmm.scenario.errors import BadInputError
from kmm.scenario.families import Family

FORMAT: Final = 1
FOLDER: Final = "followups"
FILE: Final = f"{FOLDER}/followups.toml"


class FollowupError(BadInputError):
    """Follow-ups that cannot be read, or one that is not among them."""


@attrs.frozen(kw_only=True)
class Followup:
    """A change that somebody might want after the series.

    :param name: of its patch, too
    :param title: what it does
    :param comments: of the review that it is about
    :param why: one would want it
    :param says: what the judge says of it, and why
    :param kernel: what the kernel did in the end
    :param experiments: each with the follow-up's patch and baseline
    """

    name: str
    title: str
    comments: tuple[str, ...]
    why: str
    says: str
    kernel: str
    baseline: str = "reviewed"
    experiments: tuple[Experiment, ...] = attrs.field(metadata=key("experiment"))

    @property
    def patch(self) -> str:
        """File, relative to the directory of the variants."""
        return f"{FOLDER}/{self.name}.patch"

    @property
    def expected(self) -> str:
        """The relations that its experiments expect, each once."""
        return ", ".join(dict.fromkeys(each.expect for each in self.experiments))


@attrs.frozen(kw_only=True)
class JudgedFollowup:
    """A follow-up, and what its experiments gave.

    :param tried: of as many experiments as were judged, in order
    """

    followup: Followup
    tried: tuple[Tried, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 all is as expected, 2 something is not, 3 undetermined."""
        short = len(self.tried) < len(self.followup.experiments)
        return max([3 if short else 0, *(each.exit_code for each in self.tried)])

    @property
    def found(self) -> str:
        """The relations that were found, each once."""
        return ", ".join(dict.fromkeys(each.verdict.relation.value for each in self.tried))

    @property
    def word(self) -> str:
        """How that is to what was expected."""
        return {0: "as expected", 2: "not as expected", 3: "undetermined"}[self.exit_code] if self.tried else "not judged"


@attrs.frozen(kw_only=True)
class _File:
    format: int
    followups: tuple[Followup, ...] = attrs.field(metadata=key("followup"))


def load_followups(path: Path) -> tuple[Followup, ...]:
    """Read follow-ups.

    :raises FollowupError: they cannot be read, or something in them is unknown or missing
    """
    file = read_toml(path, _File, "list of follow-ups", FollowupError)
    names = [each.name for each in file.followups]
    if file.format != FORMAT or len(set(names)) != len(names) or not names:
        raise FollowupError(f"is not of format {FORMAT}, or has a name twice, or none", f"see the {FILE} of the project", str(path))
    return tuple([_checked(each, path) for each in file.followups])


def _checked(found: Followup, path: Path) -> Followup:
    """With the patch in each experiment."""
    for fault in _faults(found):
        raise FollowupError(f"{found.name}: {fault}", "correct it", str(path))
    own = [attrs.evolve(each, patch=found.patch, baseline=found.baseline) for each in found.experiments]
    for fault in (fault for each in own for fault in each.faults):
        raise FollowupError(f"{found.name}: {fault}", "correct it", str(path))
    return attrs.evolve(found, experiments=tuple(own))


def _faults(found: Followup) -> Iterator[str]:
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", found.name):
        yield "the name is not words of small letters with - between them"
    if not found.experiments:
        yield "it has no experiment"
    if any(each.patch or each.candidate or each.baseline != "reviewed" for each in found.experiments):
        yield "an experiment's patch and baseline are those of the follow-up"
    wrong = [each for each in found.comments if not re.fullmatch(r"R\d\d", each)]
    if wrong:
        yield f"{wrong[0]} is no comment of the review"


def followup(followups: Sequence[Followup], name: str) -> Followup:
    """The one of a name.

    :raises FollowupError: there is none
    """
    for each in followups:
        if each.name == name:
            return each
    known = ", ".join(each.name for each in followups)
    raise FollowupError(f'there is no follow-up "{name}"', f"use one of {known}", FILE)


def judge_followups(
    followups: Sequence[Followup],
    refactors: Path,
    families: Callable[[], Sequence[Family]],
    *,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Iterator[JudgedFollowup]:
    """Judge one after the other. An interrupt ends it, with what was judged of the last.

    :param refactors: directory of the variants
    :param families: the general scope
    :raises BadInputError: a patch or a scenario cannot be used
    """
    for each in followups:
        tried = tuple(try_out(each.experiments, refactors, families, jobs=jobs, progress=progress))
        yield JudgedFollowup(followup=each, tried=tried)
        if tried and tried[-1].verdict.interrupted:
            return
