"""The difference of two variants on a terminal, side by side where there is room, and as unified text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

from rich.cells import cell_len, chop_cells
from rich.console import Console
from rich.text import Text

from kmm.judge.code import Code
from kmm.judge.compare import Compared, Comparison, Status
from kmm.judge.definitions import Definition, shown
from kmm.report.align import Row, aligned, hunks

SIDE_BY_SIDE: Final = 120
"""Columns from which on both sides fit beside each other."""
_NUMBER: Final = 5
_STYLE: Final = {" ": "", "<": "red", ">": "green", "|": "yellow"}


def print_diff(console: Console, comparison: Comparison, context: int) -> None:
    """Show a comparison.

    :param context: unchanged lines around a change
    """
    a, b = comparison.a, comparison.b
    body = _beside if console.width >= SIDE_BY_SIDE else _below
    for letter, code, style in (("a", a, "red"), ("b", b, "green")):
        _print(console, f"{letter}: {code.name} ({shown(code.module.path)}), links: {_links(code)}", style)
    for each in comparison.rebound:
        _title(console, each.name, "stands for different things")
        _print(console, f"  < {each.a}", "red")
        _print(console, f"  > {each.b}", "green")
    for part in comparison.parts:
        if part.status is not Status.SAME:
            _title(console, _name(part), heading(part, comparison))
            _part(console, part, context, body)
    console.print()
    _print(console, summary(comparison))


def _links(code: Code) -> str:
    """The links that a variant declares, with the function where it is named otherwise."""
    return ", ".join(link if _called(each) == link else f"{link} = {_called(each)}" for link, each in code.links.items())


def _called(definition: Definition | None) -> str:
    return definition.name if definition is not None else "(no function of a module)"


def _name(part: Compared) -> str:
    names = dict.fromkeys(each.name for each in (part.a, part.b) if each is not None)
    return " | ".join(names)


def heading(part: Compared, comparison: Comparison) -> str:
    """How the two sides stand to each other, where they are, and what reaches them."""
    how = {
        Status.SAME: "the same",
        Status.WORDS: "only comments, docstrings or layout differ",
        Status.CHANGED: "changed",
        Status.REMOVED: f"only in {comparison.names[0]}",
        Status.ADDED: f"only in {comparison.names[1]}",
    }[part.status]
    places = " | ".join(each.place for each in (part.a, part.b) if each is not None)
    unreached = "" if part.reached else "; no link reaches it"
    return f"{how}{unreached}  {places}"


def summary(comparison: Comparison) -> str:
    """What was found, in one line."""
    a, b = comparison.names
    counts = {status: comparison.count(status) for status in Status}
    found = [f"{counts[Status.CHANGED]} changed", f"{counts[Status.REMOVED]} only in {a}", f"{counts[Status.ADDED]} only in {b}"]
    if counts[Status.WORDS]:
        found.append(f"{counts[Status.WORDS]} in comments, docstrings or layout only")
    if comparison.rebound:
        found.append(f"{len(comparison.rebound)} imported names stand for different things")
    return f"{', '.join(found)}; {counts[Status.SAME]} the same"


def unified(part: Compared, comparison: Comparison, context: int) -> list[str]:
    """The difference of one definition as unified text, with the line numbers of the files."""
    a, b = _lines(part.a), _lines(part.b)
    out = [f"--- {_file(part.a)}", f"+++ {_file(part.b)}"]
    for hunk in hunks(aligned(a, b), context):
        left, right = ([i for i in side if i is not None] for side in ([row.a for row in hunk], [row.b for row in hunk]))
        out.append(f"@@ -{_range(part.a, left)} +{_range(part.b, right)} @@ {_name(part)}")
        out += _changes(hunk, a, b)
    return out if len(out) > 2 else []


def unified_text(comparison: Comparison, context: int) -> str:
    """The whole comparison as unified text; imported names that stand for different things come first."""
    out = [line for each in comparison.rebound for line in (f"-{each.name} = {each.a}", f"+{each.name} = {each.b}")]
    out += [line for part in comparison.parts for line in unified(part, comparison, context)]
    return "".join(f"{line}\n" for line in out)


def _changes(hunk: Sequence[Row], a: Sequence[str], b: Sequence[str]) -> list[str]:
    """Lines of a hunk; of each run of changed rows the removed ones come first."""
    out: list[str] = []
    added: list[str] = []
    for row in hunk:
        if row.same and row.a is not None:
            out += [*added, f" {a[row.a]}"]
            added = []
        else:
            out += [f"-{a[row.a]}"] if row.a is not None else []
            added += [f"+{b[row.b]}"] if row.b is not None else []
    return [*out, *added]


def _range(definition: Definition | None, indexes: list[int]) -> str:
    if definition is None or not indexes:
        return "0,0"
    return f"{definition.first + indexes[0]},{len(indexes)}"


def _file(definition: Definition | None) -> str:
    return definition.file if definition is not None else "/dev/null"


def _lines(definition: Definition | None) -> list[str]:
    return [_printable(line) for line in definition.lines] if definition is not None else []


def _printable(line: str) -> str:
    """A line that does not move the cursor or change what is before it."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line.expandtabs(4))


