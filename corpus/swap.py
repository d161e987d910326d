"""Run the changed form of a pair's function, in this process."""

from __future__ import annotations

import importlib
import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType

from corpus.pairs import Pair, PairError
from kmm.mm.variant import Variant


def function_of(pair: Pair) -> FunctionType:
    """The function that a pair is about."""
    found: object = importlib.import_module(pair.file.removesuffix(".py").replace("/", "."))
    for name in pair.function.split("."):
        found = vars(found)[name]
    assert isinstance(found, FunctionType)
    return found


@contextmanager
def changed(pair: Pair) -> Iterator[None]:
    """The function has its other form, wherever it was imported.

    :raises PairError: the old text does not stand once in the function
    """
    function = function_of(pair)
    source = inspect.getsource(function)
    if source.count(pair.old) != 1:
        raise PairError(f"{pair.id}: its old text stands {source.count(pair.old)} times in {pair.function}", "correct it", pair.file)
    text = "from __future__ import annotations\n" + textwrap.dedent(source.replace(pair.old, pair.new))
    names: dict[str, object] = {}
    exec(compile(text, function.__code__.co_filename, "exec"), function.__globals__.copy(), names)
    other = names[function.__name__]
    assert isinstance(other, FunctionType)
    before, function.__code__ = function.__code__, other.__code__
    try:
        yield
    finally:
        function.__code__ = before


def variant(module: str) -> Variant:
    """The variant of a module."""
    found: object = vars(importlib.import_module(module))["VARIANT"]
    assert isinstance(found, Variant)
    return found


def variant_of(pair: Pair) -> str:
    """The module of the variant that is run: that of the pair's file; v12 where the file belongs to all."""
    return pair.file.removesuffix(".py").replace("/", ".") if pair.file.startswith("refactors/") else "refactors.v12"
