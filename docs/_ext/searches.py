"""``make docs-searches``: searches v12 and reviewed beside every actor, and writes what came of it into docs/searches.md."""

from __future__ import annotations

import os
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from kmm.judge.sets import judge_sets
from kmm.judge.variants import load_variant
from kmm.scenario.model import DriverKind
from kmm.scenario.search import EXHAUSTIVE, Search
from kmm.scenario.small_concurrent import ACTORS, MAPS, beside

PAGE: Final = Path(__file__).parents[1] / "searches.md"
ORDERS: Final = (3, 2)
PAIRS: Final = (("load:0", "store:0"), ("gup:0:write", "madvise:0-7:dontneed"), ("munmap:0-3", "fork"), ("madvise:0-7:collapse", "exit"))
WHOLE: Final = EXHAUSTIVE
DRAWN: Final = Search(strategy="pos", budget=1_000)
Row = tuple[tuple[str, ...], int]

HEAD: Final = """\
# What was searched

`v12` and `reviewed` beside every actor, in a table of 8 PTEs with the map `{map}`, under khugepaged and sequential consistency. With one
actor every trace is run once; beside two, {drawn:,} schedules are drawn (`pos`, seed 0). `make docs-searches` writes this page; the numbers
are the same on every machine, and a test of the full tier compares them. A row is `kmm explore` on a file with that map, order and
`--with`; the last column is the judge's.

*Executions* include those that the reduction starts and finds to be the same as others; *traces* are the distinct ones; *outcomes* are all
observables together.

| actor | order | v12: executions | traces | outcomes | reviewed: executions | traces | outcomes | all of them | sets |
|---|---|---|---|---|---|---|---|---|---|
"""


def row(what: Row) -> str:
    """One row of the table."""
    actors, order = what
    search = WHOLE if len(actors) == 1 else DRAWN
    sides = load_variant("v12").variant, load_variant("reviewed").variant
    sets = judge_sets(beside(actors, MAPS[0], (order,), DriverKind.KHUGEPAGED), *sides, search)
    cells = [" and ".join(f"`{each}`" for each in actors), str(order)]
    for side in (sets.baseline, sets.candidate):
        found = side.exploration
        cells += [f"{found.executions:,}", f"{found.traces:,}", f"{len(found.outcomes):,}"]
    cells += ["yes" if sets.complete else "no, drawn", sets.relation]
    return f"| {' | '.join(cells)} |\n"


def rows() -> list[Row]:
    """Everything that is searched."""
    return [((actor,), order) for actor in ACTORS for order in ORDERS] + [(pair, ORDERS[-1]) for pair in PAIRS]


def text() -> str:
    """The whole page."""
    with get_context("spawn").Pool(os.cpu_count()) as pool:
        return HEAD.format(map=MAPS[0], drawn=DRAWN.budget) + "".join(pool.imap(row, rows()))


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
