"""Where in a TOML text each key and table stands; looked up only when there is an error to report."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Final, TypeAlias

Path: TypeAlias = tuple[str | int, ...]

_TOKEN: Final = re.compile(
    r"""
      \"{3} (?:\\.|[^\\])*? \"{3,5}       # strings, of one line or several
    | '{3} .*? '{3,5}
    | " (?:\\.|[^"\\])* "
    | ' [^']* '
    | \#[^\n]*                            # a comment
    | [^"'#\[\]{}=\n]+                     # a key, or a value of another kind
    | .
    """,
    re.DOTALL | re.VERBOSE,
)


def line_of(text: str, path: Path) -> int:
    """The line, from 1, of a key or table; that of the nearest enclosing one where ``path`` is not in the text."""
    known = _positions(text)
    while path and path not in known:
        path = path[:-1]
    return known.get(path, 1)


def _positions(text: str) -> dict[Path, int]:
    """Line of every table and of every key outside inline tables."""
    known: dict[Path, int] = {}
    arrays: dict[Path, int] = {}
    table: Path = ()
    for line, head in _statements(text):
        if head.startswith("[["):
            table = _resolve(_keys(head[2:-2]), arrays)
            arrays[table] = arrays.get(table, -1) + 1
            known.setdefault(table, line)
            table = (*table, arrays[table])
            path = table
        elif head.startswith("["):
            path = table = _resolve(_keys(head[1:-1]), arrays)
            if table in arrays:
                path = table = (*table, arrays[table])
        else:
            path = table + _keys(head)
        for end in range(1, len(path) + 1):
            known.setdefault(path[:end], line)
    return known


def _resolve(keys: tuple[str, ...], arrays: dict[Path, int]) -> Path:
    """The path of a header, with the running index after each array of tables on the way."""
    path: Path = ()
    for key in keys:
        if path in arrays:
            path = (*path, arrays[path])
        path = (*path, key)
    return path


def _keys(dotted: str) -> tuple[str, ...]:
    """The parts of a key; ``a."b.c"`` has two."""
    keys: list[str] = []
    value: object = tomllib.loads(f"{dotted} = 0")
    while isinstance(value, dict):
        key, value = next(iter(value.items()))
        keys.append(key)
    return tuple(keys)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Line and text of every header and every key."""
    line, head, in_value, depth = 1, "", False, 0
    for match in _TOKEN.finditer(text.replace("\r\n", "\n")):
        token = match[0]
        if in_value:
            depth += (token in ("[", "{")) - (token in ("]", "}"))
            in_value = token != "\n" or depth > 0
        elif token == "=":
            yield line, head.strip()
            head, in_value = "", True
        elif token == "\n":
            if head.strip():
                yield line, head.strip()
            head = ""
        elif not token.startswith("#"):
            head += token
        line += token.count("\n")
