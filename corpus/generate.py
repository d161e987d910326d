"""Writes the lists that operators give: ``python -m corpus.generate [equivalent|sequential]``.

Of each operator, so many candidates, spread over functions: those that type-check and, if they are to differ, that have a witness.
No label is made from what the judge says of a pair.
"""

from __future__ import annotations

import ast
import sys
import tempfile
from collections.abc import Iterable
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Final

import attrs
import tomli_w

from corpus.change import CHANGE
from corpus.keep import KEEP
from corpus.pairs import FORMAT, ROOT, Pair, load_pairs
from corpus.places import candidates, renames
from corpus.witness_sequential import EndlessError, witness
from kmm.lab.trees import Tree, take
from kmm.lab.typecheck import Check, new_errors

FUNCTIONS: Final = {"equivalent": 6, "sequential": 7}
"""Of an operator, in how many functions at most."""
TRIES: Final = 3
"""Of an operator and function, one pair, out of so many candidates."""
LOOKED_AT: Final = 400
"""Scenarios, for the witness of a candidate."""
_USUAL: Final = (("scenario", ""), ("memory", "sc"))
RENAMED: Final = "the new name stands nowhere else in the function, and replaces the old one everywhere"


def equivalent() -> list[Pair]:
    """Rewrites that keep the meaning."""
    why = {name: reason for name, (_, reason) in KEEP.items()}
    rewrites = {name: rewrite for name, (rewrite, _) in KEEP.items()}
    operators = [renames(RENAMED), *(functions for _, functions in candidates(rewrites, "equivalent", why))]
    return _chosen(operators, FUNCTIONS["equivalent"])


def sequential() -> list[Pair]:
    """Mistakes that have a witness, which becomes what the label rests on; first those that other tools judge, too."""
    compared = [pair for pair in load_pairs(ROOT / "corpus/compared.toml") if pair.label == "different"]
    taken = {(pair.file, pair.changed()[1]) for pair in compared}
    new = (_without(taken, functions) for _, functions in candidates(CHANGE, "different", {}))
    operators = [_witnessed(functions, FUNCTIONS["sequential"]) for functions in new]
    return [*(attrs.evolve(pair, by=witness(pair)) for pair in compared), *_chosen(operators, FUNCTIONS["sequential"])]


def _without(taken: set[tuple[str, str]], functions: list[list[Pair]]) -> list[list[Pair]]:
    return [[pair for pair in pairs if (pair.file, pair.changed()[1]) not in taken] for pairs in functions]


def _witnessed(functions: list[list[Pair]], most: int) -> list[list[Pair]]:
    """Of a few functions, those candidates that have a witness."""
    found: list[list[Pair]] = []
    for pairs in functions:
        good = [attrs.evolve(pair, by=said) for pair in pairs[:TRIES] if (said := _said(pair))]
        found += [good] if good else []
        if len(found) == most:
            break
    return found


def _said(pair: Pair) -> str:
    try:
        said = witness(pair, LOOKED_AT)
    except EndlessError:
        said = ""
    print(f"{pair.id}: {said or 'no witness'}", flush=True)
    return said


def _chosen(operators: list[list[list[Pair]]], most: int) -> list[Pair]:
    """Of each operator and function, the first candidate that fits, in so many functions."""
    tried = [[pairs[:TRIES] for pairs in functions[: 2 * most]] for functions in operators]
    good: set[str] = set()
    for at in range(TRIES):
        good |= fitting([pairs[at] for functions in tried for pairs in functions if at < len(pairs) and not good & {p.id for p in pairs}])
    chosen = ((next((pair for pair in pairs if pair.id in good), None) for pairs in functions) for functions in tried)
    return [pair for firsts in chosen for pair in islice((each for each in firsts if each is not None), most)]


def fitting(pairs: list[Pair]) -> set[str]:
    """Names of those with which there is no new type error. One of each function is checked at a time."""
    good: set[str] = set()
    waiting = list(pairs)
    while waiting:
        batch = list({(pair.file, pair.function): pair for pair in reversed(waiting)}.values())
        waiting = [pair for pair in waiting if pair not in batch]
        with tempfile.TemporaryDirectory(prefix="kmm-corpus-") as directory:
            root = Path(directory).resolve()
            take(Tree(directory=ROOT), root)
            for pair in batch:
                (root / pair.file).write_text(pair.changed(root)[1], encoding="utf-8")
            with Check(root) as check:
                errors = new_errors(check, _untouched)
            bad = {(file, function_at(root / file, line)) for file, line, _ in errors}
        good |= {pair.id for pair in batch if not {(pair.file, pair.function), (pair.file, "")} & bad}
        print(f"{len(batch)} checked, {len(waiting)} to be checked", flush=True)
    return good


def function_at(file: Path, line: int) -> str:
    """The function that a line of a file is in; empty: none."""
    functions = (node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef))
    return next((node.name for node in functions if node.lineno <= line <= (node.end_lineno or 0)), "")


@cache
def _untouched() -> Path:
    root = Path(tempfile.mkdtemp(prefix="kmm-corpus-")).resolve()
    take(Tree(directory=ROOT), root)
    return root


def text_of(pairs: Iterable[Pair]) -> str:
    """A list as it stands in its file."""
    found = [{key: value for key, value in attrs.asdict(pair).items() if (key, value) not in _USUAL} for pair in pairs]
    return tomli_w.dumps({"format": FORMAT, "pair": found}, multiline_strings=True)


if __name__ == "__main__":
    for name, pairs in (("equivalent", equivalent), ("sequential", sequential)):
        if name in (sys.argv[1:] or [name]):
            (ROOT / f"corpus/{name}.toml").write_text(text_of(pairs()), encoding="utf-8")
