"""The documentation says what is: its tables are made from the code, its links lead somewhere, and it builds without a warning."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import attrs
import pytest

from docs._ext import commands, tables
from docs._ext.docstrings import fields, kernel_files, plain, summary
from docs._ext.extension import PORT_TABLES, table
from docs._ext.table import Table, render
from kmm.scenario import checks, model
from kmm.scenario.alphabet import ALPHABET, MEANING
from kmm.scenario.boundary import AREAS, BOUNDARY
from kmm.scenario.errors import ScenarioError
from kmm.scenario.page import Kind, PageState
from kmm.scenario.scope import generated
from kmm.scenario.toml import parse
from tests.sessions import ROOT, blocks

DOCS = sorted((ROOT / "docs").glob("*.md"))
ALL_TABLES = (*PORT_TABLES, *tables.PARTS, *tables.OTHERS, *AREAS)
SLOW_TABLE = pytest.param("full", marks=pytest.mark.full)
"""Its families are counted when they are made."""
DRIVER = '[driver]\nkind = "khugepaged"\n[[vma]]\nmap = "aaaaaaaa"\n'


def column(found: Table, number: int = 0) -> list[str]:
    """The cells of a column, without the marks of code."""
    return [row[number].replace("``", "") for row in found.rows]


def test_the_alphabet_has_every_letter() -> None:
    found = tables.alphabet()
    assert dict(zip(column(found), column(found, 1), strict=True)) == MEANING
    assert column(found) == list(ALPHABET)


@pytest.mark.parametrize("letter", sorted(ALPHABET))
def test_what_is_spelled_out_is_the_letter(letter: str) -> None:
    """The third column, as a table of a file, is the state."""
    (spelled,) = [row[2] for row in tables.alphabet().rows if row[0] == f"``{letter}``"]
    keys = "\n".join(re.findall(r"``(.+?)``", spelled))
    text = f"format = 1\n[geometry]\nptes = 8\n[letters._]\n{keys}\n{DRIVER}"
    assert dict(parse(text).letters)["_"] == ALPHABET[letter]


@pytest.mark.parametrize("name", tables.PARTS)
def test_the_keys_of_a_table_are_those_that_the_format_takes(name: str) -> None:
    """An unknown key is refused with the names of the known ones."""
    where = {"scenario": "", "letters": "[letters._]\n", **{each: f"[[{each}]]\n" for each in ("process", "step", "event", "failure")}}.get(
        name, f"[{name}]\n"
    )
    text = f"format = 1\n{'qqqq = 1' if name == 'scenario' else ''}\n"
    text += DRIVER.replace("[[vma]]\n", "[[vma]]\nqqqq = 1\n") if name == "vma" else DRIVER
    text = text.replace("[driver]\n", "[driver]\nqqqq = 1\n") if name == "driver" else text
    text += f"{where}qqqq = 1\n" if name not in ("scenario", "vma", "driver") else ""
    with pytest.raises(ScenarioError, match='unknown key "qqqq"') as error:
        parse(text)
    known = set(re.findall(r"[a-z_]+", error.value.remedy.removeprefix("use "))) - {"replay", "scenario", "schedule"}
    known -= set(tables.PARTS) if name in ("scenario", "process") else set()
    assert set(column(tables.table(name))) - {"hugepages"} == known - {"hugepages"}


@pytest.mark.parametrize("name", [SLOW_TABLE if name == "full" else name for name in ALL_TABLES])
def test_no_cell_of_a_meaning_is_empty(name: str) -> None:
    found = table(name)
    assert found.rows
    assert len({len(row) for row in (found.head, found.widths, *found.rows)}) == 1
    empty = [row for row in found.rows if not all(row[:2])]
    assert empty == []


def test_every_kind_is_there() -> None:
    assert column(tables.kinds()) == [kind.value for kind in Kind]


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.value)
def test_the_keys_of_a_kind_may_be_said_of_it(kind: Kind) -> None:
    (keys,) = [row[1] for row in tables.kinds().rows if row[0] == f"``{kind.value}``"]
    said = [a.name for a in attrs.fields(PageState)][1:] if keys == "all" else re.findall(r"``(.+?)``", keys)
    refused = [a.name for a in attrs.fields(PageState)][1:]
    for name in refused:
        value = {"order": 2, "index": 0, "mapped_by": 1, "pins": 1, "node": 1}.get(name, True)
        try:
            PageState(kind=kind, **{name: value})  # type: ignore[arg-type]
        except ScenarioError as error:
            both = f"a page cannot be both {kind.value} and {name}" in str(error)
            assert both == (name not in said), name
        else:
            assert name in said, name


@pytest.mark.parametrize(
    "words", [model.EVENT_OPS, model.POINTS, model.FAILURE_KINDS, model.VMA_FLAGS, checks.PMD_STATES, checks.THP_DISABLE]
)
def test_every_word_of_the_format_is_in_a_table(words: tuple[str, ...]) -> None:
    cells = {word for name in tables.PARTS for row in tables.table(name).rows for word in re.findall(r"``(\w+)``", row[2])}
    assert set(words) - cells == set()


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for (cls, name), words in tables.WORDS.items() if cls is model.Config for value in words]
)
def test_every_word_of_a_configuration_is_taken(name: str, value: str) -> None:
    assert getattr(model.Config(**{name: value}), name) == value  # type: ignore[arg-type]


def test_the_defaults_are_those_of_512_entries() -> None:
    assert dict(zip(column(tables.keys(model.Tunables)), column(tables.keys(model.Tunables), 3), strict=True))["max_ptes_none"] == "511"


@pytest.mark.parametrize("scope", ["quick", SLOW_TABLE])
def test_every_family_is_in_a_table(scope: str) -> None:
    listed = {(row[0], row[2]) for name in ("quick", scope) for row in tables.families(name).rows}
    assert {(family.name, family.set) for family in generated(scope, 0)} - listed == set()


def test_every_gap_is_in_a_table_and_every_area_on_the_page() -> None:
    page = (ROOT / "docs/boundary.md").read_text()
    rows = [row for area in AREAS for row in tables.boundary(area).rows]
    assert [(gap.kernel, gap.model) for gap in BOUNDARY] == [row[1:] for row in rows]
    assert re.findall(r"^```\{kmm-table\} (.+)$", page, re.MULTILINE) == list(AREAS)


def test_every_table_is_on_a_page() -> None:
    used = [name for page in DOCS for name in re.findall(r"^```\{kmm-table\} (.+)$", page.read_text(), re.MULTILINE)]
    assert sorted(used) == sorted(ALL_TABLES)


def test_docstrings() -> None:
    def documented() -> None:
        """First. And second.

        :param one: the first
            of them
        :param two: :data:`X`, or ``y``

        Not of two.

        :raises ValueError: never
        :source: linux/rmap.h, v12 07/15
        """

    said = fields(documented)
    assert said == {"one": "the first of them", "two": ":data:`X`, or ``y``", "ValueError": "never", "source": "linux/rmap.h, v12 07/15"}
    assert plain(said["two"]) == "``X``, or ``y``"
    assert summary(documented) == "First."
    assert kernel_files(f"mm/a.c, b.c, c.h and {said['source']}") == ("mm/a.c", "mm/b.c", "include/linux/c.h", "include/linux/rmap.h")


def test_a_table_becomes_nodes() -> None:
    node = render(Table(("a", "b"), (("``x|*``", "y_"),), (1, 2), "t"))
    assert node.astext().split() == ["t", "a", "b", "x|*", "y_"]
    assert "<literal>x|*</literal>" in str(node)


def test_the_help_page_is_what_the_commands_say() -> None:
    assert commands.PAGE.read_text(encoding="utf-8") == commands.text(), "run: make docs-help"


@pytest.mark.parametrize("page", DOCS, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for each in blocks(text):
        text = text.replace(each.text, "")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target


def test_every_page_is_in_the_index_and_in_a_tree() -> None:
    index = (ROOT / "docs/index.md").read_text()
    trees = [word for each in blocks(index) if each.language == "{toctree}" for word in each.text.split() if not word.startswith(":")]
    for page in DOCS:
        assert page.stem == "index" or (f"({page.name})" in index and page.stem in trees), page.name


# The build itself.


def build(out: Path, source: Path = ROOT / "docs", **environment: str) -> subprocess.CompletedProcess[str]:
    """Build as ``make docs`` does."""
    command = [sys.executable, "-m", "sphinx", "-q", "-E", "-W", "--keep-going", "-n", "-b", "html", "-d", f"{out}.doctrees"]
    env = {name: value for name, value in os.environ.items() if name not in ("KERNEL", "PYTHONPATH")} | environment
    return subprocess.run(
        [*command, str(source), str(out)], env=env, cwd=out.parent, capture_output=True, text=True, timeout=300, check=False
    )


CREDITS = ("https://www.sphinx-doc.org", "https://github.com/pradyunsg/furo", "https://pradyunsg.me")
"""Where the theme's last line leads; nothing is loaded from there."""


