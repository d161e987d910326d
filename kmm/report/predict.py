"""A prediction on a terminal: tables of its settings side by side, and a map of the address space."""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Final, NamedTuple, Self

import rich.progress
from rich.console import Console
from rich.text import Text

from kmm.live.predict import NOTHING_ATTEMPTED
from kmm.live.predict_value import Fate, Outcome, Prediction, Share, Summary

ROW: Final = 64
_EVERY_S: Final = 10.0
_LABEL: Final = 34
_CELLS: Final = 20
_LETTERS_OF_SETTINGS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ADDRESS: Final = re.compile(r" 0x([0-9a-f]{1,16})$")

_FATES: Final[dict[Fate, tuple[str, str]]] = {
    Fate.HUGE: ("#", "already mapped by a PMD"),
    Fate.COLLAPSED: ("=", "collapses at PMD order"),
    Fate.PARTLY: ("+", "collapses at smaller orders"),
    Fate.NOT_SCANNED: ("-", "not scanned: "),
    Fate.STOPPED: ("!", "the variant crashes: "),
    Fate.NO_ANSWER: ("?", "no answer: "),
}
_REASONS: Final[dict[str, tuple[str, str]]] = {
    "exceed_none_pte": (".", "too many holes"),
    f"failed, {NOTHING_ATTEMPTED}": (",", "too few pages in every block"),
    "failed, pte_mapped_hugepage": ("m", "large folios already"),
    "exceed_swap_pte": ("w", "too many pages swapped out"),
    "exceed_shared_pte": ("s", "too many shared pages"),
    "lack_referenced_page": ("o", "too few pages in use"),
    "pte_uffd_wp": ("u", "write-protected by userfaultfd"),
    "not_suitable_page_count": ("p", "a page is referenced from elsewhere"),
    "page_locked": ("k", "a page is locked"),
    "page_not_in_lru": ("x", "a page is off the LRU"),
    "scan_aborted": ("n", "spread over far nodes"),
    "page_null": ("i", "an entry without an ordinary page"),
    "pmd_null": ("e", "no page table"),
    "pmd_none": ("e", "no page table"),
    "page_lazyfree": ("l", "a page is freed lazily"),
}
"""Letter, and meaning in plain words, of a refusal."""
_OTHER: Final = "f", ""
_NONE: Final = "-", ""


