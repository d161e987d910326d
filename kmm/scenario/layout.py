"""How VMAs lie in the range of a table: from one map to one VMA or two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kmm.scenario.model import Vma
from kmm.scenario.page import ANON, PageState

LAYOUTS: Final = {
    "whole": "one VMA that covers the table",
    "wide": "one VMA that goes on before and after it",
    "split": "two VMAs that meet at a page; the second one is not dumped",
    "hole": "two VMAs with one page between them that neither has",
    "head": "one VMA that begins at a page and goes on after the table",
    "tail": "one VMA that ends before a page and begins before the table",
}
"""Each way, in words."""


def lay_out(
    layout: str, pages: str, at: int, flags: tuple[str, ...], alphabet: Mapping[str, PageState], *, anon_vma: bool
) -> tuple[Vma, ...]:
    """The VMAs of a map.

    :param layout: one of :data:`LAYOUTS`
    :param at: the page that it is about, 1 to one less than the number of pages
    :param anon_vma: also a VMA that needs none has one
    """
    nr = len(pages)

    def vma(first: int, end: int, own_flags: tuple[str, ...] = flags, *, before: int = 0, after: int = 0) -> Vma:
        own = pages[first:end]
        needed = any(alphabet[c].kind in ANON for c in own)
        start = None if len(own) == nr else first
        return Vma(pages=own, flags=own_flags, anon_vma=anon_vma or needed, start=start, before=before, after=after)

    other = tuple(sorted(set(flags) ^ {"dontdump"}))
    match layout:
        case "wide":
            return (vma(0, nr, before=nr, after=nr),)
        case "split":
            return vma(0, at), vma(at, nr, other)
        case "hole":
            return vma(0, at), *((vma(at + 1, nr, other),) if at + 1 < nr else ())
        case "head":
            return (vma(at, nr, after=nr),)
        case "tail":
            return (vma(0, at, before=nr),)
    return (vma(0, nr),)
