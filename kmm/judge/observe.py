"""What a run shows: the value that the judge compares."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from operator import attrgetter
from typing import Final, TypeAlias

import attrs

from kmm.kernel.machine import Machine
from kmm.kernel.report import Report
from kmm.mm.folio import Folio, Page
from kmm.mm.khugepaged.types import SCAN_STATUS, ScanResult
from kmm.mm.mm_types import MmStruct
from kmm.mm.pgtable import PtePage
from kmm.mm.pte import (
    ZERO_PFN,
    is_migration_entry_dirty,
    is_migration_entry_young,
    non_swap_entry,
    pte_marker_get,
    pte_swp_type,
    pte_t,
    swp_entry_pfn,
)
from kmm.mm.system import System
from kmm.scenario.quiescence import pmd_of, slots_in_use, table_of
from kmm.scenario.run import Run

Value: TypeAlias = "int | str | bool | tuple[Value, ...] | None"
"""What observations are made of."""

_PFN_FIELD = ((1 << 40) - 1) << 12


@attrs.frozen(kw_only=True)
class Observation:
    """One observation; every part is an observable by its name.

    :param outcome: ``returned``, or what ended the task
    :param result: name of the SCAN code
    :param errno: of MADV_COLLAPSE
    :param mmap_locked: the out-flag
    :param events: what became of each event
    :param steps: what became of each step
    :param actors: what became of each actor
    :param trace: trace events in order; beside actors, those of each task
    :param vm_events: counters that are not zero
    :param mthp_stats: per-order counters that are not zero
    :param node_stat: node and cgroup counters that are not zero
    :param khugepaged: what the thread has done and where it stands, as (what, value), without what is nothing; only where there are steps
    :param notifier: invalidate windows, bytes from the table's start; an end is (-1, -1)
    :param tlb_flushes: flushed ranges, bytes from the table's start
    :param warnings: (function, condition)
    :param violations: (sanitizer, sentence), in the order of the checks
    :param address_spaces: per mm: counters, flags, PMD, entries
    :param folios: every folio that lives at the end, by name
    :param swap: slots in use
    """

    outcome: str
    result: str
    errno: str
    mmap_locked: bool | None
    events: tuple[str, ...]
    steps: tuple[str, ...]
    actors: tuple[str, ...]
    trace: tuple[Value, ...]
    vm_events: tuple[Value, ...]
    mthp_stats: tuple[Value, ...]
    node_stat: tuple[Value, ...]
    khugepaged: tuple[Value, ...]
    notifier: tuple[Value, ...]
    tlb_flushes: tuple[Value, ...]
    warnings: tuple[Value, ...]
    violations: tuple[Value, ...]
    address_spaces: tuple[Value, ...]
    folios: tuple[Value, ...]
    swap: tuple[Value, ...]

    def canonical(self) -> bytes:
        """Bytes that are equal exactly when two observations are."""
        return self._canonical

    @cached_property
    def _canonical(self) -> bytes:
        return repr(_values(self)).encode("ascii", "backslashreplace")


OBSERVABLES: Final = tuple(field.name for field in attrs.fields(Observation))
"""Names of the observables, in the order of the canonical bytes."""

_values: Final = attrgetter(*OBSERVABLES)


def observe(run: Run) -> Observation:
    """The observation of a finished run. Names folios by where they were; holds no time, step number or address."""
    this = run.world.system
    machine = this.machine
    base = this.base
    in_order = _as_a_set if run.scenario.actors else tuple
    return Observation(
        outcome=run.outcome,
        result=run.result,
        errno=run.errno,
        mmap_locked=run.mmap_locked,
        events=run.events,
        steps=run.steps,
        actors=run.actors,
        trace=_trace_of_tasks(machine) if run.scenario.actors else _trace(machine.trace_events),
        vm_events=_counters(this.vm_events),
        mthp_stats=tuple(sorted((order, name, n) for (order, name), n in this.mthp_stats.items() if n)),
        node_stat=_counters(
            {
                **this.node_stat,
                **{f"memcg {name}": n for name, n in this.mms[0].memcg.events.items()},
                "memory_failure_queued": len(this.poison_queued),
            }
        ),
        khugepaged=khugepaged(this) if run.scenario.steps or run.scenario.actors else (),
        notifier=in_order(this.notifier_windows),
        tlb_flushes=in_order((start - base, end - base) for start, end in machine.tlb_flushes),
        warnings=in_order(machine.warnings),
        violations=violations(machine.reports),
        address_spaces=tuple([each for mm in this.mms for each in _mm(this, mm)]),
        folios=_folios(this),
        swap=tuple((offset, slot._count, slot._cached is not None, slot._contents) for offset, slot in sorted(slots_in_use(this).items())),
    )


def _trace(events: Iterable[tuple[str, tuple[object, ...]]]) -> tuple[Value, ...]:
    return tuple((name, *[_trace_field(f) for f in fields]) for name, fields in events)


def _trace_of_tasks(machine: Machine) -> tuple[Value, ...]:
    """The events before the actors began, then those of each task under its name: never one order over several tasks."""
    of_tasks = machine.task_traces
    before = len(machine.trace_events) - sum(map(len, of_tasks.values()))
    named = [((f"{task}:", ()), *events) for task, events in sorted(of_tasks.items())]
    return _trace([*machine.trace_events[:before], *(event for each in named for event in each)])


def _as_a_set(values: Iterable[Value]) -> tuple[Value, ...]:
    """What several tasks do has no order between them."""
    return tuple(sorted(values, key=repr))


def violations(reports: list[Report]) -> tuple[tuple[str, str], ...]:
    """(sanitizer, sentence) of each report, sorted."""
    return tuple(sorted((r.check, r.text) for r in reports)) if reports else ()


def _trace_field(field: object) -> Value:
    if isinstance(field, ScanResult):
        return SCAN_STATUS[field]
    if isinstance(field, Folio):
        return field.label
    if isinstance(field, MmStruct):
        return field.ident
    return field if isinstance(field, int | str) or field is None else repr(field)


def _counters(counters: dict[str, int]) -> tuple[Value, ...]:
    return tuple(sorted((name, n) for name, n in counters.items() if n))


def khugepaged(this: System) -> tuple[tuple[str, int | str], ...]:
    """khugepaged's scans, sleep, list and cursor, as (what, value), without what is nothing."""
    scan, thread = this.khugepaged_scan, this.khugepaged_thread
    slot = scan._mm_slot
    values: dict[str, int | str] = {
        "full_scans": scan._full_scans,
        "clock_ms": this.clock_ms,
        "list": " ".join(each._mm.name for each in scan._mm_head),
        "cursor": "" if slot is None else f"{slot._mm.name} page {max(0, scan.address - this.base) // this.machine.page_size}",
        "sleeps": {"timeout": f"until {thread._timeout} ms", "event": "until there is work"}.get(thread._waits, ""),
        "running": int(thread._running),
    }
    return tuple((name, value) for name, value in values.items() if value)


