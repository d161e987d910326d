"""``kmm thread``: the review that the refactorings come from."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click

from kmm.cli.series import SCOPES, families
from kmm.cli.variants import load


@click.command(
    epilog="""\b
Examples:
  kmm thread
  kmm thread R18
  kmm thread --no-judge --format json
"""
)
@click.argument("comment", required=False, metavar="[ID]")
@click.option("--no-judge", is_flag=True, help="Show what is known without judging anything.")
@click.option("--scope", type=click.Choice(SCOPES), default="smoke", show_default=True, help="How much to run for each step.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How to print the result.")
@click.option("--jobs", type=click.IntRange(1, 1024), metavar="N", help="Worker processes; default: one a CPU.")
@click.pass_context
def thread(ctx: click.Context, comment: str | None, no_judge: bool, scope: str, form: str, jobs: int | None) -> None:
    """Show every comment of the review of v12 07/15, or the one called ID with its evidence.

    Steps of kmm series, experiments and kmm followups deal with some of them; these are judged now. A step is expected to be
    equivalent, an experiment says what it expects.

    \b
    Exit codes: 0 everything is as expected   2 not so   3 undetermined or interrupted   4 bad input or usage
    """
    from kmm.lab.thread import FILE, load_thread
    from kmm.lab.thread_judge import gather
    from kmm.report import console
    from kmm.report.progress import Progress

    refactors = load("v12").path.parent
    found = load_thread(refactors / FILE)
    comments = found.comments if comment is None else (found.comment(comment),)
    evidence = None
    if not no_judge:
        with Progress(console.stderr()) as progress, tempfile.TemporaryDirectory(prefix="kmm-thread-") as scratch:
            evidence = gather(comments, refactors, Path(scratch), lambda: families(scope, 0), jobs=jobs, progress=progress.update)
    if form == "json":
        from kmm.lab.thread_report import thread_json

        click.echo(json.dumps(thread_json(found, comments, evidence), indent=2))
    elif comment is None:
        from kmm.lab.thread_report import print_thread

        print_thread(console.stdout(), found, evidence)
    else:
        from kmm.lab.thread_report import print_comment

        print_comment(console.stdout(), found, comments[0], evidence)
    if evidence is not None:
        ctx.exit(max(evidence.exit_code(each) for each in comments))
