"""Renamed locals: the whole function says another name, which nobody in it had."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from corpus.syntax import fresh, has

RENAME: Final = "rename-local"
_SCOPES: Final = (
    ast.Lambda,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
    ast.ClassDef,
    ast.Global,
    ast.Nonlocal,
    ast.JoinedStr,
)


def renamed(lines: list[str], function: ast.FunctionDef, name: str) -> Iterator[tuple[str, str]]:
    """The lines from its first to its last use, as they are and renamed; nothing if there are other scopes, or a string made of names.

    :param lines: of the file
    :param name: of a local
    """
    new = f"the_{name.strip('_')}"
    inner = [each for each in ast.walk(function) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and each is not function]
    if (
        inner
        or has(function.body, *_SCOPES)
        or not fresh(new, function)
        or name in {each.arg for each in ast.walk(function.args) if isinstance(each, ast.arg)}
    ):
        return
    places = sorted({(each.lineno, each.col_offset) for each in ast.walk(function) if isinstance(each, ast.Name) and each.id == name})
    first, last = places[0][0], places[-1][0]
    while True:
        old = "".join(lines[first - 1 : last])
        if "".join(lines[function.lineno - 1 : function.end_lineno]).count(old) == 1:
            break
        first, last = max(first - 1, function.lineno), min(last + 1, function.end_lineno or last)
    changed = list(lines)
    for line, column in reversed(places):
        text = changed[line - 1].encode()
        changed[line - 1] = (text[:column] + new.encode() + text[column + len(name.encode()) :]).decode()
    yield old, "".join(changed[first - 1 : last])
