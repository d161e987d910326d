"""``kmm explore``: what a scenario can come to when others run beside it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from kmm.cli.variants import SCENARIO, VARIANT, load

if TYPE_CHECKING:
    from kmm.scenario.model import Scenario

_UNDETERMINED = 3


@click.command(
    epilog="""\b
Examples:
  kmm explore scenario.toml --with store:0
  kmm explore scenario.toml --with gup:0-1 --with madvise:0-7:dontneed --strategy pos --executions 10000
  kmm explore scenario.toml --with sysfs:khugepaged/max_ptes_none=0 --variant reviewed --format json
"""
)
@click.argument("scenario", type=SCENARIO)
@click.option("--with", "actors", multiple=True, metavar="ACTOR[:PAGES][:VALUE]", help="Let this run beside it, too; repeatable.")
@click.option(
    "--variant",
    default="v12",
    show_default=True,
    type=VARIANT,
    help="The version of the code: a name, or a path, whose code is executed.",
)
@click.option("--memory", type=click.Choice(["sc", "pso"]), default="sc", show_default=True, help="The memory model.")
@click.option(
    "--strategy",
    type=click.Choice(["dpor", "dfs", "random", "pct", "pos", "surw"]),
    default="dpor",
    show_default=True,
    help="dpor: every trace once; dfs: every schedule; the others: samples.",
)
@click.option("--preemptions", type=click.IntRange(0, 99), metavar="N", help="With dfs: at most so many preemptions.")
@click.option("--executions", type=click.IntRange(min=1), metavar="N", help="Stop after so many.")
@click.option("--budget", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Stop after so many seconds.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of the samples.")
@click.option("--jobs", type=click.IntRange(1, 1024), default=1, show_default=True, metavar="N", help="Processes.")
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How to print what was found."
)
@click.pass_context
def explore(
    ctx: click.Context,
    scenario: str,
    actors: tuple[str, ...],
    variant: str,
    memory: str,
    strategy: str,
    preemptions: int | None,
    executions: int | None,
    budget: float | None,
    seed: int,
    jobs: int,
    form: str,
) -> None:
    """Run SCENARIO under every schedule that matters, and show each outcome with one schedule.

    Beside the call that the scenario describes run its actors, and those of --with: ACTOR is an operation of `[[step]]`,
    PAGES are 3, or 0-7, or 0-3>4 for a move, VALUE is what the operation needs; another process is ACTOR@2.

    \b
    Exit codes: 0 searched as asked   3 the budget ended the search, or an interrupt   4 bad input or usage
    """
    from kmm.explore import ExploreError
    from kmm.judge.outcomes import Outcomes
    from kmm.report import console
    from kmm.report.progress import Progress
    from kmm.scenario.search import Search

    s = _with_actors(scenario, actors)
    search = Search(strategy=strategy, memory=memory, preemption_bound=preemptions, budget=executions, seconds=budget, seed=seed, jobs=jobs)
    loaded = load(variant)
    try:
        with Progress(console.stderr()) as progress:
            found = Outcomes(s, loaded.variant, search, progress.searched, keep=True)
    except ExploreError as error:
        raise click.UsageError(str(error)) from error
    if form == "json":
        from kmm.report.explore import to_json

        click.echo(json.dumps(to_json(found), indent=2))
    else:
        from kmm.report.explore import print_outcomes

        print_outcomes(console.stdout(), found)
    if found.exploration.interrupted:
        click.echo(f"kmm: interrupted: {found.exploration.executions:,} executions were made", err=True)
    cut = strategy in ("dpor", "dfs") and preemptions is None and not found.exploration.complete
    ctx.exit(_UNDETERMINED if cut or found.exploration.interrupted else 0)


def _with_actors(path: str, texts: tuple[str, ...]) -> Scenario:
    """The scenario of a file, with further actors."""
    import attrs

    from kmm.scenario.errors import ScenarioError
    from kmm.scenario.spec import parse_actor
    from kmm.scenario.toml import load as load_scenario

    s = load_scenario(path)
    more = tuple(parse_actor(text, s.geometry.pages) for text in texts)
    if not (*s.actors, *more):
        raise ScenarioError("nobody runs beside it", "name an actor by --with, or write [[actor]]", path)
    return attrs.evolve(s, actors=(*s.actors, *more))
