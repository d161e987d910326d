"""Mistakes made for this code: what a reviewer of locking, accounting and address arithmetic looks for."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Final

from corpus.syntax import Cut, Rewrite, edited, leaves, names, of_one

_BOUNDARY: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
_OPPOSITE: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.FloorDiv: ast.Mult,
    ast.Mult: ast.FloorDiv,
}
_ADDRESSES: Final = ("mthp_address", "pmd_address", "address", "addr", "start_addr", "src_addr", "start", "end", "hstart", "hend")
_PAGES: Final = ("nr_pages", "order", "offset", "i", "nr_ptes", "num_chunks", "nr", "none_or_zero", "shared", "referenced", "unmapped")
_LOCKS: Final = ("pmd_ptl", "pte_ptl", "ptl", "mmap_read_lock", "mmap_write_lock", "mmap_read_unlock", "mmap_write_unlock")
_RESULTS: Final = ("SCAN_FAIL", "SCAN_PAGE_LOCK", "SCAN_SUCCEED")
_KINDS: Final = {
    "dropped-lock": ("_lock", "_trylock", "_lock_write", "_start_write"),
    "dropped-unlock": ("_unlock", "_unlock_write"),
    "dropped-flush": ("_flush", "_sync_one", "_start", "_end", "_cache_range", "_drain", "_drain_all", "free_swap_cache"),
    "dropped-reference": ("folio_put", "folio_put_refs", "_ref_add", "mmgrab", "mmdrop", "mmput", "_unmap", "_lru", "_folio", "_pages"),
    "dropped-counter": ("_event", "_stat", "_counter", "_events", "stat_mod_folio", "stat_sub_folio", "trace"),
}
"""What the function's name ends in; the first that fits."""


