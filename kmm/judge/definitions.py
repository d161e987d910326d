"""What a module of kernel code defines and what it imports, read from its source."""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Iterator, Mapping
from importlib.util import decode_source
from pathlib import Path
from typing import Final

import attrs

import kmm
from kmm.judge.errors import VariantError

MAX_DEPTH: Final = 200
"""Syntax nested deeper is refused: walking it would use up the stack."""
_ROOT: Final = Path(kmm.__file__).parent.parent


@attrs.frozen(kw_only=True, eq=False)
class Definition:
    """A function, a class or a constant of a module.

    :param kind: ``function``, ``class`` or ``constant``
    :param path: the source
    :param first: first line, that of a decorator or of the comment right above where there is one
    :param lines: the text, from ``first`` on
    """

    name: str
    kind: str
    path: Path
    first: int
    lines: tuple[str, ...]
    node: ast.stmt = attrs.field(repr=False)

    @property
    def last(self) -> int:
        """Its last line."""
        return self.first + len(self.lines) - 1

    @property
    def file(self) -> str:
        """The source, for people."""
        return shown(self.path)

    @property
    def place(self) -> str:
        """File and line of the name, not of what is above it."""
        return f"{self.file}:{self.node.lineno}"


@attrs.frozen(kw_only=True, eq=False)
class Module:
    """A module's source.

    :param tree: without the docstrings of functions and classes
    :param definitions: in the order of the text
    :param imports: name to what it stands for, dotted, at module level or in a function
    """

    path: Path
    tree: ast.Module = attrs.field(repr=False)
    definitions: tuple[Definition, ...]
    imports: Mapping[str, str]

    def definition(self, name: str) -> Definition | None:
        """What the name stands for once the module is imported: the last definition counts."""
        return next((each for each in reversed(self.definitions) if each.name == name), None)


def shown(path: Path) -> str:
    """A path for people: relative to the current directory, else to the project, else whole."""
    base = next((each for each in (Path.cwd(), _ROOT) if path.is_relative_to(each)), None)
    return str(path.relative_to(base)) if base is not None else str(path)


def read_module(path: Path) -> Module:
    """Read a module that is known to compile; nothing is executed.

    :raises VariantError: its code is nested too deeply to be walked
    """
    text = decode_source(path.read_bytes())
    tree = ast.parse(text)
    _refuse_depth(tree, path)
    _drop_docstrings(tree)
    lines = text.split("\n")
    imports = {name: target for node in ast.walk(tree) for name, target in imported(node)}
    definitions = tuple(each for node in tree.body for each in _definitions(node, path, lines))
    return Module(path=path, tree=tree, definitions=definitions, imports=imports)


def _refuse_depth(tree: ast.Module, path: Path) -> None:
    nodes: list[ast.AST] = [tree]
    for _ in range(MAX_DEPTH):
        nodes = [child for node in nodes for child in ast.iter_child_nodes(node)]
        if not nodes:
            return
    line = next((node.lineno for node in nodes if isinstance(node, ast.stmt | ast.expr)), 1)
    raise VariantError("this is nested too deeply to be read", "break it into several statements", f"{shown(path)}:{line}")


def _drop_docstrings(tree: ast.Module) -> None:
    for each in ast.walk(tree):
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(each, clean=False) is not None:
            each.body = each.body[1:]


def imported(node: ast.AST) -> Iterator[tuple[str, str]]:
    """(name, what it stands for) for each name that an import statement binds."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0], alias.name if alias.asname else alias.name.partition(".")[0]
    elif isinstance(node, ast.ImportFrom):
        module = "." * node.level + (node.module or "")
        for alias in node.names:
            yield alias.asname or alias.name, f"{module}.{alias.name}"


def assigned(node: ast.stmt) -> list[str]:
    """Names that a statement assigns to."""
    if isinstance(node, ast.Assign):
        return [name for target in node.targets for name in _targets(target)]
    if isinstance(node, ast.AnnAssign | ast.AugAssign):
        return _targets(node.target)
    return []


def _targets(target: ast.expr) -> list[str]:
    if isinstance(target, ast.Tuple | ast.List):
        return [name for each in target.elts for name in _targets(each)]
    return [target.id] if isinstance(target, ast.Name) else []


def _definitions(node: ast.stmt, path: Path, lines: list[str]) -> Iterator[Definition]:
    first = node.lineno
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        names, kind = [node.name], "class" if isinstance(node, ast.ClassDef) else "function"
        first = min([first, *(each.lineno for each in node.decorator_list)])
    else:
        names, kind = assigned(node), "constant"
    while first > 1 and lines[first - 2].startswith("#"):
        first -= 1
    text = tuple(lines[first - 1 : node.end_lineno])
    for name in names:
        yield Definition(name=name, kind=kind, path=path, first=first, lines=text, node=node)


@functools.cache
def module_named(name: str) -> Module | None:
    """A module of ``refactors`` by its dotted name; ``None``: there is none, or it is a package."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or spec.submodule_search_locations is not None:
        return None
    return read_module(Path(spec.origin))


@functools.cache
def port() -> Mapping[str, tuple[Definition, ...]]:
    """What :mod:`kmm.mm` defines, by name."""
    found: dict[str, list[Definition]] = {}
    for path in sorted((_ROOT / "kmm" / "mm").rglob("*.py")):
        for each in read_module(path).definitions:
            found.setdefault(each.name, []).append(each)
    return {name: tuple(each) for name, each in found.items()}


def in_port(name: str, target: str = "") -> Definition | None:
    """What a name stands for in :mod:`kmm.mm`; ``None``: nothing, or it is not clear what.

    :param target: what the name was imported as, where it was
    """
    found = [each for each in port().get(name, ()) if each.kind != "constant"]
    if len(found) > 1:
        found = [each for each in found if target == f"{_dotted(each.path)}.{name}"]
    return found[0] if len(found) == 1 else None


def _dotted(path: Path) -> str:
    return ".".join(path.relative_to(_ROOT).with_suffix("").parts)
