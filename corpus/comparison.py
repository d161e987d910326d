"""Twenty pairs judged by kmm, and as plain functions by two tools that compare functions: writes docs/comparison.md.

kmm gets the patch. CrossHair (``crosshair diffbehavior``) and Hypothesis (``hypothesis write --equivalent``) get the piece of code in
question cut out by hand, a function of plain values (``corpus/plain``). Every command has the same budget of wall-clock time.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Final

import attrs

from corpus.pairs import ROOT, Pair, load_pairs

FILE: Final = ROOT / "corpus/compared.toml"
PLAIN: Final = ROOT / "corpus/plain"
PAGE: Final = ROOT / "docs/comparison.md"
TOOLS: Final = ROOT / "build/comparison/tools"
PACKAGES: Final = ("crosshair-tool", "hypothesis[ghostwriter]", "pytest")
BUDGET_S: Final = 60
SAME, NONE_FOUND, DIFFERENT, FAILED = "equivalent", "none found", "different", "failed"
CONFTEST: Final = """
from hypothesis import HealthCheck, settings
unhealthy = list(HealthCheck)
settings.register_profile("budget", max_examples=10**9, deadline=None, database=None, derandomize=True, suppress_health_check=unhealthy)
settings.load_profile("budget")
"""


@attrs.frozen
class Answer:
    """What a tool said, and after how long.

    :param seconds: of wall-clock time, start-up included
    """

    word: str
    seconds: float

    def right(self, label: str) -> bool:
        """It says what the label says, or nothing against it."""
        return self.word == label or (self.word == NONE_FOUND and label == SAME)


@attrs.frozen
class Compared:
    """One pair, and what each tool said of it."""

    pair: Pair
    answers: Mapping[str, Answer]


def _run(command: Sequence[str | Path], cwd: Path, seconds: float, path: Sequence[Path] = ()) -> tuple[int | None, str]:
    """Exit code (``None``: the time was up) and what was printed."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONHASHSEED": "0"}
    try:
        done = subprocess.run(
            command, cwd=cwd, env=env, timeout=seconds, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
    except subprocess.TimeoutExpired:
        return None, ""
    return done.returncode, done.stdout


def _kmm(pair: Pair, cwd: Path, budget_s: float) -> str:
    patch = cwd / f"{pair.id}.patch"
    patch.write_text(pair.patch(), encoding="utf-8")
    command: list[str | Path] = [sys.executable, "-m", "kmm", "check", patch, "--budget", str(budget_s)]
    code, _ = _run(command, cwd, budget_s * 2, [ROOT])
    return {0: SAME, 2: DIFFERENT, 3: NONE_FOUND, None: NONE_FOUND}.get(code, FAILED)


def _crosshair(pair: Pair, cwd: Path, budget_s: float) -> str:
    name = pair.id.replace("-", "_")
    sides = [f"corpus.plain.{side}.{name}" for side in ("original", "changed")]
    command: list[str | Path] = [TOOLS / "bin/crosshair", "diffbehavior", *sides, "--per_condition_timeout", str(budget_s)]
    code, said = _run(command, cwd, budget_s, [ROOT])
    if code == 0:
        return SAME if "All paths exhausted" in said else NONE_FOUND
    return {1: DIFFERENT, None: NONE_FOUND}.get(code, FAILED)


def _hypothesis(pair: Pair, cwd: Path, budget_s: float) -> str:
    name = pair.id.replace("-", "_")
    path = [ROOT, PLAIN]
    command: list[str | Path] = [TOOLS / "bin/hypothesis", "write", "--equivalent", f"original.{name}", f"changed.{name}"]
    code, test = _run(command, cwd, budget_s, path)
    if code != 0:
        return FAILED
    (cwd / "test_pair.py").write_text(test, encoding="utf-8")
    (cwd / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    code, said = _run([TOOLS / "bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_pair.py"], cwd, budget_s, path)
    if code == 1:
        return DIFFERENT if "AssertionError" in said or "assert " in said else FAILED
    return {0: NONE_FOUND, None: NONE_FOUND}.get(code, FAILED)


ASK: Final[Mapping[str, Callable[[Pair, Path, float], str]]] = {
    "kmm check": _kmm,
    "crosshair diffbehavior": _crosshair,
    "hypothesis write --equivalent": _hypothesis,
}


def compare(pair: Pair, budget_s: float) -> Compared:
    """Ask every tool about a pair."""
    answers = {}
    for tool, ask in ASK.items():
        with tempfile.TemporaryDirectory() as cwd:
            started = time.monotonic()
            word = ask(pair, Path(cwd), budget_s)
            answers[tool] = Answer(word, time.monotonic() - started)
    return Compared(pair, answers)


def install() -> None:
    """Both tools, in a virtual environment of their own."""
    if not (TOOLS / "bin/crosshair").exists():
        venv.create(TOOLS, with_pip=True)
        subprocess.run([TOOLS / "bin/python", "-m", "pip", "install", "-qq", "--disable-pip-version-check", *PACKAGES], check=True)


def versions() -> str:
    """Of the tools, as they are installed."""
    code = "from importlib.metadata import version as v; print(f\"CrossHair {v('crosshair-tool')}, Hypothesis {v('hypothesis')}\")"
    said = subprocess.run([TOOLS / "bin/python", "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    return f"{said}, Python {platform.python_version()}, {os.cpu_count()} CPUs"


def table(compared: Sequence[Compared], budget_s: float) -> str:
    """The table of the page."""
    lines = ["| pair | label | " + " | ".join(ASK) + " |", "|---|---|" + "---|" * len(ASK)]
    for each in compared:
        cells = [_cell(answer, each.pair.label, budget_s) for answer in each.answers.values()]
        lines.append(f"| `{each.pair.id}` | {each.pair.label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(answer: Answer, label: str, budget_s: float) -> str:
    wrong = "" if answer.right(label) else " (**missed**)" if answer.word == NONE_FOUND else " (**wrong**)"
    after = "budget" if answer.word == NONE_FOUND and answer.seconds >= budget_s else f"{answer.seconds:.1f} s"
    return f"{answer.word}{wrong}, {after}"


def summary(compared: Sequence[Compared]) -> str:
    """How many each tool found, proved and missed."""
    lines = [
        "| tool | of those that differ: found | median time | of those that are equivalent: said so | wrong |",
        "|---|---|---|---|---|",
    ]
    for tool in ASK:
        differ = [each.answers[tool] for each in compared if each.pair.label == DIFFERENT]
        same = [each.answers[tool] for each in compared if each.pair.label == SAME]
        found = sorted(each.seconds for each in differ if each.word == DIFFERENT)
        wrong = sum(each.word == SAME for each in differ) + sum(each.word == DIFFERENT for each in same)
        median = f"{found[len(found) // 2]:.1f} s" if found else "-"
        said = sum(each.word == SAME for each in same)
        lines.append(f"| {tool} | {len(found)} of {len(differ)} | {median} | {said} of {len(same)} | {wrong} |")
    return "\n".join(lines)


def write_page(compared: Sequence[Compared], budget_s: float) -> None:
    """Put the numbers between the marks of the page."""
    text = PAGE.read_text(encoding="utf-8")
    measured = f"Measured on {date.today()} with `make comparison`: {budget_s} s a command, {versions()}."
    made = f"{summary(compared)}\n\n{table(compared, budget_s)}\n\n{measured}"
    PAGE.write_text(
        re.sub(r"(<!-- made -->\n).*(\n<!-- end -->)", lambda m: f"{m[1]}{made}{m[2]}", text, flags=re.DOTALL), encoding="utf-8"
    )


def main() -> None:
    """Compare, say each line as it comes, write the page when all are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=int, default=BUDGET_S, metavar="SECONDS", help=f"for each command; default: {BUDGET_S}")
    parser.add_argument("--only", default="", metavar="TEXT", help="pairs whose name has this in it; the page stays as it is")
    options = parser.parse_args()
    install()
    compared = []
    for pair in load_pairs(FILE):
        if options.only in pair.id:
            compared.append(compare(pair, options.budget))
            print(table(compared[-1:], options.budget).splitlines()[-1], flush=True)
    print(summary(compared))
    if not options.only:
        write_page(compared, options.budget)


if __name__ == "__main__":
    main()
