"""Seeded bugs: known defects of the collapse path, each as a patch with the check that must catch it and the smallest scenario."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs

from kmm.judge.observe import OBSERVABLES
from kmm.kernel.report import CHECKS
from kmm.lab.experiment import MEMORIES
from kmm.lab.toml_file import key, read_toml
from kmm.scenario.errors import BadInputError

FORMAT: Final = 1
FOLDER: Final = "bugs"
FILE: Final = f"{FOLDER}/bugs.toml"
CLASSES: Final = ("SEQ", "CONC", "WM", "ARCH")
SANITIZERS: Final = (*CHECKS, "KCSAN")
GENERAL: Final = {"quick": "the quick scope", "beside": "drawn schedules beside others"}
ID: Final = re.compile(r"[ACHS]-\d\d")


class BugError(BadInputError):
    """Bugs that cannot be read, or one that is not among them."""


@attrs.frozen(kw_only=True)
class Bug:
    """A defect in the one form and not in the other, or a change that is none.

    :param name: of its patch, too; begins with the id of the known defect
    :param title: what is wrong
    :param kind: one of :data:`CLASSES`
    :param grade: A, B or C: how well the defect is known
    :param invariants: that it breaks; I1 to I19
    :param why: what goes wrong, in a paragraph
    :param variant: that the patch is for
    :param patched: file, relative to the directory of the variants, if it is not ``bugs/NAME.patch``
    :param candidate: a variant that has the defect as it is; then there is no patch
    :param repairs: ``variant`` has the defect, and the patch takes it out
    :param caught_by: a sanitizer that has to speak first, or an observable that has to differ while none speaks; empty: a change that is
        no bug, and is found to be none
    :param shows: what stands in the sentence, or in the values
    :param scenario: the smallest, relative to the directory of the variants
    :param memory: ``sc`` or ``pso``
    :param preemptions: where there are too many schedules: of the search, at most
    :param general: the general scenarios that find it as well, one of :data:`GENERAL`; empty: none do
    """

    name: str
    title: str
    kind: str = attrs.field(metadata=key("class"))
    grade: str
    invariants: tuple[str, ...] = ()
    why: str
    variant: str = "v12"
    patched: str = attrs.field(default="", metadata=key("patch"))
    candidate: str = ""
    repairs: bool = False
    caught_by: str = ""
    shows: str = ""
    scenario: str
    memory: str = "sc"
    preemptions: int | None = None
    general: str = ""

    @property
    def id(self) -> str:
        """Of the known defect."""
        return self.name[:4]

    @property
    def is_control(self) -> bool:
        """It is no bug."""
        return not self.caught_by

    @property
    def patch(self) -> str:
        """File, relative to the directory of the variants; empty: none."""
        return "" if self.candidate else self.patched or f"{FOLDER}/{self.name}.patch"

    @property
    def forms(self) -> tuple[str, str]:
        """The form without the defect and the one with it, for people."""
        if self.candidate:
            return self.variant, self.candidate
        with_patch = f"{self.variant} with the patch"
        return (with_patch, self.variant) if self.repairs else (self.variant, with_patch)

    @property
    def expected(self) -> str:
        """What must catch it."""
        return self.caught_by or "nothing"


@attrs.frozen(kw_only=True)
class LeftOut:
    """A known defect that the model cannot hold.

    :param why: it cannot
    """

    id: str
    title: str
    why: str


@attrs.frozen(kw_only=True)
class Bugs:
    """All of them, in the order of the file."""

    bugs: tuple[Bug, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """Of the known defects, each once."""
        return tuple(dict.fromkeys([*(each.id for each in self.bugs), *(each.id for each in self.left_out)]))

    def named(self, name: str) -> Bugs:
        """Those of a known defect, or the one of a name.

        :raises BugError: there is none
        """
        wanted = name.casefold()
        bugs = [each for each in self.bugs if wanted in (each.name.casefold(), each.id.casefold())]
        left_out = [each for each in self.left_out if each.id.casefold() == wanted]
        if not bugs and not left_out:
            raise BugError(f'there is no bug "{name}"', f"use one of {', '.join(sorted(self.ids))}", FILE)
        return Bugs(bugs=tuple(bugs), left_out=tuple(left_out))


@attrs.frozen(kw_only=True)
class _File:
    format: int
    bugs: tuple[Bug, ...] = attrs.field(metadata=key("bug"))
    left_out: tuple[LeftOut, ...] = ()


def load_bugs(path: Path) -> Bugs:
    """Read them.

    :raises BugError: they cannot be read, or something in them is unknown, missing or contradictory
    """
    file = read_toml(path, _File, "list of bugs", BugError)
    names = [*(each.name for each in file.bugs), *(each.id for each in file.left_out)]
    if file.format != FORMAT or len(set(names)) != len(names) or not file.bugs:
        raise BugError(f"is not of format {FORMAT}, or has a name twice, or no bug", f"see the {FILE} of the project", str(path))
    for name, fault in [*((bug.name, fault) for bug in file.bugs for fault in _faults(bug)), *_left_out_faults(file.left_out)]:
        raise BugError(f"{name}: {fault}", "correct it", str(path))
    return Bugs(bugs=file.bugs, left_out=file.left_out)


def _left_out_faults(left_out: Sequence[LeftOut]) -> Iterator[tuple[str, str]]:
    return ((each.id, "the id is not that of a known defect") for each in left_out if not ID.fullmatch(each.id))


def _faults(bug: Bug) -> Iterator[str]:
    if not re.fullmatch(rf"{ID.pattern}(-[a-z0-9]+)*", bug.name):
        yield "the name is not the id of a known defect, or that with words behind it"
    if bug.kind not in CLASSES:
        yield f"class is {bug.kind}"
    if bug.grade not in ("A", "B", "C"):
        yield f"grade is {bug.grade}"
    if bug.memory not in MEMORIES:
        yield f"memory is {bug.memory}"
    wrong = [each for each in bug.invariants if not re.fullmatch(r"I([1-9]|1\d)", each)]
    if wrong:
        yield f"{wrong[0]} is no invariant"
    if bug.general and (bug.general not in GENERAL or bug.is_control):
        yield f"general is {bug.general}"
    if bug.candidate and (bug.patched or bug.repairs):
        yield "it has both a candidate and a patch"
    if bug.caught_by and bug.caught_by not in (*SANITIZERS, *OBSERVABLES):
        yield f"caught_by is {bug.caught_by}, neither a sanitizer nor an observable"
    if bool(bug.caught_by) != bool(bug.shows):
        yield "it has one of caught_by and shows"
