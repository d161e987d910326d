"""``kmm series``: a refactoring as patches, each judged against the one before."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from kmm.cli.errors import InputError
from kmm.cli.variants import VARIANT, load

if TYPE_CHECKING:
    from kmm.lab.series_run import SeriesResult
    from kmm.scenario.families import Family

SCOPES = ("smoke", "quick", "full")


@click.command(
    epilog="""\b
Examples:
  kmm series
  kmm series --scope quick --keep steps
  kmm series ./mine --to ./mine.py --format json
"""
)
@click.argument("directory", required=False, type=click.Path(path_type=Path), metavar="[DIR]")
@click.option("--from", "start", default="v12", show_default=True, metavar="NAME", type=VARIANT, help="The variant that it begins with.")
@click.option("--to", "goal", default="reviewed", show_default=True, metavar="NAME", type=VARIANT, help="The variant that it ends as.")
@click.option("--scope", type=click.Choice(SCOPES), default="smoke", show_default=True, help="How much to run for each step.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of what is generated.")
@click.option("--no-types", is_flag=True, help="Do not type-check the steps.")
@click.option("--keep", type=click.Path(path_type=Path), metavar="NEWDIR", help="Leave every step's file there, and a counterexample.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How to print the result.")
@click.option("--jobs", type=click.IntRange(1, 1024), metavar="N", help="Worker processes; default: one a CPU.")
@click.pass_context
def series(
    ctx: click.Context,
    directory: Path | None,
    start: str,
    goal: str,
    scope: str,
    seed: int,
    no_types: bool,
    keep: Path | None,
    form: str,
    jobs: int | None,
) -> None:
    """Apply a series of patches in order, and judge each step against the one before.

    DIR holds *.patch files, as git format-patch writes them, or is an mbox; default: refactors/steps, which leads from v12 to
    reviewed. They are applied to copies in a scratch directory, exactly or not at all, type-checked by mypy, linted and judged;
    their code is executed. The last step must be the variant of --to, byte for byte. The first bad step ends the series.

    \b
    Exit codes: 0 every step is equivalent, and the last is the goal   2 not so
                3 undetermined or interrupted
                4 bad input, or a step that does not apply, type-check or import
    """
    from kmm.lab.series import patches_of
    from kmm.lab.series_run import run_series
    from kmm.report import console
    from kmm.report.progress import Progress

    first, last = load(start).path, load(goal).path
    patches = patches_of(directory or first.parent / "steps")
    with scratch_directory(keep) as scratch:
        with Progress(console.stderr()) as progress:
            result = run_series(
                patches,
                first,
                last,
                scratch,
                lambda: families(scope, seed),
                typed=not no_types,
                seed=seed,
                jobs=jobs,
                progress=progress.update,
            )
        if keep is not None:
            result = _filed(result, keep)
        if form == "json":
            from kmm.lab.series_report import series_json

            click.echo(json.dumps(series_json(result, start=start, goal=goal, scope=scope), indent=2))
        else:
            from kmm.lab.series_report import print_series

            print_series(console.stdout(), result, goal)
    if result.fault is not None and result.bad is not None and result.bad > len(result.judged):
        raise InputError(f"step {result.bad}: {result.fault.problem}", result.fault.remedy, result.fault.where)
    ctx.exit(result.exit_code)


def families(scope: str, seed: int) -> Sequence[Family]:
    """What each step is judged by."""
    from kmm.scenario.scope import generated, smoke

    return smoke() if scope == "smoke" else generated(scope, seed)


@contextmanager
def scratch_directory(keep: Path | None) -> Iterator[Path]:
    """A temporary directory, or a new one that stays.

    :raises InputError: it cannot be made
    """
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="kmm-series-") as name:
            yield Path(name)
        return
    try:
        keep.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"cannot be made ({error.strerror})", "name a new directory", str(keep)) from error
    yield keep


def _filed(result: SeriesResult, keep: Path) -> SeriesResult:
    """With the counterexample as a file, beside the two files that it is about."""
    from kmm.judge.filed import with_file

    if not result.judged:
        return result
    last = result.judged[-1]
    before, after = (str(each if each.is_absolute() else Path() / each) for each in (last.step.before, last.step.after))
    verdict = with_file(last.verdict, keep, baseline=before, candidate=after)
    return attrs.evolve(result, judged=(*result.judged[:-1], attrs.evolve(last, verdict=verdict)))