def _called(statement: ast.stmt) -> str:
    """Name of the function that a call that stands alone calls."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(call, ast.Call):
        return ""
    return call.func.id if isinstance(call.func, ast.Name) else call.func.attr if isinstance(call.func, ast.Attribute) else ""


def _kind(name: str) -> str:
    counter = _KINDS["dropped-counter"]
    found = "dropped-counter" if name.endswith(counter) else next((kind for kind, ends in _KINDS.items() if name.endswith(ends)), "")
    return found or ("dropped-call" if name and name != "goto" else "")


def _dropped(kind: str) -> Rewrite:
    def drop(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
        if _kind(_called(statement)) == kind:
            yield [ast.Pass()]

    return of_one(drop)


def drop_store(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """Something that outlives the function is not written."""
    target = (
        statement.targets[0] if isinstance(statement, ast.Assign) else statement.target if isinstance(statement, ast.AugAssign) else None
    )
    if isinstance(target, ast.Attribute | ast.Subscript):
        yield [ast.Pass()]


def drop_check(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """A reason to leave is not looked at."""
    if isinstance(statement, ast.If) and not statement.orelse and leaves(statement.body):
        yield [ast.Pass()]


def keep_locked(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """A way out skips what it has to give back first."""
    if isinstance(statement, ast.If) and len(statement.body) > 1 and leaves(statement.body):
        yield [ast.If(statement.test, statement.body[1:], statement.orelse)]


def off_by_one(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """A number is one more."""

    def edit(node: ast.expr) -> ast.expr | None:
        return ast.Constant(node.value + 1) if isinstance(node, ast.Constant) and type(node.value) is int else None

    yield from edited(statement, edit)


def move_boundary(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """``<`` is ``<=``, and the like."""

    def edit(node: ast.expr) -> ast.expr | None:
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _BOUNDARY:
            return ast.Compare(node.left, [_BOUNDARY[type(node.ops[0])]()], node.comparators)
        return None

    yield from edited(statement, edit)


def negate_condition(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """An ``if`` asks for the opposite."""
    if isinstance(statement, ast.If):
        yield [ast.If(ast.UnaryOp(ast.Not(), statement.test), statement.body, statement.orelse)]


def wrong_result(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """Another SCAN code."""

    def edit(node: ast.expr) -> ast.expr | None:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ScanResult":
            return ast.Attribute(
                node.value, _RESULTS[(_RESULTS.index(node.attr) + 1) % len(_RESULTS)] if node.attr in _RESULTS else _RESULTS[0]
            )
        return None

    yield from edited(statement, edit)


def drop_operand(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """A part of a condition is not asked for."""
    for at in (0, -1):

        def edit(node: ast.expr, at: int = at) -> ast.expr | None:
            if not isinstance(node, ast.BoolOp):
                return None
            values = list(node.values)
            del values[at]
            return values[0] if len(values) == 1 else ast.BoolOp(node.op, values)

        yield from edited(statement, edit)


def wrong_operator(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """``+`` is ``-``, ``<<`` is ``>>``, ``&`` is ``|``, and the like."""

    def edit(node: ast.expr) -> ast.expr | None:
        if isinstance(node, ast.BinOp) and type(node.op) in _OPPOSITE:
            return ast.BinOp(node.left, _OPPOSITE[type(node.op)](), node.right)
        return None

    yield from edited(statement, edit)


def _other(group: tuple[str, ...]) -> Rewrite:
    """A name is another one of these that the function knows."""

    def rewrite(block: Sequence[ast.stmt], function: ast.FunctionDef) -> Iterator[Cut]:
        known = names([function]) | {each.arg for each in function.args.args}
        for name in group:

            def edit(node: ast.expr, name: str = name) -> ast.expr | None:
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in group and node.id != name:
                    return ast.Name(name, ast.Load())
                return None

            if name in known:
                yield from ((1, new) for new in edited(block[0], edit))

    return rewrite


def wrong_counter(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """Another counter or statistic."""

    def edit(node: ast.expr) -> ast.expr | None:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "_" in node.value and node.value.islower():
            return ast.Constant("thp_fault_alloc" if node.value.startswith("thp_") else "anon_fault_alloc")
        return None

    yield from edited(statement, edit)


def wrong_truth(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """A flag is set, or a parameter given, the other way round."""

    def edit(node: ast.expr) -> ast.expr | None:
        return ast.Constant(not node.value) if isinstance(node, ast.Constant) and isinstance(node.value, bool) else None

    yield from edited(statement, edit)


def wrong_exit(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """A loop goes on in place of ending, or ends in place of going on."""
    if isinstance(statement, ast.Continue):
        yield [ast.Break()]
    if isinstance(statement, ast.Break):
        yield [ast.Continue()]


def wrong_order(block: Sequence[ast.stmt], _: ast.FunctionDef) -> Iterator[Cut]:
    """A lock, a flush or a reference is taken or given back after the call that came next."""
    kinds = [_kind(_called(each)) for each in block[:2]]
    if len(kinds) == 2 and all(kinds) and set(kinds) & {"dropped-lock", "dropped-unlock", "dropped-flush", "dropped-reference"}:
        yield 2, [block[1], block[0]]


CHANGE: Final[dict[str, Rewrite]] = {
    **{kind: _dropped(kind) for kind in (*_KINDS, "dropped-call")},
    "dropped-store": of_one(drop_store),
    "dropped-check": of_one(drop_check),
    "leaked-on-exit": of_one(keep_locked),
    "swapped-lock": _other(_LOCKS),
    "wrong-order": wrong_order,
    "wrong-address": _other(_ADDRESSES),
    "wrong-number": _other(_PAGES),
    "off-by-one": of_one(off_by_one),
    "moved-boundary": of_one(move_boundary),
    "wrong-operator": of_one(wrong_operator),
    "wrong-counter": of_one(wrong_counter),
    "wrong-result": of_one(wrong_result),
    "wrong-truth": of_one(wrong_truth),
    "negated-condition": of_one(negate_condition),
    "dropped-operand": of_one(drop_operand),
    "wrong-exit": of_one(wrong_exit),
}
"""Operator to rewrite: what it yields may do the same, so each needs a witness."""
