"""What ``kmm check`` compares: two variants, and of which trees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from kmm.cli.variants import VariantType, complete_paths

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from kmm.judge.named import Named

SUFFIXES: Final = (".patch", ".diff", ".mbox")
"""What the name of a patch ends in."""


class PatchOrVariantType(VariantType):
    """A variant's name or path, or the path of a patch, as text."""

    name = "variant or patch"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        """Variants, then patches."""
        variants = super().shell_complete(ctx, param, incomplete)
        known = {each.value for each in variants}
        return [*variants, *(each for each in _complete_patches(incomplete) if each.value not in known)]


class PatchType(click.Path):
    """The path of a patch, as text."""

    name = "file"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        """Patches and directories."""
        return [*_complete_patches(incomplete), *(each for each in complete_paths(incomplete, "/"))]


class DirectoryType(click.Path):
    """The path of a directory, as text."""

    name = "directory"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        """Directories."""
        return complete_paths(incomplete, "/")


PATCH_OR_VARIANT: Final = PatchOrVariantType()
PATCH: Final = PatchType()
DIRECTORY: Final = DirectoryType()


def _complete_patches(incomplete: str) -> list[CompletionItem[str]]:
    return [each for suffix in SUFFIXES for each in complete_paths(incomplete, suffix, directories=False)]


def compared(
    given: tuple[str, ...], baseline: str | None, patches: tuple[str, ...], tree: str | None, rev: str | None
) -> tuple[Named, Named]:
    """Baseline and candidate.

    :param given: the arguments: patches by what their names end in, else the candidate
    :param rev: a revision, or two with ``..`` between them
    :raises BadInputError: a patch cannot be read, or there is no such revision
    """
    from kmm.judge.named import Named

    files = (*(each for each in given if each.endswith(SUFFIXES)), *patches)
    candidates = [each for each in given if not each.endswith(SUFFIXES)]
    if len(candidates) > 1:
        raise click.UsageError(f"two candidates: {candidates[0]} and {candidates[1]}; a patch ends in {', '.join(SUFFIXES)} or has --patch")
    if not (files or tree or rev):
        return Named(baseline or "v12"), Named(candidates[0] if candidates else "reviewed")
    from kmm.lab.sides import default_variants
    from kmm.lab.trees import commits

    usual = default_variants(files)
    first = baseline or (candidates[0] if candidates else usual[0])
    second = candidates[0] if candidates else usual[1]
    revisions = commits(tree or "", rev) if rev else ()
    if files and len(revisions) > 1:
        raise click.UsageError("patches apply to one revision, not to OLD..NEW")
    place = tree or ""
    if files:
        there = revisions[0] if revisions else ""
        return Named(first, place, there), Named(second, place, there, files)
    if len(revisions) > 1:
        return Named(first, place, revisions[0]), Named(second, place, revisions[1])
    return Named(first), Named(second, place, revisions[0] if revisions else "")
