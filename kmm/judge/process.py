"""Start the process of another tree, and end it."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final, NoReturn, Self

from kmm.judge.asked import Describe, Description, Excuses
from kmm.judge.elsewhere import ElsewhereError, Line, elsewhere
from kmm.judge.errors import VariantError
from kmm.judge.variants import LoadedVariant
from kmm.mm.intended import Case, Intended, IntendedDifference

IMPORT_S: Final = 60.0
"""Seconds in which a tree must have been imported."""
_LONGEST: Final = 80
_SERVE: Final = "from kmm.judge.served import main; main()"


class TreeProcess:
    """A process that has imported a tree and loaded a variant of it. Leaving the block ends it.

    :param root: of the tree: a directory with the packages ``kmm`` and ``refactors``
    :param variant: its name there, or an absolute path
    :param title: how people call the tree
    :param mark: likewise, in a word; nothing of it may depend on where the tree is
    :raises VariantError: it does not import, or has no such variant
    """

    def __init__(self, root: Path, variant: str, title: str, mark: str, *, import_s: float = IMPORT_S) -> None:
        self._root = root
        self._title = title
        self._mark = mark
        self._directory = _short_directory()
        address = str(self._directory / "socket")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-B", "-c", _SERVE, address, variant],
            cwd=root,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
        try:
            self._await(import_s)
            self._line = Line(address)
            self._description = self._described()
        except BaseException:
            self.close()
            raise

    def _await(self, import_s: float) -> None:
        """Until it says that it is ready, or why not."""
        assert self._process.stdout is not None
        said = b""
        end = time.monotonic() + import_s
        while not said.endswith(b"\n"):
            if not select.select([self._process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                self._fail(f"the code does not import (it took more than {import_s:g} s)")
            more = os.read(self._process.stdout.fileno(), 1 << 16)
            if not more:
                self._fail("the code does not import (it ended the process)")
            said += more
        told = json.loads(said)
        if told:
            self._fail(told["problem"], told["remedy"] or "correct it", told["where"])

    def _fail(self, problem: str, remedy: str = "make its module-level code import and define things only", where: str = "") -> NoReturn:
        raise VariantError(problem, remedy, f"{where} of {self._title}" if where else self._title)

    def _described(self) -> Description:
        try:
            return self._line.ask(Describe())
        except ElsewhereError as error:
            self._fail(f"the variant cannot be asked ({error})")
        finally:
            self._line.close()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def loaded(self) -> LoadedVariant:
        """Its variant, to be judged."""
        told = self._description
        path = Path(told.path)
        origin = f"{path.relative_to(self._root) if path.is_relative_to(self._root) else told.origin} of {self._title}"
        return LoadedVariant(
            variant=elsewhere(told.name, self._mark, self._line, told.files, str(self._root)),
            origin=origin,
            sha256=told.sha256,
            path=path,
            intended=self._intended(),
        )

    def _intended(self) -> Intended:
        return {
            baseline: tuple(
                IntendedDifference(observable=observable, predicate=self._predicate(baseline, number), why=why, source=source)
                for number, (observable, why, source) in enumerate(own)
            )
            for baseline, own in self._description.intended.items()
        }

    def _predicate(self, baseline: str, number: int) -> _Predicate:
        return _Predicate(self._line, baseline, number)

    def close(self) -> None:
        """End it and all that it has forked."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _short_directory() -> Path:
    """A directory of this user alone, whose name leaves room for that of a socket."""
    usual = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="kmm-", dir=usual if len(usual) <= _LONGEST else "/tmp"))


class _Predicate:
    """The predicate of a declared difference, asked over there."""

    def __init__(self, line: Line, baseline: str, number: int) -> None:
        self._line = line
        self._baseline = baseline
        self._number = number

    def __call__(self, case: Case) -> bool:
        return self._line.ask(Excuses(self._baseline, self._number, case))
