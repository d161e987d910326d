"""Every command that the documentation shows is run, and prints what it shows."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
import pytest

from kmm.scenario.toml import parse_replay
from tests.sessions import ROOT, blocks, is_slow, matches, parse_line, run, shell, steps

PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
RUN = [name for name, text in PAGES.items() if steps(text) and name != "commands.md"]
QUICK = [name for name in RUN if not is_slow(PAGES[name])]
SLOW = [name for name in RUN if is_slow(PAGES[name])]


@pytest.mark.parametrize("name", QUICK)
def test_quick_pages(name: str, tmp_path: Path) -> None:
    run(steps(PAGES[name]), tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("name", SLOW)
def test_slow_pages(name: str, tmp_path: Path) -> None:
    run(steps(PAGES[name]), tmp_path)


def test_the_tutorial_is_run() -> None:
    assert "tutorial.md" in SLOW
    assert "run-and-replay.md" in QUICK


def shown_lines(text: str) -> list[str]:
    """The ``kmm`` command lines of blocks that are not sessions."""
    return [line for each in blocks(text) if not each.is_session for line in each.text.splitlines() if line.startswith("kmm ")]


@pytest.mark.parametrize("name", PAGES)
def test_every_other_command_line_is_one(name: str) -> None:
    for line in shown_lines(PAGES[name]):
        parse_line(shlex.split(line.partition(" > ")[0], comments=True)[1:])


@pytest.mark.parametrize("name", PAGES)
def test_what_is_not_run_says_why(name: str) -> None:
    for each in blocks(PAGES[name]):
        assert each.language != "console" or each.is_session, f"{name}:{each.line}: a console block begins with $"
    assert PAGES[name].count("<!-- not run:") == sum(bool(each.not_run) for each in blocks(PAGES[name]))


def test_the_matcher_can_fail() -> None:
    assert matches("one\n...\nthree", "one\ntwo\nthree")
    assert not matches("one\n...\nfour", "one\ntwo\nthree")
    assert matches("pfn ... young", "pfn 0x14 present young")
    assert not matches("pfn ... young", "pfn 0x14 present old")


@pytest.mark.parametrize("session", ["$ echo one\ntwo\n", "$ true\nx\n", "$ echo one\n$ echo two\none\n"])
def test_a_wrong_session_fails(session: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        shell(session, tmp_path)


def test_a_session_keeps_directory_files_and_exit_codes(tmp_path: Path) -> None:
    page = """\
<!-- file: a.txt -->
```
one
```

```console
$ mkdir sub; cat a.txt
one
$ cd sub; false
$ echo $?
1
$ cd ..
```

```diff
--- a/a.txt
+++ b/a.txt
@@ -1 +1 @@
-one
+two
```

<!-- not run: for this test -->
```console
$ exit 1
```

```console
$ cat a.txt
two
```
"""
    found = steps(page)
    assert [each.line for each in found] == [2, 6, 15, 28]
    run(found, tmp_path)


def test_a_diff_that_does_not_apply_fails(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("three\n")
    with pytest.raises(AssertionError, match="patch"):
        run(steps("```diff\n--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-one\n+two\n```\n\n```console\n$ true\n```\n"), tmp_path)


@pytest.mark.parametrize("line", ["check --no-such-option", "no-such-command", "run --variant", "check --scope all"])
def test_a_wrong_command_line_is_seen(line: str) -> None:
    with pytest.raises(click.ClickException):
        parse_line(line.split())


@pytest.mark.parametrize("name", PAGES)
def test_python_and_scenarios_are_such(name: str) -> None:
    for each in blocks(PAGES[name]):
        if each.language == "python":
            compile(each.text, f"{name}:{each.line}", "exec", dont_inherit=True)
        elif each.language == "toml" and each.text.startswith("format"):
            parse_replay(each.text, f"{name}:{each.line}")
