"""Loading a variant for a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kmm.cli.errors import InputError
from kmm.judge.errors import VariantError

if TYPE_CHECKING:
    from kmm.judge.variants import LoadedVariant


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
