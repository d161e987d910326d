"""A room imports only from the rooms below it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = [f"kmm.{room}" for room in ("kernel", "mm", "explore", "scenario", "judge", "live", "report", "lab", "cli", "api", "testing")]
SOURCES = sorted([*(ROOT / "kmm").rglob("*.py"), *(ROOT / "refactors").rglob("*.py")])


def module_name(path: Path) -> str:
    """Dotted name of a source file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


class WithoutTyping(ast.NodeTransformer):
    """Drops what only type checkers read."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        """``if TYPE_CHECKING:``"""
        return None if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" else self.generic_visit(node)


def imports(source: str, package: str, *, typing: bool = True) -> list[str]:
    """Every name that ``source`` imports, in full; the functions' own imports count too.

    :param package: package that the source lies in, for relative imports
    :param typing: those for type checkers count too
    """
    out: list[str] = []
    tree = ast.parse(source)
    for node in ast.walk(tree if typing else WithoutTyping().visit(tree)):
        if isinstance(node, ast.Import):
            out += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            out += [f"{module}.{alias.name}" for alias in node.names]
    return out


def room(name: str) -> str | None:
    """Room of a dotted name; ``None`` outside the house. ``python -m kmm`` is a door of the command line."""
    if name == "kmm.__main__":
        return "kmm.cli"
    if name.partition(".")[0] == "refactors":
        return "refactors"
    return next((each for each in ROOMS if f"{name}.".startswith(f"{each}.")), None)


def may_import(importer: str, imported: str) -> bool:
    """The room order."""
    if importer == "refactors":
        return imported in ("refactors", "kmm.mm", "kmm.kernel")
    if importer == "kmm.explore":
        return imported in ("kmm.explore", "kmm.kernel")
    if imported == "refactors":
        return False
    if imported == "kmm.cli":
        return importer == "kmm.cli"
    return ROOMS.index(imported) <= ROOMS.index(importer)


def violations(source: str, module: str, package: str) -> list[str]:
    """The imports of ``source`` that break the order. ``kmm`` itself names types of every room, and imports nothing."""
    mine = room(module)
    if mine is None:
        return [name for name in imports(source, package, typing=False) if room(name) is not None]
    return [name for name in imports(source, package) for theirs in [room(name)] if theirs is not None and not may_import(mine, theirs)]


def package_of(path: Path) -> str:
    return ".".join(path.parent.relative_to(ROOT).parts)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_import_downwards(path: Path) -> None:
    assert violations(path.read_text(), module_name(path), package_of(path)) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_strategies_imports_hypothesis(path: Path) -> None:
    hypothesis = [name for name in imports(path.read_text(), package_of(path)) if name.partition(".")[0] == "hypothesis"]
    assert not hypothesis or path.parent in (ROOT / "kmm" / "scenario" / "strategies", ROOT / "kmm" / "testing")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_plugin_imports_pytest(path: Path) -> None:
    found = [name for name in imports(path.read_text(), package_of(path)) if name.partition(".")[0] in ("pytest", "_pytest")]
    assert not found or path.parent == ROOT / "kmm" / "testing"


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("kmm.kernel.machine", "from kmm.mm import folio", ["kmm.mm.folio"]),
        ("kmm.mm.rmap", "import kmm.scenario.model", ["kmm.scenario.model"]),
        ("kmm.mm.rmap", "from ..scenario import model", ["kmm.scenario.model"]),
        ("kmm.mm.rmap", "from kmm import judge", ["kmm.judge"]),
        ("kmm.judge.verdict", "def f():\n    from refactors import v12", ["refactors.v12"]),
        ("kmm.live.capture", "from kmm.cli.errors import InputError", ["kmm.cli.errors.InputError"]),
        ("kmm.live.capture", "from kmm.scenario.model import Scenario", []),
        ("kmm.explore.tasks", "from kmm.scenario.model import Scenario", ["kmm.scenario.model.Scenario"]),
        ("kmm.explore.tasks", "from kmm.mm import rmap", ["kmm.mm.rmap"]),
        ("kmm.mm.rmap", "from . import folio\nfrom kmm.kernel import current", []),
        ("refactors.v12", "from kmm.judge import observe", ["kmm.judge.observe"]),
        ("refactors.v12", "from kmm.mm import rmap\nfrom refactors import base", []),
        ("kmm.cli.check", "from kmm.api import check", ["kmm.api.check"]),
        ("kmm.api", "from kmm.cli.variants import load", ["kmm.cli.variants.load"]),
        ("kmm.testing.plugin", "from kmm.cli import main", ["kmm.cli.main"]),
        ("kmm.testing.plugin", "from kmm.api import check", []),
        ("kmm", "import kmm.mm", ["kmm.mm"]),
        ("kmm", "if TYPE_CHECKING:\n    import kmm.mm", []),
    ],
)
def test_seeded_imports(module: str, source: str, found: list[str]) -> None:
    assert violations(source, module, module.rpartition(".")[0]) == found
