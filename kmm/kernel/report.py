"""What a sanitizer says."""

from __future__ import annotations

import sys
from typing import Final

import attrs

CHECKS: Final = ("KASAN", "LOCKDEP", "PAGE_TABLE_CHECK", "DEBUG_VM", "REFCOUNT", "TLB", "CONSERVATION", "TRANSPARENCY", "FIXPOINT")
"""Every sanitizer, in the order in which they are asked."""


_BELOW: Final = ("kmm.kernel", "kmm.explore")


@attrs.frozen
class Report:
    """One violation.

    :param check: one of :data:`CHECKS`
    :param text: one sentence: what broke, where and since when
    """

    check: str
    text: str


def kernel_function(skip: int = 0) -> str:
    """Name of the innermost running function outside ``kmm.kernel`` and ``kmm.explore``.

    :param skip: so many frames, from the caller on, are known to be inside
    """
    frame = sys._getframe(1 + skip)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_BELOW):
        frame = frame.f_back
    return frame.f_code.co_name
