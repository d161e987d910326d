"""``make docs-searches``: searches v12 and reviewed beside every actor, and writes what came of it into docs/searches.md."""

from __future__ import annotations

import os
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import attrs

from kmm.judge.sets import judge_sets
from kmm.judge.variants import load_variant
from kmm.scenario.model import DriverKind, Vma
from kmm.scenario.search import EXHAUSTIVE, Search
from kmm.scenario.small_concurrent import ACTORS, MAPS, SMALL_ORDER, beside

PAGE: Final = Path(__file__).parents[1] / "searches.md"
PMD_ORDER: Final = 3
SMALL: Final = 2
ONE_PAGE: Final = "a......."
FLAGS: Final = ("mergeable", "read", "write")
PAIRS: Final = (("load:0", "store:0"), ("gup:0:write", "madvise:0-7:dontneed"), ("munmap:0-3", "fork"), ("madvise:0-7:collapse", "exit"))
DRAWN: Final = Search(strategy="pos", budget=1_000)

HEAD: Final = """\
# What was searched

`v12` and `reviewed` beside every actor, in a table of 8 PTEs, under khugepaged and sequential consistency. With one actor every trace is
run once; beside two, {drawn:,} schedules are drawn (`pos`, seed 0). `make docs-searches` writes this page; the numbers are the same on
every machine, and tests compare them. A row is `kmm explore` on a file with that map and order (the VMA is also `mergeable`) and `--with`;
the last column is the judge's.

*Executions* include those that the reduction starts and finds to be the same as others, and those from before something turned out to be
shared; *traces* are the distinct ones; *outcomes* are all observables together.

| actor | map | order | v12: executions | traces | outcomes | reviewed: executions | traces | outcomes | all of them | sets |
|---|---|---|---|---|---|---|---|---|---|---|
"""


@attrs.frozen
class Row:
    """What is searched.

    :param actors: in their short form
    :param pages: the map
    """

    actors: tuple[str, ...]
    order: int = PMD_ORDER
    pages: str = MAPS[0]


def line(row: Row) -> str:
    """One row of the table."""
    s = beside(row.actors, row.pages, (row.order,), DriverKind.KHUGEPAGED)
    s = attrs.evolve(s, vmas=(Vma(pages=row.pages, flags=FLAGS),))
    sides = load_variant("v12").variant, load_variant("reviewed").variant
    sets = judge_sets(s, *sides, EXHAUSTIVE if len(row.actors) == 1 else DRAWN)
    cells = [" and ".join(f"`{each}`" for each in row.actors), f"`{row.pages}`", str(row.order)]
    for side in (sets.baseline, sets.candidate):
        found = side.exploration
        cells += [f"{found.executions:,}", f"{found.traces:,}", f"{len(found.outcomes):,}"]
    cells += ["yes" if sets.complete else "no", sets.relation]
    return f"| {' | '.join(cells)} |\n"


def rows() -> list[Row]:
    """Everything that is searched."""
    return [
        *(Row((actor,)) for actor in (*ACTORS, "secondary_fault:0", "uffd_copy:3")),
        *(Row((actor,), pages=ONE_PAGE) for actor in ("ksm:0", "memory_failure:0")),
        *(Row((actor,), SMALL) for actor in SMALL_ORDER),
        *(Row(pair, SMALL) for pair in PAIRS),
    ]


def lines(found: list[Row]) -> list[str]:
    """Their rows of the table."""
    with get_context("spawn").Pool(os.cpu_count()) as pool:
        return pool.map(line, found, chunksize=1)


if __name__ == "__main__":
    PAGE.write_text(HEAD.format(drawn=DRAWN.budget) + "".join(lines(rows())), encoding="utf-8")
