"""Rewrites that keep the meaning, each with the condition under which it does.

Each takes the statements of a block from one on, and the function that they are in; what it yields stands in place of the first so many.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Sequence
from typing import Final

from corpus.keep_blocks import BLOCKS
from corpus.syntax import GEOMETRY, Cut, Rewrite, Statement, edited, fresh, is_call_of, is_number, names, of_one, plain

_FLIPPED: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.Gt,
    ast.Gt: ast.Lt,
    ast.LtE: ast.GtE,
    ast.GtE: ast.LtE,
    ast.Eq: ast.Eq,
    ast.NotEq: ast.NotEq,
}
_POSITIVE: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {ast.NotEq: ast.Eq, ast.IsNot: ast.Is, ast.NotIn: ast.In}


def _named(name: str, rewrite: Statement) -> Rewrite:
    """A rewrite of one statement that brings in a local, which must be new."""

    def of_first(block: Sequence[ast.stmt], function: ast.FunctionDef) -> Iterator[Cut]:
        if fresh(name, function):
            yield from of_one(rewrite)(block, function)

    return of_first


def invert_branch(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """``if c: A else: B`` to ``if not c: B else: A``."""
    if isinstance(statement, ast.If) and statement.orelse:
        yield [ast.If(ast.UnaryOp(ast.Not(), statement.test), statement.orelse, statement.body)]


def invert_conditional(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """``a if c else b`` to ``b if not c else a``."""

    def edit(node: ast.expr) -> ast.expr | None:
        return ast.IfExp(ast.UnaryOp(ast.Not(), node.test), node.orelse, node.body) if isinstance(node, ast.IfExp) else None

    yield from edited(statement, edit)


def flip_comparison(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """``a < b`` to ``b > a``, where one of the two is plain: the other one's reads keep their order."""

    def edit(node: ast.expr) -> ast.expr | None:
        if not isinstance(node, ast.Compare) or len(node.ops) != 1 or type(node.ops[0]) not in _FLIPPED:
            return None
        if not (plain(node.left) or plain(node.comparators[0])):
            return None
        return ast.Compare(node.comparators[0], [_FLIPPED[type(node.ops[0])]()], [node.left])

    yield from edited(statement, edit)


