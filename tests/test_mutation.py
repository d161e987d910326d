"""The mutation testing of the port: what its plan covers, how its numbers are counted, and that the page adds up."""

from __future__ import annotations

import ast
import re
import sqlite3
import tomllib
from contextlib import closing
from pathlib import Path

import attrs
import pytest

from tests.mutation import judge, page, sessions
from tests.mutation.judge import Judged, exhausted, settled
from tests.mutation.run import copy_tree
from tests.mutation.sessions import HERE, ROOT, Mutant, mutants, planned, session

V12 = "refactors/v12.py"
DIFF = "--- mutation diff ---\n--- a\n+++ b\n@@ -1 +1 @@\n same\n-    a = b + 1\n+    a = b - 1\n"
TABLES = """
create table mutation_specs (job_id, module_path, operator_name, occurrence, start_pos_row, start_pos_col, definition_name);
create table work_results (job_id, worker_outcome, test_outcome, diff);
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "BUILD", tmp_path)


@pytest.fixture
def begun() -> list[Mutant]:
    """A session with one mutant of each outcome, and two that survived."""
    results = [("NORMAL", "KILLED"), ("NORMAL", "SURVIVED"), ("SKIPPED", None), None, ("EXCEPTION", "INCOMPETENT"), ("NORMAL", "SURVIVED")]
    with closing(sqlite3.connect(session(V12))) as database, database:
        database.executescript(TABLES)
        for number, result in enumerate(results):
            spec = (number, V12, "core/AddNot", number, 10 + number, 0, "f")
            database.execute("insert into mutation_specs values (?, ?, ?, ?, ?, ?, ?)", spec)
            if result is not None:
                database.execute("insert into work_results values (?, ?, ?, ?)", (number, *result, DIFF))
    return mutants(V12)


def test_every_file_of_the_port_is_planned() -> None:
    port = {path for top in ("refactors", "kmm/mm/khugepaged") for path in (ROOT / top).glob("*.py") if path.name != "__init__.py"}
    assert {ROOT / path for path in planned()} == port


def test_the_tests_of_the_plan_exist_and_run_once_each() -> None:
    for tests in planned().values():
        assert all((ROOT / test.partition("::")[0]).is_file() for test in tests)
        assert len(set(tests)) == len(tests)


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "FloorDiv", "Mod", "LShift", "RShift", "BitAnd", "BitOr", "BitXor"])
def test_one_replacement_of_each_operator_is_left(operator: str) -> None:
    """But of ``|``: see below."""
    operators = ("Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow", "LShift", "RShift", "BitAnd", "BitOr", "BitXor")
    config = tomllib.loads((HERE / "cosmic-ray.toml").read_text(encoding="utf-8"))["cosmic-ray"]
    filtered = [re.compile(each) for each in config["filters"]["operators-filter"]["exclude-operators"]]
    names = [f"core/ReplaceBinaryOperator_{operator}_{other}" for other in operators if other != operator]
    assert len([name for name in names if not any(each.match(name) for each in filtered)]) == (operator != "BitOr")


@pytest.mark.parametrize("path", planned())
def test_only_types_are_joined_by_a_bar(path: str) -> None:
    """What the filter leaves out is never code."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    types = [getattr(node, name, None) for node in ast.walk(tree) for name in ("annotation", "returns")]
    inside = {id(part) for each in types if each is not None for part in ast.walk(each)}
    bars = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)]
    assert [node.lineno for node in bars if id(node) not in inside] == []


def test_outcomes(begun: list[Mutant]) -> None:
    assert [each.outcome for each in begun] == ["killed", "survived", "filtered", "pending", "broken", "survived"]
    assert begun[1].key == "refactors/v12.py:11 AddNot 1"
    assert begun[1].change == ("a = b + 1", "a = b - 1")
    assert mutants("refactors/reviewed.py") == []


def test_a_session_is_about_the_text_of_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = session(V12)
    (tmp_path / "refactors").mkdir()
    (tmp_path / V12).write_bytes((ROOT / V12).read_bytes() + b"\n")
    monkeypatch.setattr(sessions, "ROOT", tmp_path)
    assert session(V12) != before


