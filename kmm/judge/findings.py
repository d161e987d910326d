"""What is wrong on both sides alike: loud, but without effect on the relation."""

from __future__ import annotations

import re
from typing import Final

import attrs

from kmm.judge.observe import Observation
from kmm.scenario.model import Scenario

OUTCOME: Final = "OUTCOME"
"""In place of a sanitizer's name: neither task returned."""
CONTRACT: Final = "CONTRACT"
"""Likewise: a scenario outside of the contract, which enters neither relation nor certificate."""
UNDETERMINED: Final = "UNDETERMINED"
"""Likewise: a scenario that gave no answer."""

_NUMBER: Final = re.compile(r"\b\d+\b")


@attrs.frozen(kw_only=True)
class Finding:
    """One kind of violation.

    :param check: the sanitizer, or :data:`OUTCOME`, :data:`CONTRACT` or :data:`UNDETERMINED`
    :param sentence: what it says; ``N`` stands for every number
    :param count: scenarios that show it
    :param scenario: the first of them
    """

    check: str
    sentence: str
    count: int
    scenario: Scenario


def shared(a: Observation, b: Observation) -> list[tuple[str, str]]:
    """(check, sentence) of what both observations show, each once."""
    if not a.violations and a.outcome == "returned":
        return []
    both = {(OUTCOME, a.outcome)} if a.outcome == b.outcome != "returned" else set()
    both |= {(str(check), str(text)) for check, text in _texts(a) & _texts(b)}
    return sorted({(check, generalised(text)) for check, text in both})


def _texts(o: Observation) -> set[tuple[object, object]]:
    return {(each[0], each[1]) for each in o.violations if isinstance(each, tuple)}


def generalised(sentence: str) -> str:
    """The sentence with ``N`` for every number."""
    return _NUMBER.sub("N", sentence)
