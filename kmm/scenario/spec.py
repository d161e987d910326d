"""Actors as one writes them on a command line: ``store:3``, ``madvise:0-7:dontneed``, ``sysfs:khugepaged/max_ptes_none=0``."""

from __future__ import annotations

import re
from typing import Final

from kmm.scenario.errors import ScenarioError, require
from kmm.scenario.step import STEP_OPS, Step, Takes

FORM: Final = "NAME[@PROCESS][:PAGES][:VALUE]"
_SPEC: Final = re.compile(r"(?P<op>[a-z_]+)(?:@(?P<process>\d+))?(?::(?P<rest>.*))?", re.DOTALL)
_PAGES: Final = re.compile(r"(\d+)(?:-(\d+))?(?:>(\d+))?")
_ON_RANGES: Final = (
    "ksm",
    "madvise",
    "mlock",
    "mmap",
    "mprotect",
    "mremap",
    "munlock",
    "munmap",
    "uffd_register",
    "uffd_unregister",
    "uffd_wp",
)
"""Operations that, when no pages are named, are about all of them; the others are about the first page."""


def parse_actor(text: str, pages: int) -> Step:
    """An actor from its short form.

    :param text: ``NAME[@PROCESS][:PAGES][:VALUE]``; pages are ``3``, ``0-7``, or ``0-3>4`` for a move; a file is ``NAME=VALUE``
    :param pages: of the address space, for what names none
    :raises ScenarioError: it is not one
    """
    match = _SPEC.fullmatch(text)
    op = match["op"] if match is not None else text.partition(":")[0]
    require(op in STEP_OPS, f'"{op}" is not an actor', "use " + ", ".join(STEP_OPS))
    if match is None:
        raise ScenarioError(f'"{text}" is not of the form {FORM}', "see kmm explore --help")
    takes = STEP_OPS[op][0]
    process = 1 if match["process"] is None else int(match["process"])
    rest = match["rest"] or ""
    try:
        if Takes.NAME in takes:
            name, _, value = rest.partition("=")
            return Step(op=op, process=process, name=name, value=value)
        if Takes.PAGE not in takes:
            return Step(op=op, process=process, value=rest)
        first, length, to, value = _pages(op, rest, pages)
        return Step(op=op, process=process, page=first, length=length, to=to, value=value)
    except ScenarioError as error:
        raise ScenarioError(f'"{text}": {error.problem}', error.remedy) from None


def _pages(op: str, rest: str, pages: int) -> tuple[int, int, int | None, str]:
    """First page, number of pages, where to, and the value."""
    head, _, value = rest.partition(":")
    match = _PAGES.fullmatch(head)
    if match is None:
        require(not value, f'"{head}" are no pages', "write 3, 0-7, or 0-3>4 for a move")
        return 0, pages if op in _ON_RANGES else 1, None, head
    first = int(match[1])
    last = first if match[2] is None else int(match[2])
    require(last >= first, f"{head} are no pages", "name the first one first")
    return first, last - first + 1, None if match[3] is None else int(match[3]), value


def actor_text(actor: Step) -> str:
    """The short form of an actor, such that :func:`parse_actor` gives it back."""
    takes = STEP_OPS[actor.op][0]
    process = "" if actor.process == 1 else f"@{actor.process}"
    if Takes.NAME in takes:
        return f"{actor.op}{process}:{actor.name}={actor.value}"
    parts = [actor.op + process]
    if actor.page is not None:
        last = "" if actor.length == 1 else f"-{actor.page + actor.length - 1}"
        parts.append(f"{actor.page}{last}" + ("" if actor.to is None else f">{actor.to}"))
    return ":".join([*parts, actor.value] if actor.value else parts)
