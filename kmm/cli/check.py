"""``kmm check``: the verdict."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kmm.cli.variants import load
from kmm.judge.errors import VariantError
from kmm.scenario.errors import ScenarioError

if TYPE_CHECKING:
    from kmm.judge.verdict import Verdict
    from kmm.scenario.families import Family
    from kmm.scenario.model import Scenario

_SAMPLES = {"quick": 500, "full": 5000}


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
@click.argument("candidate", default="reviewed")
@click.option("--baseline", default="v12", show_default=True, metavar="NAME", help="The variant to compare with.")
@click.option("--scenario", "scenarios", multiple=True, type=click.Path(), help="Judge the scenarios of this file instead; repeatable.")
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
    from kmm.judge.check import check as judge
    from kmm.report import console
    from kmm.report.progress import Progress

    families = _from_files(scenarios) if scenarios else _generated(scope, seed)
    sides = load(baseline), load(candidate)
    with Progress(console.stderr()) as progress:
        verdict = judge(*sides, families, seed=seed, budget_s=budget, jobs=jobs, progress=progress.update, expect=expect)
    verdict = _with_file(verdict, baseline, candidate)
    if form == "json":
        from kmm.judge.verdict import to_json

        click.echo(json.dumps(to_json(verdict), indent=2))
    else:
        from kmm.report.verdict import print_verdict

        print_verdict(console.stdout(), verdict)
    ctx.exit(verdict.exit_code)


def _generated(scope: str, seed: int) -> list[Family]:
    from kmm.scenario.families import hypothesis_family
    from kmm.scenario.model import Geometry
    from kmm.scenario.small_scope import full_families, quick_families

    small = full_families(seed) if scope == "full" else quick_families(seed)
    return [*small, hypothesis_family(Geometry(), _SAMPLES[scope], seed)]


def _from_files(files: tuple[str, ...]) -> list[Family]:
    """One family of everything in the files."""
    from kmm.live.capture import as_captured_drivers
    from kmm.scenario.families import Family
    from kmm.scenario.toml import load_many

    given = [s for file in dict.fromkeys(files) for s in load_many(file)]
    captured = sum(bool(s.assumed) for s in given)
    judged = [form for s in given for form in (as_captured_drivers(s) if s.assumed else (s,))]
    forms = f", of which {captured} captured, each in four forms" if captured else ""
    return [Family("files", "exhaustive", f"the {len(given)} scenarios given{forms}", lambda: iter(judged))]


def _with_file(verdict: Verdict, baseline: str, candidate: str) -> Verdict:
    """Write the counterexample, if there is one that shows the difference on its own, and run it again from the file."""
    import attrs

    from kmm.judge.replay import default_name

    example = verdict.counterexample
    if example is None or not example.differs:
        return verdict
    file = Path(default_name(example.scenario))
    try:
        _write_and_replay(file, example.scenario, baseline, candidate)
    except (ScenarioError, VariantError) as error:
        return attrs.evolve(verdict, counterexample=attrs.evolve(example, explanation=f"{example.explanation}\n{error}"))
    return attrs.evolve(verdict, counterexample=attrs.evolve(example, file=str(file)))


def _write_and_replay(file: Path, s: Scenario, baseline: str, candidate: str) -> None:
    from kmm.judge.replay import DIFFERENT, replay, write_counterexample

    write_counterexample(file, s, baseline=baseline, candidate=candidate)
    if replay(file).relation != DIFFERENT:
        raise ScenarioError(
            "run again from its file it shows no difference", "look for what one of the variants keeps between runs", str(file)
        )
