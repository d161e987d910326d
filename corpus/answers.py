"""What the judge said, kept at once, so that an interrupted run goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs

from corpus.pairs import ROOT, Pair

FILE: Final = ROOT / "build/corpus/answers.jsonl"
FAILED: Final = "failed"
"""The command ended in another way than with a verdict."""


@attrs.frozen(kw_only=True)
class Answer:
    """What was said of one pair.

    :param key: of the patch and of all source that judged it
    :param word: the relation, or that the command failed
    :param seconds: of wall-clock time from the start of the process to its end, or of the judging where one process judges many
    :param judged_s: of which the judging took
    :param jobs: worker processes
    :param shown: where it is said to differ, in the words of the counterexample
    """

    id: str
    key: str
    word: str
    seconds: float
    judged_s: float
    jobs: int
    shown: str = ""


def source_hash(root: Path = ROOT) -> str:
    """Over every module of ``kmm`` and ``refactors``: what judges and what is judged."""
    out = hashlib.sha256()
    for path in sorted(each for room in ("kmm", "refactors") for each in (root / room).rglob("*.py")):
        out.update(f"{path.relative_to(root).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return out.hexdigest()


def key_of(pair: Pair, source: str) -> str:
    """Of a pair's patch, how it is asked about, and the source."""
    return hashlib.sha256(f"{pair.patch()}\n{pair.kind} {pair.memory} {pair.scenario}\n{source}".encode()).hexdigest()


class Answers:
    """A file with an answer a line.

    :param file: made when the first answer is kept
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[str, Answer] = {}
        for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
            try:
                answer = Answer(**json.loads(line))
            except (ValueError, TypeError):
                continue  # cut off in the middle of a line: that pair is asked about again
            self._known[answer.key] = answer

    def of(self, keys: Mapping[str, str]) -> dict[str, Answer]:
        """Those that are known: by the name of the pair.

        :param keys: name of a pair to its key
        """
        return {name: self._known[key] for name, key in keys.items() if key in self._known}

    def keep(self, answer: Answer) -> None:
        """Write it down at once."""
        self._known[answer.key] = answer
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as out:
            out.write(f"\n{json.dumps(attrs.asdict(answer))}\n")  # begun anew behind a line that was cut off
