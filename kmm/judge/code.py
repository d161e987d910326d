"""The code of a variant: what it defines, and what each of its links reaches."""

from __future__ import annotations

import ast
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs

from kmm.judge.definitions import Definition, Module, in_port, module_named, port, read_module
from kmm.judge.variants import LoadedVariant
from kmm.mm.variant import Variant

LINKS: Final = tuple(each.name for each in attrs.fields(Variant) if each.name != "name")
"""Fields of :class:`Variant` that hold a function."""
INTENDED: Final = "INTENDED"
_REFACTORS: Final = "refactors."


@attrs.frozen(kw_only=True, eq=False)
class Code:
    """The code of a variant.

    :param module: its source
    :param links: link to its function; ``None``: it is not one that a module of the variant or of ``kmm.mm`` defines. A link
        that is left out is not here
    :param definitions: those of its module, then those of other modules of ``refactors`` that the links reach
    :param reached: links that reach a definition; ``INTENDED`` counts as one
    """

    name: str
    module: Module
    links: Mapping[str, Definition | None]
    definitions: tuple[Definition, ...]
    reached: Mapping[Definition, tuple[str, ...]]
    imports: Mapping[str, str]

    def link_of(self, definition: Definition) -> str | None:
        """The link whose function this is."""
        return next((link for link, each in self.links.items() if each is definition), None)


def code_of(loaded: LoadedVariant) -> Code:
    """Read the code of a loaded variant."""
    reader = _Reader(loaded.path)
    links = {link: reader.function(getattr(loaded.variant, link)) for link in LINKS if getattr(loaded.variant, link) is not None}
    roots = {**links, INTENDED: reader.main.definition(INTENDED)}
    reached: dict[Definition, tuple[str, ...]] = {}
    for link, root in roots.items():
        for each in reader.closure(root) if root is not None else ():
            reached[each] = (*reached.get(each, ()), link)
    elsewhere = [each for each in reached if each.path != reader.main.path and each not in port().get(each.name, ())]
    elsewhere.sort(key=lambda each: (each.file, each.first))
    imports = {name: target for module in reversed(reader.modules.values()) for name, target in module.imports.items()}
    return Code(
        name=loaded.variant.name,
        module=reader.main,
        links=links,
        definitions=(*reader.main.definitions, *elsewhere),
        reached=reached,
        imports=imports,
    )


class _Reader:
    """The modules of one variant, each read once."""

    def __init__(self, path: Path) -> None:
        self.main = read_module(path)
        self.modules: dict[Path, Module] = {path: self.main}

    def function(self, link: object) -> Definition | None:
        """Where a function is defined."""
        code = getattr(link, "__code__", None)
        if not isinstance(code, types.CodeType):
            return None
        path = Path(code.co_filename)
        for each in port().get(code.co_name, ()):
            if each.path == path:
                return each
        if path not in self.modules:
            if not path.is_file():
                return None
            self.modules[path] = read_module(path)
        found = self.modules[path].definition(code.co_name)
        return found if found is not None and found.kind == "function" and _begins(found, code.co_firstlineno) else None

    def closure(self, root: Definition) -> list[Definition]:
        """A definition and all that it names, in :mod:`kmm.mm` only what is named itself."""
        found = [root]
        seen = {root}
        for each in found:
            named = dict.fromkeys(self._named(each)) if each.path in self.modules else {}
            found += [one for one in named if one not in seen]
            seen.update(named)
        return found

    def _named(self, definition: Definition) -> Iterator[Definition]:
        module = self.modules[definition.path]
        for name in sorted(dotted_names(definition.node)):
            found = self._resolve(module, name)
            if found is not None:
                yield found

    def _resolve(self, module: Module, name: str) -> Definition | None:
        head, _, tail = name.partition(".")
        own = module.definition(head)
        if own is not None:
            return own
        target = ".".join(filter(None, (module.imports.get(head, ""), tail)))
        if not target.startswith(_REFACTORS):
            return in_port(target.rpartition(".")[2], target) if target.startswith("kmm.mm.") else None
        return self._of_refactors(target)

    def _of_refactors(self, target: str) -> Definition | None:
        """The definition that a dotted name begins with, and perhaps goes on into."""
        parts = target.split(".")
        for end in range(2, len(parts)):
            module = module_named(".".join(parts[:end]))
            found = module.definition(parts[end]) if module is not None else None
            if module is not None and found is not None:
                self.modules.setdefault(module.path, module)
                return self.modules[module.path].definition(parts[end])
        return None


def _begins(definition: Definition, line: int) -> bool:
    """The code of a function begins at its first decorator."""
    return definition.first <= line <= definition.node.lineno


def dotted_names(node: ast.AST) -> set[str]:
    """Names that are read in ``node``, each with the attributes taken from it."""
    return {name for each in ast.walk(node) if (name := _dotted(each)) is not None}


def _dotted(node: ast.AST) -> str | None:
    tail: list[str] = []
    while isinstance(node, ast.Attribute):
        tail.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(tail)]) if isinstance(node, ast.Name) else None
