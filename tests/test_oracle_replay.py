"""The calls recorded on a 6.18 kernel, replayed against ``base``: events, errno, pages, RssAnon."""

from __future__ import annotations

import tomllib
from itertools import groupby
from typing import Final

import pytest

from kmm.mm.folio import Folio, Page, PG_mlocked, PG_swapbacked, PG_swapcache
from kmm.mm.khugepaged.types import SCAN_STATUS, ScanResult
from kmm.mm.mm_types import MM_ANONPAGES
from kmm.mm.pgtable import PtePage
from kmm.mm.pte import (
    PTE_MARKER_GUARD,
    PTE_MARKER_UFFD_WP,
    is_zero_pfn,
    pmd_trans_huge,
    pte_marker_get,
    pte_none,
    pte_pfn,
    pte_present,
    pte_swp_uffd_wp,
    pte_t,
    pte_uffd_wp,
)
from kmm.mm.variant import Variant
from kmm.scenario.build import World, build
from kmm.scenario.model import Scenario
from kmm.scenario.quiescence import pmd_of, table_of
from kmm.scenario.run import Run, run
from kmm.scenario.toml import canonical, load
from refactors import base, v12
from tests.data.oracle.convert import HERE, Case, Json, read_cases, text_of
from tests.data.oracle.program import NR
from tests.helpers import reports

CASES: Final = read_cases(HERE / "recorded.json")
LEFT_OUT: Final = tomllib.loads((HERE / "left_out.toml").read_text())["left_out"]
BY_ID: Final = {case.id: case for case in CASES}
by_case = pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])

SEEN: Final = {
    "none",
    "zeropage",
    "hugezero",
    "anon",
    "swap",
    "guard",
    "type31",
    "uffdwp",
    "thphead",
    "thptail",
    "ksm",
    "excl",
    "swapcache",
    "lazyfree",
    "mlocked",
}
"""Of the recorded marks, those that the model has. The others are those of the LRU, and bits of a folio that user space sees only here."""


def scenario(case: Case) -> Scenario:
    return load(HERE / case.file)


def pages_recorded(case: Case, pages: Json) -> list[set[str]]:
    """The recorded pages of the table, each with its marks."""
    assert isinstance(pages, list)
    out: list[set[str]] = []
    for run_of in pages:
        assert isinstance(run_of, list)
        count, marks = run_of
        assert isinstance(count, int)
        out += [{mark for mark in str(marks).split("+") if mark in SEEN or mark.startswith("mc")}] * count
    tables = NR * max(case.ranges, 1)
    return (out[case.first :] + [{"none"}] * NR)[:tables]


def pages_of(world: World) -> list[set[str]]:
    """The pages of the first process in the marks of the recordings."""
    return [page for number in range(len(world.mm._pmds)) for page in _range(world, number)]


def _range(world: World, number: int) -> list[set[str]]:
    this, mm = world.system, world.mm
    found = table_of(this, mm, number)
    if isinstance(found, PtePage):
        return [_entry(world, pte) for pte in found._entries]
    if isinstance(found, Page):
        return [_present(page) for page in found.folio.pages]
    return [{"hugezero"} if pmd_trans_huge(pmd_of(mm, number)) else {"none"}] * NR


def _entry(world: World, pte: pte_t) -> set[str]:
    if pte_none(pte):
        return {"none"}
    if not pte_present(pte):
        marker = pte_marker_get(pte)
        uffd_wp = pte_swp_uffd_wp(pte) or marker & PTE_MARKER_UFFD_WP
        marks = {"swap", "type31" if marker else "", "guard" if marker & PTE_MARKER_GUARD else "", "uffdwp" if uffd_wp else ""}
        return marks - {""}
    if is_zero_pfn(pte_pfn(pte)):
        return {"zeropage"}
    return _present(world.system.mem_map[pte_pfn(pte)]) | ({"uffdwp"} if pte_uffd_wp(pte) else set())


def _present(page: Page) -> set[str]:
    folio = page.folio
    mapcount = page._mapcount + folio._entire_mapcount if folio.order else folio._mapcount
    marks = {"anon", "excl" if mapcount == 1 else f"mc{mapcount}"}
    if folio.order:
        marks.add("thptail" if page.index else "thphead")
    if folio._mapping is not None and folio._mapping.label == "ksm":
        marks.add("ksm")
    if folio._flags & PG_swapcache:
        marks.add("swapcache")
    if folio._flags & PG_mlocked:
        marks.add("mlocked")
    if not folio._flags & PG_swapbacked:
        marks.add("lazyfree")
    return marks


def events_of(r: Run) -> list[dict[str, int | str | None]]:
    """The trace events in the fields of the recordings."""
    return [_event(name, fields) for name, fields in r.world.system.machine.trace_events]


