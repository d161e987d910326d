"""The ``kmm`` command: finds the subcommand, imports only that, and turns every error into one line and an exit code."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from kmm.scenario.errors import BadInputError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

OK: Final = 0
INTERNAL_ERROR: Final = 1
DIFFERENT: Final = 2
UNDETERMINED: Final = 3
BAD_INPUT: Final = 4

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "boundary": ("kmm.cli.boundary:boundary", "List what the model leaves out."),
    "bugs": ("kmm.cli.bugs:bugs", "Seed known defects, and see them caught."),
    "capture": ("kmm.cli.capture:capture", "Read a live process's memory into scenarios."),
    "check": ("kmm.cli.check:check", "Judge whether a candidate behaves like the baseline."),
    "completion": ("kmm.cli.completion:completion", "Print the shell completion script."),
    "diff": ("kmm.cli.diff:diff", "Show how two variants differ, function by function."),
    "doctor": ("kmm.cli.doctor:doctor", "Show what this machine can do, and what is missing."),
    "explore": ("kmm.cli.explore:explore", "Run a scenario beside others, under every schedule."),
    "fmt": ("kmm.cli.fmt:fmt", "Rewrite scenario files in the canonical form."),
    "followups": ("kmm.cli.followups:followups", "Try out what the review leaves open."),
    "lint": ("kmm.cli.lint:lint", "Check that variants differ only in what they declare."),
    "new": ("kmm.cli.new:new", "Begin a variant of your own."),
    "predict": ("kmm.cli.predict:predict", "Predict what khugepaged would do to a process."),
    "replay": ("kmm.cli.replay:replay", "Run a counterexample again."),
    "run": ("kmm.cli.run:run", "Run one scenario and show what happened."),
    "series": ("kmm.cli.series:series", "Judge a series of patches, step by step."),
    "thread": ("kmm.cli.thread:thread", "Show the review, comment by comment, with verdicts."),
}
"""Name of each command: where it is, and its line in the help."""

COMPLETION: Final = "_KMM_COMPLETE"
"""The variable with which a shell asks for completions, by running ``kmm``."""


class LazyGroup(click.Group):
    """A group that imports a command when it is called, not when it is listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}.{attribute} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        from click.shell_completion import CompletionItem

        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        return [*(CompletionItem(name, help=COMMANDS[name][1]) for name in names), *click.Command.shell_complete(self, ctx, incomplete)]


def _show_version(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        click.echo(f"kmm {importlib.metadata.version('kmm-sandbox')}")
        ctx.exit(OK)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version and exit.")
def kmm() -> None:
    """A model of khugepaged's anonymous collapse path, and a judge that says whether two versions of it behave the same.

    \b
    Exit codes: 0 the same, or done     2 different, or a failed expectation
                3 undetermined or interrupted     4 bad input or usage
                1 an internal error
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``kmm``.

    :param argv: arguments without the program's name; default: this process's
    :return: exit code
    """
    try:
        code = _complete(os.environ[COMPLETION]) if COMPLETION in os.environ else _run(sys.argv[1:] if argv is None else list(argv))
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return BAD_INPUT
    except click.ClickException as error:
        return _complain(_usage(error), BAD_INPUT)
    except BadInputError as error:
        return _complain(str(error), BAD_INPUT)
    except (KeyboardInterrupt, click.Abort):
        return _complain("interrupted", UNDETERMINED)
    except BrokenPipeError:
        _silence_stdout()
        return UNDETERMINED
    except Exception as error:
        return _complain(_internal(error), INTERNAL_ERROR)
    return code


def _run(argv: list[str]) -> int:
    """Run a command; its exit code."""
    try:
        with kmm.make_context("kmm", argv) as ctx:
            kmm.invoke(ctx)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or OK
        raise
    return OK


def _complete(instruction: str) -> int:
    """Answer a shell that completes a command line."""
    from kmm.cli.completion import answer

    click.echo(answer(kmm, instruction))
    return OK


def _complain(message: str, code: int) -> int:
    """One line on standard error."""
    click.echo("kmm: " + " ".join(message.split()), err=True)
    return code


def _usage(error: click.ClickException) -> str:
    message = error.format_message().rstrip(".")
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    return f"{message}; see {ctx.command_path if ctx else 'kmm'} --help"


def _internal(error: Exception) -> str:
    with tempfile.NamedTemporaryFile("w", prefix="kmm-", suffix=".txt", delete=False, encoding="utf-8") as out:
        traceback.print_exception(error, file=out)
    return f"internal error: {type(error).__name__}: {error}; the traceback is in {out.name}"


def _silence_stdout() -> None:
    """Keep the interpreter from flushing into a closed pipe at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
