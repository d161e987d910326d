"""``kmm diff``: two variants, function by function."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from kmm.cli.variants import VARIANT, load, variant_errors

if TYPE_CHECKING:
    from rich.console import Console

    from kmm.judge.compare import Comparison

_DIFFERENT = 2


@click.command(
    epilog="""\b
Examples:
  kmm diff v12 reviewed
  kmm diff v12 ./mine.py --width 160
  kmm diff reviewed ./mine.py --format unified --exit-code
"""
)
@click.argument("a", type=VARIANT)
@click.argument("b", type=VARIANT)
@click.option("--context", type=click.IntRange(0, 10_000), default=3, show_default=True, help="Unchanged lines around a change.")
@click.option(
    "--width", type=click.IntRange(40, 1000), metavar="COLUMNS", help="Lay out for so many columns; default: the terminal's, else 100."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "unified", "json"]),
    default="text",
    show_default=True,
    help="How to print the difference.",
)
@click.option("--exit-code", is_flag=True, help="Exit with 2 if the code differs.")
@click.pass_context
def diff(ctx: click.Context, a: str, b: str, context: int, width: int | None, form: str, exit_code: bool) -> None:
    """Show how the variants A and B differ, function by function.

    A variant is a name or a path, as for kmm check, and its code is executed. Functions are matched by name, then by link. A
    function that only one side has is compared with that of kmm.mm, which the other side calls. Differences in comments,
    docstrings and layout are shown and do not count as differences of the code.

    From 120 columns on the two stand side by side, with the line numbers of both files.

    \b
    Exit codes: 0 done   2 with --exit-code: the code differs   4 bad input or usage
    """
    loaded = load(a), load(b)
    from kmm.judge.code import code_of
    from kmm.judge.compare import compare

    with variant_errors():
        comparison = compare(*(code_of(each) for each in loaded))
    if form == "json":
        click.echo(json.dumps(_json(comparison, context), indent=2))
    elif form == "unified":
        from kmm.report.diff import unified_text

        click.echo(unified_text(comparison, context), nl=False)
    else:
        from kmm.report.diff import print_diff

        print_diff(_console(width), comparison, context)
    if exit_code and comparison.differs:
        ctx.exit(_DIFFERENT)


def _console(width: int | None) -> Console:
    from kmm.report import console

    chosen = console.stdout()
    if width is not None:
        chosen.width = width
    return chosen


def _json(comparison: Comparison, context: int) -> dict[str, object]:
    import attrs

    from kmm.judge.compare import Status
    from kmm.report.diff import unified

    return {
        "schema": 1,
        "a": comparison.a.name,
        "b": comparison.b.name,
        "differs": comparison.differs,
        "same": comparison.count(Status.SAME),
        "imports": [attrs.asdict(each) for each in comparison.rebound],
        "definitions": [
            {
                "name": part.name,
                "status": part.status.value,
                "links": list(part.reached),
                **{
                    side: {"name": each.name, "kind": each.kind, "file": each.file, "first": each.first, "last": each.last}
                    if each
                    else None
                    for side, each in (("a", part.a), ("b", part.b))
                },
                "unified": unified(part, comparison, context),
            }
            for part in comparison.parts
            if part.status is not Status.SAME
        ],
    }
