"""The anonymous cells of the kernel's own khugepaged selftest, as scenario files with its verdicts."""

from __future__ import annotations

import importlib
import re
import tomllib
from collections.abc import Callable
from typing import Final

import attrs
import pytest

from kmm.mm.folio import folio_order
from kmm.mm.khugepaged.types import ScanResult
from kmm.mm.pgtable import PtePage
from kmm.mm.pte import pte_pfn, pte_present
from kmm.mm.variant import Variant
from kmm.scenario.model import Failure, Geometry, Scenario, Tunables
from kmm.scenario.quiescence import table_of
from kmm.scenario.run import Run, run
from kmm.scenario.toml import canonical, load
from tests.helpers import Script, is_huge, reports
from tests.sessions import ROOT, blocks, shell

DATA: Final = ROOT / "tests/data/selftests"
PAGE: Final = ROOT / "docs/selftests.md"

BOTH: Final = ("khugepaged", "madvise")
MTHP: Final = "mthp_khugepaged"
CELLS: Final[dict[str, tuple[str, ...]]] = {
    "alloc_at_fault": (),
    "collapse_full": ("khugepaged", MTHP, "madvise"),
    "collapse_empty": ("khugepaged", MTHP, "madvise"),
    "collapse_single_mthp": (MTHP,),
    "collapse_order_single_window": (MTHP,),
    "collapse_order_partial_window": (MTHP,),
    "collapse_order_max_ptes_none": (MTHP,),
    "collapse_order_mixed_sources": (MTHP,),
    "collapse_single_pte_entry": BOTH,
    "collapse_max_ptes_none": BOTH,
    "collapse_single_pte_entry_compound": BOTH,
    "collapse_full_of_compound": BOTH,
    "collapse_compound_extreme": BOTH,
    "collapse_swapin_single_pte": BOTH,
    "collapse_max_ptes_swap": BOTH,
    "collapse_fork": BOTH,
    "collapse_fork_compound": BOTH,
    "collapse_max_ptes_shared": BOTH,
    "collapse_fork_cow_race": BOTH,
    "madvise_collapse_existing_thps": ("madvise",),
}
"""Every anonymous cell of tools/testing/selftests/mm/khugepaged.c with its contexts; the first belongs to none and always runs."""

LATER: Final = tuple(name for name in ("base", "merged") if (ROOT / f"refactors/{name}.py").exists())
VARIANTS: Final = ("v12", "reviewed", *LATER)
ORDER: Final = 4
NR: Final = 512


@attrs.frozen(kw_only=True)
class Verdict:
    """What comes of a cell.

    :param windows: which aligned blocks of :data:`ORDER` are one folio; empty for PMD order
    :param result: name of the SCAN code, or ``not scanned``
    """

    collapsed: bool
    windows: tuple[int, ...] = ()
    result: str = "SCAN_SUCCEED"
    errno: str = ""


@attrs.frozen(kw_only=True)
class Cell:
    """One table of ``expected.toml``.

    :param v12: where the path before the merge departs; else ``None``
    :param id: of the departure, as in the list of known defects
    """

    file: str
    name: str
    context: str
    step: str
    selftest: Verdict
    v12: Verdict | None
    id: str = ""
    why: str = ""

    def verdict(self, variant: str) -> Verdict:
        """What the variant of that name must do."""
        return self.v12 if self.v12 is not None and variant in ("v12", "reviewed") else self.selftest


def _verdict(table: dict[str, object]) -> Verdict:
    windows = table.get("windows", ())
    assert isinstance(windows, (list, tuple))
    return Verdict(
        collapsed=table["collapsed"] is True,
        windows=tuple(windows),
        result=str(table.get("result", Verdict(collapsed=True).result)),
        errno=str(table.get("errno", "")),
    )


def _cell(table: dict[str, object]) -> Cell:
    departure = table.get("v12")
    assert departure is None or isinstance(departure, dict)
    said = departure or {}
    return Cell(
        file=str(table["file"]),
        name=str(table["cell"]),
        context=str(table["context"]),
        step=str(table.get("step", "")),
        selftest=_verdict(table),
        v12=_verdict(departure) if departure else None,
        id=str(said.get("id", "")),
        why=str(said.get("why", "")),
    )


