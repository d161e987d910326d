"""The sanitizers that look at a system at rest: REFCOUNT, TLB, CONSERVATION, TRANSPARENCY."""

from __future__ import annotations

from collections.abc import Iterator

from kmm.kernel.report import Report
from kmm.mm.folio import Folio, Page, PG_locked, PG_mlocked, PG_swapcache
from kmm.mm.mm_types import VM_LOCKED, MmStruct
from kmm.mm.pgtable import PtePage
from kmm.mm.pte import (
    PMD_NONE,
    PTE_MARKER_GUARD,
    PTE_MARKER_POISONED,
    ZERO_PFN,
    is_device_private_entry,
    is_huge_zero_pmd,
    is_hwpoison_entry,
    is_migration_entry,
    is_pmd_migration_entry,
    non_swap_entry,
    pmd_pfn,
    pmd_t,
    pmd_trans_huge,
    pte_marker_get,
    pte_pfn,
    pte_t,
    pte_to_swp_offset,
    swp_entry_pfn,
)
from kmm.mm.system import SIGBUS, SwapSlot, System
from kmm.scenario.build import World
from kmm.scenario.mm_slots import check_mm_slots
from kmm.scenario.place import SIGSEGV
from kmm.scenario.secondary import frame_name, secondary


def check_quiescence(world: World) -> None:
    """Run every check of this module; the reports go to the machine."""
    this = world.system
    mapped = _mappings(this)
    refcount(this, world)
    tlb(this)
    secondary(this, _entry_of)
    conservation(this, mapped)
    transparency(this)
    check_mm_slots(this)


def slots_in_use(this: System) -> dict[int, SwapSlot]:
    """The swap slots that are not free, by number."""
    return {offset: slot for offset, slot in this.swap.items() if _is_used(slot)}


def _is_used(slot: SwapSlot) -> bool:
    return slot._count > 0 or slot._cached is not None


def table_of(this: System, mm: MmStruct, number: int = 0) -> PtePage | Page | None:
    """What a PMD entry leads to: a table, the first page of a huge folio (also one that is being migrated), or nothing.

    The huge zero page is nothing: it has no folio.

    :param number: of the range
    """
    value = pmd_of(mm, number)
    if pmd_trans_huge(value) or is_pmd_migration_entry(value):
        return this.mem_map.get(pmd_pfn(value))
    return this.tables.get(pmd_pfn(value))


def pmd_of(mm: MmStruct, number: int = 0) -> pmd_t:
    """The PMD entry of a range; none where there is no PMD page."""
    page = mm._pmds[number] if number < len(mm._pmds) else None
    return PMD_NONE if page is None else page.slot._val


def tables_of(this: System, mm: MmStruct) -> list[PtePage]:
    """The PTE tables of a process that its PMD entries lead to, by address."""
    found = (table_of(this, mm, number) for number in range(len(mm._pmds)))
    return [table for table in found if isinstance(table, PtePage)]


def _mappings(this: System) -> dict[int, int]:
    """Frame number to how many entries of all tables map it (a huge entry counts at the first frame)."""
    count: dict[int, int] = {}
    for mm in this.mms:
        for number in range(len(mm._pmds)):
            _map_range(table_of(this, mm, number), pmd_of(mm, number), count)
    count.pop(ZERO_PFN, None)
    return count


def _map_range(table: PtePage | Page | None, pmd: pmd_t, count: dict[int, int]) -> None:
    if isinstance(table, PtePage):
        for pte in table._entries:
            if pte & 0x101:
                pfn = (pte >> 12) & 0xFFFFFFFFFF
                count[pfn] = count.get(pfn, 0) + 1
            elif pte and is_device_private_entry(pte):
                pfn = swp_entry_pfn(pte)
                count[pfn] = count.get(pfn, 0) + 1
    elif table is not None and pmd_trans_huge(pmd):
        count[table.pfn] = count.get(table.pfn, 0) + 1


