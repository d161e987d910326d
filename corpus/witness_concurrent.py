"""The pairs that differ only beside others: what shows it, found again by plain loops over runs.

Of each pair, with the function as it is and changed: without actors, and with them one after the other in every order, nothing differs; and
among schedules that are drawn there are some that end with the changed function as none ends with the one that is there.
``python -m corpus.witness_concurrent [ID...]`` does it again and compares the sentence with the one in the file.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import textwrap
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import islice, permutations
from pathlib import Path
from types import FunctionType
from typing import Final, TypeAlias

import attrs

from kmm.explore import explore
from kmm.mm.pgtable import PmdPage
from kmm.mm.system import System
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
PSO_OPERATORS: Final = ("dropped-barrier",)
"""Seen only where stores reorder."""
STRATEGY: Final = "pos"
SEED: Final = 0
DRAWS: Final = 1_000
"""Schedules of each form of the function."""
TRACES: Final = 4_000
"""Executions in which all ends of the unchanged function are to be found, where reports say nothing."""
FAMILY: Final = 200
STRIDE: Final = 7
"""Without actors: so many scenarios of each family, one of so many."""

End: TypeAlias = tuple[tuple[str, ...], str]
"""What was reported, and the state at the end."""


@attrs.frozen
class Pair:
    """Two forms of one function."""

    id: str
    operator: str
    file: str
    function: str
    old: str
    new: str
    label: str
    kind: str
    by: str
    scenario: str

    @property
    def memory(self) -> str:
        """Under which the pair differs."""
        return "pso" if self.operator in PSO_OPERATORS else "sc"


class NoWitnessError(Exception):
    """A pair does not do what its label says."""


def read_pairs(file: Path = FILE) -> tuple[Pair, ...]:
    """All pairs of a file."""
    return tuple(Pair(**each) for each in tomllib.loads(file.read_text(encoding="utf-8"))["pair"])


def function_of(pair: Pair) -> FunctionType:
    """The function that a pair is about."""
    found: object = importlib.import_module(pair.file.removesuffix(".py").replace("/", "."))
    for name in pair.function.split("."):
        found = vars(found)[name]
    assert isinstance(found, FunctionType)
    return found


@contextmanager
def changed(pair: Pair) -> Iterator[None]:
    """The function has its other form, wherever it was imported."""
    function = function_of(pair)
    source = inspect.getsource(function)
    if source.count(pair.old) != 1:
        raise NoWitnessError(f"old stands {source.count(pair.old)} times in {pair.function}")
    text = "from __future__ import annotations\n" + textwrap.dedent(source.replace(pair.old, pair.new))
    names: dict[str, object] = {}
    exec(compile(text, function.__code__.co_filename, "exec"), function.__globals__.copy(), names)
    other = names[function.__name__]
    assert isinstance(other, FunctionType)
    before, function.__code__ = function.__code__, other.__code__
    try:
        yield
    finally:
        function.__code__ = before


def end_of(done: Run) -> End:
    """Reports, and the state: results, counters, page tables, folios."""
    this = done.world.system
    names = {page.pfn: (folio.label, i) for folio in this.folios for i, page in enumerate(folio.pages)}
    state: list[object] = [done.outcome, done.result, done.errno, done.mmap_locked, done.events, done.steps, done.actors]
    state += [sorted(each.items()) for each in (this.vm_events, this.mthp_stats, this.node_stat)]
    for mm in this.mms:
        state += [mm._mm_users, mm._rss_stat, mm._flags, [(v._vm_start, v._vm_end, v._vm_flags) for v in mm._vmas]]
        state += [page and _range(this, page, names) for page in mm._pmds]
    live = [folio for folio in this.folios if not folio.freed_by]
    pages = {folio.label: [(p._mapcount, p._flags, p._contents) for p in folio.pages] for folio in live}
    state.append(sorted((f.label, f._refcount, f._mapcount, f._flags, pages[f.label]) for f in live))
    return tuple(sorted({f"{each.check}: {each.text}" for each in this.machine.reports})), repr(state)


def _range(this: System, page: PmdPage, names: dict[int, tuple[str, int]]) -> object:
    """What a PMD entry leads to; a page by its name, since its number depends on who allocated first."""

    def value(entry: int) -> object:
        number = entry >> 12 & 0xFFFFFFFFFF
        return entry & 0xFFF, entry >> 52, names.get(number, "" if number in this.tables else number)

    table = this.tables.get(page.slot._val >> 12 & 0xFFFFFFFFFF)
    return value(page.slot._val), len(page._deposited), None if table is None else [value(each) for each in table._entries]


def in_turn(s: Scenario) -> Iterator[Scenario]:
    """The tasks of a scenario one after the other, in every order."""
    collapse = Step(op="madvise", page=0, length=s.geometry.ptes, value="collapse")
    driver = {DriverKind.KHUGEPAGED: (Step(op="khugepaged"),), DriverKind.MADVISE: (collapse,)}
    for steps in permutations((*driver.get(s.driver.kind, ()), *s.actors)):
        yield attrs.evolve(s, driver=Driver(kind=DriverKind.STEPS), steps=(*s.steps, *steps), actors=())


@cache
def alone_scenarios() -> tuple[Scenario, ...]:
    """Some of each family without actors."""
    families = [family for family in (*quick_families(0), *system_families()) if family.kind == "exhaustive"]
    return tuple(s for family in families for s in islice(family.scenarios(), 0, STRIDE * FAMILY, STRIDE) if not s.actors and not s.events)


def alone(s: Scenario, variant: Variant) -> list[End]:
    """The ends without actors: of ``s`` without its actors, with them in turn, and of the small scope."""
    return [end_of(run(each, variant)) for each in (attrs.evolve(s, actors=()), *in_turn(s), *alone_scenarios())]


def drawn(s: Scenario, variant: Variant, memory: str, draws: int = DRAWS) -> Counter[End]:
    """The ends of schedules that are drawn, and how often each came."""
    return _explored(s, variant, strategy=STRATEGY, memory=memory, budget=draws)[0]


def _explored(s: Scenario, variant: Variant, *, strategy: str, memory: str, budget: int) -> tuple[Counter[End], bool]:
    ends: dict[bytes, End] = {}

    def finished(done: Run) -> bytes:
        end = end_of(done)
        key = repr(end).encode()
        ends[key] = end
        return key

    found = explore(Concurrent(s, variant, finished), strategy=strategy, memory=memory, budget=budget, seed=SEED)
    return Counter({ends[key]: each.executions for key, each in found.outcomes.items()}), found.complete


@cache
def _all_ends(scenario: str, variant: str, memory: str) -> tuple[frozenset[End], bool]:
    """Of the unchanged function: the ends of every trace, and whether these are all."""
    ends, complete = _explored(_load(scenario), _variant(variant), strategy="dpor", memory=memory, budget=TRACES)
    return frozenset(ends), complete


@cache
def _drawn_ends(scenario: str, variant: str, memory: str) -> frozenset[End]:
    return frozenset(drawn(_load(scenario), _variant(variant), memory))


@cache
def _alone(scenario: str, variant: str) -> list[End]:
    return alone(_load(scenario), _variant(variant))


@cache
def _load(scenario: str) -> Scenario:
    return load(HERE / "scenarios" / scenario)


def _variant(module: str) -> Variant:
    found: object = vars(importlib.import_module(module))["VARIANT"]
    assert isinstance(found, Variant)
    return found


def variant_of(pair: Pair) -> str:
    """The module of the variant that is run: that of the pair's file; v12 where the file belongs to all."""
    return pair.file.removesuffix(".py").replace("/", ".") if pair.file.startswith("refactors/") else "refactors.v12"


