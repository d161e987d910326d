"""``kmm predict``: what khugepaged would do to a process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from kmm.cli.errors import InputError
from kmm.cli.variants import SCENARIO, VARIANT, load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kmm.live.predict_value import Prediction
    from kmm.scenario.model import Scenario


@click.command(
    epilog="""\b
Examples:
  kmm predict --pid 4242
  kmm predict memory.toml --knob max_ptes_none=0 --knob max_ptes_none=0,hugepages-64kB=always
  kmm predict memory.toml --variant ./mine.py --format json
"""
)
@click.argument("file", required=False, type=SCENARIO)
@click.option("--pid", type=click.IntRange(min=1), help="The process to read, in place of a file.")
@click.option(
    "--knob",
    "knobs",
    multiple=True,
    metavar="NAME=VALUE[,...]",
    help="Predict under this setting too, in a column of its own; repeatable, with commas for several knobs at once.",
)
@click.option(
    "--variant",
    default="v12",
    show_default=True,
    type=VARIANT,
    help="The version of the code: a name, or a path, whose code is executed.",
)
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How to print the prediction."
)
@click.option("--jobs", type=click.IntRange(1, 1024), metavar="N", help="Worker processes; default: one a CPU.")
@click.pass_context
def predict(
    ctx: click.Context, file: str | None, pid: int | None, knobs: tuple[str, ...], variant: str, form: str, jobs: int | None
) -> None:
    """Predict what one pass of khugepaged would do to each 2 MiB range of a process.

    FILE is what kmm capture wrote; with --pid the process is captured first. Shown are the ranges that collapse, those that
    are refused and why, the large folios made, by how much the resident memory grows, and a map of the address space.

    Knobs are the files of /sys/kernel/mm/transparent_hugepage, each with a value that the kernel takes: enabled,
    khugepaged/defrag, khugepaged/max_ptes_none (and _shared, _swap), hugepages-64kB/enabled and so on; "khugepaged/" and
    "/enabled" may be left out. Nothing is written there.

    \b
    Exit codes: 0 predicted     3 interrupted, or a range gave no answer     4 bad input or usage
    """
    if (file is None) == (pid is None):
        raise click.UsageError("give one of FILE and --pid")
    from kmm.live.predict import predict as run_ranges
    from kmm.live.predict_knobs import KnobError, parse_setting
    from kmm.report import console
    from kmm.report.predict import RangeProgress

    try:
        settings = [parse_setting(text) for text in knobs]
        loaded = load(variant)
        scenarios, left_out = _ranges(file, pid)
        with RangeProgress(console.stderr()) as progress:
            prediction = run_ranges(scenarios, loaded, settings, left_out=left_out, jobs=jobs, progress=progress.update)
    except KnobError as error:
        raise InputError(error.problem, error.remedy, error.where) from error
    _show(prediction, form)
    if prediction.interrupted:
        click.echo(f"kmm: interrupted: {prediction.predicted} of {len(prediction.ranges)} ranges were reached", err=True)
    ctx.exit(prediction.exit_code)


def _ranges(file: str | None, pid: int | None) -> tuple[Sequence[Scenario], tuple[tuple[str, int], ...] | None]:
    """The captured ranges, and what was left out if that is known."""
    if file is not None:
        from kmm.scenario.toml import load_many

        return load_many(file), None
    from kmm.live.capture import capture
    from kmm.live.errors import CaptureError

    if pid is None:
        raise TypeError("neither a file nor a process")
    try:
        found = capture(pid, names=True)
    except CaptureError as error:
        raise InputError(error.problem, error.remedy) from error
    if not found.scenarios:
        raise InputError(f"process {pid} has no range that can be captured", "give a process that holds more anonymous memory")
    return found.scenarios, found.skipped


def _show(prediction: Prediction, form: str) -> None:
    if form == "json":
        from kmm.live.predict_json import to_json

        click.echo(json.dumps(to_json(prediction), indent=2))
    else:
        from kmm.report import console
        from kmm.report.predict import print_prediction

        print_prediction(console.stdout(), prediction)
