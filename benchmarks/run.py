"""``make bench``: what the tool must reach, measured on the code path that users run.

Every figure is taken in this one run. Rates are also given as a ratio to a plain Python loop of function calls timed just before, so
that two machines can be compared.
"""

from __future__ import annotations

import itertools
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import attrs

from benchmarks.explore import exploration_figures
from benchmarks.figure import Figure
from kmm.judge.pair import judge_pair
from kmm.judge.variants import load_variant
from kmm.mm.variant import Variant
from kmm.scenario.families import hypothesis_family
from kmm.scenario.model import Driver, DriverKind, Geometry, Scenario, Tunables, Vma
from kmm.scenario.run import run
from kmm.scenario.small_scope import quick_families
from kmm.scenario.strategies import generate
from kmm.scenario.toml import load_many, save_many


def calibrate() -> float:
    """Plain function calls a second: the unit of the ratios."""

    def call(x: int) -> int:
        return x + 1

    start = time.process_time()
    for i in range(2_000_000):
        call(i)
    return 2_000_000 / (time.process_time() - start)


def pairs_a_second(scenarios: Iterable[Scenario], baseline: Variant, candidate: Variant) -> float:
    """Pairs judged a second of CPU time."""
    todo = list(scenarios)
    start = time.process_time()
    for scenario in todo:
        judge_pair(scenario, baseline, candidate)
    return len(todo) / (time.process_time() - start)


def small_scope_sample() -> list[Scenario]:
    """Every 25th scenario at 8 PTEs of the quick scope."""
    families = quick_families(0)
    every = itertools.chain.from_iterable(family.scenarios() for family in families)
    return list(itertools.islice((s for s in every if s.geometry.ptes == 8), 0, None, 25))


def seconds_a_pte(ptes: int, variant: Variant) -> float:
    """CPU seconds a PTE of one run over a table of mixed states, the best of three."""
    geometry = Geometry(ptes=ptes)
    tunables = Tunables.default(geometry).with_orders(geometry, *range(2, geometry.pmd_order + 1))
    tunables = attrs.evolve(tunables, max_ptes_shared=ptes - 1, max_ptes_swap=ptes - 1)
    pages = ("a" * 20 + "2222" + "ss" + "rrrr" + "zz" + "33333333" + "oooo" + "....") * ptes
    scenario = Scenario(geometry=geometry, tunables=tunables, vmas=(Vma(pages=pages[:ptes]),), driver=Driver(kind=DriverKind.KHUGEPAGED))
    return min(_timed(lambda: run(scenario, variant)) for _ in range(3)) / ptes


def _timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def command_seconds(*args: str, **environment: str) -> float:
    """Wall-clock seconds of a ``kmm`` command."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "kmm", *args], check=False, capture_output=True, env=os.environ | environment)
    return time.perf_counter() - start


def seeded_bug_seconds() -> float:
    """Slowest of the seeded bugs, from start to printed minimal counterexample."""
    from tests.seeded import SEEDED_BUGS, mutate

    slowest = 0.0
    with tempfile.TemporaryDirectory() as name:
        for i, bug in enumerate(SEEDED_BUGS):
            candidate = Path(name) / f"bug{i}.py"
            candidate.write_text(mutate(bug))
            start = time.perf_counter()
            command = [sys.executable, "-m", "kmm", "check", str(candidate)]
            done = subprocess.run(command, check=False, capture_output=True, cwd=name)
            if done.returncode != 2:
                raise SystemExit(f"{bug.name}: exit code {done.returncode}, not 2: {done.stderr.decode()[-300:]}")
            slowest = max(slowest, time.perf_counter() - start)
    return slowest


def generating_seconds() -> float:
    """CPU seconds of generating 500 scenarios at 512 PTEs."""
    return _timed(lambda: generate(Geometry(), 500, 5))


def loading_seconds() -> float:
    """CPU seconds of loading 150 ranges of a capture."""
    geometry = Geometry()
    tunables = Tunables.default(geometry)
    scenario = Scenario(geometry=geometry, tunables=tunables, vmas=(Vma(pages="aao." * 128),), driver=Driver(kind=DriverKind.MADVISE))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "memory.toml"
        save_many(path, [scenario] * 150)
        return _timed(lambda: load_many(path))


def figures() -> list[Figure]:
    """Measure everything."""
    baseline, candidate = load_variant("v12").variant, load_variant("reviewed").variant
    unit = calibrate()
    small = pairs_a_second(small_scope_sample(), baseline, candidate)
    real = pairs_a_second(hypothesis_family(Geometry(), 100, 1).scenarios(), baseline, candidate)
    wide = seconds_a_pte(8192, baseline) / seconds_a_pte(512, baseline)
    start_up = min(command_seconds("--help") for _ in range(5))
    answer = min(command_seconds(_KMM_COMPLETE="bash_complete", COMP_WORDS="kmm check v", COMP_CWORD="2") for _ in range(5))
    whole = command_seconds("check")
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    slowest = seeded_bug_seconds()
    generating, loading = generating_seconds(), loading_seconds()
    return [
        Figure("plain function calls a second", f"{unit:,.0f}", "-", True),
        Figure("pairs a second and core, 8 PTEs", f"{small:,.0f} ({small / unit * 1e6:,.0f} in 1e6 calls)", ">= 2,000", small >= 2000),
        Figure("pairs a second and core, 512 PTEs", f"{real:,.0f} ({real / unit * 1e6:,.1f} in 1e6 calls)", ">= 40", real >= 40),
        Figure("cost a PTE, 8192 PTEs against 512", f"{wide:.2f}", "<= 1.5", wide <= 1.5),
        Figure("kmm --help", f"{start_up:.2f} s", "<= 0.3 s", start_up <= 0.3),
        Figure("completion of a variant's name", f"{answer:.2f} s", "<= 0.4 s", answer <= 0.4),
        Figure("kmm check", f"{whole:.1f} s", "<= 60 s", whole <= 60),
        Figure("largest process of kmm check", f"{memory:.0f} MB", "<= 300 MB", memory <= 300),
        Figure("slowest of ten seeded bugs, found and minimised", f"{slowest:.1f} s", "<= 5 s", slowest <= 5),
        Figure("500 scenarios at 512 PTEs generated", f"{generating:.1f} s", "<= 4 s", generating <= 4),
        Figure("a capture of 150 ranges loaded", f"{loading:.1f} s", "<= 1 s", loading <= 1),
        *exploration_figures(),
    ]


def main() -> int:
    """Print the table; 2 when a bound is missed."""
    measured = figures()
    for figure in measured:
        print(f"{'ok  ' if figure.good else 'MISS'}  {figure.name:52}  {figure.value:34}  {figure.want}")
    return 0 if all(figure.good for figure in measured) else 2


if __name__ == "__main__":
    sys.exit(main())
