"""Kernel code touches shared state through the Machine only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from kmm.judge.lint_access import bypasses, port_fields, shared_fields

ROOT = Path(__file__).parent.parent
KERNEL_CODE = sorted([*(ROOT / "kmm" / "mm").rglob("*.py"), *(ROOT / "refactors").rglob("*.py")])

FOLIO = """
class Folio(Shared):
    refcount: Field[int] = Field()
    flags = Field[int]()
    order: int = 0
"""
FIELDS = frozenset({"refcount", "flags"})


def violations(source: str, fields: frozenset[str]) -> list[str]:
    """What the lint says about a text, as ``line: what``."""
    return [f"{line}: {what}" for line, what in bypasses(ast.parse(source), fields)]


def test_fields_are_found_in_declarations() -> None:
    assert shared_fields([ast.parse(FOLIO)]) == FIELDS


def test_the_port_declares_shared_fields() -> None:
    assert {"refcount", "mapcount", "vm_flags"} <= port_fields()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("n = folio._refcount", "1: touches the storage of the shared field refcount"),
        ("folio._refcount = 1", "1: touches the storage of the shared field refcount"),
        ("folio._refcount += 1", "1: touches the storage of the shared field refcount"),
        ("def get(self):\n    return self._refcount", "2: touches the storage of the shared field refcount"),
        ("folio.refcount = 1", "1: assigns to the shared field refcount"),
        ("folio.refcount += 1", "1: assigns to the shared field refcount"),
        ("folio.refcount: int = 1", "1: assigns to the shared field refcount"),
        ("del folio.flags", "1: assigns to the shared field flags"),
        ("for folio.flags in x:\n    pass", "1: assigns to the shared field flags"),
        ("a, folio.flags = 1, 2", "1: assigns to the shared field flags"),
        ("with x as folio.flags:\n    pass", "1: assigns to the shared field flags"),
        ("def f(folio):\n    def __init__(self):\n        folio._flags = 0", "3: touches the storage of the shared field flags"),
        ("def __init__(self):\n    pass\ndef put(self):\n    self.flags = 0", "4: assigns to the shared field flags"),
        ("def name(self):\n    self._flags = 0", "2: touches the storage of the shared field flags"),
        ("machine._log.clear()", "1: touches _log, which belongs to another object"),
        ("setattr(folio, name, 1)", "1: calls setattr"),
        ("object.__setattr__(folio, '_flags', 1)", "1: calls __setattr__"),
        ("getattr(folio, '_flags')", "1: calls getattr"),
    ],
)
def test_seeded_violations_are_found(source: str, found: str) -> None:
    assert violations(source, FIELDS) == [found]


@pytest.mark.parametrize(
    "source",
    [
        "n = folio.refcount",
        "machine.write(folio, Folio.refcount, 1, ONCE)",
        "def __init__(self):\n    self._refcount = 1\n    self.flags = 0",
        "def name(self):\n    return hex(self._refcount)",
        "def f(self):\n    self._own = 1",
        "__collapse_huge_page_isolate(vma, address, pte, cc)",
        "khugepaged.__collapse_huge_page_isolate(vma)",
        "cc.progress = 1",
        "getattr(cc, 'progress')",
    ],
)
def test_clean_code_passes(source: str) -> None:
    assert violations(source, FIELDS) == []


@pytest.mark.parametrize("path", KERNEL_CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_kernel_code_is_clean(path: Path) -> None:
    assert violations(path.read_text(), port_fields()) == []
