"""``kmm diff``: what is compared with what, and what is printed."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from kmm.cli.main import kmm, main
from kmm.judge.code import code_of
from kmm.judge.compare import Comparison, Status, compare
from kmm.judge.variants import load_variant
from kmm.report.align import aligned, hunks
from kmm.report.diff import print_diff
from tests.judging import REVIEWED, ROOT

ISOLATE = ROOT / "kmm" / "mm" / "khugepaged" / "isolate.py"

HEAD = '''\
"""A variant."""

from kmm.mm.page_alloc import folio_put
from kmm.mm.variant import Variant
from refactors import v12

'''
MINE = '''
def {name}(mm, pmd_address, referenced, unmapped, cc, mmap_locked, order, offset):
    """One attempt."""
    {body}
    return v12.collapse_huge_page(mm, pmd_address, referenced, unmapped, cc, mmap_locked, order, offset)

'''
TAIL = '\nVARIANT = Variant(name="{variant}", collapse_huge_page={name}{links})\n'


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(variant: str, *parts: str, name: str = "mine", body: str = "pass", links: str = "", head: str = HEAD) -> str:
    """A variant's file; its path."""
    text = head + "".join(parts) + MINE.format(name=name, body=body) + TAIL.format(variant=variant, name=name, links=links)
    Path(f"{variant}.py").write_text(text)
    return f"./{variant}.py"


def compared(a: str, b: str) -> Comparison:
    """Two variants."""
    return compare(code_of(load_variant(a)), code_of(load_variant(b)))


def statuses(comparison: Comparison) -> list[tuple[str, str]]:
    """(name, status) of every definition."""
    return [(part.name, part.status.value) for part in comparison.parts]