def test_what_is_counted(begun: list[Mutant]) -> None:
    mine = Judged(source=session(V12).stem, relation="equivalent", scenarios=1234)
    lived = page.survivors(begun, {begun[1].key: mine})
    # mutants, filtered, not run (pending and broken), killed; killed later, equivalent, different, undetermined, not judged
    assert page.counts(begun, lived) == (6, 1, 2, 1, 0, 1, 0, 0, 1)
    assert list(page.listed(lived, {begun[1].key: "Because."})) == [
        "* line 11, f: `a = b + 1` becomes `a = b - 1`: equivalent over 1,234 pairs. Because.",
        "* line 15, f: `a = b + 1` becomes `a = b - 1`: not judged.",
    ]


@pytest.mark.parametrize(
    ("relation", "column"),
    [
        ("killed by a later test", "killed by a later test"),
        ("equivalent", "equivalent"),
        ("no-difference-found", "undetermined"),
        ("refines", "different"),
        ("different", "different"),
        ("undetermined", "undetermined"),
    ],
)
def test_the_column_of_a_relation(begun: list[Mutant], relation: str, column: str) -> None:
    found = page.survivors(begun, {begun[1].key: Judged(source=session(V12).stem, relation=relation)})
    assert [each.relation for each in found] == [column, "not judged"]


def test_what_was_judged_of_another_text_does_not_count(begun: list[Mutant]) -> None:
    stale = Judged(source="refactors-v12-00000000", relation="equivalent")
    assert [each.relation for each in page.survivors(begun, {begun[1].key: stale})] == ["not judged", "not judged"]


@pytest.mark.parametrize(
    ("relation", "final"),
    [
        ("equivalent", True),
        ("no-difference-found", True),
        ("killed by a later test", True),
        ("different", False),
        ("refines", False),
        ("undetermined", False),
    ],
)
def test_what_is_looked_at_again(relation: str, final: bool) -> None:
    known = Judged(source=session(V12).stem, relation=relation)
    assert settled(known, V12) == final
    assert not settled(attrs.evolve(known, source="refactors-v12-00000000"), V12)
    assert not settled(None, V12)


def test_the_judge_is_asked_again_only_with_more_time() -> None:
    known = Judged(source=session(V12).stem, relation="undetermined", budget_s=60)
    assert [exhausted(known, V12, budget_s) for budget_s in (59, 60, 61)] == [True, True, False]
    assert not exhausted(attrs.evolve(known, relation="different"), V12, 60)
    assert not exhausted(attrs.evolve(known, source="refactors-v12-00000000"), V12, 60)
    assert not exhausted(None, V12, 60)


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        (V12, "folio_ref_add(folio, nr_pages - 1)", "folio_ref_add(folio, nr_pages)"),
        ("kmm/mm/khugepaged/limits.py", "return mm.mm_users == 0", "return mm.mm_users != 0"),
    ],
)
def test_the_judge_finds_a_mutant(path: str, old: str, new: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree, scratch = tmp_path / "tree", tmp_path / "scratch"
    monkeypatch.setattr(judge, "TREE", tree)
    monkeypatch.setattr(judge, "SCRATCH", scratch)
    monkeypatch.setattr("tests.mutation.run.COPIED", ("kmm", "refactors", "tests"))
    scratch.mkdir()
    copy_tree(tree)
    text = (tree / path).read_text(encoding="utf-8")
    assert text.count(old) == 1
    (tree / path).write_text(text.replace(old, new), encoding="utf-8")
    found = judge.judge(path, 120)
    assert found.relation == "different"
    assert (scratch / found.counterexample).is_file()


def test_the_page_adds_up() -> None:
    """Every mutant is in one column; the last row is the sum of the others."""
    text = page.PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[\w/.]+`|all) \| ([\d |]+) \|$", text[text.index(page.HEADING) :], re.MULTILINE)
    numbers = {title: [int(cell) for cell in cells.split(" | ")] for title, cells in rows}
    total = numbers.pop("all")
    assert numbers
    assert total == [sum(column) for column in zip(*numbers.values(), strict=True)]
    for title, (every, *parts) in numbers.items():
        assert every == sum(parts), title
    lines = [line for line in text.splitlines() if line.startswith("* line ")]
    assert len(lines) == sum(total[5:])
