"""The review thread as data: every comment, what became of it, and which steps, experiments and follow-ups deal with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import attrs

from kmm.lab.experiment import Experiment
from kmm.lab.followups import FILE as FOLLOWUPS
from kmm.lab.followups import Followup, load_followups
from kmm.lab.toml_file import key, read_toml
from kmm.scenario.errors import BadInputError

FORMAT: Final = 1
FILE: Final = "thread.toml"
DISPOSITIONS: Final = ("acknowledged", "answered", "declined", "deferred", "unanswered", "discussion", "observation")


class ThreadError(BadInputError):
    """A thread that cannot be read, or a comment that is not in it."""


@attrs.frozen(kw_only=True)
class Comment:
    """One comment of the review.

    :param id: ``R`` and a number
    :param by: who made it
    :param asked: what was asked
    :param answer: by the author of the patch; may be empty
    :param disposition: one of :data:`DISPOSITIONS`
    :param later: what happened afterwards; may be empty
    :param steps: numbers of the series' steps that deal with it
    :param experiments: that do
    :param followups: that do
    """

    id: str
    by: str
    asked: str
    disposition: str
    answer: str = ""
    later: str = ""
    steps: tuple[int, ...] = ()
    experiments: tuple[Experiment, ...] = attrs.field(default=(), metadata=key("experiment"))
    followups: tuple[Followup, ...] = attrs.field(default=(), metadata=key(""))


@attrs.frozen(kw_only=True)
class Thread:
    """A review.

    :param about: which patch
    :param path: the file
    """

    about: str
    path: Path
    comments: tuple[Comment, ...]

    def comment(self, name: str) -> Comment:
        """The comment of an id.

        :raises ThreadError: there is none
        """
        for each in self.comments:
            if each.id == name.upper():
                return each
        known = f"{self.comments[0].id} to {self.comments[-1].id}"
        raise ThreadError(f'there is no comment "{name}"', f"use one of {known}; kmm thread lists them", self.path.name)


@attrs.frozen(kw_only=True)
class _File:
    format: int
    about: str
    comments: tuple[Comment, ...] = attrs.field(metadata=key("comment"))


def load_thread(path: Path) -> Thread:
    """Read a thread, and the follow-ups beside it.

    :raises ThreadError: it cannot be read, or something in it is unknown or missing
    :raises FollowupError: the follow-ups cannot
    """
    file = read_toml(path, _File, "thread", ThreadError)
    for comment in file.comments:
        _check(comment, path)
    ids = [comment.id for comment in file.comments]
    if file.format != FORMAT or len(set(ids)) != len(ids) or not ids:
        remedy = f"see the {FILE} of the project for the form"
        raise ThreadError(f"is not of format {FORMAT}, or has an id twice, or none", remedy, str(path))
    followups = load_followups(path.parent / FOLLOWUPS)
    comments = [attrs.evolve(each, followups=tuple([one for one in followups if each.id in one.comments])) for each in file.comments]
    return Thread(about=file.about, path=path, comments=tuple(comments))


def _check(comment: Comment, path: Path) -> None:
    wrong = [fault for each in comment.experiments for fault in each.faults]
    if comment.disposition not in DISPOSITIONS:
        wrong.append(f"disposition is {comment.disposition}")
    if not re.fullmatch(r"R\d\d", comment.id):
        wrong.append("the id is not R and two digits")
    if wrong:
        raise ThreadError(f"{comment.id}: {wrong[0]}", "correct it", str(path))
