"""``kmm boundary``: what the model leaves out."""

from __future__ import annotations

import json

import click


@click.command(
    epilog="""\b
Examples:
  kmm boundary
  kmm boundary --format json
"""
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How to print the list.")
def boundary(form: str) -> None:
    """List what the model leaves out.

    A verdict says nothing about these. Each entry tells what a kernel does, what the model does instead, and in which
    module it is left out.
    """
    import attrs

    from kmm.scenario.boundary import BOUNDARY, SCHEMA

    if form == "json":
        click.echo(json.dumps({"schema": SCHEMA, "boundary": [attrs.asdict(gap) for gap in BOUNDARY]}, indent=2))
        return
    from kmm.report import console
    from kmm.report.boundary import print_boundary

    print_boundary(console.stdout())
