"""The reader's own C beside the port. Nothing of it is kept: it is read when the pages are built."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator

from docutils import nodes  # type: ignore[import-untyped]

from docs._ext.csource import GENERATED, MACRO
from docs._ext.kernel_tree import Found, KernelTree
from docs._ext.port import Ported, by_file
from docs._ext.table import inline

_HOW = {MACRO: ", a macro", GENERATED: ", by a macro that defines it"}


def page(tree: KernelTree) -> Iterator[nodes.Node]:
    """A warning, what was not found, and a section for each kernel file."""
    groups = [(files, [(entry, tree.look_up(entry.name, entry.files)) for entry in group]) for files, group in by_file()]
    yield _about(tree)
    yield from _missing([entry.name for _, group in groups for entry, found in group if found is None])
    for files, group in groups:
        yield from _section(", ".join(files), [(entry, found) for entry, found in group if found is not None])


def _about(tree: KernelTree) -> nodes.Node:
    series = "takes an order and an offset, as v12 07/15 has it" if tree.has_v12 else "is not that of v12 07/15, which was never merged"
    said = (
        f"Local: this page holds text of the kernel tree that it was built with, Linux {tree.version}. Do not publish it as part of kmm.",
        f"The port is of v12 on 6.18-rc. In this tree ``collapse_huge_page`` {series}; other functions may differ for their age.",
    )
    return nodes.warning("", *(nodes.paragraph("", "", *inline(each)) for each in said))


def _missing(names: list[str]) -> Iterator[nodes.Node]:
    """The functions that this tree does not have, or that were not recognised in it."""
    if names:
        listed = ", ".join(f"``{name}``" for name in dict.fromkeys(names))
        yield nodes.paragraph("", "", *inline(f"Not found in this tree, of another version as it may be: {listed}."))


def _section(title: str, entries: list[tuple[Ported, Found]]) -> Iterator[nodes.Node]:
    if entries:
        section = nodes.section("", nodes.title("", title), ids=[nodes.make_id(f"tree {title}")], names=[])
        for entry, found in entries:
            section += _pair(entry, found)
        yield section


def _pair(entry: Ported, found: Found) -> nodes.Node:
    """One function, left in C and right in Python."""
    definition = found.definition
    where = f"{found.file}:{definition.line}{_HOW.get(definition.kind, '')}"
    python = textwrap.dedent(inspect.getsource(entry.function)).rstrip()
    since = "" if entry.since == "base" else f", {entry.since}"
    return nodes.container(
        "",
        nodes.rubric("", "", nodes.literal(text=entry.name)),
        nodes.container("", *_side(where, definition.text, "c"), classes=["kmm-side"]),
        nodes.container("", *_side(f"{entry.path}{since}", python, "python"), classes=["kmm-side"]),
        classes=["kmm-beside"],
    )


def _side(where: str, text: str, language: str) -> tuple[nodes.Node, nodes.Node]:
    block = nodes.literal_block(text, text, language=language)
    return nodes.paragraph("", "", nodes.inline("", where), classes=["kmm-where"]), block
