"""Why a range is not captured."""

from __future__ import annotations

import enum

from kmm.live.proc import Mapping


class Reason(enum.Enum):
    """What keeps a range out of a capture, in the words that the user reads."""

    CHANGED = "changed while it was read"
    FILE = "file VMA"
    FOREIGN = "page that is not anonymous"
    HUGETLB = "hugetlb"
    KSM_SWAPCACHE = "merged page in the swap cache"
    LARGE_SWAPCACHE = "large folio in the swap cache"
    LAZYFREE_MLOCKED = "lazyfree page that is mlocked"
    LETTERS = "more page states than letters"
    MANY_SHARERS = "page mapped by more than four address spaces"
    MAYBE_PMD = "perhaps mapped by a PMD (privilege tells)"
    MISALIGNED = "misaligned large folio"
    MLOCKED = "mlocked by another address space"
    OVERLAP = "pieces of two large folios in one place"
    POISON = "poisoned page"
    SHARED = "shared mapping"
    SMALL_ORDER = "folio of order 1"
    SPECIAL = "special mapping"
    SPECIAL_ENTRY = "migration, device or poison entry"
    TOO_LARGE = "VMA above 256 GiB"
    UNTOUCHED = "untouched"


class Skip(Exception):
    """The range at hand is not captured."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


_TOO_LARGE = 256 << 30


def vma_reason(mapping: Mapping) -> Reason | None:
    """Why no range of this VMA is captured; ``None`` for anonymous memory."""
    flags, name = mapping.flags, mapping.name
    if "ht" in flags:
        return Reason.HUGETLB
    if flags & {"pf", "mm"} or _is_kernel_made(name):
        return Reason.SPECIAL
    if mapping.perms.endswith("s"):
        return Reason.SHARED
    if mapping.inode or name.startswith("/"):
        return Reason.FILE
    if mapping.end - mapping.start > _TOO_LARGE:
        return Reason.TOO_LARGE
    return None


def _is_kernel_made(name: str) -> bool:
    """As ``[vdso]``; the heap, stacks and named anonymous memory are not."""
    return name.startswith("[") and not name.startswith(("[heap]", "[stack", "[anon:"))
