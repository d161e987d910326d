"""The pairs that differ only beside others: what shows it, found again by plain loops over runs.

Of each pair, with the function as it is and changed: without actors, and with them one after the other in every order, nothing differs; and
among schedules that are drawn there are some that end with the changed function as none ends with the one that is there.
``python -m corpus.witness_concurrent [ID...]`` does it again and compares the sentence with the one in the file.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice, permutations
from pathlib import Path
from typing import Final

import attrs

from corpus.ends import End, end_of, part
from corpus.pairs import Pair, load_pairs
from corpus.swap import changed, variant, variant_of
from kmm.explore import explore
from kmm.mm.variant import Variant
from kmm.scenario.concurrent import Concurrent
from kmm.scenario.drive import Run
from kmm.scenario.model import Driver, DriverKind, Scenario
from kmm.scenario.run import run
from kmm.scenario.small_scope import quick_families
from kmm.scenario.small_systems import system_families
from kmm.scenario.spec import actor_text
from kmm.scenario.step import Step
from kmm.scenario.toml import load

HERE: Final = Path(__file__).parent
FILE: Final = HERE / "concurrent.toml"
STRATEGY: Final = "pos"
SEED: Final = 0
DRAWS: Final = 1_000
"""Schedules of each form of the function."""
TRACES: Final = 4_000
"""Executions in which every trace is looked for, where those show nothing."""
FAMILY: Final = 200
STRIDE: Final = 7
"""Without actors: so many scenarios of each family, one of so many."""


class NoWitnessError(Exception):
    """A pair does not do what its label says."""


def in_turn(s: Scenario) -> Iterator[Scenario]:
    """The tasks of a scenario one after the other, in every order."""
    collapse = Step(op="madvise", page=0, length=s.geometry.ptes, value="collapse")
    driver = {DriverKind.KHUGEPAGED: (Step(op="khugepaged"),), DriverKind.MADVISE: (collapse,)}
    for steps in permutations((*driver.get(s.driver.kind, ()), *s.actors)):
        yield attrs.evolve(s, driver=Driver(kind=DriverKind.STEPS), steps=(*s.steps, *steps), actors=())


@cache
def alone_scenarios() -> tuple[Scenario, ...]:
    """What runs without actors: some of each family of the small scope, and the actors of every pair in turn."""
    families = [family for family in (*quick_families(0), *system_families()) if family.kind == "exhaustive"]
    some = (s for family in families for s in islice(family.scenarios(), 0, STRIDE * FAMILY, STRIDE) if not s.actors and not s.events)
    with_actors = (s for s in map(load, sorted((HERE / "scenarios").glob("*.toml"))) if s.actors)
    return (*(each for s in with_actors for each in in_turn(s)), *some)


@attrs.frozen
class Explored:
    """The ends of many schedules, and how often each came.

    :param words: which schedules
    :param complete: there are no other ends
    """

    ends: Counter[End]
    words: str
    complete: bool

    def reports(self) -> Counter[str]:
        """In how many schedules each was made."""
        found: Counter[str] = Counter()
        for (reports, _), n in self.ends.items():
            found.update(dict.fromkeys(reports, n))
        return found


def explored(s: Scenario, runs: Variant, memory: str, *, drawn: bool) -> Explored:
    """The ends of schedules that are drawn, or of every trace."""
    ends: dict[bytes, End] = {}

    def finished(done: Run) -> bytes:
        end = end_of(done)
        key = repr(end).encode()
        ends[key] = end
        return key

    strategy, budget = (STRATEGY, DRAWS) if drawn else ("dpor", TRACES)
    found = explore(Concurrent(s, runs, finished), strategy=strategy, memory=memory, budget=budget, seed=SEED)
    counted = Counter({ends[key]: each.executions for key, each in found.outcomes.items()})
    words = f"{DRAWS} schedules ({STRATEGY}, seed {SEED}" if drawn else f"{'all ' * found.complete}{found.traces} traces (dpor"
    return Explored(counted, f"{words}{', store buffers' * (memory == 'pso')})", found.complete)


@cache
def _unchanged(scenario: str, module: str, memory: str, *, drawn: bool) -> Explored:
    return explored(_load(scenario), variant(module), memory, drawn=drawn)


@cache
def _alone(module: str) -> tuple[End, ...]:
    return tuple(end_of(run(each, variant(module))) for each in alone_scenarios())


@cache
def _load(scenario: str) -> Scenario:
    return load(HERE / "scenarios" / scenario)


def witness(pair: Pair) -> str:
    """What shows that a pair differs, and only beside others.

    :raises NoWitnessError: nothing does, or something differs alone, too
    """
    s, module = _load(pair.scenario), variant_of(pair)
    driver = [] if s.driver.kind is DriverKind.STEPS else [s.driver.kind.value]
    shown = _shown(pair, s, module)
    ends = _alone(module)
    with changed(pair):
        if any(end_of(run(each, variant(module))) != end for each, end in zip(alone_scenarios(), ends, strict=True)):
            raise NoWitnessError("differs without actors")
    return f"{' beside '.join([*driver, *map(actor_text, s.actors)])}: {shown}"


def _shown(pair: Pair, s: Scenario, module: str) -> str:
    """What only the changed function comes to: in schedules that are drawn, else in all traces."""
    found: list[tuple[Explored, Explored]] = []
    for drawn in (True, False):
        old = _unchanged(pair.scenario, module, pair.memory, drawn=drawn)
        with changed(pair):
            new = explored(s, variant(module), pair.memory, drawn=drawn)
        found.append((old, new))
        reports = Counter({each: n for each, n in new.reports().items() if not any(each in before.reports() for before, _ in found)})
        if reports:
            report = min(reports, key=lambda each: (-reports[each], each))
            return f"{reports[report]} of {new.words} report {report}; none of {old.words} with old does"
    old = found[-1][0]
    if not old.complete:
        raise NoWitnessError(f"nothing new is reported, and {old.words} are not all")
    if not found[0][0].ends.keys() <= old.ends.keys():
        raise NoWitnessError("equal traces of the unchanged function end differently")
    for _, new in found:
        others = [end for end in new.ends if end not in old.ends]
        if others:
            count = sum(new.ends[end] for end in others)
            return f"{count} of {new.words} end as none of {old.words} with old does; {part(others[0], old.ends)}"
    raise NoWitnessError("nothing shows it")


def main(wanted: Sequence[str]) -> int:
    """Find all witnesses again, or some."""
    bad = 0
    for pair in load_pairs(FILE):
        if wanted and pair.id not in wanted:
            continue
        try:
            said = witness(pair)
        except NoWitnessError as error:
            said = f"no witness: {error}"
        good = said == pair.by
        bad += not good
        print(f"{pair.id}: {'as it stands in the file' if good else said}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