class RangeProgress:
    """Progress for the time of a ``with`` block: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = rich.progress.TextColumn("predicting"), rich.progress.BarColumn(), rich.progress.MofNCompleteColumn()
        self._bar = rich.progress.Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("predicting", total=None)
        self._said = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def update(self, done: int, total: int) -> None:
        """Say how far it has come, in runs."""
        self._bar.update(self._task, completed=done, total=total)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._said >= _EVERY_S:
            self._said = now
            self._console.print(f"predicting: {done} of {total} runs", soft_wrap=True)


def print_prediction(console: Console, prediction: Prediction) -> None:
    """Show a prediction."""
    _heading(console, prediction)
    summaries = [prediction.summary(i) for i in range(len(prediction.settings))]
    for title, *lines in _tables(console, prediction, summaries):
        console.print()
        console.print(Text(title, style="bold"), soft_wrap=True)
        for line in lines:
            console.print(Text(line), soft_wrap=True)
    _violations(console, summaries)
    _pictures(console, prediction)
    _foot(console, prediction)


def letter(outcome: Outcome) -> str:
    """The character that stands for a range."""
    return _words(outcome.fate, outcome.reason)[0]


def _words(fate: Fate, reason: str) -> tuple[str, str]:
    """Letter and label of a fate."""
    if fate is not Fate.REFUSED:
        sign, label = _FATES[fate]
        return sign, label + reason
    sign, meaning = _REASONS.get(reason, _OTHER)
    return sign, f"refused: {reason}" + (f" ({meaning})" if meaning else "")


def _heading(console: Console, prediction: Prediction) -> None:
    total, size = len(prediction.ranges), prediction.geometry.ptes * prediction.geometry.page_size
    reached = f"{prediction.predicted} of {total}" if prediction.predicted < total else str(total)
    resident = sum(o.resident for o in prediction.outcomes(0)) * prediction.geometry.page_size
    ranges = "range" if total == 1 else "ranges"
    line = Text(f"one pass of khugepaged over {reached} {ranges} of {_size(size)}", style="bold")
    line.append(f", {_size(resident)} resident, variant {prediction.variant}", style="not bold")
    console.print(line, soft_wrap=True)
    for i, (setting, tunables) in enumerate(zip(prediction.settings, prediction.tunables, strict=True)):
        lead = f"  {_column(i)}  " if len(prediction.settings) > 1 else "  "
        _wrapped(console, f"{setting.name}:" if i == 0 else setting.name, lead, "")
        if i == 0:
            _wrapped(console, tunables.replace(",", ", ") or "settings that differ from range to range", " " * len(lead), "dim")


def _column(index: int) -> str:
    """The letter of a setting; numbers when the letters run out."""
    return _LETTERS_OF_SETTINGS[index] if index < len(_LETTERS_OF_SETTINGS) else str(index + 1)


def _tables(console: Console, prediction: Prediction, summaries: Sequence[Summary]) -> Iterator[list[str]]:
    """Lines of each table: as many settings beside each other as the console is wide enough for."""
    fit = max(1, (console.width - _LABEL) // _CELLS)
    for first in range(0, len(summaries), fit):
        chosen = summaries[first : first + fit]
        names = [_column(i) if len(summaries) > 1 else "" for i in range(first, first + len(chosen))]
        yield list(_laid_out(list(_rows(names, chosen, prediction.geometry.page_size)), console.width))


def _laid_out(rows: Sequence[_Row], width: int) -> Iterator[str]:
    """Cells to the right, each column as wide as it must be; a label that is too long goes on in the next line."""
    widths = [max(map(len, column)) for column in zip(*(row.cells for row in rows if row.cells), strict=True)]
    room = max(width - 3 - sum(widths) - 2 * len(widths), _LABEL // 2)
    labels = [textwrap.wrap(row.label, room) or [""] for row in rows]
    longest = max(len(line) for label in labels for line in label)
    for row, (label, *more) in zip(rows, labels, strict=True):
        cells = "".join(f"  {cell:>{n}}" for cell, n in zip(row.cells, widths, strict=False))
        yield f"{row.sign:<3}{label:<{longest}}{cells}".rstrip()
        yield from (f"   {line}" for line in more)


class _Row(NamedTuple):
    sign: str
    label: str
    cells: Sequence[str] = ()


def _rows(names: Sequence[str], summaries: Sequence[Summary], page: int) -> Iterator[_Row]:
    yield _Row("", "ranges", [cell for name in names for cell in (name, "resident")])
    for share in _every_share(summaries):
        same = [next((s for s in each.shares if _key(s) == _key(share)), None) for each in summaries]
        cells = [cell for s in same for cell in (_pair(s.ranges, s.resident * page) if s else _NONE)]
        yield _Row(*_words(share.fate, share.reason), cells)
    yield _Row("", "")
    orders = sorted({order for each in summaries for order, _ in each.folios}, reverse=True)
    yield _Row("", "large folios made" if orders else "no large folio is made")
    for order in orders:
        counts = [dict(each.folios).get(order, 0) for each in summaries]
        cells = [cell for n in counts for cell in (_pair(n, n * (page << order)) if n else _NONE)]
        yield _Row("", f"order {order}, {_size(page << order)}", cells)
    yield _Row("", "")
    yield from _growth(summaries, page)


def _key(share: Share) -> tuple[Fate, str]:
    return share.fate, share.reason


def _every_share(summaries: Sequence[Summary]) -> list[Share]:
    """One of each fate and reason, in the order of the fates."""
    found = {_key(share): share for each in summaries for share in each.shares}
    place = {fate: i for i, fate in enumerate(Fate)}
    return sorted(found.values(), key=lambda share: place[share.fate])


def _growth(summaries: Sequence[Summary], page: int) -> Iterator[_Row]:
    swapped_in = [each.swapped_in for each in summaries]
    yield _Row("", "growth of resident memory", _sizes([each.growth for each in summaries], page))
    if any(swapped_in):
        yield _Row("", "  by holes filled", _sizes([each.growth - each.swapped_in for each in summaries], page))
        yield _Row("", "  by pages swapped in", _sizes(swapped_in, page))


def _sizes(pages: Sequence[int], page: int) -> list[str]:
    return [cell for n in pages for cell in ("", _size(n * page))]


def _pair(count: int, size: int) -> tuple[str, str]:
    return f"{count:,}", _size(size)


def _size(size: int) -> str:
    """Bytes in the unit that suits them."""
    for unit, shift in (("GiB", 30), ("MiB", 20)):
        if abs(size) >= 1 << shift:
            whole, rest = divmod(size, 1 << shift)
            return f"{size / (1 << shift):.1f} {unit}" if rest else f"{whole} {unit}"
    return f"{size >> 10} KiB" if size else "0"


def _violations(console: Console, summaries: Sequence[Summary]) -> None:
    for i, each in enumerate(summaries):
        for check, ranges in each.violations:
            where = f" under {_column(i)}" if len(summaries) > 1 else ""
            console.print(
                Text(f"sanitizer {check} spoke in {ranges} ranges{where}; kmm run shows what it says", style="red"), soft_wrap=True
            )


def _pictures(console: Console, prediction: Prediction) -> None:
    drawn: dict[str, str] = {}
    blank = "was not captured" if prediction.predicted == len(prediction.ranges) else "was not captured or not reached"
    for i in range(len(prediction.settings)):
        name = f"map under {_column(i)}" if len(prediction.settings) > 1 else "map"
        lines = "\n".join(picture(prediction, i))
        same = drawn.setdefault(lines, name)
        console.print()
        if same != name:
            console.print(Text.assemble((name, "bold"), f": as the {same}"))
            continue
        row = _size(ROW * prediction.geometry.ptes * prediction.geometry.page_size)
        console.print(Text.assemble((name, "bold"), f": {ROW} ranges ({row}) a row; a blank {blank}"))
        console.print(Text(lines), soft_wrap=True)


def picture(prediction: Prediction, setting: int) -> Iterator[str]:
    """Rows of 64 ranges: by address if every name ends in one, else in the order of the capture.

    :param setting: index
    """
    drawn = [(each.name, letter(each.outcomes[setting]) if each.outcomes else " ") for each in prediction.ranges]
    size = prediction.geometry.ptes * prediction.geometry.page_size
    found = [_ADDRESS.search(name) for name, _ in drawn]
    addresses = [int(each[1], 16) for each in found if each is not None]
    named = len(set(addresses)) == len(drawn) and all(address % size == 0 for address in addresses)
    places = [address // size for address in addresses] if named else list(range(len(drawn)))
    rows: dict[int, list[str]] = {}
    for place, (_, sign) in sorted(zip(places, drawn, strict=True)):
        rows.setdefault(place // ROW, [" "] * ROW)[place % ROW] = sign
    width = len(str(max(len(drawn) - 1, 0)))
    for row, signs in rows.items():
        start = f"{row * ROW * size:012x}" if named else f"{row * ROW:>{width}}"
        yield f"{start}  {''.join(signs).rstrip()}"


def _foot(console: Console, prediction: Prediction) -> None:
    console.print()
    if prediction.left_out:
        console.print(Text(f"not captured: {sum(n for _, n in prediction.left_out):,} ranges", style="bold"))
        for reason, ranges in prediction.left_out:
            console.print(Text(f"  {ranges:>8,}  {reason}"), soft_wrap=True)
    if prediction.assumed:
        _wrapped(console, f"assumed, because the capture could not see it: {', '.join(prediction.assumed)}", "", "dim")
    _wrapped(console, "Each range is run on its own, undisturbed, with every allocation granted; later passes may do more.", "", "dim")


def _wrapped(console: Console, text: str, lead: str, style: str) -> None:
    """``lead`` and text; further lines stand under the text."""
    for line in textwrap.wrap(text, max(console.width, len(lead) + 30), initial_indent=lead, subsequent_indent=" " * len(lead)):
        console.print(Text(line, style=style), soft_wrap=True)
