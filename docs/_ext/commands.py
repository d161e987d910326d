"""``make docs-help``: writes the help of every command into docs/commands.md."""

from __future__ import annotations

import io
import os
from contextlib import redirect_stdout
from pathlib import Path
from typing import Final
from unittest import mock

from kmm.cli.main import COMMANDS, main

PAGE: Final = Path(__file__).parents[1] / "commands.md"
COLUMNS: Final = "100"

HEAD: Final = """\
# Command line

What every command says with `--help`. `make docs-help` writes this page; a test compares it with the commands.

Exit codes are the same for all: 0 the same, or done; 2 different, or a failed expectation; 3 undetermined or interrupted; 4 bad input or
usage; 1 an internal error.
"""


def help_of(*words: str) -> str:
    """What a command prints for ``--help``."""
    out = io.StringIO()
    with mock.patch.dict(os.environ, {"COLUMNS": COLUMNS, "NO_COLOR": "1"}), redirect_stdout(out):
        main([*words, "--help"])
    return out.getvalue()


def section(title: str, *words: str) -> str:
    """The part of the page that is about one command."""
    typed = " ".join(["kmm", *words, "--help"])
    return f"\n## {title}\n\n```console\n$ {typed}\n{help_of(*words)}```\n"


def text() -> str:
    """The whole page."""
    return HEAD + section("`kmm`") + "".join(section(f"`kmm {name}`", name) for name in sorted(COMMANDS))


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
