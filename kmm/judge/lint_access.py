"""A lint over kernel code: shared state is touched through the Machine only."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import kmm

_BYPASSES: Final = frozenset({"getattr", "setattr", "delattr", "__getattribute__", "__setattr__", "__delattr__"})
_ROOMS: Final = ("kernel", "mm")


def shared_fields(trees: Iterable[ast.Module]) -> frozenset[str]:
    """Names that some class declares as a ``Field``."""
    return frozenset(
        name
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for statement in node.body
        for name in _declared(statement)
    )


@functools.cache
def port_fields() -> frozenset[str]:
    """The shared fields of ``kmm.kernel`` and ``kmm.mm``."""
    here = Path(kmm.__file__).parent
    return shared_fields(ast.parse(path.read_bytes()) for room in _ROOMS for path in sorted((here / room).rglob("*.py")))


def _declared(statement: ast.stmt) -> list[str]:
    if not isinstance(statement, ast.AnnAssign | ast.Assign) or not _is_field(statement.value):
        return []
    targets = [statement.target] if isinstance(statement, ast.AnnAssign) else statement.targets
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _is_field(value: ast.expr | None) -> bool:
    if not isinstance(value, ast.Call):
        return False
    made = value.func.value if isinstance(value.func, ast.Subscript) else value.func
    return isinstance(made, ast.Name) and made.id == "Field"


def bypasses(tree: ast.Module, fields: frozenset[str]) -> list[tuple[int, str]]:
    """Every place that goes around the Machine: line, and what it does.

    A constructor may set its own storage, and the ``name`` of an object, which only reports read, may come from it.

    :param fields: names of the shared fields
    """
    lint = _Lint(fields)
    lint.visit(tree)
    return lint.found


class _Lint(ast.NodeVisitor):
    def __init__(self, fields: frozenset[str]) -> None:
        self.fields = fields
        self.found: list[tuple[int, str]] = []
        self.function = ""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outer, self.function = self.function, node.name
        self.generic_visit(node)
        self.function = outer

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.generic_visit(node)
        own = isinstance(node.value, ast.Name) and node.value.id == "self"
        if own and (self.function == "__init__" or (self.function == "name" and isinstance(node.ctx, ast.Load))):
            return
        name = node.attr
        if name[:1] == "_" and name[1:] in self.fields:
            self._report(node, f"touches the storage of the shared field {name[1:]}")
        elif name[:1] == "_" and name[:2] != "__" and not own:
            self._report(node, f"touches {name}, which belongs to another object")
        elif name in self.fields and not isinstance(node.ctx, ast.Load):
            self._report(node, f"assigns to the shared field {name}")

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called not in _BYPASSES:
            return
        if called == "getattr" and not any(_is_private_name(arg) for arg in node.args):
            return
        self._report(node, f"calls {called}")

    def _report(self, node: ast.expr, what: str) -> None:
        self.found.append((node.lineno, what))


def _is_private_name(arg: ast.expr) -> bool:
    return isinstance(arg, ast.Constant) and isinstance(arg.value, str) and arg.value.startswith("_")
