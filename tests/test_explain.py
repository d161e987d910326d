"""Where two runs part, in kernel words, with the lines of both variants."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kmm.judge.difference import _PARTS, Difference, differences
from kmm.judge.explain import WIDTH, Explanation, explain
from kmm.judge.observe import OBSERVABLES, observe
from kmm.judge.pair import judge_pair
from kmm.judge.variants import LoadedVariant, load_variant
from kmm.judge.words import entry_words, step_text, trace_line
from kmm.mm.khugepaged.types import ScanResult
from kmm.mm.pte import swp_entry_to_pte
from kmm.scenario.model import Event, Geometry, Scenario
from kmm.scenario.run import run
from kmm.scenario.strategies import generate
from refactors import v12
from tests.helpers import make
from tests.judging import REVIEWED, ROOT, V12, mutant, variant

NO_LOCK_DROPPED = "            spin_unlock(pmd_ptl)\n\n            folio = NULL(Folio)\n"
MTHP = make(".....aaa", orders=(2,))
PMD = make("aaaaaaaa")


def line_in(path: Path, text: str) -> int:
    """Number of the only line that is ``text``, from 1."""
    found = [i for i, line in enumerate(path.read_text().splitlines(), 1) if line.strip() == text]
    assert len(found) == 1
    return found[0]


def test_a_call_that_is_missing(tmp_path: Path) -> None:
    broken = mutant(tmp_path / "broken.py", NO_LOCK_DROPPED, "\n            folio = NULL(Folio)\n")
    e = explain(PMD, V12, broken)
    assert e.baseline is not None
    assert e.baseline.event == "spin_unlock pmd_lock"
    assert e.baseline.place is not None
    assert (e.baseline.place.file, e.baseline.place.function) == ("refactors/v12.py", "collapse_huge_page")
    assert e.baseline.place.text == "spin_unlock(pmd_ptl)"
    source = (ROOT / "refactors/v12.py").read_text().splitlines()
    assert source[e.baseline.place.line - 1].strip() == "spin_unlock(pmd_ptl)"
    assert e.candidate is not None
    assert e.candidate.event == "up_write mmap_lock" or e.candidate.event.startswith("mm1.mm_lock_seq")
    assert e.candidate.place is not None
    assert e.candidate.place.line == line_in(broken.path, "mmap_write_unlock(mm)")
    assert e.candidate.place.file == "broken.py"
    assert [name for name, _ in e.differences] == ["violations"]
    assert e.first_violation.startswith("LOCKDEP: ")


def test_an_entry_with_other_bits(tmp_path: Path) -> None:
    broken = mutant(tmp_path / "broken.py", "maybe_mkwrite(pte_mkdirty(mk_pte(", "maybe_mkwrite((mk_pte(")
    e = explain(MTHP, V12, broken)
    assert e.baseline is not None
    assert e.candidate is not None
    assert e.baseline.event.endswith("present write young dirty soft_dirty)")
    assert e.candidate.event.endswith("present write young)")
    assert e.baseline.event.startswith("table1.entries[4] = ")
    assert [each.function for each in e.baseline.through] == ["set_ptes", "set_pte"]
    assert e.first_violation == ""
    table = dict(e.differences)["address_spaces"]
    assert [each.where for each in table] == [f"address_spaces mm1 entries[{i}]" for i in range(4, 8)]
    assert table[0].baseline == "new@1:4[0] present write young dirty soft_dirty"
    assert table[0].candidate == "new@1:4[0] present write young"


def test_runs_that_differ_only_in_what_they_return(tmp_path: Path) -> None:
    body = "result = v12(mm, pmd_address, referenced, unmapped, cc, mmap_locked, order, offset)\ncc.is_khugepaged = False\nreturn result"
    e = explain(PMD, V12, variant(tmp_path / "same.py", body))
    assert e.text.splitlines() == [
        f"The two runs go through the same {e.common} events; they differ in what they leave behind.",
        "What differs (v12 | changed):",
        "  node_stat pages_collapsed: 1 | 0",
    ]
    assert e.common > 50


def test_a_task_that_ends_early(tmp_path: Path) -> None:
    e = explain(PMD, V12, variant(tmp_path / "ends.py", "raise ValueError('no')"))
    assert e.candidate is not None
    assert e.candidate.event == "(has ended: ValueError in changed:8: no)"
    assert e.candidate.place is None
    assert e.first_violation == "ValueError in changed:8: no"
    assert e.baseline is not None
    assert e.baseline.event == "up_read mmap_lock"


def test_a_window_of_another_range(tmp_path: Path) -> None:
    broken = mutant(tmp_path / "broken.py", "MmuNotifierRange(mm, mthp_address, ", "MmuNotifierRange(mm, pmd_address, ")
    e = explain(MTHP, V12, broken)
    assert e.baseline is not None
    assert e.candidate is not None
    assert e.baseline.event == "mmu notifier start, bytes 0x4000 to 0x8000 of the table's range"
    assert e.candidate.event == "mmu notifier start, bytes 0x0 to 0x8000 of the table's range"
    assert dict(e.differences) == {"notifier": (Difference("notifier[0]", "(16384, 32768)", "(0, 32768)"),)}


def explained(tmp_path: Path) -> list[tuple[Scenario, LoadedVariant, Explanation]]:
    """Explanations of many different differences."""
    bodies = [
        "return v12(mm, pmd_address, 0, 0, cc, mmap_locked, order, 0)",
        "mm.mm_users\nraise KeyError(order)",
        "cc.is_khugepaged = False",
    ]
    broken = [variant(tmp_path / f"broken{i}.py", body) for i, body in enumerate(bodies)]
    broken.append(mutant(tmp_path / "mutant.py", "if anon_vma_locked:", "if False:"))
    found = []
    for each in broken:
        scenarios = [s for s in generate_small() if judge_pair(s, V12.variant, each.variant).differs]
        assert scenarios
        found += [(s, each, explain(s, V12, each)) for s in scenarios]
    return found


def generate_small() -> list[Scenario]:
    """Some scenarios at 16 PTEs."""
    return list(generate(Geometry(ptes=16), 60, 5))


def test_every_explanation_is_narrow_and_complete(tmp_path: Path) -> None:
    for s, each, e in explained(tmp_path):
        assert all(len(line) <= WIDTH == 100 for line in e.text.splitlines()), e.text
        assert tuple(name for name, _ in e.differences) == judge_pair(s, V12.variant, each.variant).differs
        assert all(differences for _, differences in e.differences)
        assert "object at 0x" not in e.text
        assert str(tmp_path) not in e.text


def test_what_it_says_does_not_depend_on_the_process(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(REVIEWED.read_text().replace("folio_ref_add(folio, nr_pages - 1)", "pass"))
    code = (
        "from kmm.judge.explain import explain\n"
        "from kmm.judge.variants import load_variant\n"
        "from tests.helpers import make\n"
        "print(explain(make('.....aaa', orders=(2,)), load_variant('v12'), load_variant('./broken.py')).text)\n"
    )
    texts = set()
    for seed in ("0", "1", "77"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        texts.add(done.stdout)
    assert len(texts) == 1
    assert "refactors/v12.py:" in next(iter(texts))


def test_the_names_of_parts_fit_what_is_observed() -> None:
    o = observe(run(make("awaaavaa", orders=(2,)), v12.VARIANT))
    for name, parts in _PARTS.items():
        elements = getattr(o, name)
        assert elements, name
        assert {len(each) for each in elements} == {len(parts)}, name
    assert set(_PARTS) <= set(OBSERVABLES)


def test_counters_are_compared_by_name() -> None:
    a, b = (observe(run(s, v12.VARIANT)) for s in (PMD, make("aaaaaaaa", none=0, events=(Event(op="exit", before="mmap_write_lock"),))))
    found = {each.where: (each.baseline, each.candidate) for each in differences("node_stat", a, b)}
    assert found["node_stat pages_collapsed"] == ("1", "0")
    assert found["node_stat nr_anon_thps"] == ("1", "0")
    statistics = {each.where for each in differences("mthp_stats", a, b)}
    assert "mthp_stats order 3 nr_anon" in statistics


@pytest.mark.parametrize(
    ("name", "fields", "line"),
    [
        (
            "mm_khugepaged_scan_pmd",
            (1, "page 7", 6, 2, ScanResult.SCAN_SUCCEED, 0),
            "mm=mm1, scan_pfn=page 7, referenced=6, none_or_zero=2, status=succeeded, unmapped=0",
        ),
        ("mm_collapse_huge_page", (1, True, "succeeded", 9), "mm=mm1, isolated=1, status=succeeded order=9"),
        (
            "mm_collapse_huge_page_isolate",
            (None, 1, 0, ScanResult.SCAN_EXCEED_NONE_PTE, 2),
            "scan_pfn=0xffffffffffffffff, none_or_zero=1, referenced=0, status=exceed_none_pte order=2",
        ),
        ("mm_collapse_huge_page_swapin", (1, 3, 0, 16, 9), "mm=mm1, swapped_in=3, referenced=0, ret=16, order=9"),
    ],
)
def test_trace_events_are_printed_as_v12_prints_them(name: str, fields: tuple[object, ...], line: str) -> None:
    assert trace_line(name, fields) == f"{name}: {line}"


def test_an_unknown_event_is_printed_too() -> None:
    assert trace_line("mm_new", (1, "x", False)) == "mm_new: mm1, x, 0"
    assert trace_line("mm_collapse_huge_page", (1,)) == "mm_collapse_huge_page: mm1"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "none"),
        (0x8000000000014867, "pfn 0x14 present write young dirty soft_dirty"),
        (0x14425, "pfn 0x14 present young uffd_wp"),
        (swp_entry_to_pte(5, exclusive=True, uffd_wp=False, soft_dirty=False), "swap offset 5 exclusive"),
        (swp_entry_to_pte(5, exclusive=False, uffd_wp=True, soft_dirty=True), "swap offset 5 uffd_wp soft_dirty"),
    ],
)
def test_entries_in_words(value: int, words: str) -> None:
    assert entry_words(value) == words


def test_steps_hold_no_addresses_of_the_process() -> None:
    assert step_text("page 0.memcg = <kmm.mm.memcontrol.MemCgroup object at 0x7fbe8718b880>") == "page 0.memcg = MemCgroup"
    assert step_text("table1.entries[3] = 0") == "table1.entries[3] = 0 (none)"


def test_a_variant_explains_itself_by_its_name() -> None:
    same = explain(PMD, V12, load_variant(str(REVIEWED)))
    assert same.names == ("v12", "reviewed")
    assert same.baseline is None
    assert same.differences == ()
