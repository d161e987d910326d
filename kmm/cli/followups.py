"""``kmm followups``: changes that the review leaves open, tried out."""

from __future__ import annotations

import json
from contextlib import suppress

import click

from kmm.cli.series import SCOPES, families
from kmm.cli.variants import load


@click.command(
    epilog="""\b
Examples:
  kmm followups
  kmm followups pmd-install
  kmm followups --no-judge --format json
"""
)
@click.argument("name", required=False, metavar="[NAME]")
@click.option("--no-judge", is_flag=True, help="Show what is known without judging anything.")
@click.option("--scope", type=click.Choice(SCOPES), default="smoke", show_default=True, help="How much to run where no scenario is named.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How to print the result.")
@click.option("--jobs", type=click.IntRange(1, 1024), metavar="N", help="Worker processes; default: one a CPU.")
@click.pass_context
def followups(ctx: click.Context, name: str | None, no_judge: bool, scope: str, form: str, jobs: int | None) -> None:
    """Judge every change that the review of v12 07/15 leaves open, or show the one called NAME whole.

    Each is a patch in refactors/followups. What is expected of it stands beside it: some are equivalent, some are wrong, and
    some are wrong only where others run beside.

    \b
    Exit codes: 0 everything is as expected   2 not so   3 undetermined or interrupted   4 bad input or usage
    """
    from kmm.lab.followups import FILE, JudgedFollowup, followup, judge_followups, load_followups
    from kmm.lab.followups_report import followups_json, print_followup, print_followups
    from kmm.report import console
    from kmm.report.progress import Progress

    refactors = load("v12").path.parent
    known = load_followups(refactors / FILE)
    wanted = known if name is None else (followup(known, name),)
    found = [JudgedFollowup(followup=each) for each in wanted]
    if not no_judge:
        with Progress(console.stderr()) as progress, suppress(KeyboardInterrupt):
            judged = judge_followups(wanted, refactors, lambda: families(scope, 0), jobs=jobs, progress=progress.update)
            for number, each in enumerate(judged):
                found[number] = each
    if form == "json":
        click.echo(json.dumps(followups_json(found, judged=not no_judge), indent=2))
    elif name is None:
        print_followups(console.stdout(), found, judged=not no_judge)
    else:
        print_followup(console.stdout(), found[0], refactors)
    if not no_judge:
        ctx.exit(max(each.exit_code for each in found))
