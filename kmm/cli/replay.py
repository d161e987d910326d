"""``kmm replay``: a counterexample once more."""

from __future__ import annotations

import click

from kmm.cli.variants import SCENARIO, variant_errors

_NOT_AS_EXPECTED = 2
_UNDETERMINED = 3


@click.command(
    epilog="""\b
Examples:
  kmm replay counterexample-1f2e3d4c.toml
"""
)
@click.argument("file", type=SCENARIO)
@click.pass_context
def replay(ctx: click.Context, file: str) -> None:
    """Run a counterexample again and explain where the two runs part.

    The file's [replay] table names baseline and candidate, whose code is executed, and says what to expect. Paths in it
    are taken from the file's directory. Exit code 0 when what the file expects came out, 2 when not.
    """
    from kmm.judge.replay import UNDETERMINED
    from kmm.judge.replay import replay as run_again
    from kmm.lab.sides import opened

    with variant_errors():
        again = run_again(file, opened=opened)
    names = f"{again.candidate.variant.name} ({again.candidate.origin}) against {again.baseline.variant.name} ({again.baseline.origin})"
    as_expected = again.relation == again.expect
    click.echo(f"{again.relation}, {'as expected' if as_expected else f'expected: {again.expect}'}: {names}")
    if again.explanation:
        click.echo()
        click.echo(again.explanation)
    if again.relation == UNDETERMINED:
        ctx.exit(_UNDETERMINED)
    if not as_expected:
        ctx.exit(_NOT_AS_EXPECTED)
