"""Where the operators are used: candidates for the corpus, always the same ones in the same order."""

from __future__ import annotations

import ast
import textwrap
from collections import Counter
from collections.abc import Iterator
from typing import Final

from corpus.operators import CHANGE, KEEP, Rewrite
from corpus.pairs import ROOT, Pair

FILES: Final = (
    "refactors/v12.py",
    "refactors/reviewed.py",
    *(
        f"kmm/mm/khugepaged/{name}.py"
        for name in ("alloc", "copy", "isolate", "limits", "revalidate", "scan", "swapin", "madvise_collapse")
    ),
)


def equivalent(at_most: int) -> Iterator[Pair]:
    """Rewrites that keep the meaning, so many a function and operator."""
    for operator, (rewrite, why) in KEEP.items():
        for file in FILES:
            yield from _spread(_pairs(operator, rewrite, file, "equivalent", why), at_most)


def different(at_most: int) -> Iterator[Pair]:
    """Rewrites that may change the meaning: each needs a witness."""
    for operator, rewrite in CHANGE.items():
        for file in FILES:
            yield from _spread(_pairs(operator, rewrite, file, "different", ""), at_most)


def _spread(pairs: Iterator[Pair], at_most: int) -> Iterator[Pair]:
    counts: Counter[str] = Counter()
    for pair in pairs:
        counts[pair.function] += 1
        if counts[pair.function] <= at_most:
            yield pair


def _pairs(operator: str, rewrite: Rewrite, file: str, label: str, by: str) -> Iterator[Pair]:
    text = (ROOT / file).read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    seen: set[tuple[str, str]] = set()
    for function in (node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)):
        source = "".join(lines[function.lineno - 1 : function.end_lineno])
        for number, statement in enumerate(_statements(function)):
            old = "".join(lines[statement.lineno - 1 : statement.end_lineno])
            if old.lstrip().startswith("elif") or source.count(old) != 1:
                continue
            indent = " " * statement.col_offset
            for form, new in enumerate(rewrite(statement)):
                module = ast.fix_missing_locations(ast.Module(list(new), []))
                changed = textwrap.indent(ast.unparse(module), indent) + "\n"
                if (old, changed) in seen or ast.dump(ast.parse(textwrap.dedent(changed))) == ast.dump(ast.parse(textwrap.dedent(old))):
                    continue
                seen.add((old, changed))
                stem = file.rpartition("/")[2].removesuffix(".py")
                name = f"{operator}.{stem}.{function.name.strip('_')}.{number}.{form}"
                yield Pair(
                    id=name,
                    operator=operator,
                    file=file,
                    function=function.name,
                    old=old,
                    new=changed,
                    label=label,
                    kind="sequential",
                    by=by,
                )


def _statements(function: ast.FunctionDef) -> Iterator[ast.stmt]:
    """All statements inside, in the order of the text, without the docstring."""
    found = [node for node in ast.walk(function) if isinstance(node, ast.stmt) and node is not function]
    found.sort(key=lambda node: (node.lineno, node.col_offset))
    return (node for node in found if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)))
