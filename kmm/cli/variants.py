"""Variants and scenario files as arguments of commands: loading, errors, completion."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from kmm.cli.errors import InputError
from kmm.judge.errors import VariantError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from kmm.judge.variants import LoadedVariant

PATH: Final = "path"
"""Type of a completion that is a file, or a directory with a ``/`` behind it."""


@contextmanager
def variant_errors() -> Iterator[None]:
    """A variant that cannot be loaded is bad input."""
    try:
        yield
    except VariantError as error:
        raise InputError(error.problem, error.remedy, error.where) from error


def load(name_or_path: str) -> LoadedVariant:
    """Load a variant.

    :raises InputError: it cannot be loaded
    """
    from kmm.judge.variants import load_variant

    with variant_errors():
        return load_variant(name_or_path)


class VariantType(click.types.StringParamType):
    """A variant's name or path, as text."""

    name = "variant"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        """Names, and Python files; directories once something is typed."""
        from click.shell_completion import CompletionItem

        from kmm.judge.variants import variant_names

        names = [CompletionItem(name) for name in variant_names() if name.startswith(incomplete)]
        return [*names, *complete_paths(incomplete, ".py", directories=bool(incomplete))]


class ScenarioType(click.Path):
    """The path of a scenario file, as text."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        """TOML files and directories."""
        return complete_paths(incomplete, ".toml")


VARIANT: Final = VariantType()
SCENARIO: Final = ScenarioType()


def complete_paths(incomplete: str, suffix: str, *, directories: bool = True) -> list[CompletionItem[str]]:
    """The files that end in ``suffix`` and the directories that begin as ``incomplete`` does, sorted; hidden ones when it says so."""
    from click.shell_completion import CompletionItem

    folder, slash, prefix = incomplete.rpartition("/")
    shown = folder + slash
    try:
        entries = sorted(os.scandir(Path(shown).expanduser()), key=lambda entry: entry.name)
    except (OSError, RuntimeError, ValueError):
        return []
    out: list[CompletionItem[str]] = []
    for entry in entries:
        hidden = entry.name.startswith((".", "__")) and not prefix
        if hidden or not entry.name.startswith(prefix) or not entry.name.isprintable():
            continue
        if entry.is_dir():
            out += [CompletionItem(f"{shown}{entry.name}/", type=PATH)] if directories else []
        elif entry.name.endswith(suffix):
            out.append(CompletionItem(f"{shown}{entry.name}", type=PATH))
    return out
