"""What is done to a statement or a function: rewrites that keep its meaning, and rewrites that may not.

Each takes a statement and yields what is to stand in its place. All are generic; which places of the port they are used at is in
:mod:`corpus.generate`.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

Rewrite: TypeAlias = Callable[[ast.stmt], Iterator[list[ast.stmt]]]

_FLIPPED: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.Gt,
    ast.Gt: ast.Lt,
    ast.LtE: ast.GtE,
    ast.GtE: ast.LtE,
    ast.Eq: ast.Eq,
    ast.NotEq: ast.NotEq,
}
_BOUNDARY: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
_OPPOSITE: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_PURE: Final = {"HPAGE_PMD_ORDER", "HPAGE_PMD_NR", "HPAGE_PMD_SIZE", "HPAGE_PMD_MASK", "PAGE_SIZE", "BIT", "len", "bool", "int"}
_ADDRESSES: Final = ("mthp_address", "pmd_address", "address", "addr", "start_addr", "start", "end")
_PAGES: Final = ("nr_pages", "order", "offset", "i", "nr_ptes", "num_chunks", "nr")


def pure(node: ast.expr) -> bool:
    """It only computes: no call but of the geometry's functions."""
    calls = [each for each in ast.walk(node) if isinstance(each, ast.Call | ast.NamedExpr | ast.Await | ast.Yield)]
    return all(isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id in _PURE for each in calls)


def own(statement: ast.stmt) -> Iterator[ast.expr]:
    """The expressions of a statement itself, not those of statements inside."""
    for _, value in ast.iter_fields(statement):
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, ast.expr):
                yield from (node for node in ast.walk(each) if isinstance(node, ast.expr))


def edited(statement: ast.stmt, kind: type[ast.expr], edit: Callable[[ast.expr], ast.expr | None]) -> Iterator[list[ast.stmt]]:
    """The statement with one of its expressions of a kind replaced, for each that ``edit`` replaces."""
    for number, node in enumerate(own(statement)):
        if isinstance(node, kind) and edit(copy.deepcopy(node)) is not None:
            other = copy.deepcopy(statement)
            at = list(own(other))[number]
            new = edit(copy.deepcopy(at))
            assert new is not None
            yield [_Put(at, new).visit(other)]


class _Put(ast.NodeTransformer):
    def __init__(self, at: ast.expr, new: ast.expr) -> None:
        self.at, self.new = at, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.at else self.generic_visit(node)


# Rewrites that keep the meaning.


