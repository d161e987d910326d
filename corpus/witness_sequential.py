"""What shows that a pair differs with nobody beside: a plain loop over scenarios, which knows nothing of the judge.

``python -m corpus.witness_sequential [ID...]`` does it again for the pairs of the list and compares the sentence with the one in the file.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import chain, count, islice, zip_longest
from types import CodeType, FrameType
from typing import Final

from corpus.ends import End, end_of, part
from corpus.pairs import ROOT, Pair, load_pairs
from corpus.swap import changed, function_of, variant, variant_of
from kmm.scenario.model import Scenario
from kmm.scenario.run import run
from kmm.scenario.small_scope import quick_families
from kmm.scenario.small_systems import system_families

FILE: Final = ROOT / "corpus/sequential.toml"
STRIDE: Final = 13
"""One of so many scenarios of each family, or of the few that a small one has."""
FEW: Final = 100
SECONDS: Final = 2.0
"""Of the processor, for one run: a loop that reads and writes nothing has no other end."""


class EndlessError(BaseException):
    """A run does not end."""


class Scenarios:
    """Some of each exhaustive family, with where each is from; the families take turns. They are made as they are asked for."""

    def __init__(self) -> None:
        families = (*quick_families(0), *system_families())
        lists = [_some(family.name, family.scenarios()) for family in families if family.kind == "exhaustive"]
        self._more = (each for row in zip_longest(*lists) for each in row if each is not None)
        self._made: list[tuple[str, Scenario]] = []

    def __getitem__(self, number: int) -> tuple[str, Scenario]:
        """One of them; ``IndexError`` behind the last."""
        self._made += islice(self._more, max(0, number + 1 - len(self._made)))
        return self._made[number]

    def __iter__(self) -> Iterator[tuple[str, Scenario]]:
        """From the first one on."""
        with suppress(IndexError):
            for number in count():
                yield self[number]


def _some(name: str, every: Iterator[Scenario]) -> Iterator[tuple[str, Scenario]]:
    numbered = enumerate(every)
    few = list(islice(numbered, FEW))
    more = islice(numbered, 0, None, STRIDE)
    return ((f"scenario {number} of {name}", s) for number, s in chain(few, more))


SCENARIOS: Final = Scenarios()


@cache
def _end(module: str, number: int) -> tuple[End, frozenset[CodeType]]:
    """How a scenario ends, and what was called: a function that was not cannot change it."""
    called: set[CodeType] = set()

    def on(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            called.add(frame.f_code)

    usual = sys.getprofile()
    sys.setprofile(on)
    try:
        done = run(SCENARIOS[number][1], variant(module))
    finally:
        sys.setprofile(usual)
    return end_of(done), frozenset(each for each in called if each.co_filename in _files())


@cache
def _files() -> frozenset[str]:
    """Of the code that the pairs change."""
    return frozenset(str(path) for room in ("refactors", "kmm/mm") for path in (ROOT / room).rglob("*.py"))


def witness(pair: Pair, most: int | None = None) -> str:
    """The first scenario that ends otherwise with the changed function, and where; empty: none does.

    :param most: of so many
    :raises EndlessError: a run does not end
    """
    module = variant_of(pair)
    code = function_of(pair).__code__
    for number, (name, s) in islice(enumerate(SCENARIOS), most):
        before, called = _end(module, number)
        if code not in called:
            continue
        with changed(pair), _limited():
            after = end_of(run(s, variant(module)))
        if after != before:
            return f"{name}: {_differs(before, after)}"
    return ""


@contextmanager
def _limited() -> Iterator[None]:
    def end(_signal: int, _frame: object) -> None:
        raise EndlessError

    usual = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, usual)


def _differs(before: End, after: End) -> str:
    new, gone = ([each for each in one[0] if each not in other[0]] for one, other in ((after, before), (before, after)))
    if new:
        return f"reports {new[0]}"
    return part(after, [before]) if after[1] != before[1] else f"no longer reports {gone[0]}"


def main(wanted: Sequence[str]) -> int:
    """Find all witnesses again, or some."""
    bad = 0
    for pair in load_pairs(FILE):
        if not wanted or pair.id in wanted:
            said = witness(pair)
            bad += said != pair.by
            print(f"{pair.id}: {'as it stands in the file' if said == pair.by else said or 'no witness'}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
