"""Writes the lists: candidates of the generator that kmm takes as patches and, if they are to differ, that have a witness.

``python -m corpus.select``. The lists are committed; labels are never made from what the judge says.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
import tomli_w

from corpus.generate import different, equivalent
from corpus.pairs import FORMAT, ROOT, Pair
from corpus.witness import witness
from kmm.judge.named import Named
from kmm.lab.sides import opened
from kmm.scenario.errors import BadInputError

AT_MOST: Final = 1
"""Of an operator and function."""


def variant_name(pair: Pair) -> str:
    """The variant that a pair's file is, or v12."""
    return Path(pair.file).stem if pair.file.startswith("refactors/") else "v12"


def fits(pair: Pair) -> bool:
    """kmm takes it as a patch: it imports, and has no new type error."""
    with tempfile.TemporaryDirectory() as directory:
        patch = Path(directory) / "pair.patch"
        patch.write_text(pair.patch(), encoding="utf-8")
        name = variant_name(pair)
        try:
            with opened(Named(name, str(ROOT)), Named(name, str(ROOT), patches=(str(patch),))):
                return True
        except BadInputError:
            return False


def chosen_equivalent() -> Iterator[Pair]:
    """Those that fit."""
    return (pair for pair in equivalent(AT_MOST) if fits(pair))


def chosen_different() -> Iterator[Pair]:
    """Those that fit and have a witness, which becomes what the label rests on."""
    for pair in different(AT_MOST):
        said = witness(pair)
        if said and fits(pair):
            yield attrs.evolve(pair, by=said)


def write(name: str, pairs: Iterator[Pair]) -> None:
    """Write a list as its pairs come."""
    found = []
    for pair in pairs:
        found.append({key: value for key, value in attrs.asdict(pair).items() if value})
        print(pair.id, pair.by, flush=True)
        (ROOT / "corpus" / name).write_text(tomli_w.dumps({"format": FORMAT, "pair": found}, multiline_strings=True), encoding="utf-8")


if __name__ == "__main__":
    if "sequential" not in sys.argv[1:]:
        write("equivalent.toml", chosen_equivalent())
    if "equivalent" not in sys.argv[1:]:
        write("sequential.toml", chosen_different())
