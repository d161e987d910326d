"""A lint over a variant's functions: nothing outlives a run, and nobody else's code is changed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from kmm.judge.definitions import Module
from kmm.judge.lint_module import Raw, mutable

_RUNS_TEXT: Final = frozenset(
    {"__import__", "breakpoint", "compile", "eval", "exec", "globals", "input", "locals", "open", "vars"},
)
_MUTATES: Final = frozenset(
    {
        "add",
        "append",
        "appendleft",
        "clear",
        "discard",
        "extend",
        "insert",
        "pop",
        "popitem",
        "remove",
        "reverse",
        "setdefault",
        "sort",
        "update",
    }
)
_KEEP: Final = "keep what changes in the function"


def check_state(module: Module) -> Iterator[Raw]:
    """Findings about what functions and classes do to things outside of them."""
    lint = _Lint(set(module.imports), {each.name for each in module.definitions})
    lint.visit(module.tree)
    yield from lint.found


class _Lint(ast.NodeVisitor):
    """Visits a module.

    :param imports: names that it imports
    :param defined: names that it defines
    """

    def __init__(self, imports: set[str], defined: set[str]) -> None:
        self.imports = imports
        self.outer = imports | defined
        self.local: list[set[str]] = []
        self.found: list[Raw] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        defaults = [*node.args.defaults, *(each for each in node.args.kw_defaults if each is not None)]
        for default in defaults:
            if mutable(default):
                self._report(default, "state", f"a default of {node.name} may change and outlives a run", "let the default be None")
        self.local.append(_bound(node))
        self.generic_visit(node)
        self.local.pop()

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.local.append(_bound(node))
        self.generic_visit(node)
        self.local.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for statement in node.body:
            if isinstance(statement, ast.Assign | ast.AnnAssign) and mutable(statement.value) and not _is_field(statement.value):
                self._report(statement, "state", f"an attribute of class {node.name} may change and outlives a run", "set it in __init__")
        self.generic_visit(node)

    def visit_Global(self, node: ast.Global) -> None:
        names = ", ".join(node.names)
        self._report(node, "state", f"{names} outlives a run", "pass it as an argument and give it back as a result")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.generic_visit(node)
        if node.attr.startswith("__") and node.attr.endswith("__") and node.attr != "__init__":
            self._report(node, "exec", f"reaches for {node.attr}", "call the functions of kmm.mm by their names")
        if not isinstance(node.ctx, ast.Load):
            self._changed(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self.generic_visit(node)
        if not isinstance(node.ctx, ast.Load):
            self._changed(node)

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr in _MUTATES and self._outside(node.func.value):
            what = f"{node.func.attr} changes {ast.unparse(node.func.value)}"
            self._report(node, "state", f"{what}, which outlives a run", _KEEP)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in _RUNS_TEXT and isinstance(node.ctx, ast.Load) and not self._is_local(node.id) and node.id not in self.outer:
            self._report(node, "exec", f"uses {node.id}", "write the code that it stands for")

    def _changed(self, node: ast.Attribute | ast.Subscript) -> None:
        outer = self._outside(node.value)
        if outer in self.imports:
            remedy = "define a function of your own and call it, or give it to VARIANT"
            self._report(node, "patch", f"changes {ast.unparse(node)}, which every variant sees", remedy)
        elif outer:
            self._report(node, "state", f"changes {ast.unparse(node)}, which outlives a run", _KEEP)

    def _outside(self, node: ast.expr) -> str:
        """The name of the module that an expression begins with; empty: it begins with something else."""
        while isinstance(node, ast.Attribute | ast.Subscript):
            node = node.value
        return node.id if isinstance(node, ast.Name) and node.id in self.outer and not self._is_local(node.id) else ""

    def _is_local(self, name: str) -> bool:
        return any(name in names for names in self.local)

    def _report(self, node: ast.expr | ast.stmt, rule: str, problem: str, remedy: str) -> None:
        self.found.append((node.lineno, rule, problem, remedy))


def _bound(function: ast.FunctionDef | ast.Lambda) -> set[str]:
    """Arguments and names that a function assigns to."""
    arguments = {each.arg for each in ast.walk(function.args) if isinstance(each, ast.arg)}
    globals_ = {name for each in ast.walk(function) if isinstance(each, ast.Global) for name in each.names}
    stored = {each.id for each in ast.walk(function) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
    return (arguments | stored) - globals_


def _is_field(value: ast.expr | None) -> bool:
    """``field(...)`` of a dataclass or of attrs describes an attribute."""
    if not isinstance(value, ast.Call):
        return False
    called = value.func.attr if isinstance(value.func, ast.Attribute) else getattr(value.func, "id", "")
    return called in ("field", "ib")
