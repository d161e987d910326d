"""``kmm doctor``: what this machine can do."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import Final

import click

_PLAIN_WIDTH: Final = 100


@click.command(
    epilog="""\b
Examples:
  kmm doctor
  sudo kmm doctor
  kmm doctor --format json
"""
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How to print the parts.")
@click.pass_context
def doctor(ctx: click.Context, form: str) -> None:
    """Show what this machine can do, part by part: what is there, what it gives, and what to do about what is missing.

    Nothing is changed and nothing is sent anywhere.

    \b
    States:     ok   limited (usable, but not all of it)   missing
    Exit codes: 0 the core is there     2 a part of the core is missing
    """
    from kmm.live.doctor import examine, exit_code, to_json
    from kmm.live.doctor_python import no_colour

    rows = examine()
    if form == "json":
        click.echo(json.dumps(to_json(rows), indent=2))
    else:
        from kmm.report.doctor import render

        terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if terminal else _PLAIN_WIDTH
        click.echo(render(rows, width=width, colour=terminal and not no_colour(os.environ)), nl=False)
    ctx.exit(exit_code(rows))
