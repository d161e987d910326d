"""What the operators ask of a piece of code, and how they replace a part of it."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

Statement: TypeAlias = Callable[[ast.stmt], Iterator[list[ast.stmt]]]
Cut: TypeAlias = tuple[int, list[ast.stmt]]
"""How many statements are replaced, and by what."""
Rewrite: TypeAlias = Callable[[Sequence[ast.stmt], ast.FunctionDef], Iterator[Cut]]
"""The statements of a block from one on, and the function that they are in, to what may stand in place of the first of them."""

GEOMETRY: Final = ("HPAGE_PMD_ORDER", "HPAGE_PMD_NR", "HPAGE_PMD_SIZE", "HPAGE_PMD_MASK", "PAGE_SIZE", "BIT")
"""Functions that give the same number all through a run."""
PRIVATE: Final = ("CollapseControl", "PmdScan")
"""Classes whose objects only one task ever sees."""
_LEAVES: Final = (ast.Return, ast.Continue, ast.Break, ast.Raise)
_OPERATORS: Final = (ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context)


def of_one(rewrite: Statement) -> Rewrite:
    """A rewrite of one statement."""

    def of_first(block: Sequence[ast.stmt], _: ast.FunctionDef) -> Iterator[Cut]:
        for new in rewrite(block[0]):
            yield 1, new

    return of_first


def is_call_of(node: ast.AST, names: Sequence[str]) -> bool:
    """A call of one of these functions."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names


def plain(node: ast.expr) -> bool:
    """It computes numbers from names, constants and the geometry: nothing is read that others can see, nothing is done."""
    allowed = (ast.Name, ast.Constant, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, *_OPERATORS)
    return all(isinstance(each, allowed) or is_call_of(each, GEOMETRY) or _member(each) for each in ast.walk(node))


def _member(node: ast.AST) -> bool:
    """A member of the enumeration of results."""
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ScanResult"


def is_number(node: ast.expr) -> bool:
    """It is plain, and a number beyond doubt: a constant, a call of the geometry, or arithmetic with one."""
    if not plain(node):
        return False
    if isinstance(node, ast.BinOp):
        return is_number(node.left) or is_number(node.right)
    return is_call_of(node, GEOMETRY) or (isinstance(node, ast.Constant) and type(node.value) is int)


def names(nodes: Sequence[ast.AST], context: type[ast.expr_context] | None = None) -> set[str]:
    """The names in some code.

    :param context: only those that are loaded, or stored
    """
    found = (each for node in nodes for each in ast.walk(node))
    return {each.id for each in found if isinstance(each, ast.Name) and (context is None or isinstance(each.ctx, context))}


def fresh(name: str, function: ast.FunctionDef) -> bool:
    """The function has no such name in it."""
    arguments = {each.arg for each in ast.walk(function) if isinstance(each, ast.arg)}
    return name not in names([function]) | arguments


def has(nodes: Sequence[ast.AST], *kinds: type[ast.AST]) -> bool:
    """There is a node of such a kind in some code."""
    return any(isinstance(each, kinds) for node in nodes for each in ast.walk(node))


def leaves(body: Sequence[ast.stmt]) -> bool:
    """What stands behind these statements is not reached from them."""
    last = body[-1]
    return isinstance(last, _LEAVES) or (isinstance(last, ast.Expr) and is_call_of(last.value, ("goto",)))


def own(statement: ast.stmt) -> Iterator[ast.expr]:
    """The expressions of a statement itself, not those of statements inside."""
    for _, value in ast.iter_fields(statement):
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, ast.expr):
                yield from (node for node in ast.walk(each) if isinstance(node, ast.expr))


def edited(statement: ast.stmt, edit: Callable[[ast.expr], ast.expr | None]) -> Iterator[list[ast.stmt]]:
    """The statement with one of its expressions replaced, for each that ``edit`` replaces."""
    for number, node in enumerate(own(statement)):
        if edit(copy.deepcopy(node)) is not None:
            other = copy.deepcopy(statement)
            at = list(own(other))[number]
            new = edit(copy.deepcopy(at))
            assert new is not None
            _Put(at, new).visit(other)
            yield [other]


class _Put(ast.NodeTransformer):
    def __init__(self, at: ast.expr, new: ast.expr) -> None:
        self.at, self.new = at, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.at else self.generic_visit(node)


def bodies(function: ast.FunctionDef) -> Iterator[list[ast.stmt]]:
    """All lists of statements inside, the function's own first; without docstring, without those of functions inside."""
    waiting: list[ast.stmt] = [function]
    while waiting:
        for _, value in ast.iter_fields(waiting.pop(0)):
            block = [each for each in value if isinstance(each, ast.stmt)] if isinstance(value, list) else []
            if block:
                yield [each for each in block if not (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))]
                waiting += [each for each in block if not isinstance(each, ast.FunctionDef | ast.ClassDef)]
