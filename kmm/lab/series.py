"""A series of patches that leads from one variant to another: unfolded, type-checked, judged step by step."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs

from kmm.judge.check import Progress, check
from kmm.judge.errors import VariantError
from kmm.judge.lint import lint
from kmm.judge.variants import load_variant
from kmm.judge.verdict import Verdict
from kmm.lab.apply import apply_patch, files_touched
from kmm.lab.patch import Patch, PatchError, read_patches
from kmm.lab.types import TypeFault, type_faults
from kmm.scenario.errors import BadInputError
from kmm.scenario.families import Family

_ROOM: Final = "refactors"
_COMMENTS: Final = re.compile(r"^Comments: (.*)$", re.MULTILINE)
_REMEDY: Final = "correct it and make the patch again"


@attrs.frozen(kw_only=True)
class Step:
    """One patch of a series.

    :param number: from 1
    :param before: the variant's file before it, in the scratch directory
    :param after: and after it
    """

    number: int
    patch: Patch
    before: Path
    after: Path

    @property
    def comments(self) -> tuple[str, ...]:
        """The review comments that its message names."""
        match = _COMMENTS.search(self.patch.message)
        return tuple(re.findall(r"\bR\d+\b", match[1])) if match else ()

    def at(self, line: int) -> str:
        """Where in the patch a line of the file after it is, for messages."""
        hunk = next((hunk for each in self.patch.changes for hunk in [each.hunk_at(line)] if hunk), None)
        return self.patch.origin if hunk is None else f"{hunk.where} (hunk {hunk.number})"


@attrs.frozen(kw_only=True)
class Unfolded:
    """The steps up to the first that cannot be taken.

    :param fault: why the next one cannot
    """

    steps: tuple[Step, ...]
    fault: BadInputError | None


@attrs.frozen(kw_only=True)
class Judged:
    """A step, and what is known of it.

    :param typed: the type checker has seen it
    :param lint: findings, one line each
    """

    step: Step
    typed: bool
    lint: tuple[str, ...]
    verdict: Verdict

    @property
    def exit_code(self) -> int:
        """0, or why the series ends here: 2 different or linted, 3 undetermined."""
        return self.verdict.exit_code or (2 if self.lint else 0)


def patches_of(directory: Path) -> tuple[Patch, ...]:
    """The patches of a directory by file name, or those of one file.

    :raises PatchError: there is none, or one that is not understood
    """
    files = [directory] if directory.is_file() else sorted(directory.glob("*.patch"))
    if not files:
        raise PatchError("holds no *.patch", "name a directory with a series, or an mbox", str(directory))
    return tuple(patch for file in files for patch in read_patches(file))


def unfold(patches: Sequence[Patch], start: Path, scratch: Path) -> Unfolded:
    """Apply each patch to a copy of the file that the one before left.

    :param start: the variant's file, which is only read
    :param scratch: where the copies go: ``00/refactors/v12.py``, ``01/...``
    """
    before = _place(scratch, 0, start.name)
    shutil.copyfile(start, before)
    steps: list[Step] = []
    for number, patch in enumerate(patches, 1):
        after = _place(scratch, number, start.name)
        shutil.copyfile(before, after)
        step = Step(number=number, patch=patch, before=before, after=after)
        try:
            _take(step, after.parents[1])
        except BadInputError as error:
            return Unfolded(steps=tuple(steps), fault=error)
        steps.append(step)
        before = after
    return Unfolded(steps=tuple(steps), fault=None)


def _place(scratch: Path, number: int, name: str) -> Path:
    file = scratch / f"{number:02}" / _ROOM / name
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _take(step: Step, tree: Path) -> None:
    """Apply a patch; what it leaves must be Python and do something else than before."""
    mine = f"{_ROOM}/{step.after.name}"
    for file in files_touched(step.patch, (_ROOM,)):
        if file != mine:
            raise PatchError(f"changes {file}", f"a step of this series changes {mine} only", step.patch.origin)
    apply_patch(step.patch, tree, (_ROOM,))
    if not step.after.is_file():
        raise PatchError(f"removes {mine}", "keep the file, each step is a variant", step.patch.origin)
    try:
        ast.parse(step.after.read_bytes())
    except SyntaxError as error:
        line = error.lineno or 1
        raise PatchError(f"line {line} of what it leaves is not Python ({error.msg})", _REMEDY, step.at(line)) from None


def type_checked(unfolded: Unfolded, scratch: Path) -> Unfolded:
    """The steps before the first that does not type-check.

    :raises BadInputError: there is no mypy
    """
    directory = scratch / "types"
    directory.mkdir(exist_ok=True)
    copies = [directory / f"step_{step.number:02}.py" for step in unfolded.steps]
    for step, copy in zip(unfolded.steps, copies, strict=True):
        shutil.copyfile(step.after, copy)
    faults = type_faults(copies, directory)
    for step, copy in zip(unfolded.steps, copies, strict=True):
        if copy in faults:
            return Unfolded(steps=unfolded.steps[: step.number - 1], fault=_untyped(step, faults[copy]))
    return unfolded


def _untyped(step: Step, fault: TypeFault) -> PatchError:
    return PatchError(f"line {fault.line} of what it leaves does not type-check ({fault.text})", _REMEDY, step.at(fault.line))


def judge_steps(
    steps: Sequence[Step],
    families: Callable[[], Sequence[Family]],
    *,
    typed: bool,
    seed: int = 0,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Judged]:
    """Judge each step against the one before, up to the first that is not equivalent.

    :param families: makes what each is judged by
    :param typed: they were type-checked
    :raises PatchError: what a step leaves does not import
    """
    for step in steps:
        try:
            sides = load_variant(str(step.before)), load_variant(str(step.after))
            findings = tuple(f"line {each.line}: {each.rule}: {each.problem}; {each.remedy}" for each in lint(sides[1]) if not each.note)
        except VariantError as error:
            raise PatchError(error.problem, error.remedy, step.patch.origin) from error

        def said(family: str, judged: int, number: int = step.number) -> None:
            if progress is not None:
                progress(f"step {number}, {family}", judged)

        verdict = check(*sides, families(), seed=seed, jobs=jobs, progress=said)
        judged = Judged(step=step, typed=typed, lint=findings, verdict=verdict)
        yield judged
        if judged.exit_code:
            return


def first_difference(file: Path, goal: Path) -> int | None:
    """The first line in which two files differ; ``None``: they are the same, byte for byte."""
    ours, theirs = file.read_bytes(), goal.read_bytes()
    if ours == theirs:
        return None
    pairs = zip(ours.split(b"\n"), theirs.split(b"\n"), strict=False)
    same = next((number for number, (a, b) in enumerate(pairs) if a != b), None)
    return min(ours.count(b"\n"), theirs.count(b"\n")) + 1 if same is None else same + 1
