"""The pairs of the corpus: a change of one function, and what is known of it before anybody judges."""

from __future__ import annotations

import ast
import difflib
from collections import Counter
from pathlib import Path
from typing import Final

import attrs

from kmm.lab.toml_file import key, read_toml
from kmm.scenario.errors import BadInputError

ROOT: Final = Path(__file__).parents[1]
FORMAT: Final = 1
LABELS: Final = ("equivalent", "different")
KINDS: Final = ("sequential", "concurrent")
MEMORY: Final = ("sc", "pso")
LISTS: Final = ("sequential", "concurrent", "compared", "written", "equivalent")
"""In which order they are judged; what differs takes seconds."""
SEEN_IN: Final = "see sequential"
"""Such a pair stands in that list, too, with its witness."""


class PairError(BadInputError):
    """A list of pairs that cannot be read, or a pair that does not fit its file."""


@attrs.frozen(kw_only=True)
class Pair:
    """One change.

    :param operator: what kind of change it is
    :param file: relative to the project
    :param function: qualified name
    :param old: text that stands once in the function
    :param new: what stands there instead
    :param label: ``equivalent`` or ``different``
    :param kind: what tells them apart: ``sequential`` or ``concurrent``
    :param by: how the label was come by: a construction, or a witness
    :param scenario: file beside the list, for a witness beside others
    :param memory: model under which the witness was found: ``sc``, or ``pso`` where nothing shows it under ``sc``
    """

    id: str
    operator: str
    file: str
    function: str
    old: str
    new: str
    label: str
    kind: str
    by: str
    scenario: str = ""
    memory: str = "sc"

    def changed(self, root: Path = ROOT) -> tuple[str, str]:
        """The file's text without and with the change.

        :raises PairError: the old text does not stand once in the function
        """
        text = (root / self.file).read_text(encoding="utf-8")
        start, end = _lines_of(text, self.function) or (0, 0)
        lines = text.splitlines(keepends=True)
        body = "".join(lines[start:end])
        if body.count(self.old) != 1:
            raise PairError(f"{self.id}: its old text stands {body.count(self.old)} times in {self.function}", "correct it", self.file)
        return text, "".join((*lines[:start], body.replace(self.old, self.new), *lines[end:]))

    def patch(self, root: Path = ROOT) -> str:
        """A unified diff, as ``kmm check`` takes it."""
        old, new = (text.splitlines(keepends=True) for text in self.changed(root))
        return "".join(difflib.unified_diff(old, new, f"a/{self.file}", f"b/{self.file}"))


def _lines_of(text: str, function: str) -> tuple[int, int] | None:
    """First line and the one behind the last, from 0."""
    body: list[ast.stmt] = ast.parse(text).body
    found: ast.stmt | None = None
    for name in function.split("."):
        nodes = (node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name)
        node = next(nodes, None)
        if node is None:
            return None
        found, body = node, node.body
    return None if found is None or found.end_lineno is None else (found.lineno - 1, found.end_lineno)


@attrs.frozen(kw_only=True)
class _File:
    format: int
    pairs: tuple[Pair, ...] = attrs.field(metadata=key("pair"))


def load_pairs(path: Path) -> tuple[Pair, ...]:
    """Read a list of pairs.

    :raises PairError: it cannot be read, or something in it is unknown or missing
    """
    file = read_toml(path, _File, "list of pairs", PairError)
    ids = [each.id for each in file.pairs]
    if file.format != FORMAT or len(set(ids)) != len(ids):
        raise PairError(f"is not of format {FORMAT}, or has a name twice", "correct it", str(path))
    for each in file.pairs:
        if each.label not in LABELS or each.kind not in KINDS or each.memory not in MEMORY or (each.scenario and each.kind != "concurrent"):
            raise PairError(f"{each.id}: label, kind or scenario is wrong", "correct it", str(path))
    return file.pairs


def all_pairs() -> tuple[Pair, ...]:
    """The corpus: every pair of all lists, once.

    :raises PairError: a list cannot be read, or has a pair that another one has
    """
    pairs = [pair for name in LISTS for pair in load_pairs(ROOT / f"corpus/{name}.toml") if pair.by != SEEN_IN]
    twice = [name for name, count in Counter(pair.id for pair in pairs).items() if count > 1]
    if twice:
        raise PairError(f"{twice[0]} stands in two lists", "take it out of one", "corpus")
    return tuple(pairs)
