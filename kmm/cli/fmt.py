"""``kmm fmt``: scenario files in their canonical form."""

from __future__ import annotations

import click

from kmm.cli.variants import SCENARIO

_WOULD_CHANGE = 2


@click.command(
    epilog="""\b
Examples:
  kmm fmt memory.toml
  kmm fmt --check scenarios/*.toml
"""
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=SCENARIO)
@click.option("--check", is_flag=True, help="Change nothing; name the files that would change, and exit with 2 if there are any.")
@click.pass_context
def fmt(ctx: click.Context, files: tuple[str, ...], check: bool) -> None:
    """Rewrite scenario files in the canonical form.

    Keys get their fixed order, defaults are left out, maps are broken into lines of 64 letters. Comments are not kept: say
    what people should read under "remark". All files are read before the first is written, and each is replaced whole.
    """
    from kmm.scenario.files import MAX_BYTES_MANY, read_text, write_atomic
    from kmm.scenario.toml import canonical

    changed: list[tuple[str, str]] = []
    for file in dict.fromkeys(files):
        text = read_text(file, MAX_BYTES_MANY)
        new = canonical(text, file)
        if new != text:
            changed.append((file, new))
    for file, new in changed:
        if not check:
            write_atomic(file, new)
        click.echo(f"{'would rewrite' if check else 'rewrote'} {file}")
    if check and changed:
        ctx.exit(_WOULD_CHANGE)
