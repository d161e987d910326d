"""The twenty pieces of :mod:`corpus.plain.original`, each changed as its pair changes the port."""

from __future__ import annotations

from corpus.plain.original import MASK, PMD_NR, PMD_ORDER, SIZE, order_of, page_of


def max_ptes_none_inverted(order: int, none: int, full_scan: bool) -> int:
    order, none = order_of(order), page_of(none)
    if full_scan:
        return PMD_NR - 1
    if order != PMD_ORDER:
        return min(none, PMD_NR // 2 - 1) >> (PMD_ORDER - order)
    return none


def max_ptes_none_conditional(order: int, none: int, full_scan: bool) -> int:
    order, none = order_of(order), page_of(none)
    if full_scan:
        return PMD_NR - 1
    if order == PMD_ORDER:
        return none
    return (none if none < PMD_NR // 2 else PMD_NR // 2 - 1) >> (PMD_ORDER - order)


def max_ptes_none_shifted_first(order: int, none: int, full_scan: bool) -> int:
    order, none = order_of(order), page_of(none)
    if full_scan:
        return PMD_NR - 1
    if order == PMD_ORDER:
        return none
    return min(none >> (PMD_ORDER - order), PMD_NR // 2 - 1)


def max_ptes_none_unlimited(order: int, none: int, full_scan: bool) -> int:
    order, none = order_of(order), page_of(none)
    if full_scan:
        return PMD_NR
    if order == PMD_ORDER:
        return none
    return min(none, PMD_NR // 2 - 1) >> (PMD_ORDER - order)


def walk_enough_added(bitmap: int, enabled: int, none: int) -> list[tuple[int, int]]:
    none = page_of(none)
    tried = []
    stack = [(PMD_ORDER, 0)]
    while stack:
        order, offset = stack.pop()
        nr = 1 << order
        if enabled & 1 << order:
            bits_set = (bitmap >> offset & (1 << nr) - 1).bit_count()
            if bits_set + none >= nr:
                tried.append((order, offset))
                continue
        if order > 2:
            stack.append((order - 1, offset + nr // 2))
            stack.append((order - 1, offset))
    return tried


def walk_children_extended(bitmap: int, enabled: int, none: int) -> list[tuple[int, int]]:
    none = page_of(none)
    tried = []
    stack = [(PMD_ORDER, 0)]
    while stack:
        order, offset = stack.pop()
        nr = 1 << order
        if enabled & 1 << order:
            bits_set = (bitmap >> offset & (1 << nr) - 1).bit_count()
            if bits_set > nr - none - 1:
                tried.append((order, offset))
                continue
        if order > 2:
            stack += [(order - 1, offset + nr // 2), (order - 1, offset)]
    return tried


def walk_one_too_few(bitmap: int, enabled: int, none: int) -> list[tuple[int, int]]:
    none = page_of(none)
    tried = []
    stack = [(PMD_ORDER, 0)]
    while stack:
        order, offset = stack.pop()
        nr = 1 << order
        if enabled & 1 << order:
            bits_set = (bitmap >> offset & (1 << nr) - 1).bit_count()
            if bits_set >= nr - none - 1:
                tried.append((order, offset))
                continue
        if order > 2:
            stack.append((order - 1, offset + nr // 2))
            stack.append((order - 1, offset))
    return tried


def walk_right_half_first(bitmap: int, enabled: int, none: int) -> list[tuple[int, int]]:
    none = page_of(none)
    tried = []
    stack = [(PMD_ORDER, 0)]
    while stack:
        order, offset = stack.pop()
        nr = 1 << order
        if enabled & 1 << order:
            bits_set = (bitmap >> offset & (1 << nr) - 1).bit_count()
            if bits_set > nr - none - 1:
                tried.append((order, offset))
                continue
        if order > 2:
            stack.append((order - 1, offset))
            stack.append((order - 1, offset + nr // 2))
    return tried


def node_by_key(load: list[int]) -> int:
    load = [*load[:4], 0]
    return max(range(len(load)), key=load.__getitem__)


def node_last_of_ties(load: list[int]) -> int:
    load = [*load[:4], 0]
    most = max(load)
    return len(load) - 1 - load[::-1].index(most)


def errno_in_words(result: str) -> str:
    if result == "ALLOC_HUGE_PAGE_FAIL":
        return "ENOMEM"
    if result in ("CGROUP_CHARGE_FAIL", "EXCEED_NONE_PTE"):
        return "EBUSY"
    if result in ("PAGE_COUNT", "PAGE_LOCK", "PAGE_LRU", "DEL_PAGE_LRU", "PAGE_FILLED"):
        return "EAGAIN"
    return "EINVAL"


def errno_count_is_permanent(result: str) -> str:
    if result == "ALLOC_HUGE_PAGE_FAIL":
        return "ENOMEM"
    if result in ("CGROUP_CHARGE_FAIL", "EXCEED_NONE_PTE"):
        return "EBUSY"
    transient = {"PAGE_LOCK", "PAGE_LRU", "DEL_PAGE_LRU", "PAGE_FILLED"}
    return "EAGAIN" if result in transient else "EINVAL"


def referenced_de_morgan(referenced: int, unmapped: int, is_khugepaged: bool) -> bool:
    enough = referenced and not (unmapped and referenced < PMD_NR // 2)
    return not is_khugepaged or bool(enough)


def referenced_half_is_few(referenced: int, unmapped: int, is_khugepaged: bool) -> bool:
    few = not referenced or (unmapped and referenced <= PMD_NR // 2)
    return not (is_khugepaged and few)


def pmd_state_merged(none: bool, migration: bool, present: bool, huge: bool, bad: bool) -> str:
    if none:
        return "PMD_NONE"
    if migration or (present and huge):
        return "PMD_MAPPED"
    if not present or bad:
        return "PMD_NULL"
    return "SUCCEED"


def pmd_state_migration_lost(none: bool, migration: bool, present: bool, huge: bool, bad: bool) -> str:
    if none:
        return "PMD_NONE"
    if not present:
        return "PMD_NULL"
    if huge:
        return "PMD_MAPPED"
    if bad:
        return "PMD_NULL"
    return "SUCCEED"


def range_rounded_otherwise(start: int, end: int) -> tuple[int, int]:
    return (start + SIZE - 1) & MASK, end & MASK


def range_start_rounded_down(start: int, end: int) -> tuple[int, int]:
    return start & MASK, end & MASK


def hole_de_morgan(armed: bool, is_khugepaged: bool, none_or_zero: int, limit: int) -> bool:
    return not (armed or (is_khugepaged and none_or_zero > limit))


def swap_limit_reached(entries: list[bool], limit: int) -> str:
    unmapped = 0
    for swapped in entries[:PMD_NR]:
        if swapped:
            unmapped += 1
            if unmapped >= page_of(limit):
                return "EXCEED_SWAP_PTE"
    return "SUCCEED"
