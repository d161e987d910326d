"""The Sphinx side: two directives."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

from docutils import nodes  # type: ignore[import-untyped]
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from docs._ext import port, tables
from docs._ext.beside import page
from docs._ext.kernel_tree import KernelTree, KernelTreeError
from docs._ext.table import Table, inline, render

PORT_TABLES: Final[dict[str, Callable[[], Table]]] = {
    "khugepaged": port.khugepaged_table,
    "callees": port.callees_table,
    "own": port.own_table,
}
HOW_TO: Final = "This build has no C in it. ``make docs KERNEL=/path/to/linux`` reads it from a kernel tree of yours."


def table(name: str) -> Table:
    """A table by the name that a page gives it.

    :raises KeyError: there is none
    """
    return PORT_TABLES[name]() if name in PORT_TABLES else tables.table(name)


class KmmTable(SphinxDirective):
    """``{kmm-table} NAME``: a table that is made from the code."""

    required_arguments: ClassVar[int] = 1
    final_argument_whitespace: ClassVar[bool] = True

    def run(self) -> list[nodes.Node]:
        """The table."""
        name = self.arguments[0]
        try:
            return [render(table(name))]
        except KeyError:
            raise self.error(f'there is no table "{name}"') from None


class KmmKernel(SphinxDirective):
    """``{kmm-kernel}``: the C of the tree that the build was given, beside the port."""

    def run(self) -> list[nodes.Node]:
        """The functions side by side, or how to get them."""
        path: str = self.config.kmm_kernel
        if not path:
            return [nodes.paragraph("", "", *inline(HOW_TO))]
        try:
            return list(page(KernelTree.open(path)))
        except KernelTreeError as error:
            raise ExtensionError(str(error)) from None


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directives."""
    app.add_config_value("kmm_kernel", "", "env", str, "a kernel tree, or empty")
    app.add_directive("kmm-table", KmmTable)
    app.add_directive("kmm-kernel", KmmKernel)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
