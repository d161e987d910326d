"""Turns page states into a map: the default alphabet where it fits, letters of their own for the rest."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Final

from kmm.live.reasons import Reason, Skip
from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.page import PageState

FREE: Final = [c for c in string.ascii_uppercase + string.ascii_lowercase + string.digits + "!$%&()*+,-/:;<=>?@^_|~" if c not in ALPHABET]
"""Letters for states that the default alphabet lacks, in the order in which they are given out."""


def draw_map(states: Sequence[PageState]) -> tuple[str, tuple[tuple[str, PageState], ...]]:
    """One letter a page, and the letters that this takes beyond the default alphabet, sorted.

    They are given out by first use, so that equal states give equal maps.

    :raises Skip: there are more states than letters
    """
    letter_of: dict[PageState, str] = {}
    for letter, state in ALPHABET.items():
        letter_of.setdefault(state, letter)
    extra: list[tuple[str, PageState]] = []
    out: list[str] = []
    for state in states:
        if state not in letter_of:
            if len(extra) == len(FREE):
                raise Skip(Reason.LETTERS)
            letter_of[state] = FREE[len(extra)]
            extra.append((letter_of[state], state))
        out.append(letter_of[state])
    return "".join(out), tuple(sorted(extra, key=lambda each: each[0]))
