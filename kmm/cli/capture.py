"""``kmm capture``: the memory of a live process as scenarios."""

from __future__ import annotations

from pathlib import Path

import click

from kmm.cli.errors import InputError


@click.command(
    epilog="""\b
Examples:
  kmm capture --pid 4242 -o memory.toml
  kmm check --scenario memory.toml
"""
)
@click.option("--pid", type=click.IntRange(min=1), required=True, help="The process to read.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write; default: standard output.")
@click.option("--names", is_flag=True, help="Name scenarios after mapping and address, instead of by number.")
def capture(pid: int, output: Path | None, names: bool) -> None:
    """Read the anonymous memory of a live process into scenarios, one for each 2 MiB range.

    The process is neither stopped nor changed, and no contents are read. As root the flags, map counts and folios of its
    pages are seen too; otherwise they take their defaults. Each scenario lists what was not seen under "assumed".
    Ranges that scenarios cannot express yet are counted by reason on standard error.
    """
    from kmm.live.capture import Capture
    from kmm.live.capture import capture as read_process
    from kmm.live.errors import CaptureError
    from kmm.scenario.toml import render_many, save_many

    try:
        found: Capture = read_process(pid, names=names)
    except CaptureError as error:
        raise InputError(error.problem, error.remedy) from error
    _summarise(pid, found.skipped, len(found.scenarios))
    if not found.scenarios:
        raise InputError(f"process {pid} has no range that can be captured", "give a process that holds more anonymous memory")
    if output is None:
        click.echo(render_many(list(found.scenarios)), nl=False)
        return
    try:
        save_many(output, list(found.scenarios))
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror})", "give another file after -o", str(output)) from error


def _summarise(pid: int, skipped: tuple[tuple[str, int], ...], captured: int) -> None:
    """What was captured and what was not, on standard error."""
    left_out = sum(count for _, count in skipped)
    click.echo(f"process {pid}: captured {captured} ranges, left out {left_out}", err=True)
    for reason, count in skipped:
        click.echo(f"{count:8} {reason}", err=True)