EXPECTED: Final = [_cell(table) for table in tomllib.loads((DATA / "expected.toml").read_text())["cell"]]
LEFT_OUT: Final[list[dict[str, object]]] = tomllib.loads((DATA / "left_out.toml").read_text())["left_out"]
RUNS: Final = [(cell, name) for cell in EXPECTED for name in VARIANTS if (name, cell.context) != ("base", MTHP)]
"""The base knows PMD order only."""


def variant_of(name: str) -> Variant:
    found = importlib.import_module(f"refactors.{name}").VARIANT
    assert isinstance(found, Variant)
    return found


def file_of(cell: str, context: str, step: str = "") -> Scenario:
    (found,) = (c.file for c in EXPECTED if (c.name, c.context, c.step) == (cell, context, step))
    return load(DATA / found)


def windows_of(r: Run, order: int = ORDER) -> tuple[int, ...]:
    """The aligned blocks that one folio of the order backs, page for page."""
    table = table_of(r.world.system, r.world.mm)
    if not isinstance(table, PtePage):
        return ()
    size = 1 << order
    frames = [pte_pfn(pte) if pte_present(pte) else -1 for pte in table._entries]
    out = []
    for window in range(NR // size):
        first, *others = frames[window * size : (window + 1) * size]
        page = r.world.system.mem_map.get(first)
        if (
            page is not None
            and folio_order(page.folio) == order
            and page.folio.pfn == first
            and others == list(range(first + 1, first + size))
        ):
            out.append(window)
    return tuple(out)


def verdict_of(r: Run, context: str) -> Verdict:
    """What came of a run; it must have returned, and no sanitizer may have found anything."""
    assert (r.outcome, r.applicable, reports(r)) == ("returned", True, [])
    windows = windows_of(r) if context == MTHP else ()
    return Verdict(collapsed=bool(windows) if context == MTHP else is_huge(r), windows=windows, result=r.result, errno=r.errno)


# The files.


def test_files_and_tables_correspond() -> None:
    assert sorted(c.file for c in EXPECTED) == sorted(path.name for path in DATA.glob("*-*.toml"))
    for c in EXPECTED:
        assert c.file == "-".join(filter(None, (c.name, c.context, c.step))) + ".toml"
        assert (c.v12 is None) == (c.id == "") == (c.why == "")
        assert c.v12 != c.selftest


def test_every_anonymous_cell_is_there_or_left_out() -> None:
    there = {(c.name, c.context) for c in EXPECTED} | {(path.stem, "") for path in (DATA / "steps").glob("alloc_at_fault.toml")}
    whole, parts = ([e for e in LEFT_OUT if ("part" in e) is part] for part in (False, True))
    gone = {(str(e["cell"]), context) for e in whole for context in _contexts(e)}
    assert there | gone == {(cell, context) for cell, contexts in CELLS.items() for context in contexts or ("",)}
    assert not there & gone
    assert {(str(e["cell"]), context) for e in parts for context in _contexts(e)} <= there
    assert all(e["reason"] for e in LEFT_OUT)


def _contexts(entry: dict[str, object]) -> tuple[str, ...]:
    contexts = entry["contexts"]
    assert isinstance(contexts, list)
    return tuple(contexts) or ("",)


@pytest.mark.parametrize("cell", EXPECTED, ids=lambda cell: cell.file)
def test_a_file_is_canonical_and_says_its_cell(cell: Cell) -> None:
    text = (DATA / cell.file).read_text()
    assert canonical(text) == text
    s = load(DATA / cell.file)
    assert (s.name, s.geometry) == (cell.name, Geometry())
    assert s.driver.kind.value == cell.context.removeprefix("mthp_")
    assert re.fullmatch(r"[A-Z][^.]+\.", s.remark), "one sentence"
    assert s.vmas[0].flags == ("hugepage", "read", "write"), "the selftest advises MADV_HUGEPAGE before both"
    assert s.tunables.enabled == ("madvise" if cell.context == "khugepaged" else "never")
    modes = dict(enumerate(s.tunables.hugepages, 2))
    assert (modes[ORDER] == "madvise") == (cell.context == MTHP)


# The verdicts.


@pytest.mark.parametrize(("cell", "name"), RUNS, ids=lambda x: x.file.removesuffix(".toml") if isinstance(x, Cell) else x)
def test_verdict(cell: Cell, name: str) -> None:
    assert verdict_of(run(load(DATA / cell.file), variant_of(name)), cell.context) == cell.verdict(name)


DAEMON: Final = [(cell, name) for cell, name in RUNS if cell.context != "madvise"]


@pytest.mark.parametrize(("cell", "name"), DAEMON, ids=lambda x: x.file.removesuffix(".toml") if isinstance(x, Cell) else x)
def test_the_verdict_stands_after_the_full_scans_that_the_selftest_waits_for(cell: Cell, name: str) -> None:
    s = load(DATA / cell.file)
    again = verdict_of(run(attrs.evolve(s, driver=attrs.evolve(s.driver, passes=3)), variant_of(name)), cell.context)
    expected = cell.verdict(name)
    assert (again.collapsed, again.windows) == (expected.collapsed, expected.windows)


def written(order: int) -> dict[str, tuple[int, int]]:
    """By cell: the first page that is written, and the one behind the last."""
    size = 1 << order
    return {
        "collapse_full": (0, NR),
        "collapse_single_mthp": (0, size),
        "collapse_order_single_window": (size, 2 * size),
        "collapse_order_partial_window": (0, 1),
        "collapse_order_max_ptes_none": (0, 2 * size - 1),
    }


def at_order(cell: str, order: int) -> Scenario:
    """A cell of the mTHP context at another order: the newest form of the selftest runs every one."""
    s = file_of(cell, MTHP)
    first, end = written(order)[cell]
    vma = attrs.evolve(s.vmas[0], pages="." * first + "a" * (end - first) + "." * (NR - end))
    hugepages = tuple("madvise" if o == order else "never" for o in range(2, 10))
    return attrs.evolve(s, tunables=attrs.evolve(s.tunables, hugepages=hugepages), vmas=(vma,))


@pytest.mark.parametrize("order", range(2, 9))
@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "base"])
def test_the_mthp_cells_at_every_order(order: int, name: str) -> None:
    variant = variant_of(name)
    assert {cell: windows_of(run(at_order(cell, order), variant), order) for cell in written(order)} == {
        "collapse_full": tuple(range(NR >> order)),
        "collapse_single_mthp": (0,),
        "collapse_order_single_window": (1,),
        "collapse_order_partial_window": () if name in ("v12", "reviewed") else (0,),
        "collapse_order_max_ptes_none": (0,),
    }


