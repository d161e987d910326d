"""A table, and how it becomes nodes."""

from __future__ import annotations

import re
from typing import Final

import attrs
from docutils import nodes  # type: ignore[import-untyped]

_LITERAL: Final = re.compile(r"``(.+?)``")


@attrs.frozen
class Table:
    """Text in rows; in a cell ``x`` between two backquotes on each side is code.

    :param title: above the table; may be empty
    :param widths: of the columns, in relation to each other
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    widths: tuple[int, ...]
    title: str = ""


def code(text: str) -> str:
    """A cell, or a part of one, that is code."""
    return f"``{text}``" if text else ""


def render(table: Table) -> nodes.table:
    """The nodes of a table."""
    group = nodes.tgroup(cols=len(table.head))
    group += [nodes.colspec(colwidth=width) for width in table.widths]
    group += nodes.thead("", _row(table.head))
    group += nodes.tbody("", *(_row(row) for row in table.rows))
    out = nodes.table("", classes=["colwidths-given", "kmm-table"])
    if table.title:
        out += nodes.title("", "", *inline(table.title))
    out += group
    return out


def _row(cells: tuple[str, ...]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", *inline(cell))) for cell in cells))


def inline(text: str) -> list[nodes.Node]:
    """Text with code in it."""
    parts = _LITERAL.split(text)
    return [nodes.literal(text=part) if i % 2 else nodes.Text(part) for i, part in enumerate(parts) if part]