class Links(HTMLParser):
    """The anchors of a page, and where it leads."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note ids, links and what is loaded."""
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            elif name in ("href", "src") and value:
                self.links.append(value)


def broken(html: Path) -> Iterator[str]:
    """The links of built pages that lead nowhere, or to another host."""
    pages: dict[Path, Links] = {}
    for path in sorted(html.rglob("*.html")):
        pages[path.resolve()] = Links()
        pages[path.resolve()].feed(path.read_text(encoding="utf-8"))
    for path, page in pages.items():
        for link in page.links:
            target, anchor = urldefrag(unquote(link))
            if target.startswith(CREDITS):
                continue
            goal = (path.parent / target.partition("?")[0]).resolve() if target else path
            if not goal.exists() or (anchor and goal in pages and anchor not in pages[goal].ids):
                yield f"{path.name}: {link}"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The documentation in another place, with what it is built from."""
    for part in ("docs", "kmm", "refactors"):
        shutil.copytree(ROOT / part, tmp_path / "copy" / part, ignore=shutil.ignore_patterns("_build", "__pycache__"))
    for part in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / part, tmp_path / "copy" / part)
    return tmp_path / "copy/docs"


@pytest.mark.full
def test_the_documentation_builds_alike_everywhere(copy: Path, tmp_path: Path) -> None:
    """No warning, no broken link, the same bytes from a copy in another place and with another hash seed."""
    one, two = tmp_path / "one", tmp_path / "two"
    first = build(one, PYTHONHASHSEED="1")
    assert (first.returncode, first.stderr) == (0, "")
    assert build(two, copy, PYTHONHASHSEED="2").returncode == 0
    files = {path.relative_to(one): path.read_bytes() for path in one.rglob("*") if path.is_file()}
    assert files == {path.relative_to(two): path.read_bytes() for path in two.rglob("*") if path.is_file()}
    assert list(broken(one)) == []
    assert "collapse_huge_page" in (one / "port.html").read_text()
    assert "aaaa...." in (one / "scope.html").read_text()
    assert "This build has no C in it" in (one / "kernel.html").read_text()


@pytest.mark.full
def test_a_broken_page_fails_the_build(copy: Path, tmp_path: Path) -> None:
    (copy / "scope.md").write_text("# Scope\n\n[gone](gone.md)\n\n```{kmm-table} gone\n```\n")
    done = build(tmp_path / "out", copy)
    assert done.returncode != 0
    assert "gone.md" in done.stderr
    assert 'there is no table "gone"' in done.stderr


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<p id="x"><a href="a.html#x"></a><a href="#y"></a><a href="b.html"></a><img src="//cdn/x.js">')
    assert list(broken(tmp_path)) == ["a.html: #y", "a.html: b.html", "a.html: //cdn/x.js"]
