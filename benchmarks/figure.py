"""What a benchmark says."""

from __future__ import annotations

import attrs


@attrs.frozen
class Figure:
    """One measured figure.

    :param want: the bound, in words; ``-``: there is none
    :param good: whether the bound holds
    """

    name: str
    value: str
    want: str = "-"
    good: bool = True
