"""The index of the port names every public function, with the kernel's file and ours."""

from __future__ import annotations

import ast
import re

import pytest

from docs._ext import port
from docs._ext.port import ROOT, ported
from docs._ext.port_files import ELSEWHERE, FILE_OF, OWN

PORTED = ported()
SOURCES = sorted([*(ROOT / "kmm/mm").rglob("*.py"), *(ROOT / "refactors").rglob("*.py")])
ROWS = {cell for table in (port.khugepaged_table(), port.callees_table(), port.own_table()) for row in table.rows for cell in row[:3]}

_KERNEL_FILE = re.compile(
    r"(mm|kernel|lib|fs|fs/proc|include/(linux|linux/sched|vdso|asm-generic)|arch/x86/(include/asm|mm|kvm/mmu)|virt/kvm)/[\w-]+\.[ch]"
)


def public(text: str) -> dict[str, int]:
    """The public functions at the top level of a source, with their lines."""
    defined = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    return {
        node.name: min([node.lineno, *(each.lineno for each in node.decorator_list)])
        for node in defined
        if not re.match(r"_[^_]", node.name)
    }


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_public_function_is_in_the_index(path: str) -> None:
    file = path.relative_to(ROOT)  # type: ignore[attr-defined]
    expected = {(name, f"{file}:{line}") for name, line in public((ROOT / file).read_text()).items()}
    assert expected - {(each.name, each.path) for each in PORTED} == set()
    assert {f"``{where}``" for _, where in expected} - ROWS == set()


@pytest.mark.parametrize("each", [each for each in PORTED if each.files], ids=lambda each: each.name)
def test_every_row_names_a_kernel_file(each: port.Ported) -> None:
    assert all(_KERNEL_FILE.fullmatch(file) for file in each.files)
    assert each.since == "base" or re.fullmatch(r"v12 \d\d/15(, \d\d/15)*", each.since)


def test_what_is_known_of_single_functions() -> None:
    found = {each.name: each for each in PORTED if each.path.startswith("kmm/")}
    assert (found["collapse_scan_pmd"].files, found["collapse_scan_pmd"].since) == (("mm/khugepaged.c",), "v12 12/15")
    assert (found["__collapse_huge_page_isolate"].since) == "v12 05/15, 06/15, 08/15, 09/15"
    assert (found["collapse_test_exit"].files, found["collapse_test_exit"].since) == (("mm/khugepaged.c",), "base")
    assert found["set_ptes"].files == ("include/linux/pgtable.h",)
    assert found["page_at"].files == ()
    assert [each.path.partition(":")[0] for each in PORTED if each.name == "collapse_huge_page"] == [
        "refactors/base.py",
        "refactors/merged.py",
        "refactors/reviewed.py",
        "refactors/v12.py",
    ]


def test_the_lists_name_only_what_there_is() -> None:
    names = {each.name for each in PORTED}
    assert set(FILE_OF) - names == set()
    assert len(FILE_OF) == sum(len(listed.split()) for listed in ELSEWHERE.values()), "a name stands twice"
    here = {(each.function.__module__, each.name) for each in PORTED}
    assert {(module, name) for module, listed in OWN.items() for name in listed.split()} - here == set()


def test_a_private_function_is_not_in_the_index() -> None:
    assert public("def _one(): ...\ndef __two(): ...\ndef three(): ...") == {"__two": 2, "three": 3}
