"""Intended differences: what a variant declares about how it departs from another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import attrs


@attrs.frozen(kw_only=True)
class Case:
    """What a predicate may ask about a scenario.

    Pages are counted over the whole table, limits are in pages. A scenario with steps is several cases: one for each visit of khugepaged or
    MADV_COLLAPSE to a range, with what it finds there.

    :param driver: ``khugepaged``, ``madvise`` or ``direct``
    :param is_khugepaged: khugepaged's limits apply
    :param order: of a direct attempt
    :param offset: first page of a direct attempt
    :param pmd_order: ``HPAGE_PMD_ORDER``
    :param ptes: entries of the table
    :param none: empty entries
    :param zero: zero pages
    :param unmapped: entries that are neither none nor present
    :param swap: entries of the swap device
    :param migrating: entries of pages that are being migrated
    :param present: pages of folios that are mapped
    :param shared: of these, those that more than one entry maps
    :param merged: of these, those that KSM merged with another page of the table
    :param lazyfree: of these, those that are not backed by swap
    :param young: of these, those that a scan counts as referenced
    :param armed: some VMA is registered with userfaultfd
    :param writable: the VMA that covers the table is, else some VMA
    :param droppable: some VMA is
    :param enabled_orders: bit mask of the orders that the driver may use in the VMA that covers the table; 0 when there is none
    :param max_ptes_none: limit on holes
    :param max_ptes_swap: limit on entries that are not mapped
    :param max_ptes_shared: limit on shared pages
    :param failures: kinds of the injected failures
    :param events: operations of the events
    :param actors: operations of the actors, who run beside the driver and may change what it finds
    :param pmd: what the PMD entry is
    :param memcg_limited: the cgroup has a limit
    :param passes: how often the table is visited
    :param more: the pass, or the call of MADV_COLLAPSE, may go on to another range behind this one; only with steps
    :param debug_vm: CONFIG_DEBUG_VM
    :param arch: ``x86`` or ``walking``
    :param vmemmap: CONFIG_SPARSEMEM_VMEMMAP
    """

    driver: str
    is_khugepaged: bool
    order: int | None
    offset: int
    pmd_order: int
    ptes: int
    none: int
    zero: int
    unmapped: int
    swap: int
    migrating: int
    present: int
    shared: int
    merged: int
    lazyfree: int
    young: int
    armed: bool
    writable: bool
    droppable: bool
    enabled_orders: int
    max_ptes_none: int
    max_ptes_swap: int
    max_ptes_shared: int
    failures: tuple[str, ...]
    events: tuple[str, ...]
    actors: tuple[str, ...]
    pmd: str
    memcg_limited: bool
    passes: int
    more: bool
    debug_vm: bool
    arch: str
    vmemmap: bool


@attrs.frozen(kw_only=True)
class IntendedDifference:
    """One observable that may differ where the predicate holds.

    :param observable: name of an observable, as a verdict shows it; ``errno`` is also what became of the step that asked. Where the state
        at the end may differ (``address_spaces``) nothing is compared behind the step
    :param predicate: whether a case is one of those in which it may
    :param why: one clause
    :param source: who asked for it: a review comment, a patch, a commit
    """

    observable: str
    predicate: Callable[[Case], bool]
    why: str
    source: str


Intended: TypeAlias = Mapping[str, tuple[IntendedDifference, ...]]
"""What a variant's module exports as ``INTENDED``: baseline's name to the differences from it."""


def differs(observables: str, predicate: Callable[[Case], bool], why: str, source: str) -> tuple[IntendedDifference, ...]:
    """One declaration for each observable.

    :param observables: names, separated by blanks
    """
    return tuple(IntendedDifference(observable=each, predicate=predicate, why=why, source=source) for each in observables.split())
