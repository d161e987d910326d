"""A variant to begin with: a copy of another under a new name, and its test."""

from __future__ import annotations

import ast
import importlib.util
import io
import keyword
import sys
import tokenize
from importlib.util import decode_source
from typing import Final, TypeAlias

from kmm.judge.errors import VariantError
from kmm.judge.variants import LoadedVariant, variant_names

BASELINE: Final = "v12"
"""What the test of a new variant compares with."""
_NAME_LENGTH: Final = 100

_TEST: Final = '''\
"""``{name}`` behaves as ``{baseline}`` does."""

from __future__ import annotations

from pathlib import Path

from kmm.testing import assert_equivalent

VARIANT = Path(__file__).with_name("{name}.py")


def test_{name}_behaves_as_{baseline}_does() -> None:
    assert_equivalent(VARIANT, "{baseline}")
'''


def check_name(name: str) -> None:
    """Refuse a name that cannot be a variant's.

    :raises VariantError: not an identifier, a variant's or a module's name, or one that pytest takes for a test
    """
    remedy = "use letters, digits and underscores, and begin with a letter, as in fewer_branches"
    if not (name.isidentifier() and name.isascii()) or name.startswith("_") or len(name) > _NAME_LENGTH:
        raise VariantError(f'"{name[:_NAME_LENGTH]}" cannot be the name of a variant', remedy)
    if keyword.iskeyword(name):
        raise VariantError(f'"{name}" is a word of Python', "choose another name")
    if name in variant_names():
        raise VariantError(f'there is a variant "{name}" already', "choose another name")
    if name.startswith("test_") or name.endswith("_test") or name == "conftest":
        raise VariantError(f'pytest takes "{name}.py" for one of its own files', "choose another name")


def check_module_name(name: str) -> None:
    """Refuse a name that would hide a module from the tests beside the file.

    :raises VariantError: there is such a module
    """
    if name in sys.stdlib_module_names or importlib.util.find_spec(name) is not None:
        raise VariantError(f'"{name}" is the name of a Python module, which the file would hide', "choose another name")


def variant_source(name: str, source: LoadedVariant) -> str:
    """The text of a copy of ``source`` with its own docstring and name.

    :raises VariantError: the source is not UTF-8, or does not spell its name out
    """
    data = source.path.read_bytes()
    if tokenize.detect_encoding(io.BytesIO(data).readline)[0] not in ("utf-8", "utf-8-sig"):
        raise VariantError("the source is not UTF-8 text", "save it as UTF-8", source.origin)
    text = decode_source(data)
    tree = ast.parse(text)
    edits = [(_name_of_variant(tree, source), f'"{name}"'), _docstring(tree, name, source.variant.name)]
    lines = text.encode().split(b"\n")
    for (first, start, last, end), new in edits:
        lines[first - 1 : last] = [lines[first - 1][:start] + new.encode() + lines[last - 1][end:]]
    return b"\n".join(lines).decode()


def test_source(name: str) -> str:
    """The text of a test that ``name`` behaves as the baseline does."""
    return _TEST.format(name=name, baseline=BASELINE)


_Span: TypeAlias = tuple[int, int, int, int]


def _name_of_variant(tree: ast.Module, source: LoadedVariant) -> _Span:
    """First line and column, last line and column (bytes) of the name in ``VARIANT = ...``."""
    for node in reversed(tree.body):
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Call):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == "VARIANT" for target in targets):
                for each in node.value.keywords:
                    if each.arg == "name" and isinstance(each.value, ast.Constant):
                        return _span(each.value)
    raise VariantError("the name of VARIANT does not stand in it", 'write VARIANT = Variant(name="...", ...)', source.origin)


def _docstring(tree: ast.Module, name: str, source: str) -> tuple[_Span, str]:
    """The docstring to write, and where: over the one that is there, else at the top."""
    text = f'"""``{name}``, which began as a copy of ``{source}``."""'
    first = tree.body[0]
    if isinstance(first, ast.Expr) and ast.get_docstring(tree, clean=False) is not None:
        return _span(first), text
    return (1, 0, 1, 0), f"{text}\n\n"


def _span(node: ast.expr | ast.stmt) -> _Span:
    return node.lineno, node.col_offset, node.end_lineno or node.lineno, node.end_col_offset or 0
