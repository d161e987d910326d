"""Judge the corpus and print the confusion table: ``make corpus``.

What is labelled different is judged by ``kmm check PATCH`` in a process of its own, as a user would do it, and timed from start to end.
What is labelled equivalent takes a whole scope each, and is judged by the same function one after the other in this process, which makes
the scenarios once. What needs store buffers to differ is asked about as a user must: with its scenario and ``--memory pso``.

Every answer is kept at once; the next run goes on where this one was interrupted. Exit codes: 0 every answer is as labelled, 2 a label is
contradicted, 3 something is undetermined or not judged yet.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from corpus import answers
from corpus.answers import FAILED, Answer, Answers, key_of, source_hash
from corpus.pairs import KINDS, LABELS, ROOT, Pair, all_pairs
from corpus.table import Asked, contradicts, exit_code, paired, report

if TYPE_CHECKING:
    from kmm.scenario.families import Family

Ask: TypeAlias = Callable[[Pair, str, int | None], Answer]
"""A pair, the key of its answer, and how many worker processes."""
SEED: Final = 0


def by_command(pair: Pair, key: str, jobs: int | None) -> Answer:
    """Ask ``kmm check``, from the start of the process to its end."""
    with tempfile.TemporaryDirectory(prefix="kmm-corpus-") as cwd:
        patch = Path(cwd) / "pair.patch"
        patch.write_text(pair.patch(), encoding="utf-8")
        command = [sys.executable, "-m", "kmm", "check", str(patch), "--format", "json", *_options(pair, jobs)]
        started = time.monotonic()
        done = subprocess.run(command, cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - started
    if done.returncode not in (0, 2, 3):
        said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        return Answer(id=pair.id, key=key, word=FAILED, seconds=seconds, judged_s=0.0, jobs=jobs or 0, shown=said.replace(cwd, ""))
    return _answer(pair, key, json.loads(done.stdout), seconds)


def _options(pair: Pair, jobs: int | None) -> list[str]:
    asked = [] if jobs is None else ["--jobs", str(jobs)]
    if pair.memory == "sc":
        return asked
    return [*asked, "--scenario", str(ROOT / "corpus/scenarios" / pair.scenario), "--memory", pair.memory]


def _answer(pair: Pair, key: str, verdict: dict[str, object], seconds: float) -> Answer:
    environment, example = verdict["environment"], verdict["counterexample"]
    assert isinstance(environment, dict)
    if environment["interrupted"]:
        raise KeyboardInterrupt
    return Answer(
        id=pair.id,
        key=key,
        word=str(verdict["relation"]),
        seconds=seconds,
        judged_s=float(environment["elapsed_s"]),
        jobs=int(environment["jobs"]),
        shown=_shown(str(example["explanation"])) if isinstance(example, dict) else "",
    )


def _shown(explanation: str) -> str:
    """The first observable that differs."""
    _, _, behind = explanation.partition("What differs")
    return " ".join((behind or explanation).splitlines()[1:2]).strip()


class Batch:
    """Asks about one pair after the other in this process; the scenarios of the quick scope are made once."""

    def __init__(self) -> None:
        self._made: dict[str, Family] = {}

    def __call__(self, pair: Pair, key: str, jobs: int | None) -> Answer:
        """What ``kmm check PATCH`` does, without starting anew."""
        from kmm.cli.compared import compared
        from kmm.judge.check import check
        from kmm.judge.verdict import to_json
        from kmm.lab.breadth import families_of
        from kmm.lab.sides import opened
        from kmm.report import console
        from kmm.report.progress import Progress
        from kmm.scenario.errors import BadInputError

        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="kmm-corpus-") as cwd, Progress(console.stderr()) as progress:
            patch = Path(cwd) / "pair.patch"
            patch.write_text(pair.patch(), encoding="utf-8")
            try:
                with opened(*compared((str(patch),), None, (), None, None)) as sides:
                    families = [self._kept(family) for family in families_of(*sides, "quick", SEED)]
                    verdict = check(*sides, families, seed=SEED, jobs=jobs, progress=progress.update)
            except BadInputError as error:
                seconds = time.monotonic() - started
                return Answer(id=pair.id, key=key, word=FAILED, seconds=seconds, judged_s=0.0, jobs=0, shown=str(error).replace(cwd, ""))
        return _answer(pair, key, to_json(verdict), time.monotonic() - started)

    def _kept(self, family: Family) -> Family:
        """With scenarios that are made already."""
        if family.name not in self._made:
            scenarios = tuple(family.scenarios())
            self._made[family.name] = attrs.evolve(family, scenarios=lambda: iter(scenarios))
        return self._made[family.name]


@attrs.frozen(kw_only=True)
class Wanted:
    """Which pairs are judged.

    :param only: stands in the name, the operator or the function
    :param limit: so many that have no answer yet
    """

    only: str = ""
    kind: str = ""
    label: str = ""
    limit: int | None = None

    def of(self, pairs: Sequence[Pair]) -> list[Pair]:
        """In their order."""
        return [
            pair
            for pair in pairs
            if any(self.only in each for each in (pair.id, pair.operator, pair.function))
            and self.kind in ("", pair.kind)
            and self.label in ("", pair.label)
        ]


def run(pairs: Sequence[Pair], known: Answers, keys: dict[str, str], ask: Callable[[Pair], Answer], limit: int | None) -> Iterator[Answer]:
    """Ask about those without an answer, and keep each answer at once."""
    todo = [pair for pair in pairs if pair.id not in known.of(keys)]
    for number, pair in enumerate(todo[:limit], start=1):
        answer = ask(pair)
        known.keep(answer)
        word = "CONTRADICTS its label" if contradicts(pair, answer) else "as labelled" if answer.word in (pair.label, "refines") else "open"
        print(f"[{number}/{len(todo)}] {pair.id}: {answer.word}, {word}, {answer.seconds:.1f} s", flush=True)
        yield answer


def main(arguments: Sequence[str]) -> int:
    """Judge what is not judged yet, print the tables."""
    options = _parser().parse_args(arguments)
    wanted = Wanted(only=options.only, kind=options.kind, label=options.label, limit=options.limit)
    pairs = wanted.of(all_pairs())
    source = source_hash()
    keys = {pair.id: key_of(pair, source) for pair in pairs}
    known = Answers(options.answers)
    batch = Batch()

    def ask(pair: Pair) -> Answer:
        return (batch if pair.label == "equivalent" else by_command)(pair, keys[pair.id], options.jobs)

    try:
        for _ in run(pairs, known, keys, ask, wanted.limit):
            pass
    except KeyboardInterrupt:
        print("interrupted; the next run goes on from here", file=sys.stderr)
    asked: Asked = paired(pairs, known.of(keys))
    print(f"\n{report(asked)}")
    if options.page is not None:
        everything = all_pairs()
        write_page(options.page, paired(everything, known.of({pair.id: key_of(pair, source) for pair in everything})), source)
    return exit_code(asked)


def write_page(page: Path, asked: Asked, source: str) -> None:
    """Put the tables of the whole corpus between the marks of a page."""
    text = page.read_text(encoding="utf-8")
    where = f"kmm {metadata.version('kmm-sandbox')}, Python {platform.python_version()}, {os.cpu_count()} CPUs"
    made = f"{report(asked)}\n\nMeasured with `make corpus`, {date.today()}: {where}, source {source[:12]}."
    page.write_text(
        re.sub(r"(<!-- made -->\n).*(\n<!-- end -->)", lambda m: f"{m[1]}{made}{m[2]}", text, flags=re.DOTALL), encoding="utf-8"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m corpus.judge", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="pairs with this in their name, operator or function")
    parser.add_argument("--kind", default="", choices=KINDS)
    parser.add_argument("--label", default="", choices=LABELS)
    parser.add_argument("--limit", type=int, metavar="N", help="ask about so many, then print the table")
    parser.add_argument("--jobs", type=int, metavar="N", help="worker processes; default: one a CPU")
    parser.add_argument("--page", type=Path, metavar="FILE", help="a page between whose marks the tables of the whole corpus go")
    parser.add_argument("--answers", type=Path, default=answers.FILE, metavar="FILE", help="where answers are kept; default: %(default)s")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
