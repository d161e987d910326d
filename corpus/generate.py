"""Writes the lists that operators give: ``python -m corpus.generate [equivalent|sequential]``.

Of each operator, so many candidates, spread over functions: those that type-check and, if they are to differ, that have a witness.
No label is made from what the judge says of a pair.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

import attrs
import tomli_w

from corpus.change import CHANGE
from corpus.keep import KEEP
from corpus.pairs import FORMAT, ROOT, Pair
from corpus.places import candidates, renames
from corpus.rename import RENAME
from corpus.witness_sequential import EndlessError, witness
from kmm.lab.trees import Tree, take
from kmm.lab.typecheck import new_errors

FUNCTIONS: Final = {"equivalent": 8, "sequential": 7}
"""Of an operator, in how many functions at most."""
TRIES: Final = 3
"""Of an operator and function, one pair, out of so many candidates."""
RENAMED: Final = "the new name stands nowhere else in the function, and replaces the old one everywhere"


def equivalent() -> Iterator[Pair]:
    """Rewrites that keep the meaning."""
    operators: Iterable[tuple[str, list[list[Pair]]]] = (
        (RENAME, renames(RENAMED)),
        *candidates({name: rewrite for name, (rewrite, _) in KEEP.items()}, "equivalent", {name: why for name, (_, why) in KEEP.items()}),
    )
    for _, functions in operators:
        yield from _some(functions, FUNCTIONS["equivalent"], lambda pair: pair if fits(pair) else None)


def sequential() -> Iterator[Pair]:
    """Mistakes that have a witness, which becomes what the label rests on."""
    for _, functions in candidates(CHANGE, "different", {}):
        yield from _some(functions, FUNCTIONS["sequential"], _witnessed)


def _some(functions: list[list[Pair]], most: int, accepted: Callable[[Pair], Pair | None]) -> Iterator[Pair]:
    """One of each function, until there are enough."""
    count = 0
    for pairs in functions:
        for pair in pairs[:TRIES]:
            good = accepted(pair)
            if good is not None:
                yield good
                count += 1
                break
        if count == most:
            return


def _witnessed(pair: Pair) -> Pair | None:
    try:
        said = witness(pair)
    except EndlessError:
        return None
    return attrs.evolve(pair, by=said) if said and fits(pair) else None


@cache
def _untouched() -> Path:
    root = Path(tempfile.mkdtemp(prefix="kmm-corpus-")).resolve()
    take(Tree(directory=ROOT), root)
    return root


def fits(pair: Pair) -> bool:
    """The file has no type error with it that was not there without."""
    with tempfile.TemporaryDirectory(prefix="kmm-corpus-") as directory:
        root = Path(directory).resolve()
        take(Tree(directory=ROOT), root)
        (root / pair.file).write_text(pair.changed()[1], encoding="utf-8")
        return not new_errors(root, _untouched)


def text_of(pairs: Iterable[Pair]) -> str:
    """A list as it stands in its file."""
    found = [{key: value for key, value in attrs.asdict(pair).items() if value} for pair in pairs]
    return tomli_w.dumps({"format": FORMAT, "pair": found}, multiline_strings=True)


def write(name: str, pairs: Iterator[Pair]) -> None:
    """Write a list as its pairs come."""
    found: list[Pair] = []
    for pair in pairs:
        found.append(pair)
        print(f"{pair.id}: {pair.by}", flush=True)
        (ROOT / "corpus" / name).write_text(text_of(found), encoding="utf-8")


if __name__ == "__main__":
    if "sequential" not in sys.argv[1:]:
        write("equivalent.toml", equivalent())
    if "equivalent" not in sys.argv[1:]:
        write("sequential.toml", sequential())