def refcount(this: System, world: World) -> None:
    """REFCOUNT: references are mappings, swap cache, LRU and mlock batches, migrations, memory failure, pins; nobody keeps a folio lock."""
    migrating = this.migrations._under_way
    batched: dict[int, int] = dict.fromkeys(migrating, 1)
    for cpu in this.per_cpu:
        for folio in (*cpu._lru_add, *cpu._lru_lazyfree, *(folio for folio, _ in cpu._mlock_fbatch)):
            batched[folio.pfn] = batched.get(folio.pfn, 0) + 1
    for folio in this.poisoned:
        batched[folio.pfn] = batched.get(folio.pfn, 0) + 1
    for folio in this.folios:
        if folio.freed_by:
            continue
        flags = folio._flags
        known = folio._mapcount + batched.get(folio.pfn, 0) + folio._pincount
        if flags & PG_swapcache:
            known += 1 << folio.order
        if known != folio._refcount:
            this.machine.report("REFCOUNT", f"{folio.label} has {folio._refcount} references at the end, {known} of them have a holder")
        if flags & PG_locked and folio.lock_owner is not world.somebody and folio.pfn not in migrating:
            this.machine.report("LOCKDEP", f"{folio.label} is still locked at the end")


def tlb(this: System) -> None:
    """TLB: no CPU translates an address to anything but what the tables say, or to nothing they say."""
    for cpu in this.machine.cpus:
        for mm in this.mms:
            cached = cpu._tlb.get(mm.ident)
            if cached:
                _tlb_of(this, mm, cpu.number, cached)


def _tlb_of(this: System, mm: MmStruct, cpu: int, cached: dict[int, int]) -> None:
    for address, entry in cached.items():
        index = (address - this.base) // this.machine.page_size
        now = _entry_of(this, mm, index)
        old = (entry >> 12) & 0xFFFFFFFFFF
        if not now or old != (now >> 12) & 0xFFFFFFFFFF:
            this.machine.report("TLB", f"CPU {cpu} still translates page {index} to {frame_name(this, old)}: no flush reached it")
            return
        if entry & ~now & 0x3:
            what = "writes" if now & 1 else "uses"
            this.machine.report("TLB", f"CPU {cpu} still {what} page {index}, which the tables forbid: no flush reached it")
            return


def _entry_of(this: System, mm: MmStruct, index: int) -> int:
    """The entry that translates a page, a huge one as if it were the page's own; 0: nothing does."""
    number, at = divmod(index, this.machine.ptes)
    table, pmd = table_of(this, mm, number), pmd_of(mm, number)
    if isinstance(table, PtePage):
        return table._entries[at] if table._entries[at] & 0x101 else 0
    if table is not None and pmd_trans_huge(pmd):
        return table.pfn + at << 12 | pmd & 0xFFF
    return ZERO_PFN << 12 | pmd & 0xFFF if is_huge_zero_pmd(pmd) else 0


def conservation(this: System, mapped: dict[int, int]) -> None:
    """CONSERVATION: every counter equals what it counts."""
    report = this.machine.report
    for folio in this.folios:
        if not folio.freed_by:
            _mapcounts(this, folio, mapped)
    for mm in this.mms:
        _mm_counters(this, mm)
    if this.swap:
        _swap_slots(this)
    isolated = this.node_stat.get("nr_isolated_anon", 0)
    migrating = sum(1 << this.mem_map[pfn].folio.order for pfn in this.migrations._under_way)
    if isolated != migrating:
        report("CONSERVATION", f"NR_ISOLATED_ANON is {isolated} at the end, {migrating} pages are being migrated")
    live = [f for f in this.folios if not f.freed_by]
    _mlocks(this, live)
    mlocked = sum(1 << f.order for f in live if f._flags & PG_mlocked)
    if mlocked != this.node_stat.get("nr_mlock", 0):
        report("CONSERVATION", f"NR_MLOCK is {this.node_stat.get('nr_mlock', 0)}, {mlocked} pages are mlocked")
    charged = sum(1 << f.order for f in live if f._memcg is not None)
    usage = this.mms[0].memcg._usage
    if charged != usage:
        report("CONSERVATION", f"the cgroup is charged {usage} pages, its folios have {charged}")
    anon = sum(_mapped_pages(f) for f in live)
    stat = this.node_stat.get("nr_anon_mapped", 0)
    if anon != stat:
        report("CONSERVATION", f"NR_ANON_MAPPED is {stat}, {anon} anonymous pages are mapped")


