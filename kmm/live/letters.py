"""Turns page states into a map: the default alphabet where it fits, letters of their own for the rest."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Final

from kmm.live.reasons import Reason, Skip
from kmm.scenario.alphabet import ALPHABET
from kmm.scenario.page import PageState

FREE: Final = [c for c in string.ascii_uppercase + string.ascii_lowercase + string.digits + "!$%&()*+,-/:;<=>?@^_|~" if c not in ALPHABET]
"""Letters for states that the default alphabet lacks, in the order in which they are given out."""


_NOTHING: Final[Mapping[int, int]] = {}


def draw_map(states: Sequence[PageState], merged: Mapping[int, int] = _NOTHING) -> tuple[str, tuple[tuple[str, PageState], ...]]:
    """One letter a page, and the letters that this takes beyond the default alphabet, sorted.

    They are given out by first use, so that equal states give equal maps.

    :param merged: which folio a page merged by KSM is, by page index: every one has a letter of its own
    :raises Skip: there are more states than letters
    """
    letter_of: dict[tuple[PageState, int | None], str] = {}
    for letter, state in ALPHABET.items():
        letter_of.setdefault((state, None), letter)
    extra: list[tuple[str, PageState]] = []
    out: list[str] = []
    for index, state in enumerate(states):
        key = state, merged.get(index)
        if key not in letter_of:
            if len(extra) == len(FREE):
                raise Skip(Reason.LETTERS)
            letter_of[key] = FREE[len(extra)]
            extra.append((letter_of[key], state))
        out.append(letter_of[key])
    return "".join(out), tuple(sorted(extra, key=lambda each: each[0]))
