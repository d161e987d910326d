"""The variant lint: every rule finds its seeded violation, at its line, and clean code passes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kmm.cli.main import main
from kmm.judge.lint import LintFinding, lint
from kmm.judge.variants import load_variant

ROOT = Path(__file__).parent.parent
VARIANTS = sorted(path for path in (ROOT / "refactors").rglob("*.py") if "\nVARIANT" in path.read_text())

BASE = '''\
"""A variant."""

from __future__ import annotations

import kmm.mm.rmap
from kmm.kernel import current
from kmm.mm import khugepaged
from kmm.mm.folio import Folio
from kmm.mm.page_alloc import folio_put
from kmm.mm.variant import Variant
from refactors import v12
#IMPORTS


#MODULE


def mine(mm, pmd_address, referenced, unmapped, cc, mmap_locked, order, offset):
    """One attempt."""
    #BODY
    return v12.collapse_huge_page(mm, pmd_address, referenced, unmapped, cc, mmap_locked, order, offset)


VARIANT = Variant(name="mine", collapse_huge_page=mine)
'''

MARK = re.compile(r"#! (\w+)")


def source(imports: str = "", module: str = "", body: str = "") -> str:
    """The text of a variant with something put into it."""
    text = BASE.replace("#IMPORTS", imports).replace("#MODULE", module)
    return text.replace("#BODY", body.replace("\n", "\n    "))


def findings(path: Path, text: str) -> list[LintFinding]:
    """What the lint says about a file of that text."""
    path.write_text(text)
    return lint(load_variant(str(path)))


def marked(text: str) -> list[tuple[int, str]]:
    """Line and rule of each mark in a text."""
    return [(number, rule) for number, line in enumerate(text.split("\n"), 1) for rule in MARK.findall(line)]


IMPORTS = [
    "import os  #! import",
    "import kmm.judge.check  #! import",
    "from kmm.scenario import run  #! import",
    "from kmm import judge  #! import",
    "from functools import cache  #! import",
    "from kmm.mm.pte import *  #! import",
    "from collections import deque  #! import",
    "from kmm.mm.folio import folio_get as folio_page  #! alias",
    "from kmm.mm.folio import Folio  #! twice",
]
MODULE = [
    "CACHE = {}  #! state",
    "CACHE: dict[int, int] = {}  #! state",
    "SEEN = ([], 1)  #! state",
    "SEEN = [n for n in range(3)]  #! state",
    "SEEN = object()  #! state",
    "print()  #! layout",
    "for n in range(3):  #! layout\n    pass",
    "if khugepaged:  #! layout\n    N = 1",
    "try:  #! layout\n    N = 1\nfinally:\n    pass",
    "N = 1\nN += 1  #! layout #! twice",
    "pte_unmap = print  #! alias",
    "def dead():  #! unreached\n    pass",
    "class Dead:  #! unreached\n    pass",
    "def dead():  #! unreached\n    return dead()",
    "def collapse_scan_bitmap():  #! link\n    pass",
    "N = 1\nN = 2  #! twice",
]
BODY = [
    "global N  #! state\nN = 1",
    "khugepaged.scan = mm  #! patch",
    "kmm.mm.rmap.folio_add_new_anon_rmap = mm  #! patch",
    "khugepaged.scan.collapse_scan_pmd = mm  #! patch",
    "Folio.order = 3  #! patch",
    "Folio.order += 3  #! patch",
    "del Folio.order  #! patch",
    "for Folio.order in mm:  #! patch\n    pass",
    "khugepaged.table[3] = mm  #! patch",
    "current.machine.log = mm  #! patch",
    "mine.calls = 1  #! state",
    "khugepaged.limits.append(3)  #! state",
    "current.machine.trace_events.clear()  #! state",
    "exec('x = 1')  #! exec",
    "eval('1')  #! exec",
    "run = __import__  #! exec",
    "globals()['x'] = 1  #! exec",
    "open('x')  #! exec",
    "folio_put.__code__ = mm  #! exec #! patch",
    "x = mm.__dict__  #! exec",
    "mm._map_count = 1  #! access",
    "setattr(mm, 'x', 1)  #! access",
    "import random  #! import",
    "from kmm.live import proc  #! import",
]


@pytest.mark.parametrize("text", [source(imports=each) for each in IMPORTS], ids=IMPORTS)
def test_seeded_imports(tmp_path: Path, text: str) -> None:
    assert [(each.line, each.rule) for each in findings(tmp_path / "mine.py", text)] == marked(text) != []


@pytest.mark.parametrize("text", [source(module=each) for each in MODULE], ids=MODULE)
def test_seeded_module_code(tmp_path: Path, text: str) -> None:
    assert [(each.line, each.rule) for each in findings(tmp_path / "mine.py", text)] == marked(text) != []


@pytest.mark.parametrize("text", [source(body=each) for each in BODY], ids=BODY)
def test_seeded_functions(tmp_path: Path, text: str) -> None:
    assert [(each.line, each.rule) for each in findings(tmp_path / "mine.py", text)] == marked(text) != []


@pytest.mark.parametrize(
    ("module", "body"),
    [
        ("def helper(x, seen=[]):  #! state\n    return seen", "helper(mm)"),
        ("def helper(x, *, seen={}):  #! state\n    return seen", "helper(mm)"),
        ("class Params:\n    seen = []  #! state", "Params()"),
        ("class Params:\n    def f(self):\n        Params.seen = 3  #! state", "Params()"),
        ("def mine():  #! unreached\n    pass", "#"),
    ],
)
def test_seeded_helpers(tmp_path: Path, module: str, body: str) -> None:
    text = source(module=module, body=body)
    found = [(each.line, each.rule) for each in findings(tmp_path / "mine.py", text) if each.rule != "twice"]
    assert found == marked(text) != []


@pytest.mark.parametrize(
    "variant",
    [
        'Variant(name="mine", collapse_huge_page=lambda *a: v12.collapse_huge_page(*a))  #! link',
        'Variant(name="mine", collapse_huge_page=made())  #! link',
    ],
)
def test_a_link_that_is_not_a_function_of_a_module(tmp_path: Path, variant: str) -> None:
    made = "def made():\n    def mine(*a):\n        return 1\n    return mine\n\n\n"
    text = source().replace('Variant(name="mine", collapse_huge_page=mine)', variant).replace("VARIANT =", f"{made}VARIANT =")
    assert marked(text)[0] in [(each.line, each.rule) for each in findings(tmp_path / "mine.py", text)]


CLEAN = {
    "constants": source(module='N: Final = 3\nNAMES = ("a", 1 << 3)\nSET = frozenset({1, 2})', imports="from typing import Final"),
    "an alias of a type": source(imports="from collections.abc import Callable", module="F = Callable[[int], int]"),
    "TYPE_CHECKING": source(imports="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from kmm.mm.mm_types import MmStruct"),
    "a dataclass": source(
        imports="from dataclasses import dataclass, field",
        module="@dataclass(frozen=True, kw_only=True)\nclass Params:\n    order: int\n    seen: list = field(default_factory=list)",
        body="params = Params(order=order)",
    ),
    "a helper that a helper calls": source(module="def one():\n    return two()\n\n\ndef two():\n    return 2", body="one()"),
    "private things": source(body="seen = []\nseen.append(1)\nseen[0] = 2\ncc.progress = 1\nmmap_locked.value = False"),
    "a local of an outer name": source(body="khugepaged = cc\nkhugepaged.progress = 1"),
    "an argument of an outer name": source(module="def put(folio_put):\n    folio_put.x = 1", body="put(cc)"),
    "a renamed function of a variant": source(imports="from refactors.v12 import collapse_huge_page as before", body="before"),
    "a declared link": source(module="def collapse_scan_bitmap(mm, *rest):\n    return 0").replace(
        "collapse_huge_page=mine)", "collapse_huge_page=mine, collapse_scan_bitmap=collapse_scan_bitmap)"
    ),
    "a variant made from another": source(imports="import attrs").replace(
        'Variant(name="mine", collapse_huge_page=mine)', 'attrs.evolve(v12.VARIANT, name="mine", collapse_huge_page=mine)'
    ),
    "an intended difference": source(
        imports="from kmm.mm.intended import Case, IntendedDifference",
        module="def always(case: Case) -> bool:\n    return True\n\n\n"
        'INTENDED = {"v12": (IntendedDifference(observable="result", predicate=always, why="w", source="s"),)}',
    ),
}


@pytest.mark.parametrize("text", CLEAN.values(), ids=CLEAN)
def test_clean_code_passes(tmp_path: Path, text: str) -> None:
    assert [str(each) for each in findings(tmp_path / "mine.py", text)] == []


@pytest.mark.parametrize("path", VARIANTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_variants_of_the_project_are_clean(path: Path) -> None:
    assert [str(each) for each in lint(load_variant(str(path))) if not each.note] == []


def test_a_function_that_stands_in_for_one_of_the_port_is_a_note(tmp_path: Path) -> None:
    module = "def pte_unmap(pte):\n    pass\n\n\ndef __collapse_huge_page_isolate(pte):\n    pte_unmap(pte)"
    found = findings(tmp_path / "mine.py", source(module=module, body="__collapse_huge_page_isolate(mm)"))
    assert [(each.note, each.rule) for each in found] == [(True, "shadow")] * 2
    assert "pte_unmap stands in for kmm/mm/pgtable.py:" in found[0].problem
    assert found[0].remedy.endswith("of kmm.mm still call that one")
    assert "__collapse_huge_page_isolate stands in for kmm/mm/khugepaged/isolate.py:" in found[1].problem
    assert found[1].remedy == "nothing in kmm.mm calls that one"


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    text = source(module="CACHE = {}  #! state\n\n\ndef pte_unmap(pte):\n    pass", body="pte_unmap(CACHE)")
    Path("mine.py").write_text(text)
    assert main(["lint", "./mine.py", "v12", "./mine.py"]) == 2
    out = capsys.readouterr().out.splitlines()
    line = marked(text)[0][0]
    assert out[0].startswith(f"mine.py:{line}: state: CACHE may change and outlives a run; ")
    assert out[1].startswith(f"mine.py:{line + 3}: note: pte_unmap stands in for ")
    assert out[2:] == ["mine: 1 finding", "v12: clean"]


def test_a_note_alone_is_clean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.py"
    path.write_text(source(module="def pte_unmap(pte):\n    pass", body="pte_unmap(mm)"))
    assert main(["lint", str(path)]) == 0
    assert capsys.readouterr().out.endswith("\nmine: clean\n")


@pytest.mark.parametrize(
    ("arguments", "problem"), [([], "Missing argument"), (["v13"], 'there is no variant "v13"'), (["a b"], "not the name")]
)
def test_bad_input(capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str) -> None:
    assert main(["lint", *arguments]) == 4
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert problem in captured.err


def test_every_rule_is_documented() -> None:
    text = (ROOT / "docs" / "lint.md").read_text()
    seeded = {rule for text in (*IMPORTS, *MODULE, *BODY) for rule in MARK.findall(text)}
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == seeded