def test_at_order_4_the_files_are_the_cells() -> None:
    for cell in written(ORDER):
        assert at_order(cell, ORDER).vmas == file_of(cell, MTHP).vmas


# What makes a verdict: each limit by one page, and a variant that does not keep its word.


ONE_MORE: Final[dict[str, Callable[[Tunables], Tunables]]] = {
    "collapse_max_ptes_none": lambda t: attrs.evolve(t, max_ptes_none=257),
    "collapse_max_ptes_swap": lambda t: attrs.evolve(t, max_ptes_swap=65),
    "collapse_max_ptes_shared": lambda t: attrs.evolve(t, max_ptes_shared=257),
}


@pytest.mark.parametrize("cell", ONE_MORE)
@pytest.mark.parametrize("name", VARIANTS)
def test_the_limit_alone_refuses(cell: str, name: str) -> None:
    s = file_of(cell, "khugepaged", "exceeded")
    wider = attrs.evolve(s, tunables=ONE_MORE[cell](s.tunables))
    assert verdict_of(run(wider, variant_of(name)), "khugepaged") == Verdict(collapsed=True)


COLLAPSED: Final = [c for c in EXPECTED if c.verdict("v12").collapsed and c.verdict("v12").result == "SCAN_SUCCEED"]


@pytest.mark.parametrize("cell", COLLAPSED, ids=lambda cell: cell.file)
def test_an_attempt_that_only_says_so_is_seen(cell: Cell) -> None:
    r = run(load(DATA / cell.file), Script(lambda order, offset: ScanResult.SCAN_SUCCEED).variant)
    assert r.result == "SCAN_SUCCEED"
    assert verdict_of(r, cell.context) != cell.verdict("v12")


