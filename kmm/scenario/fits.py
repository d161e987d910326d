"""Which pages a VMA may have."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable
from typing import Final

from kmm.scenario.page import ANON, Kind, PageState

WITHOUT_FOLIO: Final = ("mixedmap", "pfnmap")
"""Flags of VMAs in which an entry may map a frame that has no folio."""


@functools.lru_cache(4096)
def needed_flags(page: PageState) -> tuple[str, ...]:
    """VMA flags without which the page cannot be there, sorted."""
    needed = {
        "locked": page.mlocked,
        "mergeable": page.ksm or (page.kind is Kind.ZERO and page.dirty),
        "mixedmap": page.kind is Kind.SPECIAL,
        "uffd_wp": page.uffd_wp or page.kind is Kind.UFFD_WP_MARKER,
        "write": page.write,
    }
    return tuple(flag for flag, need in needed.items() if need)


def fitting_flags(pages: Iterable[PageState]) -> tuple[str, ...]:
    """The flags of a writable VMA in which all of these pages may stand, sorted."""
    return tuple(sorted({"read", "write"}.union(*map(needed_flags, pages))))


def misfit(page: PageState, flags: Collection[str], *, anon_vma: bool = True) -> tuple[str, str] | None:
    """Why a VMA cannot have the page, as the end of a sentence about it, and the remedy; ``None`` when it can.

    :param flags: the VMA's
    """
    if page.kind in ANON and not anon_vma:
        return "needs an anon_vma", "say anon_vma = true"
    for flag in needed_flags(page):
        if flag not in flags and not (flag == "mixedmap" and "pfnmap" in flags):
            return _LACKS[flag]
    if "hugetlb" in flags and page.kind is not Kind.NONE:
        return "cannot be in a hugetlb VMA", "make its map all none"
    if "droppable" in flags and (page.kind is Kind.SWAP or (page.kind is Kind.PRESENT and not page.lazyfree)):
        return "cannot be in a droppable VMA", "use a lazyfree page, or drop droppable"
    return None


_LACKS: Final = {
    "locked": ("needs a locked VMA", 'add "locked" to its flags'),
    "mergeable": ("needs a VMA in which KSM merges", 'add "mergeable" to its flags'),
    "mixedmap": ("needs a VMA with frames that have no folio", 'add "mixedmap" or "pfnmap" to its flags'),
    "uffd_wp": ("needs a VMA armed for uffd-wp", 'add "uffd_wp" to its flags'),
    "write": ("is writable in a VMA that is not", "use a read-only letter, or add write"),
}