def _title(console: Console, name: str, rest: str) -> None:
    console.print()
    console.print(Text.assemble((name, "bold"), f": {rest}"), soft_wrap=True)


def _print(console: Console, line: str, style: str = "") -> None:
    console.print(Text(line, style=style), soft_wrap=True)


_Body: TypeAlias = Callable[[Console, Row, Sequence[str], Sequence[str], int, int], None]


def _part(console: Console, part: Compared, context: int, body: _Body) -> None:
    a, b = _lines(part.a), _lines(part.b)
    first_a, first_b = (each.first if each is not None else 1 for each in (part.a, part.b))
    for i, hunk in enumerate(hunks(aligned(a, b), context)):
        if i:
            _print(console, f"{'...':>{_NUMBER}}", "dim")
        for row in hunk:
            body(console, row, a, b, first_a, first_b)


def _beside(console: Console, row: Row, a: Sequence[str], b: Sequence[str], first_a: int, first_b: int) -> None:
    width = (console.width - 2 * (_NUMBER + 1) - 3) // 2
    left = list(_cells(row.a, a, first_a, width))
    right = list(_cells(row.b, b, first_b, width))
    blank = " " * (_NUMBER + 1 + width)
    for i in range(max(len(left), len(right))):
        one, other = (side[i] if i < len(side) else blank for side in (left, right))
        mark = row.mark if i == 0 else " "
        style = _STYLE[row.mark]
        text = Text.assemble(
            (one, "red" if row.mark == "|" else style), (f" {mark} ", style), (other, "green" if row.mark == "|" else style)
        )
        text.rstrip()
        console.print(text, soft_wrap=True)


def _cells(index: int | None, lines: Sequence[str], first: int, width: int) -> Iterator[str]:
    """A line in as many pieces as it needs, each with its number or without one, and filled with blanks."""
    if index is None:
        return
    number = f"{first + index:>{_NUMBER}}"
    for piece in _pieces(lines[index], width):
        yield f"{number} {piece}{' ' * (width - cell_len(piece))}"
        number = " " * _NUMBER


def _pieces(line: str, width: int) -> list[str]:
    """A line cut into pieces that fit, at a blank where one stands in the second half."""
    found: list[str] = []
    while cell_len(line) > width:
        piece = chop_cells(line, width)[0]
        blank = piece.rfind(" ") + 1
        cut = blank if blank > len(piece) // 2 and piece[:blank].strip() else len(piece)
        found.append(line[:cut])
        line = line[cut:]
    return [*found, line]


def _below(console: Console, row: Row, a: Sequence[str], b: Sequence[str], first_a: int, first_b: int) -> None:
    numbers = [f"{first + i:>{_NUMBER}}" if i is not None else " " * _NUMBER for i, first in ((row.a, first_a), (row.b, first_b))]
    if row.same and row.a is not None:
        _print(console, f"{' '.join(numbers)}   {a[row.a]}".rstrip())
        return
    blank = " " * _NUMBER
    if row.a is not None:
        _print(console, f"{numbers[0]} {blank} - {a[row.a]}", "red")
    if row.b is not None:
        _print(console, f"{blank} {numbers[1]} + {b[row.b]}", "green")