def _mm(this: System, mm: MmStruct) -> tuple[Value, ...]:
    """An address space; of the ranges behind the first one, only their tables."""
    vmas = tuple((v._vm_start - this.base, v._vm_end - this.base, v._vm_flags, v._anon_vma is not None) for v in mm._vmas)
    counters = (*mm._rss_stat, mm._ksm_zero_pages)
    pmd, deposited, entries = _range(this, mm, 0)
    own = mm.ident, mm._mm_users, mm._flags, counters, mm._pgtables_bytes, pmd, deposited, vmas, entries
    return own, *(_next_range(this, mm, number) for number in range(1, len(mm._pmds)))


def _next_range(this: System, mm: MmStruct, number: int) -> tuple[Value, ...]:
    pmd, deposited, entries = _range(this, mm, number)
    return f"{mm.ident}.{number}", 0, 0, (), 0, pmd, deposited, (), entries


def _range(this: System, mm: MmStruct, number: int) -> tuple[Value, tuple[Value, ...], Value]:
    """What the PMD entry of a range leads to, the tables deposited there, and the entries."""
    table = table_of(this, mm, number)
    page = mm._pmds[number] if mm._pmds else None
    deposited = () if page is None else tuple(t.label for t in page._deposited)
    if isinstance(table, PtePage):
        pmd = table.label, table.freed_by, 0 if page is None else page.slot._val & ~_PFN_FIELD
        return pmd, deposited, tuple([_entry(this, pte) for pte in table._entries])
    if isinstance(table, Page):
        return (table.name, table.freed_by, 0 if page is None else page.slot._val & ~_PFN_FIELD), deposited, ()
    if value := pmd_of(mm, number):
        return ("huge zero page", "", value & ~_PFN_FIELD), deposited, ()
    return None, deposited, ()


def _entry(this: System, pte: int) -> Value:
    if not pte & 0x101:
        return _non_swap(this, pte_t(pte)) if pte and non_swap_entry(pte_t(pte)) else pte
    pfn = (pte >> 12) & 0xFFFFFFFFFF
    if pfn == ZERO_PFN:
        return "zero", 0, pte & ~_PFN_FIELD
    page = this.mem_map.get(pfn)
    if page is None:
        return "no folio", 0, pte & ~_PFN_FIELD
    return page.folio.label, page.index, pte & ~_PFN_FIELD


def _non_swap(this: System, pte: pte_t) -> Value:
    """A marker by its bits; an entry that stands for a page by the page's name and what else the entry says."""
    if pte_marker_get(pte):
        return pte
    folio = this.mem_map[swp_entry_pfn(pte)].folio
    return folio.label, pte_swp_type(pte), is_migration_entry_young(pte), is_migration_entry_dirty(pte), pte & 0x1FF


def _folios(this: System) -> tuple[Value, ...]:
    batched: dict[int, tuple[Value, ...]] = {}
    for cpu in this.per_cpu:
        for folio in cpu._lru_add:
            batched[folio.pfn] = (*batched.get(folio.pfn, ()), cpu.number)
    for cpu in this.per_cpu:
        for folio in cpu._lru_lazyfree:
            batched[folio.pfn] = (*batched.get(folio.pfn, ()), f"lazyfree {cpu.number}")
    for cpu in this.per_cpu:
        for folio, what in cpu._mlock_fbatch:
            batched[folio.pfn] = (*batched.get(folio.pfn, ()), f"{what} {cpu.number}")
    deferred = {f.pfn for f in this.deferred_split._split_queue}
    return tuple(sorted([_folio(f, batched.get(f.pfn, ()), f.pfn in deferred) for f in this.folios if not f.freed_by]))


def _folio(f: Folio, batched: tuple[Value, ...], deferred: bool) -> tuple[Value, ...]:
    ids = f._mm_ids
    shared = f._mapcount > 1 and f._mapcount not in (ids[1], ids[3]) if f.order else f._mapcount > 1
    anon = "" if f._mapping is None else f._mapping.label
    pages = tuple([(p._mapcount, p._flags, p._contents if p._contents >= 0 else -1) for p in f.pages])
    fixed = f.label, f.order, f.nid, f._refcount, f._mapcount, f._entire_mapcount, f._flags, f._mlock_count, f._index
    return (*fixed, anon, f._swap, f._memcg is not None, shared, batched, deferred, pages)
