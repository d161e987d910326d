"""Find the definition of a function in kernel C, without a C parser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import attrs

_HIDDEN: Final = re.compile(r"""/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])+'""", re.DOTALL)
_LINE: Final = r"(?:[^\n\\]|\\.|\\\n)*"
_DIRECTIVE: Final = re.compile(rf"^[ \t]*#{_LINE}", re.MULTILINE)
_HEAD: Final = re.compile(r"(?:[A-Za-z_][^;{}=]*)?")
_MACRO_HEAD: Final = re.compile(r"[A-Z_]\w*\(\s*")
_ATTRIBUTES: Final = re.compile(r"(?:\s*__\w+(?:\s*\((?:[^()]|\([^()]*\))*\))?)*\s*")
_TYPE_LINE: Final = re.compile(r"[A-Za-z_](?:[\w* \t]|\((?:[^()]|\([^()]*\))*\))*")
_BRANCH: Final = re.compile(r"^[ \t]*#[ \t]*(if|else|elif|endif)|[{}]", re.MULTILINE)
_FLAG_PREFIXES: Final = ("folio_test_", "folio_set_", "folio_clear_")

FUNCTION: Final = "function"
MACRO: Final = "macro"
GENERATED: Final = "generated"
KINDS: Final = (FUNCTION, MACRO, GENERATED)
"""In the order in which a reader wants them."""


@attrs.frozen
class Definition:
    """Where a function is defined, and how.

    :param line: first line, from 1
    :param text: all of its lines
    :param kind: one of :data:`KINDS`; ``generated``: what stands there calls a macro that defines it
    """

    line: int
    text: str
    kind: str


@attrs.frozen
class Source:
    """A C file in three forms of the same length.

    :param text: as it is
    :param bare: with blanks in place of comments, strings and characters
    :param code: with blanks in place of preprocessor lines too
    """

    text: str
    bare: str
    code: str

    @classmethod
    def of(cls, text: str) -> Source:
        """Prepare a file for searching."""
        bare = _HIDDEN.sub(_blank, text)
        return cls(text, bare, _DIRECTIVE.sub(_blank, bare))


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


def find(source: Source, name: str) -> Definition | None:
    """The definition of ``name``: a function, else a macro, else a call that defines it. Of several functions the longest: not a stub."""
    functions = list(_functions(source, name))
    if functions:
        return max(functions, key=lambda each: len(each.text))
    return next(_macros(source, name), None) or next(_generated(source, name), None)


def _functions(source: Source, name: str) -> Iterator[Definition]:
    """Functions of that name, and bodies behind a macro that is given it, as in ``SYSCALL_DEFINE2(munmap, ...)``."""
    code = source.code
    for match in re.finditer(rf"\b{name}\b", code):
        start = code.rfind("\n", 0, match.start()) + 1
        arguments = _arguments(code, match, code[start : match.start()])
        close = None if arguments is None else _closing(code, arguments)
        if close is None:
            continue
        attributes = _ATTRIBUTES.match(code, close)
        opening = attributes.end() if attributes else close
        if code[opening : opening + 1] == "{":
            yield _definition(source, _first_line(code, start), _end_of_body(source, opening), FUNCTION)


def _arguments(code: str, match: re.Match[str], head: str) -> int | None:
    """Where the parenthesis of the parameters is, if a definition at file scope may begin with ``head`` and the name."""
    behind = re.compile(r"\s*\(").match(code, match.end())
    if behind and _HEAD.fullmatch(head) and head.count("(") == head.count(")"):
        return behind.end() - 1
    return match.start() - len(head) + head.index("(") if _MACRO_HEAD.fullmatch(head) else None


def _closing(code: str, opening: int) -> int | None:
    """The place behind the parenthesis that closes the one at ``opening``."""
    depth = 0
    for match in re.compile(r"[()]").finditer(code, opening):
        depth += 1 if match[0] == "(" else -1
        if not depth:
            return match.end()
    return None


def _first_line(code: str, start: int) -> int:
    """Where the definition begins whose name stands in the line at ``start``: its type may stand in lines of its own."""
    while start:
        before = code.rfind("\n", 0, start - 1) + 1
        if not _TYPE_LINE.fullmatch(code[before : start - 1].rstrip()):
            break
        start = before
    return start


def _end_of_body(source: Source, opening: int) -> int:
    """The place behind the brace that closes a body. What stands behind ``#else`` begins as deep as what stands behind ``#if``."""
    depth = 0
    outer: list[int] = []
    for match in _BRANCH.finditer(source.bare, opening):
        word = match[1] or source.code[match.start()]
        if word == "{":
            depth += 1
        elif word == "}":
            depth -= 1
            if not depth:
                return match.end()
        elif word == "if":
            outer.append(depth)
        elif word in ("else", "elif"):
            depth = outer[-1] if outer else 0
        elif word == "endif" and outer:
            outer.pop()
    return len(source.text)


def _macros(source: Source, name: str) -> Iterator[Definition]:
    """Macros of that name, but for those that only say that the name is taken."""
    for match in re.finditer(rf"^[ \t]*#[ \t]*define[ \t]+{name}\b(?P<rest>{_LINE})", source.bare, re.MULTILINE):
        if match["rest"].strip() not in ("", name):
            yield _definition(source, match.start(), match.end(), MACRO)


def _generated(source: Source, name: str) -> Iterator[Definition]:
    """Calls as ``FOLIO_FLAG(referenced, ...)``, which define the tests and setters of a flag."""
    prefix = next((each for each in _FLAG_PREFIXES if name.startswith(each)), None)
    if prefix is not None:
        flag = name.removeprefix(prefix)
        for match in re.finditer(rf"^[A-Z_]*FLAG[A-Z_]*\((?:\w+, )?{flag}\b[^\n]*(?:\n[ \t]+[^\n]+)*", source.code, re.MULTILINE):
            yield _definition(source, match.start(), match.end(), GENERATED)


def _definition(source: Source, start: int, end: int, kind: str) -> Definition:
    text = "\n".join(line.rstrip() for line in source.text[start:end].expandtabs(8).splitlines())
    return Definition(source.text.count("\n", 0, start) + 1, text, kind)
