"""What the runs reached: the statements of the variants, and the SCAN codes.

Statements are found in the source, not in line tables, which differ between Python versions. A run is traced only when it shows
something that no earlier run of its chunk has shown, since tracing is slow.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import decode_source
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from kmm.judge.definitions import assigned
from kmm.judge.observe import Observation
from kmm.judge.unreachable import CODES, LINES
from kmm.judge.variants import LoadedVariant, installed_source
from kmm.mm.khugepaged.types import SCAN_STATUS, ScanResult
from kmm.mm.variant import Variant
from kmm.scenario.model import Scenario
from kmm.scenario.run import run

if TYPE_CHECKING:
    from _typeshed import TraceFunction

Line: TypeAlias = tuple[str, int]
"""File as in its code objects, line from 1."""
Sight: TypeAlias = tuple[object, ...]

_CODE_OF: Final = {status: ScanResult(number).name for number, status in enumerate(SCAN_STATUS)}
_NAME_OF: Final = {int(result): result.name for result in ScanResult}
_SWAPIN: Final = "mm_collapse_huge_page_swapin"


def sights(s: Scenario, o: Observation) -> set[Sight]:
    """What a run shows that may tell which way it took."""
    seen: set[Sight] = {("outcome", o.outcome), ("result", o.result), ("mmap_locked", s.driver.mmap_locked)}
    seen.update(("warning", each) for each in o.warnings)
    seen.update(("event", event.op, event.before, outcome) for event, outcome in zip(s.events, o.events, strict=True))
    seen.update(("failure", each.kind) for each in s.failures)
    for event in o.trace:
        if isinstance(event, tuple):
            at_pmd = event[0] != "mm_khugepaged_scan_pmd" and event[-1] == s.geometry.pmd_order
            seen.add((event[0], *_codes_of(event), at_pmd))
    return seen


def codes(o: Observation) -> set[str]:
    """Names of the SCAN codes in the result and the trace events."""
    seen = {o.result} if o.result in ScanResult.__members__ else set()
    for event in o.trace:
        if isinstance(event, tuple):
            seen.update(_codes_of(event))
    return seen


def _codes_of(event: tuple[object, ...]) -> list[str]:
    if event[0] == _SWAPIN:
        return [_NAME_OF[field] for field in event[4:5] if isinstance(field, int) and field in _NAME_OF]
    return [_CODE_OF[field] for field in event[1:] if isinstance(field, str) and field in _CODE_OF]


def lines_of_run(s: Scenario, variant: Variant, files: frozenset[str]) -> set[Line]:
    """Run once more, traced: the lines of ``files`` that were executed."""
    hit: set[Line] = set()
    with _tracing(files, hit):
        run(s, variant)
    return hit


@contextmanager
def _tracing(files: frozenset[str], hit: set[Line]) -> Iterator[None]:
    def on_line(frame: FrameType, event: str, _argument: object) -> TraceFunction:
        if event == "line":
            hit.add((frame.f_code.co_filename, frame.f_lineno))
        return on_line

    def on_call(frame: FrameType, _event: str, _argument: object) -> TraceFunction | None:
        return on_line if frame.f_code.co_filename in files else None

    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        yield
    finally:
        sys.settrace(before)


@attrs.frozen
class Statement:
    """One statement inside a function.

    :param first: its first line
    :param last: last line of the statement, or of its header if it has a body
    :param function: name of the function
    :param inside: the compound statements around it, by first line
    """

    first: int
    last: int
    function: str
    inside: tuple[int, ...]


def statements(source: str) -> list[Statement]:
    """The executable statements of all functions of a module, but for those that serve its INTENDED alone."""
    found: list[Statement] = []
    body = ast.parse(source).body
    predicates = _named_from(body, "INTENDED") - _named_from(body, "VARIANT")
    for node in body:
        if not (isinstance(node, ast.FunctionDef) and node.name in predicates):
            _collect(node, "", (), found)
    return found


def _named_from(body: list[ast.stmt], root: str) -> set[str]:
    """The functions of a module that an assignment reaches by name, one through the other."""
    functions = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
    todo: list[ast.stmt] = [node for node in body if isinstance(node, ast.Assign | ast.AnnAssign) and root in assigned(node)]
    found: set[str] = set()
    while todo:
        named = {each.id for each in ast.walk(todo.pop()) if isinstance(each, ast.Name)} & functions.keys()
        todo += [functions[name] for name in sorted(named - found)]
        found |= named
    return found


def _collect(node: ast.AST, function: str, inside: tuple[int, ...], found: list[Statement]) -> None:
    if isinstance(node, ast.stmt) and function and _executable(node):
        body = getattr(node, "body", None) or getattr(node, "cases", None)
        first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
        if not body:
            last = node.end_lineno or first
        else:
            last = body[0].lineno - 1 if isinstance(body[0], ast.stmt) else first
        found.append(Statement(first, max(first, last), function, inside))
        if body:
            inside = (*inside, first)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        function, inside = node.name, ()
    elif isinstance(node, ast.ClassDef):
        function = ""
    for child in ast.iter_child_nodes(node):
        _collect(child, function, inside, found)


def _executable(node: ast.stmt) -> bool:
    """Some code belongs to the statement itself."""
    if isinstance(node, ast.Global | ast.Nonlocal | ast.Try | ast.TryStar):
        return False
    if isinstance(node, ast.AnnAssign):
        return node.value is not None
    return not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


@attrs.frozen(kw_only=True)
class LineCoverage:
    """Statements of one variant, by first line.

    :param total: how many there are
    :param reached: how many were reached
    :param unreachable: of those that were not reached, how many are proved unreachable
    :param missed: the others, as ``function:line``
    """

    total: int
    reached: int
    unreachable: int
    missed: tuple[str, ...]


@attrs.frozen(kw_only=True)
class CodeCoverage:
    """SCAN codes, by name.

    :param reached: in numeric order
    :param unreachable: those proved unreachable that were not reached
    :param missed: the others
    """

    reached: tuple[str, ...]
    unreachable: tuple[str, ...]
    missed: tuple[str, ...]


def sources(loaded: LoadedVariant) -> dict[str, str]:
    """The text of each file of a variant."""
    files = (Path(file) for file in sorted(loaded.files))
    return {str(file): decode_source(file.read_bytes()) for file in files if file.is_file()}


def line_coverage(texts: Mapping[str, str], hit: Iterable[Line]) -> LineCoverage:
    """Which statements of a variant the executed lines belong to.

    :param texts: of :func:`sources`
    """
    executed = set(hit)
    total = reached = unreachable = 0
    missed: list[str] = []
    for file, source in texts.items():
        every = statements(source)
        got = _reached(every, {line for name, line in executed if name == file})
        proved = _proved(source, every) - got
        first_lines = {each.first for each in every}
        total += len(first_lines)
        reached += len(got)
        unreachable += len(proved)
        function = {each.first: each.function for each in every}
        missed += [f"{function[line]}:{line}" for line in sorted(first_lines - got - proved)]
    return LineCoverage(total=total, reached=reached, unreachable=unreachable, missed=tuple(missed))


def _reached(every: list[Statement], executed: set[int]) -> set[int]:
    got: set[int] = set()
    for line in executed:
        holders = [each for each in every if each.first <= line <= each.last]
        if holders:
            innermost = max(holders, key=lambda each: each.first)
            got.update((innermost.first, *innermost.inside))
    return got


def _proved(source: str, every: list[Statement]) -> set[int]:
    """The lines that a proof is about: it holds wherever the function is the one that was proved about, a copy included."""
    text = source.split("\n")
    here = _functions(source)
    proofs = {
        (each.function, each.text)
        for each in LINES
        if any(here.get(each.function, "") == _functions_of(variant).get(each.function) for variant in each.variants)
    }
    return {each.first for each in every if (each.function, text[each.first - 1].strip()) in proofs}


@functools.cache
def _functions_of(variant: str) -> dict[str, str]:
    """The functions of an installed variant; none where it is not installed."""
    path = installed_source(variant)
    return _functions(path.read_text(encoding="utf-8")) if path is not None else {}


def _functions(source: str) -> dict[str, str]:
    """Each function of a module by name, as far as it is code: without position, comments and docstring."""
    out: dict[str, str] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
            out[node.name] = "\n".join(map(ast.dump, (node.args, *body)))
    return out


def code_coverage(seen: Iterable[str]) -> CodeCoverage:
    """Sort the SCAN codes into those that were seen, those that cannot be, and the rest."""
    got = set(seen)
    proved = {each.name for each in CODES} - got
    names = list(ScanResult.__members__)
    return CodeCoverage(
        reached=tuple(name for name in names if name in got),
        unreachable=tuple(name for name in names if name in proved),
        missed=tuple(name for name in names if name not in got and name not in proved),
    )