def shows(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """What the command prints."""
    assert main(["diff", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_v12_and_reviewed() -> None:
    comparison = compared("v12", "reviewed")
    assert statuses(comparison) == [
        ("CollapseParams", "added"),
        ("map_anon_folio_pte_nopf", "added"),
        ("collapse_huge_page", "changed"),
        ("call_site", "added"),
    ]
    assert comparison.differs
    assert all(part.reached == ("collapse_huge_page",) for part in comparison.parts)
    back = compared("reviewed", "v12")
    assert [(part.name, part.status) for part in back.parts] == [
        ("CollapseParams", Status.REMOVED),
        ("map_anon_folio_pte_nopf", Status.REMOVED),
        ("collapse_huge_page", Status.CHANGED),
        ("call_site", Status.REMOVED),
    ]


def test_a_copy_is_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    Path("copy.py").write_text(REVIEWED.read_text().replace('name="reviewed"', 'name="copy"'))
    comparison = compared("reviewed", "./copy.py")
    assert not comparison.differs
    assert {status for _, status in statuses(comparison)} == {"same"}
    out = shows(capsys, "reviewed", "./copy.py", "--exit-code")
    assert out.splitlines()[3:] == ["0 changed, 0 only in reviewed, 0 only in copy; 4 the same"]


def test_comments_docstrings_and_layout_are_no_code(capsys: pytest.CaptureFixture[str]) -> None:
    one = write("one", "\ndef helper(x):\n    return x + 1\n\n", body="helper(mm)")
    other = write("other", "\n# Why.\ndef helper(x):\n    '''More.'''\n    return (x +\n        1)\n\n", body="helper(mm)")
    comparison = compared(one, other)
    assert statuses(comparison) == [("helper", "words"), ("mine", "same"), ("collapse_huge_page", "same")]
    assert not comparison.differs
    out = shows(capsys, one, other, "--exit-code")
    assert "helper: only comments, docstrings or layout differ  one.py:8 | other.py:9" in out
    assert "+ # Why." in out
    assert "1 in comments, docstrings or layout only; 2 the same" in out


def test_several_statements_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    one, other = write("one", "\nA = (1,\n     2); B = 3\n\n"), write("other", "\nA = (1,\n     2); B = 4\n\n")
    assert statuses(compared(one, other))[:2] == [("A", "words"), ("B", "changed")]


@pytest.mark.parametrize("body", ["mm.x = 1", "order += 1", "'a text that is no docstring'"])
def test_code_is_code(body: str) -> None:
    comparison = compared(write("one"), write("other", body=body))
    assert statuses(comparison) == [("mine", "changed"), ("collapse_huge_page", "same")]
    assert comparison.differs


def test_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    shows(capsys, "v12", "reviewed")
    shows(capsys, "v12", "reviewed", "--exit-code", code=2)
    shows(capsys, "v12", "v12", "--exit-code")


def copied_callee() -> str:
    """The port's function, as a variant would copy it, with one line put in."""
    text = ISOLATE.read_text()
    start = text.index("def __collapse_huge_page_isolate(")
    body = text[start:]
    end = re.search(r"\n(?=\S)(?!\))", body[1:])
    body = body[: end.start() + 1] if end else body
    first = body.index('"""\n', body.index('"""') + 3) + 4
    return f"\n{body[:first]}    order = order\n{body[first:].rstrip()}\n\n"


@pytest.mark.parametrize("turned", [False, True], ids=["a | b", "b | a"])
def test_a_copied_callee_is_compared_with_the_ports(turned: bool, capsys: pytest.CaptureFixture[str]) -> None:
    other = write("other", "from kmm.mm.khugepaged.isolate import *\n", copied_callee(), body="__collapse_huge_page_isolate")
    sides = (other, "v12") if turned else ("v12", other)
    part = next(part for part in compared(*sides).parts if part.name == "__collapse_huge_page_isolate")
    theirs, own = (part.b, part.a) if turned else (part.a, part.b)
    assert part.status is Status.CHANGED
    assert theirs is not None
    assert own is not None
    assert (theirs.path, own.path.name) == (ISOLATE, "other.py")
    out = shows(capsys, *sides, "--format", "unified").splitlines()
    assert f"{'-' if turned else '+'}    order = order" in out
    begin = next(i for i, line in enumerate(out) if line.endswith("@@ __collapse_huge_page_isolate"))
    hunk = [line for line in out[begin + 1 : begin + 8] if line[:1] in "+-"]
    assert len(hunk) == 1


def test_a_link_that_is_left_out_is_the_ports() -> None:
    bitmap = "\ndef bitmap(mm, *rest):\n    return 0\n\n"
    comparison = compared("v12", write("other", bitmap, links=", collapse_scan_bitmap=bitmap"))
    part = next(part for part in comparison.parts if part.name == "collapse_scan_bitmap")
    assert part.a is not None
    assert part.b is not None
    assert (part.a.name, part.b.name, part.status) == ("collapse_scan_bitmap", "bitmap", Status.CHANGED)
    assert part.a.path == ROOT / "kmm" / "mm" / "khugepaged" / "scan.py"
    assert part.reached == ("collapse_scan_bitmap",)


def test_functions_of_one_link_are_matched_whatever_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    one, other = write("one", name="before"), write("other", name="after")
    assert statuses(compared(one, other)) == [("before", "changed"), ("collapse_huge_page", "same")]
    assert "before | after: changed  one.py:8 | other.py:8" in shows(capsys, one, other)


def test_a_namesake_comes_before_the_link() -> None:
    swapped = "\ndef {}(mm):\n    return 1\n\n"
    one = write("one", swapped.format("after"), name="before")
    other = write("other", swapped.format("before"), name="after")
    assert sorted(statuses(compared(one, other))) == [("after", "changed"), ("before", "changed"), ("collapse_huge_page", "same")]


def test_an_import_of_another_variant_is_followed() -> None:
    comparison = compared("v12", write("other"))
    assert statuses(comparison) == [("mine", "added"), ("collapse_huge_page", "same")]
    assert comparison.differs


def test_an_import_under_another_name_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    one = write("one")
    other = write("other", head=HEAD.replace("page_alloc import folio_put", "folio import folio_get as folio_put"))
    comparison = compared(one, other)
    assert comparison.differs
    assert [(each.name, each.a, each.b) for each in comparison.rebound] == [
        ("folio_put", "kmm.mm.page_alloc.folio_put", "kmm.mm.folio.folio_get")
    ]
    out = shows(capsys, one, other)
    assert "folio_put: stands for different things\n  < kmm.mm.page_alloc.folio_put\n  > kmm.mm.folio.folio_get\n" in out


def test_what_no_link_reaches_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    dead = "\ndef dead():\n    return {}\n\n"
    out = shows(capsys, write("one", dead.format(1)), write("other", dead.format(2)))
    assert "dead: changed; no link reaches it  one.py:8 | other.py:8\n" in out


def test_two_variants_of_one_name_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    Path("d").mkdir()
    one = write("one")
    Path("d/one.py").write_text(Path(one).read_text().replace("    pass\n", "    mm.x = 1\n") + "\nX = 1\n")
    out = shows(capsys, one, "./d/one.py")
    assert out.splitlines()[-1] == "1 changed, 0 only in one.py, 1 only in d/one.py; 1 the same"


def numbered(side: list[str]) -> list[tuple[int, str]]:
    """(number, text) of the numbered lines of one side."""
    return [(int(line[:5]), line[6:].rstrip()) for line in side if line[:5].strip()]


@pytest.mark.parametrize("width", [120, 121, 200])
def test_both_sides_have_the_numbers_of_their_files(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shows(capsys, "v12", "reviewed", "--width", str(width)).splitlines()
    assert max(map(len, lines)) <= width
    half = (width - 15) // 2 + 6
    rows = [line for line in lines if re.match(r"[ \d]{5} ", line)]
    for cut, name in ((slice(0, half), "v12"), (slice(half + 3, None), "reviewed")):
        texts = (ROOT / "refactors" / f"{name}.py").read_text().split("\n")
        found = numbered([line[cut] for line in rows])
        assert len(found) > 60
        for number, text in found:
            assert texts[number - 1].startswith(text) or texts[number - 1].rstrip() == text
    marks = {line[half + 1] for line in rows if len(line) > half + 1}
    assert marks == {" ", "<", ">", "|"}


def test_long_lines_go_on_below(capsys: pytest.CaptureFixture[str]) -> None:
    one = write("one", body=f"mm.x = {' + '.join(['1'] * 60)}")
    lines = shows(capsys, one, write("other"), "--width", "120").splitlines()
    at = next(i for i, line in enumerate(lines) if "mm.x" in line)
    pieces = [lines[at][6:58].rstrip()] + [line[6:58].rstrip() for line in lines[at + 1 : at + 5] if not line[:5].strip()]
    assert "".join(pieces).replace(" ", "") == "mm.x=" + "+".join(["1"] * 60)


def test_below_each_other_where_there_is_no_room(capsys: pytest.CaptureFixture[str]) -> None:
    out = shows(capsys, "v12", "reviewed")
    assert out == shows(capsys, "v12", "reviewed", "--width", "119")
    texts = {sign: (ROOT / "refactors" / f"{name}.py").read_text().split("\n") for sign, name in (("-", "v12"), ("+", "reviewed"))}
    found = re.findall(r"^ *(\d+) +([-+]) (.*)$", out, re.MULTILINE)
    assert len(found) > 60
    assert all(texts[sign][int(number) - 1] == text for number, sign, text in found)
    same = re.findall(r"^ *(\d+) +(\d+) {3}(.*)$", out, re.MULTILINE)
    assert len(same) > 30
    assert all(texts["-"][int(a) - 1] == texts["+"][int(b) - 1] == text for a, b, text in same)


@pytest.mark.parametrize(("width", "line"), [(120, "x = 1.*\x1b\\[32m.*x = 2"), (100, "- +x = 1.*\n.*\x1b\\[32m.*\\+ +x = 2")])
def test_colours_on_a_terminal(width: int, line: str) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system="standard", highlight=False)
    print_diff(console, compared(write("one", body="x = 1"), write("other", body="x = 2")), 0)
    assert re.search("\x1b\\[31m.*" + line, out.getvalue())


@pytest.mark.parametrize("context", [0, 1, 3, 10_000])
def test_unified_hunks_have_the_numbers_of_the_files(context: int, capsys: pytest.CaptureFixture[str]) -> None:
    out = shows(capsys, "v12", "reviewed", "--format", "unified", "--context", str(context)).splitlines()
    files: list[list[str]] = []
    hunk_count = 0
    i = 0
    while i < len(out):
        if out[i].startswith("--- "):
            names = (out[i][4:], out[i + 1].removeprefix("+++ "))
            files = [[] if name == "/dev/null" else (ROOT / name).read_text().split("\n") for name in names]
            i += 2
        header = re.fullmatch(r"@@ -(\d+),(\d+) \+(\d+),(\d+) @@ \w+", out[i])
        assert header is not None
        a, a_count, b, b_count = map(int, header.groups())
        i += 1
        hunk: list[str] = []
        while i < len(out) and not out[i].startswith(("@@ ", "--- ")):
            hunk.append(out[i])
            i += 1
        assert [line[1:] for line in hunk if line[0] in " -"] == files[0][a - 1 : a - 1 + a_count] if a_count else a == 0 or not context
        assert [line[1:] for line in hunk if line[0] in " +"] == files[1][b - 1 : b - 1 + b_count] if b_count else b == 0 or not context
        hunk_count += 1
    assert hunk_count >= 4


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    out = json.loads(shows(capsys, "v12", "reviewed", "--format", "json"))
    assert {key: out[key] for key in ("schema", "a", "b", "differs", "same", "imports")} == {
        "schema": 1,
        "a": "v12",
        "b": "reviewed",
        "differs": True,
        "same": 0,
        "imports": [],
    }
    changed = out["definitions"][2]
    assert set(changed) == {"name", "status", "links", "a", "b", "unified"}
    assert (changed["name"], changed["status"], changed["links"]) == ("collapse_huge_page", "changed", ["collapse_huge_page"])
    text = (ROOT / "refactors" / "v12.py").read_text().split("\n")
    side = changed["a"]
    assert (side["kind"], side["file"]) == ("function", "refactors/v12.py")
    assert text[side["first"] - 1] == "def collapse_huge_page("
    assert text[side["last"] - 1] == "    return result"
    assert out["definitions"][0]["a"] is None


def test_the_text_of_a_variant_does_not_reach_the_terminal_raw(capsys: pytest.CaptureFixture[str]) -> None:
    other = write("other", body="x = '\x1b[31m\u202e[bold]\t'")
    for form in ("text", "unified"):
        out = shows(capsys, write("one"), other, "--format", form)
        assert "\x1b" not in out
        assert "\u202e" not in out
        assert r"x = '\x1b[31m\u202e[bold]" in out


def test_the_same_on_every_hash_seed(here: Path) -> None:
    command = [sys.executable, "-m", "kmm", "diff", "v12", "reviewed", "--format", "json"]
    outputs = {
        subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}, capture_output=True, check=True, cwd=here
        ).stdout
        for seed in ("0", "1")
    }
    assert len(outputs) == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["v12"], "Missing argument"),
        (["v12", "v13"], 'there is no variant "v13"'),
        (["v12", "reviewed", "v12"], "unexpected extra argument"),
        (["v12", "reviewed", "--context", "-1"], "--context"),
        (["v12", "reviewed", "--width", "3"], "--width"),
        (["v12", "reviewed", "--format", "html"], "--format"),
        (["v12", "./none.py"], "there is no such file"),
    ],
    ids=" ".join,
)
def test_bad_input(capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str) -> None:
    assert main(["diff", *arguments]) == 4
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert problem in captured.err