def _event(name: str, fields: tuple[object, ...]) -> dict[str, int | str | None]:
    match name, fields:
        case "mm_collapse_huge_page_swapin", [_, int(swapped_in), int(referenced), int(ret), _]:
            return {"event": name, "ret": ret, "swapped_in": swapped_in, "referenced": referenced}
        case "mm_collapse_huge_page", [_, _, ScanResult() as status, _]:
            return {"event": name, "status": SCAN_STATUS[status]}
        case "mm_collapse_huge_page_isolate", [folio, int(none), int(referenced), ScanResult() as status, _]:
            marks: dict[str, int | str | None] = {"referenced": referenced, "none_or_zero": none, "scan_index": _index(folio)}
        case "mm_khugepaged_scan_pmd", [_, folio, int(referenced), int(none), ScanResult() as status, int(unmapped)]:
            marks = {"referenced": referenced, "none_or_zero": none, "unmapped": unmapped, "scan_index": _index(folio)}
        case _:
            raise AssertionError(f"{name}{fields}")
    return {"event": name, "status": SCAN_STATUS[status], **marks}


def _index(folio: object) -> int | None:
    """The page at which a folio was before the call; a folio that was not there has none."""
    if not isinstance(folio, Folio) or not folio.label.startswith("page "):
        return None
    return int(folio.label.removeprefix("page "))


def events_recorded(case: Case) -> list[dict[str, Json]]:
    """What was recorded, by page of the table."""
    out: list[dict[str, Json]] = []
    for call in case.calls:
        events = call["events"]
        assert isinstance(events, list)
        for event in events:
            assert isinstance(event, dict)
            index = event.get("scan_index")
            out.append({**event, **({"scan_index": _first_alike(case, index - case.first)} if isinstance(index, int) else {})})
    return out


def _first_alike(case: Case, index: int) -> int:
    """The first of the pages that are the same one: merged pages have one frame, and a frame is all that an event shows."""
    before = pages_recorded(case, case.calls[0]["before"])
    return next(i for i, marks in enumerate(before) if "ksm" in marks) if "ksm" in before[index] else index


def rss_kb(s: Scenario, r: Run, variant: Variant) -> int:
    """How RssAnon changed, kB."""
    return 4 * (r.world.mm._rss_stat[MM_ANONPAGES] - build(s, variant).mm._rss_stat[MM_ANONPAGES])


def runs(pages: list[set[str]]) -> list[tuple[int, str]]:
    """For people who read a failure."""
    return [(len(list(same)), "+".join(sorted(marks))) for marks, same in groupby(pages)]


@by_case
def test_a_file_is_what_the_program_makes(case: Case) -> None:
    text = (HERE / case.file).read_text()
    assert text == text_of(case)
    assert canonical(text) == text


@by_case
def test_the_pages_before_are_those_that_were_recorded(case: Case) -> None:
    s = scenario(case)
    before = pages_recorded(case, case.calls[0]["before"])
    if any(step.op == "fork" for step in s.steps):
        before = [marks - {"mc2"} | {"excl"} for marks in before]
    assert runs(pages_of(build(s, base.VARIANT))) == runs(before), "a fork is the first step, and comes later here"


def errno_of(r: Run) -> str:
    """The errno of the last call; a step that is done has none."""
    return r.steps[-1].removeprefix("done") if r.steps else r.errno


def disagreements(case: Case, variant: Variant) -> list[str]:
    """Where a variant does otherwise than was recorded, each in a sentence."""
    s = scenario(case)
    r = run(s, variant)
    if (r.outcome, r.applicable) != ("returned", True):
        return [r.outcome]
    recorded_rss = sum(delta for call in case.calls if isinstance(delta := call["RssAnon"], int))
    compared: tuple[tuple[str, object, object], ...] = (
        ("sanitizers", reports(r), []),
        ("events", events_of(r), events_recorded(case)),
        ("errno", errno_of(r), case.calls[-1]["errno"]),
        ("pages", runs(pages_of(r.world)), runs(pages_recorded(case, case.calls[-1]["after"]))),
        ("RssAnon", rss_kb(s, r, variant), recorded_rss),
    )
    return [f"{what}: {found}, recorded {recorded}" for what, found, recorded in compared if found != recorded]


@by_case
def test_replay(case: Case) -> None:
    assert disagreements(case, base.VARIANT) == []


def test_files_and_recordings_correspond() -> None:
    files = {path.name for path in HERE.glob("*.toml")} - {"left_out.toml"}
    assert {case.file for case in CASES} == files
    assert len(BY_ID) == len(CASES)
    whole = {case.id for case in CASES} - {"retry_after_pin-1", "retry_after_pin-2"} | {"retry_after_pin"}
    out = {each["id"] for each in LEFT_OUT}
    assert (len(whole | out), whole & out) == (142, set()), "the recordings have 142 scenarios"
    assert all(each["reason"] and each["description"] for each in LEFT_OUT)


V12_DEPARTS: Final = {
    "all_none_kept_table": "S-25",
    "all_zero_anonvma": "S-25",
    "zram_swap_512": "S-26",
    "zram_swap_512_retry": "S-26",
    "ksm_two": "S-15",
    "ksm_200": "S-15",
    "memcg_limit": "S-15",
}
"""The recorded calls in which v12 does otherwise, with the defect that is the reason."""


def test_v12_departs_in_these_alone() -> None:
    assert {case.id for case in CASES if disagreements(case, v12.VARIANT)} == set(V12_DEPARTS)