def invert_branch(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """``if c: A else: B`` to ``if not c: B else: A``."""
    if isinstance(statement, ast.If) and statement.orelse:
        yield [ast.If(ast.UnaryOp(ast.Not(), statement.test), statement.orelse, statement.body)]


def flip_comparison(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """``a < b`` to ``b > a``, of operands that only compute."""

    def edit(node: ast.expr) -> ast.expr | None:
        if not isinstance(node, ast.Compare) or len(node.ops) != 1 or type(node.ops[0]) not in _FLIPPED:
            return None
        if not (pure(node.left) and pure(node.comparators[0])):
            return None
        return ast.Compare(node.comparators[0], [_FLIPPED[type(node.ops[0])]()], [node.left])

    yield from edited(statement, ast.Compare, edit)


def negate_inequality(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """``a != b`` to ``not a == b``."""

    def edit(node: ast.expr) -> ast.expr | None:
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.NotEq):
            return ast.UnaryOp(ast.Not(), ast.Compare(node.left, [ast.Eq()], node.comparators))
        return None

    yield from edited(statement, ast.Compare, edit)


def extract_condition(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """``if c:`` to a local that holds ``c``, and ``if`` of it."""
    if isinstance(statement, ast.If) and not any(isinstance(each, ast.Is | ast.IsNot) for each in ast.walk(statement.test)):
        yield [
            ast.Assign([ast.Name("condition")], statement.test),
            ast.If(ast.Name("condition"), statement.body, statement.orelse),
        ]


def extract_result(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """``return e`` to a local that holds ``e``, and ``return`` of it."""
    if isinstance(statement, ast.Return) and statement.value is not None and not isinstance(statement.value, ast.Name):
        yield [ast.Assign([ast.Name("outcome")], statement.value), ast.Return(ast.Name("outcome"))]


def expand_augmented(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """``x += e`` to ``x = x + e``, of a number."""
    if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name | ast.Attribute) and pure(statement.value):
        load = copy.deepcopy(statement.target)
        yield [ast.Assign([statement.target], ast.BinOp(load, statement.op, statement.value))]


def split_condition(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """``if a and b:`` to ``if a:`` around ``if b:``."""
    if (
        isinstance(statement, ast.If)
        and not statement.orelse
        and isinstance(statement.test, ast.BoolOp)
        and isinstance(statement.test.op, ast.And)
    ):
        first, *rest = statement.test.values
        inner = rest[0] if len(rest) == 1 else ast.BoolOp(ast.And(), rest)
        yield [ast.If(first, [ast.If(inner, statement.body, [])], [])]


def de_morgan(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """``if a and b:`` to ``if not (not a or not b):``, and the other way round."""
    if isinstance(statement, ast.If) and isinstance(statement.test, ast.BoolOp):
        other = ast.Or() if isinstance(statement.test.op, ast.And) else ast.And()
        parts = [ast.UnaryOp(ast.Not(), each) for each in statement.test.values]
        yield [ast.If(ast.UnaryOp(ast.Not(), ast.BoolOp(other, list(parts))), statement.body, statement.orelse)]


def spell_out_conditional(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """``x = a if c else b`` to ``if c: x = a else: x = b``, and likewise of a ``return``."""
    if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.IfExp) and isinstance(statement.targets[0], ast.Name):
        e = statement.value
        yield [ast.If(e.test, [ast.Assign(statement.targets, e.body)], [ast.Assign(statement.targets, e.orelse)])]
    if isinstance(statement, ast.Return) and isinstance(statement.value, ast.IfExp):
        e = statement.value
        yield [ast.If(e.test, [ast.Return(e.body)], [ast.Return(e.orelse)])]


def fold_conditional(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """``if c: return a`` and ``else: return b`` to ``return a if c else b``."""
    if isinstance(statement, ast.If) and len(statement.body) == len(statement.orelse) == 1:
        a, b = statement.body[0], statement.orelse[0]
        if isinstance(a, ast.Return) and isinstance(b, ast.Return) and a.value is not None and b.value is not None:
            yield [ast.Return(ast.IfExp(statement.test, a.value, b.value))]
        if isinstance(a, ast.Assign) and isinstance(b, ast.Assign) and ast.dump(a.targets[0]) == ast.dump(b.targets[0]):
            yield [ast.Assign(a.targets, ast.IfExp(statement.test, a.value, b.value))]


def commute_sum(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """``a + b`` to ``b + a``, of numbers that are only computed."""

    def edit(node: ast.expr) -> ast.expr | None:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mult) and pure(node) and not _is_pointer(node.left):
            return ast.BinOp(node.right, node.op, node.left)
        return None

    yield from edited(statement, ast.BinOp, edit)


def _is_pointer(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("pte", "ptep", "end")


def name_first_argument(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """The first argument of a call that stands alone is computed into a local before."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call) and statement.value.args:
        first, *rest = statement.value.args
        if isinstance(statement.value.func, ast.Name) and not isinstance(first, ast.Starred | ast.Constant):
            call = ast.Call(statement.value.func, [ast.Name("first"), *rest], statement.value.keywords)
            yield [ast.Assign([ast.Name("first")], first), ast.Expr(call)]


KEEP: Final[dict[str, tuple[Rewrite, str]]] = {
    "invert-branch": (invert_branch, "the condition is negated and the two branches have changed places"),
    "flip-comparison": (flip_comparison, "both operands only compute, and the comparison is turned round with them"),
    "negate-inequality": (negate_inequality, "of the compared values, `!=` is by definition not `==`"),
    "extract-condition": (extract_condition, "the condition is computed at the same moment, into a local that nobody else has"),
    "extract-result": (extract_result, "the value is computed at the same moment, into a local that nobody else has"),
    "expand-augmented": (expand_augmented, "of numbers, x += e reads x, adds e and writes x, as x = x + e does"),
    "split-condition": (split_condition, "`and` evaluates its second operand only if the first holds, as the nested `if` does"),
    "de-morgan": (de_morgan, "De Morgan's law, with the operands in their order"),
    "spell-out-conditional": (
        spell_out_conditional,
        "the conditional expression evaluates its condition, then one side, as the statement does",
    ),
    "fold-conditional": (fold_conditional, "the statement evaluates its condition, then one side, as the conditional expression does"),
    "commute-sum": (commute_sum, "sums and products of integers commute, and the operands only compute"),
    "name-first-argument": (name_first_argument, "the first argument is computed first anyway, into a local that nobody else has"),
}


# Rewrites that may change it.


def off_by_one(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """A number is one more."""

    def edit(node: ast.expr) -> ast.expr | None:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return ast.Constant(node.value + 1)
        return None

    yield from edited(statement, ast.Constant, edit)


def move_boundary(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """``<`` is ``<=``, and the like."""

    def edit(node: ast.expr) -> ast.expr | None:
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _BOUNDARY:
            return ast.Compare(node.left, [_BOUNDARY[type(node.ops[0])]()], node.comparators)
        return None

    yield from edited(statement, ast.Compare, edit)


def negate_condition(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """An ``if`` asks for the opposite."""
    if isinstance(statement, ast.If):
        yield [ast.If(ast.UnaryOp(ast.Not(), statement.test), statement.body, statement.orelse)]


def drop_call(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """A call that stands alone is not made: a lock, a counter, a reference, a flush."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        yield [ast.Pass()]


def wrong_result(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """Another SCAN code."""

    def edit(node: ast.expr) -> ast.expr | None:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ScanResult":
            return ast.Attribute(node.value, "SCAN_PAGE_LOCK" if node.attr == "SCAN_FAIL" else "SCAN_FAIL")
        return None

    yield from edited(statement, ast.Attribute, edit)


def drop_operand(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """A part of a condition is not asked for."""

    def without_first(node: ast.expr) -> ast.expr | None:
        return _without(node, 0)

    def without_last(node: ast.expr) -> ast.expr | None:
        return _without(node, -1)

    yield from edited(statement, ast.BoolOp, without_first)
    yield from edited(statement, ast.BoolOp, without_last)


def _without(node: ast.expr, at: int) -> ast.expr | None:
    if not isinstance(node, ast.BoolOp):
        return None
    values = list(node.values)
    del values[at]
    return values[0] if len(values) == 1 else ast.BoolOp(node.op, values)


def wrong_operator(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """``+`` is ``-``, ``<<`` is ``>>``, ``&`` is ``|``, and the like."""

    def edit(node: ast.expr) -> ast.expr | None:
        if isinstance(node, ast.BinOp) and type(node.op) in _OPPOSITE:
            return ast.BinOp(node.left, _OPPOSITE[type(node.op)](), node.right)
        return None

    yield from edited(statement, ast.BinOp, edit)


def wrong_address(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """Another address."""
    for name in _ADDRESSES:
        yield from edited(statement, ast.Name, _other_name(_ADDRESSES, name))


def wrong_number(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """Another number of pages."""
    for name in _PAGES:
        yield from edited(statement, ast.Name, _other_name(_PAGES, name))


def _other_name(names: tuple[str, ...], name: str) -> Callable[[ast.expr], ast.expr | None]:
    def edit(node: ast.expr) -> ast.expr | None:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names and node.id != name:
            return ast.Name(name)
        return None

    return edit


def wrong_counter(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """Another counter or statistic."""

    def edit(node: ast.expr) -> ast.expr | None:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "_" in node.value and node.value.islower():
            return ast.Constant("thp_fault_alloc" if node.value.startswith("thp_") else "anon_fault_alloc")
        return None

    yield from edited(statement, ast.Constant, edit)


def wrong_truth(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """A flag is set the other way round."""

    def edit(node: ast.expr) -> ast.expr | None:
        return ast.Constant(not node.value) if isinstance(node, ast.Constant) and isinstance(node.value, bool) else None

    yield from edited(statement, ast.Constant, edit)


CHANGE: Final[dict[str, Rewrite]] = {
    "off-by-one": off_by_one,
    "move-boundary": move_boundary,
    "negate-condition": negate_condition,
    "drop-call": drop_call,
    "wrong-result": wrong_result,
    "drop-operand": drop_operand,
    "wrong-operator": wrong_operator,
    "wrong-address": wrong_address,
    "wrong-number": wrong_number,
    "wrong-counter": wrong_counter,
    "wrong-truth": wrong_truth,
}
