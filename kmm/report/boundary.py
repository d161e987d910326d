"""The boundary of the model on a terminal."""

from __future__ import annotations

import textwrap

from rich.console import Console
from rich.text import Text

from kmm.scenario.boundary import AREAS, BOUNDARY, Gap


def print_boundary(console: Console) -> None:
    """Show the list, by area."""
    console.print(f"The model leaves out {len(BOUNDARY)} things; a verdict says nothing about them.")
    for area in AREAS:
        console.print()
        console.print(Text(area, style="bold"))
        for gap in BOUNDARY:
            if gap.area == area:
                _print(console, gap)


def _print(console: Console, gap: Gap) -> None:
    console.print(Text.assemble("  ", (gap.key, "cyan"), (f"  {gap.where}", "dim")))
    for lead, text in (("kernel: ", gap.kernel), ("model:  ", gap.model)):
        lines = textwrap.wrap(text, console.width, initial_indent=f"    {lead}", subsequent_indent=" " * (4 + len(lead)))
        console.print(Text("\n".join(lines)))
