"""``kmm bugs``: known defects of the collapse path as patches, each with the check that must catch it."""

from __future__ import annotations

import json
from contextlib import suppress

import click

from kmm.cli.series import families
from kmm.cli.variants import load


@click.command(
    epilog="""\b
Examples:
  kmm bugs
  kmm bugs C-02
  kmm bugs H-06 --scope quick
  kmm bugs --no-judge --format json
"""
)
@click.argument("bug", required=False, metavar="[ID]")
@click.option("--no-judge", is_flag=True, help="Show what is known without judging anything.")
@click.option("--scope", type=click.Choice(["quick", "full"]), help="Look for each in the general scenarios of this scope as well.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How to print the result.")
@click.option("--jobs", type=click.IntRange(1, 1024), metavar="N", help="Worker processes for general scenarios; default: one a CPU.")
@click.pass_context
def bugs(ctx: click.Context, bug: str | None, no_judge: bool, scope: str | None, form: str, jobs: int | None) -> None:
    """Seed every known defect that the model can hold, and see it caught; or show the one called ID whole.

    Each is a patch in refactors/bugs with its smallest scenario, and with the check that must catch it there: a sanitizer, which has
    to be the first that speaks, or an observable, if no sanitizer does. Some patches are no bugs, and have to be found to be none.

    With --scope the general scenarios of kmm check, and others with actors, have to find each as well. That may take hours.

    \b
    Exit codes: 0 all are caught by the right check   2 one survives, is caught by another check, or is no bug and differs
                3 undetermined or interrupted   4 bad input or usage
    """
    from kmm.lab.bugs import FILE, load_bugs
    from kmm.lab.bugs_judge import JudgedBug, judge_bugs, smallest
    from kmm.lab.bugs_report import bugs_json, print_bug, print_bugs
    from kmm.report import console
    from kmm.report.progress import Progress
    from kmm.scenario.small_concurrent import drawn_families

    refactors = load("v12").path.parent
    known = load_bugs(refactors / FILE)
    wanted = known if bug is None else known.named(bug)
    found = [JudgedBug(bug=each) for each in wanted.bugs]
    if not no_judge:
        with Progress(console.stderr()) as progress, suppress(KeyboardInterrupt):
            judged = judge_bugs(
                wanted.bugs,
                refactors,
                None if scope is None else lambda: families(scope, 0),
                drawn_families(),
                explained=bug is not None,
                jobs=jobs,
                progress=progress.update,
            )
            for number, each in enumerate(judged):
                found[number] = each
    if form == "json":
        click.echo(json.dumps(bugs_json(found, wanted.left_out), indent=2))
    elif bug is None or not found:
        print_bugs(console.stdout(), found, wanted.left_out, judged=not no_judge)
    else:
        for number, each in enumerate(found):
            if number:
                click.echo()
            print_bug(console.stdout(), each, smallest(each.bug, refactors), refactors)
    if not no_judge:
        ctx.exit(max([0, *(each.exit_code for each in found)]))