# What the cells do not see: v12 keeps every verdict at PMD order, and one step beside them it does not.


def filled(cell: str, letter: str) -> Scenario:
    """MADV_COLLAPSE as in a cell, with every entry alike."""
    s = file_of(cell, "madvise")
    return attrs.evolve(s, vmas=(attrs.evolve(s.vmas[0], pages=letter * NR),))


SWAPIN: Final = file_of("collapse_swapin_single_pte", "khugepaged")
BESIDE: Final = {
    "S-14": (
        attrs.evolve(SWAPIN, tunables=attrs.evolve(SWAPIN.tunables, max_ptes_none=0)),
        Verdict(collapsed=False, result="SCAN_FAIL"),
        Verdict(collapsed=True),
    ),
    "S-15": (
        attrs.evolve(file_of("collapse_full", "madvise"), failures=(Failure(kind="alloc"),)),
        Verdict(collapsed=False, result="SCAN_FAIL", errno="EINVAL"),
        Verdict(collapsed=False, result="SCAN_ALLOC_HUGE_PAGE_FAIL", errno="ENOMEM"),
    ),
    "S-25": (
        filled("collapse_single_pte_entry", "z"),
        Verdict(collapsed=False, result="SCAN_EXCEED_NONE_PTE", errno="EBUSY"),
        Verdict(collapsed=True),
    ),
    "S-26": (
        filled("collapse_max_ptes_swap", "w"),
        Verdict(collapsed=False, result="SCAN_FAIL", errno="EINVAL"),
        Verdict(collapsed=True),
    ),
}
"""By defect: the scenario, what v12 does, what the base and the merged form do."""


@pytest.mark.parametrize("defect", BESIDE)
@pytest.mark.parametrize("name", VARIANTS)
def test_beside_the_cells(defect: str, name: str) -> None:
    s, v12, others = BESIDE[defect]
    assert verdict_of(run(s, variant_of(name)), s.driver.kind.value) == (v12 if name in ("v12", "reviewed") else others)


def test_v12_departs_below_pmd_order_only() -> None:
    assert [(c.name, c.context) for c in EXPECTED if c.v12 is not None] == [("collapse_order_partial_window", MTHP)]


# The page.


def said(verdict: Verdict, context: str) -> str:
    """A cell of the page's table."""
    if context == MTHP and verdict.collapsed:
        several = len(verdict.windows) > 1
        return "every block" if len(verdict.windows) == NR >> ORDER else f"block{'s' * several} {', '.join(map(str, verdict.windows))}"
    return "yes" if verdict.collapsed else f"no ({verdict.errno})" if verdict.errno else "no"


def row(c: Cell) -> str:
    """A row of the page's table."""
    verdicts = (said(c.selftest, c.context), said(c.verdict("v12"), c.context) + (f", {c.id}" if c.id else ""))
    cells = (f"`{c.name}`", c.context, c.step.replace("_", " "), *verdicts)
    return "| " + " | ".join(cells).replace("|  |", "| |") + " |"


def test_the_page_has_the_table() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `") and line.count("|") == 6]
    assert rows == [row(c) for c in EXPECTED]


def test_the_page_has_what_is_left_out() -> None:
    text = " ".join(PAGE.read_text().split())
    for entry in LEFT_OUT:
        what = f", {entry['part']}" if "part" in entry else ""
        assert f"| `{entry['cell']}`{what} | {entry['reason']} |" in text


def test_the_page_shows_what_is_printed() -> None:
    (session,) = (each.text for each in blocks(PAGE.read_text()) if each.is_session)
    shell(session, ROOT)
