"""Read a TOML file into a class, strictly."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import attrs
import cattrs
from cattrs.errors import BaseValidationError
from cattrs.gen import make_dict_structure_fn, override

from kmm.scenario.errors import BadInputError

T = TypeVar("T")

Structure: TypeAlias = Callable[[Mapping[str, object], object], attrs.AttrsInstance]

_KEY: Final = "toml"


def read_toml(path: Path, kind: type[T], what: str, error: type[BadInputError]) -> T:
    """Read a file.

    :param kind: an attrs class; a key that it does not have is refused; see :func:`key`
    :param what: the file is to be, for messages
    :param error: to raise
    :raises error: it cannot be read, or something in it is unknown or missing
    """
    try:
        data: object = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise error(f"cannot be read ({fault.strerror})", "run kmm where its refactors are", str(path)) from None
    except ValueError as fault:
        raise error(f"is no TOML ({fault})", "correct it", str(path)) from None
    try:
        return _converter().structure(data, kind)
    except (BaseValidationError, TypeError, ValueError, AttributeError) as fault:
        said = cattrs.transform_error(fault)[0] if isinstance(fault, BaseValidationError) else str(fault)
        raise error(f"is no {what} ({said})", f"see the {path.name} of the project for the form", str(path)) from None


def key(name: str) -> dict[str, str]:
    """Metadata of a field that has another name in a file; an empty one: it is in no file."""
    return {_KEY: name}


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)

    make: Callable[..., Structure] = make_dict_structure_fn  # its type leaves no room for keywords of which the names are not known

    def hook(kind: type[attrs.AttrsInstance]) -> Structure:
        attrs.resolve_types(kind)
        named = {each.name: each.metadata[_KEY] for each in attrs.fields(kind) if _KEY in each.metadata}
        overrides = {name: override(rename=to) if to else override(omit=True) for name, to in named.items()}
        return make(kind, converter, _cattrs_forbid_extra_keys=True, **overrides)

    converter.register_structure_hook_factory(attrs.has, hook)
    return converter