def test_code_that_is_nested_too_deeply(capsys: pytest.CaptureFixture[str]) -> None:
    deep = write("deep", body=f"mm.x = {' + '.join(['1'] * 900)}")
    for command in (["diff", "v12", deep], ["lint", deep]):
        assert main(command) == 4
        err = capsys.readouterr().err
        assert err == "kmm: deep.py:10: this is nested too deeply to be read; break it into several statements\n"
    nearly = write("nearly", body=f"mm.x = {' + '.join(['1'] * 180)}")
    shows(capsys, "v12", nearly)
    assert main(["lint", nearly]) == 0


LINES = st.lists(
    st.sampled_from(["", "a", "b", "    goto(out)", "    goto(out_nolock)", "spin_lock(ptl)", "spin_unlock(ptl)"]), max_size=12
)


@given(LINES, LINES)
def test_every_line_of_both_texts_stands_once_and_in_order(a: list[str], b: list[str]) -> None:
    rows = aligned(a, b)
    assert [row.a for row in rows if row.a is not None] == list(range(len(a)))
    assert [row.b for row in rows if row.b is not None] == list(range(len(b)))
    for row in rows:
        assert row.same == (row.a is not None and row.b is not None and a[row.a] == b[row.b])


@given(LINES, LINES, st.sampled_from([0, 1, 2, 3, 99]))
def test_hunks_hold_every_change_and_no_more_than_the_context(a: list[str], b: list[str], context: int) -> None:
    rows = aligned(a, b)
    kept = [row for hunk in hunks(rows, context) for row in hunk]
    near = [row for i, row in enumerate(rows) if any(not other.same for other in rows[max(0, i - context) : i + context + 1])]
    assert kept == near


def test_lines_that_are_alike_stand_together() -> None:
    rows = aligned(["x = 1", "spin_lock(pmd_ptl)", "y = 2"], ["spin_lock(pmd_ptl, flags)", "something else altogether"])
    assert [(row.a, row.b) for row in rows] == [(0, None), (1, 0), (2, None), (None, 1)]


def test_every_option_is_documented() -> None:
    command = kmm.get_command(click.Context(kmm), "diff")
    assert command is not None
    text = (ROOT / "docs" / "diff.md").read_text()
    options = [option for parameter in command.params if isinstance(parameter, click.Option) for option in parameter.opts]
    assert options
    assert [option for option in options if option not in text] == []


def test_the_example_of_the_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "diff.md").read_text()
    example = re.findall(r"```\n\$ kmm (diff [^\n]*)\n(.*?)```", text, re.DOTALL)
    assert len(example) == 1
    command, expected = example[0]
    out = shows(capsys, *command.split()[1:]).splitlines()
    assert [line for line in expected.splitlines() if line != "..." and line not in out] == []
