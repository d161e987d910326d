"""The hash of a verdict: over what was run and seen, and over what was concluded; not over time, paths or versions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from operator import attrgetter
from typing import Final

import attrs

from kmm.judge.pair import Pair
from kmm.scenario.model import Scenario

_IDENTITY: Final = attrgetter(*(field.name for field in attrs.fields(Scenario) if field.eq))


class Transcript:
    """A running hash over pairs, or over the hashes of earlier transcripts."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def pair(self, pair: Pair) -> None:
        """Add a scenario and what both variants showed; where they agree, once."""
        self._hash.update(repr(_IDENTITY(pair.scenario)).encode())
        self._hash.update(pair.digest)
        for o in (pair.baseline, pair.candidate if pair.differs else None):
            self._hash.update(b"\n" if o is None else o.canonical() + b"\n")

    def part(self, digest: bytes) -> None:
        """Add the digest of another transcript."""
        self._hash.update(digest)

    def digest(self) -> bytes:
        """The hash so far."""
        return self._hash.digest()


def certificate(verdict: Mapping[str, object], transcript: bytes) -> str:
    """The certificate of a verdict, in hexadecimal.

    :param verdict: in its JSON form; what depends on time, place and version of a run is left out
    :param transcript: digest of every pair that it rests on
    """
    covered = {key: value for key, value in verdict.items() if key not in ("certificate", "environment", "counterexample")}
    example = verdict.get("counterexample")
    covered["counterexample"] = example["scenario"] if isinstance(example, Mapping) else None
    return hashlib.sha256(json.dumps(covered, sort_keys=True).encode() + b"\n" + transcript).hexdigest()
