"""``kmm check``: the verdict."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kmm.cli.compared import DIRECTORY, PATCH, PATCH_OR_VARIANT, compared
from kmm.cli.variants import SCENARIO, VARIANT, variant_errors

if TYPE_CHECKING:
    from kmm.judge.variants import LoadedVariant
    from kmm.scenario.families import Family
    from kmm.scenario.model import Scenario


def _number(seconds: float | None) -> float | None:
    if seconds is not None and math.isnan(seconds):
        raise click.BadParameter("nan is not a number of seconds")
    return seconds


@click.command(
    epilog="""\b
Examples:
  kmm check
  kmm check ./mine.py --baseline reviewed
  kmm check --scenario memory.toml --format json > verdict.json
  kmm check 0001-rmap-drop-a-check.patch --format mail
  kmm check v12 --rev main..topic
"""
)
@click.argument("given", nargs=-1, metavar="[CANDIDATE] [PATCH]...", type=PATCH_OR_VARIANT)
@click.option(
    "--baseline",
    metavar="NAME",
    type=VARIANT,
    help="The variant to compare with.  [default: v12; with patches or another tree: the candidate as it is without]",
)
@click.option("--patch", "patches", multiple=True, type=PATCH, help="Another PATCH, whatever its name ends in; repeatable.")
@click.option("--tree", metavar="DIR", type=DIRECTORY, help="Take the candidate, and what it stands on, from this source tree.")
@click.option("--rev", metavar="REV", help="Likewise from this git revision; OLD..NEW: compare these two.")
@click.option("--scenario", "scenarios", multiple=True, type=SCENARIO, help="Judge the scenarios of this file instead; repeatable.")
@click.option(
    "--memory", type=click.Choice(["sc", "pso"]), default="sc", show_default=True, help="The memory model, for given scenarios with actors."
)
@click.option("--scope", type=click.Choice(["quick", "full"]), default="quick", show_default=True, help="How much to run.")
@click.option(
    "--budget",
    type=click.FloatRange(min=0, min_open=True),
    callback=lambda _ctx, _param, value: _number(value),
    metavar="SECONDS",
    help="Stop judging after so many seconds.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of what is generated.")
@click.option(
    "--expect", type=click.Choice(["equivalent", "refines"]), default="equivalent", show_default=True, help="What counts as a success."
)
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "mail"]), default="text", show_default=True, help="How to print the verdict."
)
@click.option("--jobs", type=click.IntRange(1, 1024), metavar="N", help="Worker processes; default: one a CPU.")
@click.pass_context
def check(
    ctx: click.Context,
    given: tuple[str, ...],
    baseline: str | None,
    patches: tuple[str, ...],
    tree: str | None,
    rev: str | None,
    scenarios: tuple[str, ...],
    memory: str,
    scope: str,
    budget: float | None,
    seed: int,
    expect: str,
    form: str,
    jobs: int | None,
) -> None:
    """Judge whether CANDIDATE behaves as the baseline does, or what a PATCH changes.

    CANDIDATE is a variant (default: reviewed). With patches (names that end in .patch, .diff or .mbox), the tree with them
    is compared to the tree without, by the variant that they change, or v12. With --tree or --rev likewise that tree to this one.
    The patches of a series apply in order, to the tree that --tree or --rev name, or this one; nothing is written to it.

    A variant is a path, if it has a "/" or ends in ".py", and its code is executed; else a name in the refactors directory
    of the checkout around the current directory; else an installed one.

    Every scenario is run with both. When they differ, a minimal counterexample is written to the current directory.
    Captured scenarios are judged as captured and in three further forms: under khugepaged with all orders, under
    khugepaged with PMD order only, and under MADV_COLLAPSE.

    \b
    Exit codes: 0 the same (or, with --expect refines, a refinement)
                2 different   3 undetermined or interrupted   4 bad input or usage
    """
    if scenarios and ctx.get_parameter_source("scope") is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--scope and --scenario exclude each other")
    if memory != "sc" and not scenarios:
        raise click.UsageError("--memory needs --scenario")
    from kmm.judge.check import check as judge
    from kmm.judge.filed import with_file
    from kmm.lab.breadth import families_of
    from kmm.lab.sides import keeping
    from kmm.lab.typecheck import can_type_check
    from kmm.report import console
    from kmm.report.progress import Progress

    names = compared(given, baseline, patches, tree, rev)
    if names[1].patches and not can_type_check():
        click.echo("kmm: the patches are not type-checked: mypy is not installed", err=True)
    with variant_errors(), keeping() as opened:
        with opened(*names) as sides:
            families = _from_files(scenarios, sides[0], memory) if scenarios else families_of(*sides, scope, seed)
            with Progress(console.stderr()) as progress:
                verdict = judge(*sides, families, seed=seed, budget_s=budget, jobs=jobs, progress=progress.update, expect=expect)
        verdict = with_file(verdict, Path(), baseline=names[0], candidate=names[1], opened=opened)
    if form == "mail":
        from kmm.report.mail import mail

        click.echo(mail(verdict), nl=False)
    elif form == "json":
        from kmm.judge.verdict import to_json

        click.echo(json.dumps(to_json(verdict), indent=2))
    else:
        from kmm.report.verdict import print_verdict

        print_verdict(console.stdout(), verdict)
    ctx.exit(verdict.exit_code)


def _from_files(files: tuple[str, ...], baseline: LoadedVariant, memory: str) -> tuple[Family, ...]:
    """Everything in the files, whose steps can all happen with the baseline."""
    from kmm.judge.possible import need_possible
    from kmm.live.given import given
    from kmm.scenario.toml import load_many

    scenarios: list[Scenario] = []
    for file in dict.fromkeys(files):
        found = load_many(file)
        for number, s in enumerate(found):
            need_possible(s, baseline, file, number if len(found) > 1 else None)
        scenarios += found
    return given(scenarios, "files", memory)
