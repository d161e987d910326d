"""How the code of two variants differs, definition by definition."""

from __future__ import annotations

import ast
import enum
from typing import TypeAlias

import attrs

from kmm.judge.code import Code
from kmm.judge.definitions import Definition, in_port, shown

Pair: TypeAlias = tuple[Definition | None, Definition | None]
"""Of the baseline and of the candidate; one of them is there."""


class Status(enum.Enum):
    """How a definition of one side stands to that of the other."""

    SAME = "same"
    WORDS = "words"
    CHANGED = "changed"
    REMOVED = "removed"
    ADDED = "added"

    @property
    def is_code(self) -> bool:
        """Comments, docstrings and layout are not code."""
        return self not in (Status.SAME, Status.WORDS)


@attrs.frozen(kw_only=True)
class Compared:
    """A definition of both sides, or of one.

    :param a: the baseline's; that of ``kmm.mm`` where only the other side has one of its own
    :param reached: links that reach it, on either side
    """

    status: Status
    a: Definition | None
    b: Definition | None
    reached: tuple[str, ...]

    @property
    def name(self) -> str:
        """The baseline's name where there is one."""
        one = self.a if self.a is not None else self.b
        return one.name if one is not None else ""


@attrs.frozen
class Rebound:
    """A name that both sides import, as different things.

    :param a: what it stands for in the baseline, dotted
    """

    name: str
    a: str
    b: str


@attrs.frozen(kw_only=True)
class Comparison:
    """Two variants side by side.

    :param parts: in the baseline's order; what only the other side has stands after what it follows there
    """

    a: Code
    b: Code
    parts: tuple[Compared, ...]
    rebound: tuple[Rebound, ...]

    @property
    def differs(self) -> bool:
        """The code differs; comments, docstrings and layout do not count."""
        return bool(self.rebound) or any(part.status.is_code for part in self.parts)

    @property
    def names(self) -> tuple[str, str]:
        """Names of both, or their files if they are called alike."""
        if self.a.name != self.b.name:
            return self.a.name, self.b.name
        return shown(self.a.module.path), shown(self.b.module.path)

    def count(self, status: Status) -> int:
        """How many definitions have this status."""
        return sum(part.status is status for part in self.parts)


def compare(a: Code, b: Code) -> Comparison:
    """Compare a candidate's code ``b`` with a baseline's ``a``."""
    parts = [Compared(status=_status(*pair), a=pair[0], b=pair[1], reached=_reached(a, b, *pair)) for pair in _pairs(a, b)]
    names = sorted(a.imports.keys() & b.imports.keys())
    rebound = [Rebound(name, a.imports[name], b.imports[name]) for name in names if a.imports[name] != b.imports[name]]
    return Comparison(a=a, b=b, parts=tuple(parts), rebound=tuple(rebound))


def _pairs(a: Code, b: Code) -> list[Pair]:
    """By name, else by link, else with what ``kmm.mm`` has."""
    left, right = _judged(a), _judged(b)
    found: dict[Definition, Definition] = {}
    for one in left:
        namesakes = [each for each in right if each.name == one.name and each not in found.values()]
        other = namesakes[0] if namesakes else _same_link(a, one, b, left, right)
        if other is not None:
            found[one] = other
    paired = set(found.values())
    pairs: list[Pair] = [(one, found[one] if one in found else _borrowed(a, b, one)) for one in left]
    for each in right:
        if each not in paired:
            _put(pairs, (_borrowed(b, a, each), each), right)
    return pairs


def _put(pairs: list[Pair], new: tuple[Definition | None, Definition], right: list[Definition]) -> None:
    """Put what only the candidate has after what it follows there."""
    before = right[: right.index(new[1])]
    at = max((i for i, (_, other) in enumerate(pairs) if other in before), default=-1)
    pairs.insert(at + 1, new)


def _judged(code: Code) -> list[Definition]:
    return [each for each in code.definitions if each.name != "VARIANT"]


def _same_link(a: Code, one: Definition, b: Code, left: list[Definition], right: list[Definition]) -> Definition | None:
    """The function of the same link, where neither has a namesake on the other side."""
    link = a.link_of(one)
    other = b.links.get(link) if link is not None else None
    if other is None or other not in right or other.name in {each.name for each in left}:
        return None
    return other


def _borrowed(own: Code, lacking: Code, definition: Definition) -> Definition | None:
    """What the side without a definition of its own calls instead."""
    link = own.link_of(definition)
    if link is not None and link not in lacking.links:
        return in_port(link)
    return in_port(definition.name, lacking.imports.get(definition.name, ""))


def _status(a: Definition | None, b: Definition | None) -> Status:
    if a is None:
        return Status.ADDED
    if b is None:
        return Status.REMOVED
    if a.lines == b.lines:
        return Status.SAME
    return Status.WORDS if ast.dump(a.node) == ast.dump(b.node) else Status.CHANGED


def _reached(a: Code, b: Code, one: Definition | None, other: Definition | None) -> tuple[str, ...]:
    links = {link for code, each in ((a, one), (b, other)) if each is not None for link in code.reached.get(each, ())}
    return tuple(sorted(links))
