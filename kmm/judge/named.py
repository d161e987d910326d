"""A variant as it is asked for: by name or path, in this tree or another one, with patches or without."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeAlias

import attrs

from kmm.judge.errors import VariantError
from kmm.judge.variants import LoadedVariant, load_variant


@attrs.frozen
class Named:
    """What is asked for. Paths are from the current directory.

    :param variant: name or path
    :param tree: top of a source tree; empty: the one that is meant when none is named
    :param rev: a revision of the repository there; empty: the files as they are
    :param patches: files with patches, in the order in which they apply
    """

    variant: str
    tree: str = ""
    rev: str = ""
    patches: tuple[str, ...] = ()

    @property
    def in_tree(self) -> bool:
        """It asks for more than a variant."""
        return bool(self.tree or self.rev or self.patches)


Opener: TypeAlias = Callable[[Named, Named], AbstractContextManager[tuple[LoadedVariant, LoadedVariant]]]
"""Loads baseline and candidate; what they need is there as long as the block lasts."""


@contextmanager
def open_here(baseline: Named, candidate: Named) -> Iterator[tuple[LoadedVariant, LoadedVariant]]:
    """Load two variants of this tree.

    :raises VariantError: one is of another tree, or cannot be loaded
    """
    if baseline.in_tree or candidate.in_tree:
        raise VariantError("it is about another source tree, or a patch", "use kmm replay", (candidate.rev or candidate.tree))
    yield load_variant(baseline.variant), load_variant(candidate.variant)


def to_table(named: Named, role: str, file: Path) -> dict[str, str]:
    """As a ``[replay]`` table says it, with paths from the file's directory.

    :param role: ``baseline`` or ``candidate``
    """
    folder = file.parent
    table = {
        role: path_from(named.variant, folder) if is_path(named.variant) else named.variant,
        f"{role}_tree": os.path.relpath(named.tree, folder) if named.tree else "",
        f"{role}_rev": named.rev,
        f"{role}_patches": "\n".join(os.path.relpath(each, folder) for each in named.patches),
    }
    return {key: value for key, value in table.items() if value}


def from_table(table: Mapping[str, str], role: str, default: str, file: Path) -> Named:
    """Back from a ``[replay]`` table, with paths from the current directory."""
    folder = file.parent
    variant, tree = table.get(role, default), table.get(f"{role}_tree", "")
    return Named(
        path_from(str(folder / variant), Path()) if folder != Path() and is_path(variant) else variant,
        str(folder / tree) if tree else "",
        table.get(f"{role}_rev", ""),
        tuple(str(folder / each) for each in table.get(f"{role}_patches", "").split("\n") if each),
    )


def is_path(variant: str) -> bool:
    """It is the path of a variant, and no name."""
    return "/" in variant or variant.endswith(".py")


def path_from(path: str, directory: Path) -> str:
    """A variant's path as seen from a directory; still one when it has but one part."""
    relative = os.path.relpath(path, directory)
    return relative if is_path(relative) else f"./{relative}"