def _mlocks(this: System, live: list[Folio]) -> None:
    """Who is mlocked is mapped by a locked VMA, or waits in a batch of mlock."""
    mlocked = [f for f in live if f._flags & PG_mlocked]
    if not mlocked:
        return
    waiting = {folio.pfn for cpu in this.per_cpu for folio, _ in cpu._mlock_fbatch}
    locked = {pfn for mm in this.mms for pfn in _frames_of_locked(this, mm)}
    for folio in mlocked:
        if folio.pfn not in waiting and not any(page.pfn in locked for page in folio.pages):
            this.machine.report("CONSERVATION", f"{folio.label} is mlocked, but no locked VMA maps it")


def _frames_of_locked(this: System, mm: MmStruct) -> Iterator[int]:
    """The frames that the locked VMAs of an address space map."""
    nr = this.machine.ptes
    for vma in mm._vmas:
        if not vma._vm_flags & VM_LOCKED:
            continue
        first, end = (max((address - this.base) // this.machine.page_size, 0) for address in (vma._vm_start, vma._vm_end))
        for number in range(first // nr, min(-(-end // nr), len(mm._pmds))):
            table = table_of(this, mm, number)
            if isinstance(table, PtePage):
                inside = table._entries[max(first - number * nr, 0) : end - number * nr]
                yield from (pte_pfn(pte) for pte in inside if pte & 0x101)
            elif table is not None:
                yield table.pfn


def _mapped_pages(folio: Folio) -> int:
    if folio._entire_mapcount:
        return 1 << folio.order
    if not folio.order:
        return int(folio._mapcount > 0)
    return sum(1 for page in folio.pages if page._mapcount)


def _mapcounts(this: System, folio: Folio, mapped: dict[int, int]) -> None:
    if folio.order == 0:
        found = mapped.get(folio.pfn, 0)
    else:
        found = sum(mapped.get(page.pfn, 0) for page in folio.pages)
        huge = folio._entire_mapcount
        for page in folio.pages:
            here = mapped.get(page.pfn, 0) - (huge if page.index == 0 else 0)
            if page._mapcount != here:
                text = f"{page.name} has mapcount {page._mapcount}, {here} page-table entries map it"
                this.machine.report("CONSERVATION", text)
                return
    if folio._mapcount != found:
        this.machine.report("CONSERVATION", f"{folio.label} has mapcount {folio._mapcount}, {found} page-table entries map it")


def _mm_counters(this: System, mm: MmStruct) -> None:
    anon = swap = ksm_zero = tables = 0
    for number, page in enumerate(mm._pmds):
        table = table_of(this, mm, number)
        tables += 0 if page is None else len(page._deposited) + isinstance(table, PtePage)
        if isinstance(table, Page):
            anon += this.machine.ptes
            continue
        for pte in () if table is None else table._entries:
            if pte & 0x101:
                if not pte & 0x200:
                    anon += 1
                elif pte & 0x40 and (pte >> 12) & 0xFFFFFFFFFF == ZERO_PFN:
                    ksm_zero += 1
            elif pte:
                if not non_swap_entry(pte):
                    swap += 1
                else:
                    anon += is_migration_entry(pte) or is_device_private_entry(pte)
                    _orphan(this, mm, pte)
    report = this.machine.report
    if mm._rss_stat[0] != anon:
        report("CONSERVATION", f"MM_ANONPAGES of {mm.name} is {mm._rss_stat[0]}, {anon} anonymous pages are mapped")
    if mm._rss_stat[1] != swap:
        report("CONSERVATION", f"MM_SWAPENTS of {mm.name} is {mm._rss_stat[1]}, it has {swap} swap entries")
    if mm._ksm_zero_pages != ksm_zero:
        report("CONSERVATION", f"the KSM zero pages of {mm.name} are counted as {mm._ksm_zero_pages}, {ksm_zero} are mapped")
    if mm._pgtables_bytes != tables * this.machine.page_size:
        text = f"pgtables_bytes of {mm.name} is {mm._pgtables_bytes}, it has {tables} PTE tables"
        report("CONSERVATION", text)


def _orphan(this: System, mm: MmStruct, pte: pte_t) -> None:
    """A migration entry stands for a page that is still being migrated."""
    if not is_migration_entry(pte):
        return
    folio = this.mem_map[swp_entry_pfn(pte)].folio
    if folio.pfn not in this.migrations._under_way:
        this.machine.report("CONSERVATION", f"{mm.name} has a migration entry for {folio.label}, which nobody migrates any more")


def _swap_slots(this: System) -> None:
    used = slots_in_use(this)
    entries = dict.fromkeys(used, 0)
    for mm in this.mms:
        for table in tables_of(this, mm):
            for pte in table._entries:
                if pte and not pte & 0x101 and not non_swap_entry(pte):
                    offset = pte_to_swp_offset(pte)
                    entries[offset] = entries.get(offset, 0) + 1
    for offset, slot in used.items():
        if slot._count != entries[offset]:
            text = f"swap slot {offset} has count {slot._count}, {entries[offset]} swap entries refer to it"
            this.machine.report("CONSERVATION", text)


def transparency(this: System) -> None:
    """TRANSPARENCY: every byte reads as it was last written, through the tables and by every address space."""
    for mm in this.mms:
        for number in range(len(mm._pmds)):
            if _differs(this, mm, number):
                return


def _differs(this: System, mm: MmStruct, number: int) -> bool:
    """Report the first page of a range that reads as something else than was written; true if there is one."""
    shadow, nr = this.shadow, this.machine.ptes
    table = table_of(this, mm, number)
    for at in range(nr):
        expected = shadow.get((mm.ident, number * nr + at))
        if expected is None:
            continue
        found = _user_reads(this, table, at)
        if found != expected:
            what = f"reads {_token(found)}, but {_token(expected)} was last written there" if isinstance(found, int) else found
            this.machine.report("TRANSPARENCY", f"page {number * nr + at} of {mm.name} {what}")
            return True
    return False


def _token(value: int) -> str:
    odd = {SIGBUS: "a SIGBUS", SIGSEGV: "a SIGSEGV"}
    return odd.get(value) or ("zeros" if value == 0 else f"contents {value}" if value > 0 else "bytes that were never written")


def _user_reads(this: System, table: PtePage | Page | None, index: int) -> int | str:
    """Token of what a read of a page gives, or why it gives none."""
    if table is None:
        return 0
    if isinstance(table, PtePage):
        if table.freed_by:
            return f"is reached through a table that {table.freed_by} freed"
        pte = table._entries[index]
        if not pte:
            return 0
        if not pte & 0x101:
            return _nonpresent(this, pte)
        pfn = (pte >> 12) & 0xFFFFFFFFFF
        if pfn == ZERO_PFN:
            return 0
        if pte & 0x200:
            return pfn
    else:
        pfn = table.pfn + index
    page = this.mem_map.get(pfn)
    if page is None:
        return "maps a frame that no folio has"
    if page.freed_by:
        return f"maps {page.name}, which {page.freed_by} freed"
    return page._contents


def _nonpresent(this: System, pte: pte_t) -> int | str:
    if not non_swap_entry(pte):
        return _swapped(this, pte_to_swp_offset(pte))
    if is_hwpoison_entry(pte):
        return SIGBUS
    marker = pte_marker_get(pte)
    if marker:
        return SIGSEGV if marker & PTE_MARKER_GUARD else SIGBUS if marker & PTE_MARKER_POISONED else 0
    page = this.mem_map[swp_entry_pfn(pte)]
    return f"leads to {page.name}, which {page.freed_by} freed" if page.freed_by else page._contents


def _swapped(this: System, offset: int) -> int | str:
    slot = this.swap.get(offset)
    if slot is None or not _is_used(slot):
        return f"refers to swap slot {offset}, which is free"
    if slot._cached is None:
        return slot._contents
    page = slot._cached.pages[offset - slot._cached._swap]
    return f"leads to {page.name}, which {page.freed_by} freed" if page.freed_by else page._contents


def first(reports: list[Report], order: tuple[str, ...]) -> Report | None:
    """The report of the earliest check in ``order``."""
    for check in order:
        for report in reports:
            if report.check == check:
                return report
    return None
