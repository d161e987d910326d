"""``kmm explore`` and what the other commands do with actors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from kmm.cli.main import main
from kmm.scenario.toml import canonical, render
from tests.concurrent.making import alone, beside

Kmm: TypeAlias = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.toml").write_text(render(beside(pages="aaa.aaaa")), encoding="utf-8")


@pytest.fixture
def kmm(capsys: pytest.CaptureFixture[str]) -> Kmm:
    """Calls the command: exit code and what it says."""

    def call(*arguments: str) -> tuple[int, str]:
        code = main(list(arguments))
        said = capsys.readouterr()
        return code, said.out or said.err

    return call


def test_every_outcome_is_shown_with_a_schedule(kmm: Kmm) -> None:
    code, output = kmm("explore", "s.toml", "--with", "fork")
    assert code == 0
    head, searched, *rest = output.splitlines()
    assert head == "v12: khugepaged beside fork"
    assert re.fullmatch(r"\d+ executions, \d+ traces \(every trace under sequential consistency\), 3 outcomes", searched)
    text = "\n".join(rest)
    for result in ("SCAN_SUCCEED", "SCAN_FAIL", "SCAN_EXCEED_SHARED_PTE"):
        assert re.search(rf"khugepaged  {result}$", text, re.M)
    assert text.count("  schedule") == 3
    assert "the usual order" in text
    assert "fork goes on before khugepaged: " in text


def test_long_names_stand_apart(kmm: Kmm) -> None:
    output = kmm("explore", "s.toml", "--with", "secondary_fault:0", "--executions", "30")[1]
    assert re.search(r"^  secondary_fault  done$", output, re.M)
    assert re.search(r"^  khugepaged       SCAN_", output, re.M)
    assert re.search(r"^  schedule         the usual order", output, re.M)


def test_one_is_no_plural(kmm: Kmm) -> None:
    assert ", 1 trace (every trace under sequential consistency), 1 outcome" in kmm("explore", "s.toml", "--with", "sysfs:no=1")[1]


def test_json_says_the_same(kmm: Kmm) -> None:
    said = json.loads(kmm("explore", "s.toml", "--with", "fork", "--format", "json")[1])
    assert said["complete"] is True
    assert {each["driver"] for each in said["outcomes"]} == {"SCAN_SUCCEED", "SCAN_FAIL", "SCAN_EXCEED_SHARED_PTE"}
    assert sum(each["executions"] for each in said["outcomes"]) == said["traces"]
    assert [each["schedule"] for each in said["outcomes"] if each["driver"] == "SCAN_SUCCEED"] == [[]]


def test_actors_of_the_file_and_of_the_command_line(kmm: Kmm) -> None:
    Path("s.toml").write_text(render(alone("store:0")), encoding="utf-8")
    _, output = kmm("explore", "s.toml", "--with", "load:0")
    assert output.splitlines()[0] == "v12: store:0, load:0"


def test_a_sample_is_the_same_for_the_same_seed(kmm: Kmm) -> None:
    same = [kmm("explore", "s.toml", "--with", "munmap", "--strategy", "pos", "--executions", "40", "--seed", "7")[1] for _ in range(2)]
    assert same[0] == same[1]
    assert "not every trace" in same[0]


def test_a_budget_that_ends_the_search_is_told_by_the_exit_code(kmm: Kmm) -> None:
    code, output = kmm("explore", "s.toml", "--with", "exit", "--executions", "12")
    assert code == 3
    assert "not every trace" in output


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("explore", "s.toml"), "s.toml: nobody runs beside it; name an actor by --with, or write [[actor]]"),
        (("explore", "s.toml", "--with", "gap"), '"gap" is not an actor; use khugepaged, '),
        (("explore", "s.toml", "--with", "store:9"), "actor 1 leads out of the range; use pages 0 to 7"),
        (("explore", "s.toml", "--with", "load", "--strategy", "pct"), "pct never ends by itself: give it a budget"),
        (("explore", "s.toml", "--with", "load", "--preemptions", "1"), "dpor takes no bound on preemptions: use dfs"),
        (("explore", "s.toml", "--with", "gup:0:wr"), '"gup:0:wr": value = "wr" is not known to gup; use read, write, or drop it'),
        (("explore", "s.toml", "--with", "split:0"), "actor 1: split page 0 of process 1: there is no large folio when it begins; name"),
        (("explore", "s.toml", "--with", "age:3"), "actor 1: age page 3 of process 1: no page is in memory when it begins; name"),
        (("explore", "s.toml", "--with", "swapout:3"), "actor 1: swapout page 3 of process 1: no page is in memory when it begins; name"),
        (("explore", "s.toml", "--with", "ksm:0"), "actor 1: ksm page 0 of process 1: KSM may not merge there; add mergeable"),
        (("explore", "s.toml", "--with", "mmap:0:red"), '"red" is not a VMA flag; use '),
        (("explore", "s.toml", "--with", "store@2:0"), "actor 1: store page 0 of process 2: there is no process 2; name one that is there"),
    ],
)
def test_bad_input_gets_one_line(arguments: tuple[str, ...], line: str, kmm: Kmm) -> None:
    code, said = kmm(*arguments)
    assert code == 4
    assert line in said
    assert said.count("\n") == 1


def test_a_schedule_for_another_scenario_is_refused(kmm: Kmm) -> None:
    text = render(beside("load:0")) + (
        '\n[replay]\ncandidate = "reviewed"\nbaseline = "v12"\n\n[schedule]\nside = "candidate"\nothers = 3\n\n'
        '[[schedule.deviation]]\ntask = "khugepaged"\nfunction = "f"\nprimitive = "read"\nto = "fork"\n'
    )
    assert canonical(text) == text
    Path("other.toml").write_text(text, encoding="utf-8")
    code, said = kmm("replay", "other.toml")
    line = text.splitlines().index("[[schedule.deviation]]") + 1
    assert f'other.toml:{line}: the schedule is for another scenario: there is no task "fork"; drop [schedule]' in said
    assert code == 4


def test_a_schedule_for_another_version_is_refused(kmm: Kmm) -> None:
    schedule = '[schedule]\nside = "candidate"\nothers = 3\n\n[[schedule.deviation]]\ntask = "khugepaged"\nfunction = "{}"\n'
    text = render(beside("fork")) + f'\n[replay]\ncandidate = "reviewed"\nbaseline = "v12"\n\n{schedule}primitive = "read"\nto = "fork"\n'
    Path("other.toml").write_text(text.format("collapse_huge_page_v11"), encoding="utf-8")
    code, said = kmm("replay", "other.toml")
    line = text.splitlines().index("[[schedule.deviation]]") + 1
    assert code == 4
    assert said.endswith(
        f'other.toml:{line}: the schedule is for another version: neither side has a function "collapse_huge_page_v11"; drop [schedule]\n'
    )
    Path("this.toml").write_text(text.format("mmap_write_lock"), encoding="utf-8")
    assert kmm("replay", "this.toml")[1].startswith("equivalent, expected: different: ")


def test_a_run_of_a_scenario_with_actors_shows_them(kmm: Kmm) -> None:
    Path("s.toml").write_text(render(beside("munmap")), encoding="utf-8")
    code, output = kmm("run", "s.toml")
    assert code == 0
    assert "actor 1: munmap pages 0 to 7 of process 1: done" in output
