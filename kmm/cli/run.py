"""``kmm run``: one scenario, one variant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kmm.cli.variants import SCENARIO, VARIANT, load

if TYPE_CHECKING:
    from kmm.judge.variants import LoadedVariant
    from kmm.scenario.model import Scenario

_UNDETERMINED = 3


@click.command(
    epilog="""\b
Examples:
  kmm run scenario.toml
  kmm run scenario.toml --variant reviewed
  kmm run counterexample-1f2e3d4c.toml --variant ./mine.py
"""
)
@click.argument("scenario", type=SCENARIO)
@click.option(
    "--variant",
    default="v12",
    show_default=True,
    type=VARIANT,
    help="The version of the code: a name, or a path, whose code is executed.",
)
@click.option("--surface", is_flag=True, help="Show also the files that an administrator reads, before and after.")
@click.pass_context
def run(ctx: click.Context, scenario: str, variant: str, surface: bool) -> None:
    """Run one scenario and show what happened.

    Shown are the page map before and after, the trace events, the result, the counters that changed and what the
    sanitizers said. The exit code tells that it ran, not how it went.
    """
    from kmm.judge.possible import need_possible
    from kmm.scenario.toml import load as load_scenario

    s = load_scenario(scenario)
    loaded = load(variant)
    need_possible(s, loaded, scenario)
    text, lost = _shown(s, loaded, surface)
    click.echo(text, nl=False)
    if lost:
        click.echo(f"kmm: undetermined: the variant {lost}", err=True)
        ctx.exit(_UNDETERMINED)


def _shown(s: Scenario, loaded: LoadedVariant, surface: bool) -> tuple[str, str]:
    """What a run prints, and what became of its worker if it was lost: a variant may hang or end its process."""
    from kmm.judge.pool import Beat, Skip, guarded
    from kmm.report import console

    terminal = console.stdout()

    def work(_task: None, skip: Skip, beat: Beat) -> str:
        if 0 in skip:
            return ""
        beat(0)
        from kmm.report.run import print_run
        from kmm.report.surface import print_surface
        from kmm.scenario.run import run as run_scenario

        finished = run_scenario(s, loaded.variant)
        with terminal.capture() as captured:
            print_run(terminal, finished)
            if surface:
                print_surface(terminal, finished)
        return captured.get()

    done = guarded(work)
    return done.value, done.lost[0].reason if done.lost else ""
