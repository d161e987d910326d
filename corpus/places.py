"""Where the operators are used: candidates for the corpus, always the same ones in the same order."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Final, TypeVar

from corpus.pairs import ROOT, Pair
from corpus.rename import RENAME, renamed
from corpus.syntax import Rewrite, bodies, names

T = TypeVar("T")

FILES: Final = (
    "refactors/v12.py",
    "refactors/reviewed.py",
    *(
        f"kmm/mm/khugepaged/{name}.py"
        for name in ("copy", "isolate", "scan", "swapin", "alloc", "revalidate", "limits", "madvise_collapse", "scan_mm_slot", "daemon")
    ),
    "refactors/merged.py",
)
LONGEST: Final = 40
"""Lines of a change."""


def candidates(operators: Mapping[str, Rewrite], label: str, why: Mapping[str, str]) -> Iterator[tuple[str, list[list[Pair]]]]:
    """Of each operator, what it gives in each function; the files take turns.

    :param why: what the label rests on, of each operator
    """
    for operator, rewrite in operators.items():
        files = [_of_file(operator, rewrite, file, label, why.get(operator, "")) for file in FILES]
        yield operator, list(_in_turn(files))


def renames(why: str) -> list[list[Pair]]:
    """Renamed locals, of each function."""
    return list(_in_turn([_renames(file, why) for file in FILES]))


def _in_turn(lists: list[list[T]]) -> Iterator[T]:
    return (each for row in zip_longest(*lists) for each in row if each is not None)


def _functions(file: str) -> tuple[list[str], list[ast.FunctionDef]]:
    text = (ROOT / file).read_text(encoding="utf-8")
    return text.splitlines(keepends=True), [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]


def _of_file(operator: str, rewrite: Rewrite, file: str, label: str, why: str) -> list[list[Pair]]:
    lines, functions = _functions(file)
    return [found for each in functions if (found := list(of_function(operator, rewrite, file, lines, each, label, why)))]


def of_function(
    operator: str, rewrite: Rewrite, file: str, lines: list[str], function: ast.FunctionDef, label: str, why: str
) -> Iterator[Pair]:
    """What an operator gives in a function.

    :param lines: of the file
    """
    source = "".join(lines[function.lineno - 1 : function.end_lineno])
    seen: set[tuple[str, str]] = set()
    for block in bodies(function):
        for at, first in enumerate(block):
            if lines[first.lineno - 1].lstrip().startswith("elif"):
                continue
            for count, new in rewrite(block[at:], function):
                old = "".join(lines[first.lineno - 1 : block[at + count - 1].end_lineno])
                changed = _text(new, " " * first.col_offset)
                if (old, changed) in seen or source.count(old) != 1 or old.count("\n") > LONGEST or _same(old, changed):
                    continue
                seen.add((old, changed))
                name = f"{operator}.{_stem(file)}.{function.name.strip('_')}.{first.lineno - function.lineno}.{len(seen)}"
                yield _pair(name, operator, file, function, old, changed, label, why)


def _renames(file: str, why: str) -> list[list[Pair]]:
    lines, functions = _functions(file)
    found = []
    for function in functions:
        pairs = [
            _pair(f"{RENAME}.{_stem(file)}.{function.name.strip('_')}.{name}", RENAME, file, function, old, new, "equivalent", why)
            for name in sorted(names([function], ast.Store))
            for old, new in renamed(lines, function, name)
            if old.count("\n") <= LONGEST
        ]
        if pairs:
            found.append(pairs)
    return found


def _pair(name: str, operator: str, file: str, function: ast.FunctionDef, old: str, new: str, label: str, by: str) -> Pair:
    return Pair(id=name, operator=operator, file=file, function=function.name, old=old, new=new, label=label, kind="sequential", by=by)


def _text(statements: list[ast.stmt], indent: str) -> str:
    return textwrap.indent(ast.unparse(ast.fix_missing_locations(ast.Module(statements, []))), indent) + "\n"


def _same(old: str, new: str) -> bool:
    """They are the same code. A return or a break may stand alone here."""
    return ast.unparse(ast.parse(textwrap.dedent(old))) == ast.unparse(ast.parse(textwrap.dedent(new)))


def _stem(file: str) -> str:
    return file.rpartition("/")[2].removesuffix(".py")
