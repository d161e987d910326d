"""A lint over a variant's file: importing it defines things and does nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final, TypeAlias

from kmm.judge.definitions import Module, assigned, imported, in_port

Raw: TypeAlias = tuple[int, str, str, str]
"""Line, rule, what is wrong, what to do."""
_ROOMS: Final = ("kmm.mm", "kmm.kernel", "refactors")
_LIBRARY: Final = ("__future__", "attrs", "collections.abc", "dataclasses", "enum", "typing")
_EXEMPT: Final = frozenset({"INTENDED", "VARIANT", "__all__"})
_MAKES_CONSTANTS: Final = frozenset({"NewType", "TypeVar", "bool", "frozenset", "int", "len", "max", "min", "range", "str", "tuple"})
_MUTABLE: Final = (ast.Dict, ast.DictComp, ast.GeneratorExp, ast.List, ast.ListComp, ast.Set, ast.SetComp)


def check_module(module: Module) -> Iterator[Raw]:
    """Findings about the statements at module level and about imports."""
    for node in module.tree.body:
        yield from _statement(node)
    yield from _twice(module)
    yield from _aliases(module)
    for each in ast.walk(module.tree):
        yield from _import(each)


def mutable(value: ast.expr | None) -> bool:
    """An expression that makes something that can change, as far as its text tells."""
    if isinstance(value, ast.Call):
        called = value.func.id if isinstance(value.func, ast.Name) else ""
        return called not in _MAKES_CONSTANTS
    parts = ast.iter_child_nodes(value) if isinstance(value, ast.Tuple | ast.BinOp | ast.IfExp | ast.Starred) else ()
    return isinstance(value, _MUTABLE) or any(isinstance(part, ast.expr) and mutable(part) for part in parts)


def _statement(node: ast.stmt) -> Iterator[Raw]:
    match node:
        case ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.ClassDef():
            pass
        case ast.Expr(value=ast.Constant(value=str())):
            pass
        case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=[]) if all(
            isinstance(each, ast.Import | ast.ImportFrom) for each in node.body
        ):
            pass
        case ast.Assign() | ast.AnnAssign():
            yield from _constant(node)
        case _:
            yield (
                node.lineno,
                "layout",
                "this runs when the file is imported",
                "keep to imports, constants, classes, functions and VARIANT at module level",
            )


def _constant(node: ast.Assign | ast.AnnAssign) -> Iterator[Raw]:
    names = assigned(node)
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    if not all(isinstance(target, ast.Name) for target in targets) or _EXEMPT.intersection(names):
        return
    if mutable(node.value):
        yield (
            node.lineno,
            "state",
            f"{names[0]} may change and outlives a run",
            "make it a number, a text, a tuple or a frozenset, or make it in the function that needs it",
        )


def _import(node: ast.AST) -> Iterator[Raw]:
    if not isinstance(node, ast.Import | ast.ImportFrom):
        return
    modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else ["." * node.level + (node.module or "")]
    for module in modules:
        if not any(_within(target, each) for target in _targets(node, module) for each in (*_ROOMS, *_LIBRARY)):
            yield (
                node.lineno,
                "import",
                f"imports {module}",
                f"import from {', '.join(_ROOMS)} and of the library only {', '.join(_LIBRARY)}",
            )
    if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
        yield node.lineno, "import", "imports *, so that nobody sees what a name stands for", "name what you import"


def _targets(node: ast.Import | ast.ImportFrom, module: str) -> list[str]:
    """``from kmm import mm`` imports the module ``kmm.mm``."""
    if isinstance(node, ast.ImportFrom) and module in ("kmm", "collections"):
        return [f"{module}.{alias.name}" for alias in node.names]
    return [module]


def _within(module: str, room: str) -> bool:
    return f"{module}.".startswith(f"{room}.")


def _twice(module: Module) -> Iterator[Raw]:
    seen: dict[str, int] = {}
    bindings = [(each.name, each.node.lineno) for each in module.definitions]
    bindings += [(name, node.lineno) for node in module.tree.body for name, target in imported(node) if "." in target]
    for name, line in sorted(bindings, key=lambda each: each[1]):
        if name in seen:
            yield line, "twice", f"{name} is defined in line {seen[name]} already", "keep one of the two"
        seen[name] = line


def _aliases(module: Module) -> Iterator[Raw]:
    remedy = "keep the name to what kmm.mm means by it"
    for node in ast.walk(module.tree):
        for name, target in imported(node):
            if target.rpartition(".")[2] != name and in_port(name) is not None and isinstance(node, ast.stmt):
                yield node.lineno, "alias", f"{name} stands for {target} here", remedy
    for each in module.definitions:
        if each.kind == "constant" and in_port(each.name) is not None:
            yield each.node.lineno, "alias", f"{each.name} is assigned to, and is a function of kmm.mm", remedy
