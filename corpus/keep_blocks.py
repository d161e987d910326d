"""Rewrites of several statements that keep the meaning."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Sequence
from typing import Final

from corpus.syntax import PRIVATE, Cut, Rewrite, has, leaves, names, plain


def else_after_leaving(block: Sequence[ast.stmt], _: ast.FunctionDef) -> Iterator[Cut]:
    """``if c: ... return`` and the rest of the block to an ``if`` whose ``else`` is the rest."""
    first, *rest = block
    if isinstance(first, ast.If) and not first.orelse and leaves(first.body) and rest:
        yield len(block), [ast.If(first.test, first.body, rest)]


def repeat_in_branches(block: Sequence[ast.stmt], _: ast.FunctionDef) -> Iterator[Cut]:
    """The statement behind an ``if`` with an ``else`` to the end of both branches, where neither leaves."""
    if len(block) < 2 or not isinstance(block[0], ast.If) or not isinstance(block[1], ast.Expr | ast.Assign):
        return
    first, behind = block[0], block[1]
    if first.orelse and not leaves(first.body) and not leaves(first.orelse) and not has(first.orelse[-1:], ast.If):
        yield 2, [ast.If(first.test, [*first.body, behind], [*first.orelse, copy.deepcopy(behind)])]


def sink_common(block: Sequence[ast.stmt], _: ast.FunctionDef) -> Iterator[Cut]:
    """The last statement of both branches to behind the ``if``."""
    first = block[0]
    if isinstance(first, ast.If) and len(first.body) > 1 and len(first.orelse) > 1:
        if ast.dump(first.body[-1]) == ast.dump(first.orelse[-1]):
            yield 1, [ast.If(first.test, first.body[:-1], first.orelse[:-1]), first.body[-1]]


def split_assignment(block: Sequence[ast.stmt], _: ast.FunctionDef) -> Iterator[Cut]:
    """``a, b = x, y`` to two assignments, where ``y`` does not read ``a``; ``a = b = 0`` likewise."""
    first = block[0]
    if not isinstance(first, ast.Assign):
        return
    target = first.targets[0]
    if len(first.targets) > 1 and isinstance(first.value, ast.Constant) and all(isinstance(each, ast.Name) for each in first.targets):
        yield 1, [ast.Assign([each], copy.deepcopy(first.value)) for each in first.targets]
    if isinstance(target, ast.Tuple) and isinstance(first.value, ast.Tuple) and all(isinstance(each, ast.Name) for each in target.elts):
        pairs = list(zip(target.elts, first.value.elts, strict=True))
        if not any(names([each]) & names(target.elts[:i]) for i, each in enumerate(first.value.elts)):
            yield 1, [ast.Assign([one], value) for one, value in pairs]


def join_assignments(block: Sequence[ast.stmt], function: ast.FunctionDef) -> Iterator[Cut]:
    """``a = x`` and ``b = y`` to ``a, b = x, y``, where ``y`` does not read ``a`` and no handler could."""
    if len(block) < 2 or has([function], ast.Try):
        return
    first, second = block[0], block[1]
    if isinstance(first, ast.Assign) and isinstance(second, ast.Assign) and len(first.targets) == len(second.targets) == 1:
        a, b = first.targets[0], second.targets[0]
        if isinstance(a, ast.Name) and isinstance(b, ast.Name) and a.id != b.id and a.id not in names([second.value]):
            yield 2, [ast.Assign([ast.Tuple([a, b], ast.Store())], ast.Tuple([first.value, second.value], ast.Load()))]


def swap_independent(block: Sequence[ast.stmt], function: ast.FunctionDef) -> Iterator[Cut]:
    """Two assignments change places: of plain values to locals or to private objects, none of which the other one has to do with."""
    if len(block) < 2 or not all(isinstance(each, ast.Assign | ast.AnnAssign) for each in block[:2]):
        return
    first, second = block[0], block[1]
    one, other = _place(first, function), _place(second, function)
    if one and other and one != other and not (_reads(first) & {other} or _reads(second) & {one}):
        yield 2, [second, first]


def _place(statement: ast.stmt, function: ast.FunctionDef) -> str:
    """Where an assignment of a plain value stores; empty: the value is not plain, or others can see the place."""
    if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
        return ""
    target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
    several = isinstance(statement, ast.Assign) and len(statement.targets) > 1
    empty = isinstance(statement.value, ast.List) and not statement.value.elts
    if several or not (plain(statement.value) or empty or _private(statement.value, function)):
        return ""
    return ast.unparse(target) if isinstance(target, ast.Name) or _private(target, function) else ""


def _private(node: ast.expr, function: ast.FunctionDef) -> bool:
    """An attribute of an object that only one task ever sees."""
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in private_names(function)


def private_names(function: ast.FunctionDef) -> set[str]:
    """Parameters of a private class, and locals that hold a new object of one."""
    arguments = {each.arg for each in function.args.args if isinstance(each.annotation, ast.Name) and each.annotation.id in PRIVATE}
    assigned = [each for each in ast.walk(function) if isinstance(each, ast.Assign) and isinstance(each.value, ast.Call)]
    made = {
        ast.unparse(each.targets[0]) for each in assigned if isinstance(each.value, ast.Call) and ast.unparse(each.value.func) in PRIVATE
    }
    return arguments | made


def _reads(statement: ast.stmt) -> set[str]:
    loaded = [each for each in ast.walk(statement) if isinstance(each, ast.Name | ast.Attribute) and isinstance(each.ctx, ast.Load)]
    return {ast.unparse(each) for each in loaded}


BLOCKS: Final[dict[str, tuple[Rewrite, str]]] = {
    "else-after-leaving": (else_after_leaving, "the first branch leaves, so what follows is what happens otherwise"),
    "repeat-in-branches": (repeat_in_branches, "each branch ends with what came next in either case"),
    "sink-common": (sink_common, "what both branches did last comes next in either case"),
    "split-assignment": (split_assignment, "the values are computed in the same order, and none reads what the assignments before it set"),
    "join-assignments": (join_assignments, "the values are computed in the same order, and the second does not read the first name"),
    "swap-independent": (swap_independent, "both store a plain value where nobody else looks, and neither reads the other's place"),
}
