"""The review thread as data: every comment, what became of it, and which steps and experiments deal with it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final

import attrs
import cattrs
from cattrs.errors import BaseValidationError

from kmm.lab.experiment import RELATIONS, Experiment
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
    """

    id: str
    by: str
    asked: str
    disposition: str
    answer: str = ""
    later: str = ""
    steps: tuple[int, ...] = ()
    experiments: tuple[Experiment, ...] = ()


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
    comment: tuple[Comment, ...]


def load_thread(path: Path) -> Thread:
    """Read a thread.

    :raises ThreadError: it cannot be read, or something in it is unknown or missing
    """
    remedy = f"see the {FILE} of the project for the form"
    try:
        data: object = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ThreadError(f"cannot be read ({error.strerror})", "run kmm where its refactors are", str(path)) from None
    except ValueError as error:
        raise ThreadError(f"is no TOML ({error})", "correct it", str(path)) from None
    converter = cattrs.Converter(forbid_extra_keys=True)
    try:
        file = converter.structure(_named(data), _File)
    except (BaseValidationError, TypeError, ValueError, AttributeError) as error:
        said = cattrs.transform_error(error)[0] if isinstance(error, BaseValidationError) else str(error)
        raise ThreadError(f"is no thread ({said})", remedy, str(path)) from None
    for comment in file.comment:
        _check(comment, path)
    ids = [comment.id for comment in file.comment]
    if file.format != FORMAT or len(set(ids)) != len(ids) or not ids:
        raise ThreadError(f"is not of format {FORMAT}, or has an id twice, or none", remedy, str(path))
    return Thread(about=file.about, path=path, comments=file.comment)


def _named(data: object) -> object:
    """TOML's ``[[comment.experiment]]`` is one of ``experiments``."""
    if isinstance(data, dict):
        for each in data.get("comment", ()):
            if isinstance(each, dict) and "experiment" in each:
                each["experiments"] = each.pop("experiment")
    return data


def _check(comment: Comment, path: Path) -> None:
    wrong = [f"experiment's expect is {each.expect}" for each in comment.experiments if each.expect not in RELATIONS]
    wrong += [
        "an experiment has both or neither of patch and candidate"
        for each in comment.experiments
        if bool(each.patch) == bool(each.candidate)
    ]
    if comment.disposition not in DISPOSITIONS:
        wrong.append(f"disposition is {comment.disposition}")
    if not re.fullmatch(r"R\d\d", comment.id):
        wrong.append("the id is not R and two digits")
    if wrong:
        raise ThreadError(f"{comment.id}: {wrong[0]}", "correct it", str(path))
