"""The index of the port: which kernel function is where, and where it comes from."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Final

import attrs

import kmm.mm
import refactors
from docs._ext.docstrings import fields, kernel_files, module_files, plain, summary
from docs._ext.port_files import FILE_OF, OWN
from docs._ext.table import Table, code

ROOT: Final = Path(__file__).parents[2]
KHUGEPAGED: Final = "mm/khugepaged.c"


@attrs.frozen
class Ported:
    """One function of the port.

    :param name: the kernel's, and ours
    :param function: the Python function
    :param files: the kernel's file, or those that it may be in; none: the function is the model's own
    :param since: patches of the v12 series that touched it, or ``base``
    """

    name: str
    function: FunctionType
    files: tuple[str, ...]
    since: str

    @property
    def path(self) -> str:
        """Python file and line."""
        code = inspect.unwrap(self.function).__code__
        return f"{Path(code.co_filename).resolve().relative_to(ROOT)}:{code.co_firstlineno}"


def modules() -> Iterator[ModuleType]:
    """Every module of ``kmm.mm`` and ``refactors``, by name; a package before what is in it."""
    for package in (kmm.mm, refactors):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            yield importlib.import_module(found.name)


def functions(module: ModuleType) -> dict[str, FunctionType]:
    """The public functions that a module defines, as they stand in it. Two underscores in front are the kernel's."""
    return {
        name: thing
        for name, thing in vars(module).items()
        if inspect.isfunction(thing) and thing.__module__ == module.__name__ and not re.match(r"_[^_]", name)
    }


def ported() -> tuple[Ported, ...]:
    """Every public function of the port and of the variants."""
    return tuple(_entry(name, function, module) for module in modules() for name, function in functions(module).items())


def _entry(name: str, function: FunctionType, module: ModuleType) -> Ported:
    source = fields(function).get("source", "")
    patches = ", ".join(re.findall(r"\d\d/15", source))
    own = name in OWN.get(module.__name__, "").split()
    return Ported(name, function, () if own else _files(name, source, module), f"v12 {patches}" if patches else "base")


def _files(name: str, source: str, module: ModuleType) -> tuple[str, ...]:
    """The file that the function's docstring names, or that is known, or the files that its module or package names."""
    if kernel_files(source):
        return kernel_files(source)
    if name in FILE_OF:
        return (FILE_OF[name],)
    package = importlib.import_module(module.__name__.rpartition(".")[0])
    return module_files(module) or module_files(package)


def khugepaged_table() -> Table:
    """The functions of mm/khugepaged.c."""
    rows = tuple((code(each.name), code(each.path), each.since) for files, group in by_file() if files == (KHUGEPAGED,) for each in group)
    return Table(("kernel function", "here", "as of"), rows, (5, 6, 3))


def callees_table() -> Table:
    """The functions of other kernel files."""
    groups = [(files, group) for files, group in by_file() if files != (KHUGEPAGED,)]
    rows = tuple((code(each.name), ", ".join(files), code(each.path)) for files, group in groups for each in group)
    return Table(("kernel function", "kernel file", "here"), rows, (5, 5, 5))


def own_table() -> Table:
    """The functions that are the model's own."""
    rows = tuple((code(each.name), code(each.path), plain(summary(each.function))) for each in ported() if not each.files)
    return Table(("function", "here", "what it does"), rows, (3, 4, 7))


def by_file() -> Iterator[tuple[tuple[str, ...], list[Ported]]]:
    """The functions that the kernel has, by its files: first the one that the port is about, and in it what the variants have."""
    entries = sorted((each for each in ported() if each.files), key=_order)
    for files, group in groupby(entries, lambda each: each.files):
        yield files, list(group)


def _order(entry: Ported) -> tuple[bool, bool, tuple[str, ...], bool]:
    first = entry.files[0]
    return first != KHUGEPAGED, not first.startswith("mm/"), entry.files, not entry.path.startswith("refactors/")
