"""``kmm lint``: whether variants differ only in what they declare."""

from __future__ import annotations

import click

from kmm.cli.variants import VARIANT, load, variant_errors

_FOUND = 2


@click.command(
    epilog="""\b
Examples:
  kmm lint ./mine.py
  kmm lint v12 reviewed ./mine.py
"""
)
@click.argument("variants", type=VARIANT, metavar="VARIANT...", nargs=-1, required=True)
@click.pass_context
def lint(ctx: click.Context, variants: tuple[str, ...]) -> None:
    """Check that variants differ only in the functions that they declare.

    A variant is a name or a path, as for kmm check, and its code is executed. It declares the functions of its VARIANT and all
    that these call in its file. It may not change anything that other variants run, keep state from run to run, reach shared
    state around the machine, or hold functions that no link reaches. A note tells of a function that stands in for one of
    kmm.mm.

    \b
    Exit codes: 0 clean (notes do not count)   2 something was found   4 bad input or usage
    """
    loaded = [load(each) for each in dict.fromkeys(variants)]
    from kmm.judge.lint import lint as findings

    bad = 0
    for each in loaded:
        with variant_errors():
            found = findings(each)
        for one in found:
            click.echo(str(one))
        real = sum(not one.note for one in found)
        bad += bool(real)
        click.echo(f"{each.variant.name}: {_verdict(real)}")
    if bad:
        ctx.exit(_FOUND)


def _verdict(findings: int) -> str:
    if not findings:
        return "clean"
    return "1 finding" if findings == 1 else f"{findings} findings"
