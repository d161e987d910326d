"""What docstrings say of parameters and sources."""

from __future__ import annotations

import inspect
import re
from types import ModuleType
from typing import Final

_FIELD: Final = re.compile(r"^:(?:(?:param|raises) )?(\w+):", re.MULTILINE)
_FILE: Final = re.compile(r"[\w/-]+\.[ch]\b")


def fields(thing: object) -> dict[str, str]:
    """What the docstring of ``thing`` says of each parameter, and of ``source``, each on one line."""
    _, *parts = _FIELD.split(inspect.getdoc(thing) or "")
    return {name: " ".join(text.partition("\n\n")[0].split()) for name, text in zip(parts[::2], parts[1::2], strict=True)}


def summary(thing: object) -> str:
    """First sentence of a docstring."""
    first = " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", first)[0]


def kernel_files(text: str) -> tuple[str, ...]:
    """The kernel files that a text names, as paths in the kernel's tree."""
    return tuple(dict.fromkeys(_in_tree(name) for name in _FILE.findall(text)))


def _in_tree(name: str) -> str:
    """``rmap.h`` lies in include/linux, ``memory.c`` in mm."""
    if name.startswith("linux/"):
        return f"include/{name}"
    if "/" in name:
        return name
    return f"include/linux/{name}" if name.endswith(".h") else f"mm/{name}"


def module_files(module: ModuleType) -> tuple[str, ...]:
    """The kernel files that a module is the port of."""
    return kernel_files(inspect.getdoc(module) or "")


def plain(text: str) -> str:
    """A docstring's words without its roles."""
    return re.sub(r":\w+:`+~?([^`]+)`+", r"``\1``", text)
