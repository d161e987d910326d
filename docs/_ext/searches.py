"""``make docs-searches``: searches v12 and reviewed beside every actor, and writes what came of it into docs/searches.md."""

from __future__ import annotations

import os
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import attrs

from kmm.judge.sets import judge_sets
from kmm.judge.variants import load_variant
from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.model import DriverKind, Scenario, Vma
from kmm.scenario.search import EXHAUSTIVE, Search
from kmm.scenario.small_concurrent import ACTORS, MAPS, SMALL_ORDER, beside

PAGE: Final = Path(__file__).parents[1] / "searches.md"
PMD_ORDER: Final = 3
SMALL: Final = 2
ONE_PAGE: Final = "a......."
FLAGS: Final = ("mergeable", "read", "write")
EQUAL: Final = attrs.evolve(ALPHABET["a"], contents=7)
LETTERS: Final = {"E": EQUAL, "0": attrs.evolve(EQUAL, contents=0)}
"""E are equal pages, 0 are zeros."""
PAIRS: Final = (
    ("load:0", "store:0"),
    ("gup:0:write", "madvise:0-7:dontneed"),
    ("munmap:0-3", "fork"),
    ("madvise:0-7:collapse", "exit"),
    ("migrate:0", "load:0"),
)
DRAWN: Final = Search(strategy="pos", budget=1_000)

HEAD: Final = """\
# What was searched

`v12` and `reviewed` beside every actor, in a table of 8 PTEs, under khugepaged and sequential consistency. With one actor every trace is
run once; beside two, {drawn:,} schedules are drawn (`pos`, seed 0). `make docs-searches` writes this page; the numbers are the same on
every machine, and tests compare them. A row is `kmm explore` on a file with that map and order and `--with`; the VMA is `mergeable`, too,
and has the flags that stand with the map; the letters `E` are equal pages, and `0` zeros. The last column is the judge's.

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
    :param flags: further ones of the VMA
    """

    actors: tuple[str, ...]
    order: int = PMD_ORDER
    pages: str = MAPS[0]
    flags: tuple[str, ...] = ()

    def head(self) -> str:
        """The cells that say what is searched."""
        where = " ".join(f"`{each}`" for each in (self.pages, *self.flags))
        return f"| {' and '.join(f'`{each}`' for each in self.actors)} | {where} | {self.order} | "

    def scenario(self) -> Scenario:
        """To be searched."""
        s = beside(self.actors, MAPS[0], (self.order,), DriverKind.KHUGEPAGED)
        letters = tuple(each for each in LETTERS.items() if each[0] in self.pages)
        return attrs.evolve(s, vmas=(Vma(pages=self.pages, flags=tuple(sorted({*FLAGS, *self.flags}))),), letters=letters)


def line(row: Row) -> str:
    """One row of the table."""
    sides = load_variant("v12").variant, load_variant("reviewed").variant
    sets = judge_sets(row.scenario(), *sides, EXHAUSTIVE if len(row.actors) == 1 else DRAWN)
    cells = []
    for side in (sets.baseline, sets.candidate):
        found = side.exploration
        cells += [f"{found.executions:,}", f"{found.traces:,}", f"{len(found.outcomes):,}"]
    cells += ["yes" if sets.complete else "no", sets.relation]
    return f"{row.head()}{' | '.join(cells)} |\n"


def rows() -> list[Row]:
    """Everything that is searched."""
    return [
        *(Row((actor,)) for actor in ACTORS if not actor.startswith("uffd_wp")),
        *(Row((actor,)) for actor in ("gup_fast:0:write", "madvise:0-3:pageout", "secondary_fault:0", "secondary_fault:0:write")),
        *(Row(("store:3",), pages=pages) for pages in (MAPS[0], "aaaraaaa", "aaazaaaa")),
        *(Row(("load:3",), pages=pages) for pages in ("aaazaaaa", "aaawaaaa")),
        Row(("munlock:0-7",), pages="lll.llll", flags=("locked",)),
        Row(("split:4",), pages="aaa.2222"),
        Row(("uffd_wp:0:protect",), flags=("uffd_wp",)),
        Row(("uffd_copy:3",), flags=("uffd_missing",)),
        Row(("uffd_unregister:0-7",), flags=("uffd_missing",)),
        Row(("ksm:0-1",), pages="EE......"),
        Row(("ksm:0:use_zero_pages",), pages="0......."),
        Row(("memory_failure:0",), pages=ONE_PAGE),
        *(Row((actor,), SMALL) for actor in SMALL_ORDER),
        Row(("migrate:7",), SMALL, ".aaa...a"),
        *(Row(pair, SMALL) for pair in PAIRS),
    ]


def lines(found: list[Row]) -> list[str]:
    """Their rows of the table."""
    with get_context("spawn").Pool(os.cpu_count()) as pool:
        return pool.map(line, found, chunksize=1)


if __name__ == "__main__":
    PAGE.write_text(HEAD.format(drawn=DRAWN.budget) + "".join(lines(rows())), encoding="utf-8")
