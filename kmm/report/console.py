"""Consoles: coloured and as wide as it is on a terminal, plain and 100 columns wide elsewhere."""

from __future__ import annotations

import io
import sys
from typing import IO, Final

from rich.console import Console

WIDTH: Final = 100


def stdout() -> Console:
    """For results."""
    wide = Console(highlight=False, soft_wrap=False)
    return wide if wide.is_terminal else plain(sys.stdout)


def stderr() -> Console:
    """For progress."""
    return Console(stderr=True, highlight=False)


def plain(file: IO[str] | None = None) -> Console:
    """Without colour, and of a fixed width, so that the same result gives the same bytes."""
    return Console(file=file or io.StringIO(), width=WIDTH, highlight=False, color_system=None, force_terminal=False)
