"""``kmm new``: a variant to begin with, and its test."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from kmm.cli.errors import InputError
from kmm.cli.variants import VARIANT, load, variant_errors


@click.command(
    epilog="""\b
Examples:
  kmm new fewer_branches
  kmm new fewer_branches --from v12 --dir cleanups
"""
)
@click.argument("name")
@click.option(
    "--from",
    "source",
    type=VARIANT,
    default="reviewed",
    show_default=True,
    metavar="VARIANT",
    help="The variant to begin with: a name, or a path, whose code is executed.",
)
@click.option("--dir", "directory", type=click.Path(), default=".", help="Where to write; default: the current directory.")
def new(name: str, source: str, directory: str) -> None:
    """Begin a variant of your own: write NAME.py, a copy of another one, and test_NAME.py.

    The copy behaves as the variant that it was made from until you change it. The commands to run next are printed. Nothing
    that exists is overwritten, and either both files are written or none.
    """
    from kmm.judge.template import BASELINE, check_module_name, check_name, test_source, variant_source

    with variant_errors():
        check_name(name)
    variant, test = (Path(directory) / file for file in (f"{name}.py", f"test_{name}.py"))
    _refuse_to_overwrite(variant, test)
    with variant_errors():
        check_module_name(name)
        loaded = load(source)
        text = variant_source(name, loaded)
    _write_both((variant, text), (test, test_source(name)))
    click.echo(f"wrote {_typed(variant)}, a copy of {loaded.variant.name}, and its test {_typed(test)}")
    click.echo("Next:")
    click.echo(f"  kmm check {_typed(variant)} --baseline {BASELINE}")
    click.echo(f"  pytest {_typed(test)}")
    click.echo(f"  kmm diff {shlex.quote(source)} {_typed(variant)}")


def _refuse_to_overwrite(*files: Path) -> None:
    """
    :raises InputError: one of the files exists, or the directory does not
    """
    directory = files[0].parent
    if not directory.is_dir():
        raise InputError("there is no such directory", "make it, or name another one with --dir", str(directory))
    for file in files:
        if os.path.lexists(file):
            raise InputError("the file exists, and is not overwritten", "choose another name, or another directory with --dir", str(file))


def _write_both(first: tuple[Path, str], second: tuple[Path, str]) -> None:
    from kmm.scenario.files import write_atomic

    write_atomic(*first)
    try:
        write_atomic(*second)
    except BaseException:
        first[0].unlink()
        raise


def _typed(path: Path) -> str:
    """A path as one types it: never like an option or a name."""
    return shlex.quote(str(path) if path.is_absolute() else f"./{path}")
