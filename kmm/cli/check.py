"""``kmm check``: the verdict."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kmm.cli.variants import SCENARIO, VARIANT, load

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
"""
)
@click.argument("candidate", default="reviewed", type=VARIANT)
@click.option("--baseline", default="v12", show_default=True, metavar="NAME", type=VARIANT, help="The variant to compare with.")
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
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How to print the verdict.")
@click.option("--jobs", type=click.IntRange(1, 1024), metavar="N", help="Worker processes; default: one a CPU.")
@click.pass_context
def check(
    ctx: click.Context,
    candidate: str,
    baseline: str,
    scenarios: tuple[str, ...],
    memory: str,
    scope: str,
    budget: float | None,
    seed: int,
    expect: str,
    form: str,
    jobs: int | None,
) -> None:
    """Judge whether CANDIDATE (default: reviewed) behaves as the baseline does.

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
    from kmm.report import console
    from kmm.report.progress import Progress
    from kmm.scenario.scope import generated

    sides = load(baseline), load(candidate)
    families = _from_files(scenarios, sides[0], memory) if scenarios else generated(scope, seed)
    with Progress(console.stderr()) as progress:
        verdict = judge(*sides, families, seed=seed, budget_s=budget, jobs=jobs, progress=progress.update, expect=expect)
    verdict = with_file(verdict, Path(), baseline=baseline, candidate=candidate)
    if form == "json":
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
