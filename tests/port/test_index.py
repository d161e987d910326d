"""The index of the port names what there is, and all of mm/khugepaged.c."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

from kmm.mm.khugepaged import alloc, copy, isolate, limits, revalidate, scan, swapin

PAGE = (Path(__file__).parents[2] / "docs/port.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\w+)` \| `([\w.]+)` \| (.+) \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("function", "module", "source"), ROWS)
def test_a_row_names_a_function_of_its_module(function: str, module: str, source: str) -> None:
    found = getattr(importlib.import_module(module), function)
    assert inspect.isfunction(found)
    assert found.__module__ == module
    assert source == "base" or re.fullmatch(r"v12 \d\d/15(, \d\d/15)*", source)


@pytest.mark.parametrize("module", [alloc, copy, isolate, limits, revalidate, scan, swapin], ids=lambda module: module.__name__)
def test_every_function_of_khugepaged_has_a_row(module: object) -> None:
    assert inspect.ismodule(module)
    ported = {
        name
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not re.match(r"_[a-z]", name)
    }
    callees = {"ksm_might_unmap_zero_page"}
    assert ported - callees <= {function for function, _, _ in ROWS}