def witness(pair: Pair) -> str:
    """What shows that a pair differs, and only beside others.

    :raises NoWitnessError: nothing does, or something differs alone, too
    """
    module = variant_of(pair)
    s, variant = _load(pair.scenario), _variant(module)
    before = {report for reports, _ in _drawn_ends(pair.scenario, module, pair.memory) for report in reports}
    with changed(pair):
        ends = drawn(s, variant, pair.memory)
    said = _said(pair, ends, before)
    without = _alone(pair.scenario, module)
    with changed(pair):
        if alone(s, variant) != without:
            raise NoWitnessError("differs without actors")
    return said


def _said(pair: Pair, ends: Counter[End], before: set[str]) -> str:
    """What only the changed function comes to, in a sentence.

    :param before: what is reported with the function as it is
    """
    s = _load(pair.scenario)
    driver = [] if s.driver.kind is DriverKind.STEPS else [s.driver.kind.value]
    who = " beside ".join([*driver, *map(actor_text, s.actors)])
    drawn_so = f"{DRAWS} schedules ({STRATEGY}, seed {SEED}{', store buffers' if pair.memory == 'pso' else ''})"
    new: Counter[str] = Counter()
    for (reports, _), n in ends.items():
        new.update({report: n for report in reports if report not in before})
    if new:
        report = min(new, key=lambda each: (-new[each], each))
        return f"{who}: {new[report]} of {drawn_so} report {report}; none of as many with old does"
    old, complete = _all_ends(pair.scenario, variant_of(pair), pair.memory)
    if not complete:
        raise NoWitnessError("nothing new is reported, and there are too many schedules to know all ends")
    others = [(end, n) for end, n in ends.items() if end not in old]
    if not others:
        raise NoWitnessError("nothing shows it")
    count = sum(n for _, n in others)
    return f"{who}: {count} of {drawn_so} end as no trace with old does, which has {len(old)} ends; {_part(others[0][0], old)}"


def _part(end: End, old: frozenset[End]) -> str:
    """Where an end differs from the nearest of the others."""
    values = ast.literal_eval(end[1])
    near = min((ast.literal_eval(each[1]) for each in old), key=lambda other: (_distance(values, other), repr(other)))
    at = next(i for i, (one, other) in enumerate(zip(values, near, strict=True)) if one != other)
    names = ("outcome", "result", "errno", "mmap_locked", "events", "steps", "actors", "vm_events", "mthp_stats", "node_stat")
    if at >= len(names):
        return "the address space differs" if at < len(values) - 1 else "the folios differ"
    return f"{names[at]} {values[at]} instead of {near[at]}"


def _distance(one: Sequence[object], other: Sequence[object]) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


def main(wanted: Sequence[str]) -> int:
    """Find all witnesses again, or some."""
    bad = 0
    for pair in read_pairs():
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