def negate_comparison(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """``a != b`` to ``not a == b``, and so of ``is not`` and ``not in``."""

    def edit(node: ast.expr) -> ast.expr | None:
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _POSITIVE:
            return ast.UnaryOp(ast.Not(), ast.Compare(node.left, [_POSITIVE[type(node.ops[0])]()], node.comparators))
        return None

    yield from edited(statement, edit)


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


def name_first_argument(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """The first argument of a call that stands alone is computed into a local before."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call) and statement.value.args:
        first, *rest = statement.value.args
        if isinstance(statement.value.func, ast.Name) and not isinstance(first, ast.Starred | ast.Constant):
            call = ast.Call(statement.value.func, [ast.Name("first"), *rest], statement.value.keywords)
            yield [ast.Assign([ast.Name("first")], first), ast.Expr(call)]


def expand_augmented(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """``x += e`` to ``x = x + e``, of a plain number, where ``x`` is a local or an attribute of one."""
    if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name | ast.Attribute) and plain(statement.value):
        base = statement.target.value if isinstance(statement.target, ast.Attribute) else statement.target
        if isinstance(base, ast.Name):
            load = copy.deepcopy(statement.target)
            yield [ast.Assign([statement.target], ast.BinOp(load, statement.op, statement.value))]


def split_condition(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """``if a and b:`` to ``if a:`` around ``if b:``."""
    if isinstance(statement, ast.If) and not statement.orelse and isinstance(statement.test, ast.BoolOp):
        if isinstance(statement.test.op, ast.And):
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
    """``if c: return a`` and ``else: return b`` to ``return a if c else b``, and likewise of assignments to one name."""
    if isinstance(statement, ast.If) and len(statement.body) == len(statement.orelse) == 1:
        a, b = statement.body[0], statement.orelse[0]
        if isinstance(a, ast.Return) and isinstance(b, ast.Return) and a.value is not None and b.value is not None:
            yield [ast.Return(ast.IfExp(statement.test, a.value, b.value))]
        if isinstance(a, ast.Assign) and isinstance(b, ast.Assign) and ast.dump(a.targets[0]) == ast.dump(b.targets[0]):
            if isinstance(a.targets[0], ast.Name) and len(a.targets) == len(b.targets) == 1:
                yield [ast.Assign(a.targets, ast.IfExp(statement.test, a.value, b.value))]


def commute_sum(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """``a + b`` to ``b + a``, of plain operands one of which is a number beyond doubt."""

    def edit(node: ast.expr) -> ast.expr | None:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mult) and is_number(node):
            return ast.BinOp(node.right, node.op, node.left)
        return None

    yield from edited(statement, edit)


def spell_out_membership(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """``x in (A, B)`` to ``x == A or x == B``, of a local and results."""

    def edit(node: ast.expr) -> ast.expr | None:
        if not (isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.In) and plain(node.left)):
            return None
        within = node.comparators[0]
        if not (isinstance(within, ast.Tuple) and all(map(plain, within.elts))):
            return None
        return ast.BoolOp(ast.Or(), [ast.Compare(copy.deepcopy(node.left), [ast.Eq()], [each]) for each in within.elts])

    yield from edited(statement, edit)


def test_at_the_top(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """``while c: A`` to ``while True:`` that breaks unless ``c``."""
    if isinstance(statement, ast.While) and not statement.orelse:
        stop = ast.If(ast.UnaryOp(ast.Not(), statement.test), [ast.Break()], [])
        yield [ast.While(ast.Constant(True), [stop, *statement.body], [])]


def extract_helper(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """A call that stands alone is made by a function inside, which is called at once. A check stays: it says which function it is in."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and not call.func.id.startswith(("goto", "WARN", "BUG", "VM_")):
        nothing = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
        helper = ast.FunctionDef("helper", nothing, [statement], [], ast.Constant(None))
        yield [helper, ast.Expr(ast.Call(ast.Name("helper"), [], []))]


def for_to_while(block: Sequence[ast.stmt], function: ast.FunctionDef) -> Iterator[Cut]:
    """``for i in range(...): A`` to a ``while`` that counts first, where nobody else has ``i`` and nothing inside changes the bounds."""
    loop = block[0]
    if not (isinstance(loop, ast.For) and isinstance(loop.target, ast.Name) and isinstance(loop.iter, ast.Call)):
        return
    bounds = loop.iter.args
    if not is_call_of(loop.iter, ("range",)) or not all(map(plain, bounds)) or not all(is_call_of(each, GEOMETRY) for each in bounds[2:]):
        return
    name = loop.target.id
    inside, everywhere = (sum(isinstance(each, ast.Name) and each.id == name for each in ast.walk(node)) for node in (loop, function))
    if inside != everywhere or names(loop.body, ast.Store) & {name, *names(bounds)}:
        return
    first = bounds[0] if len(bounds) > 1 else ast.Constant(0)
    step = bounds[2] if len(bounds) > 2 else ast.Constant(1)
    test = ast.Compare(ast.BinOp(ast.Name(name), ast.Add(), step), [ast.Lt()], [bounds[min(len(bounds), 2) - 1]])
    count = ast.AugAssign(ast.Name(name, ast.Store()), ast.Add(), step)
    before = ast.Assign([ast.Name(name, ast.Store())], ast.BinOp(first, ast.Sub(), step))
    yield 1, [before, ast.While(test, [count, *loop.body], loop.orelse)]


KEEP: Final[dict[str, tuple[Rewrite, str]]] = {
    "invert-branch": (of_one(invert_branch), "the condition is negated and the two branches have changed places"),
    "invert-conditional": (of_one(invert_conditional), "the condition is negated and the two values have changed places"),
    "flip-comparison": (of_one(flip_comparison), "one operand only computes, and the comparison is turned round with both"),
    "negate-comparison": (
        of_one(negate_comparison),
        "of the compared values, the one comparison is by definition the negation of the other",
    ),
    "extract-condition": (
        _named("condition", extract_condition),
        "the condition is computed at the same moment, into a local that nobody else has",
    ),
    "extract-result": (_named("outcome", extract_result), "the value is computed at the same moment, into a local that nobody else has"),
    "name-first-argument": (
        _named("first", name_first_argument),
        "the first argument is computed first anyway, into a local that nobody else has",
    ),
    "expand-augmented": (of_one(expand_augmented), "of numbers, x += e reads x, adds e and writes x, as x = x + e does"),
    "split-condition": (of_one(split_condition), "`and` evaluates its second operand only if the first holds, as the nested `if` does"),
    "de-morgan": (of_one(de_morgan), "De Morgan's law, with the operands in their order"),
    "spell-out-conditional": (
        of_one(spell_out_conditional),
        "the conditional expression evaluates its condition, then one side, as the statement does",
    ),
    "fold-conditional": (
        of_one(fold_conditional),
        "the statement evaluates its condition, then one side, as the conditional expression does",
    ),
    "commute-sum": (of_one(commute_sum), "sums and products of integers commute, and the operands only compute"),
    "spell-out-membership": (of_one(spell_out_membership), "`in` compares with one after the other, as `or` does"),
    "test-at-the-top": (of_one(test_at_the_top), "the loop asks for its condition before each round, and ends when it does not hold"),
    "extract-helper": (
        _named("helper", extract_helper),
        "the function inside does nothing but the call, and is called where the call stood",
    ),
    "for-to-while": (for_to_while, "the loop counts through the same numbers, which nothing in it changes"),
    **BLOCKS,
}
"""Operator to rewrite, and why it keeps the meaning."""
