"""What the model leaves out: one list, for people and for machines."""

from __future__ import annotations

from typing import Final

import attrs

SCHEMA: Final = 1

AREAS: Final = ("concurrency", "drivers", "address space", "pages", "allocation", "swap", "reclaim", "architecture", "observation")


@attrs.frozen(kw_only=True)
class Gap:
    """One thing that a kernel has and the model has not.

    :param key: short name that stays the same
    :param area: one of :data:`AREAS`
    :param kernel: what a kernel does
    :param model: what the model does instead
    :param where: module in which it is left out
    """

    key: str
    area: str
    kernel: str
    model: str
    where: str


BOUNDARY: Final = (
    Gap(
        key="sequential",
        area="concurrency",
        kernel="any number of tasks run at once",
        model="one task; others act by whole operations (events) just before a sleeping point is passed, and what would block is refused",
        where="kmm.scenario.events",
    ),
    Gap(
        key="memory-order",
        area="concurrency",
        kernel="stores may become visible late and out of order",
        model="every store is seen at once; barriers are logged, the order of an access changes nothing, and there is no KCSAN",
        where="kmm.kernel.barrier",
    ),
    Gap(
        key="vma-lock-readers",
        area="concurrency",
        kernel="faults run under a per-VMA lock without the mmap lock",
        model="vma_start_write sets the sequence number; nobody reads it",
        where="kmm.mm.mmap",
    ),
    Gap(
        key="grace-period",
        area="concurrency",
        kernel="RCU callbacks run at any time after the last read section",
        model="a grace period ends right after an event, if the driver is in no read section",
        where="kmm.scenario.events",
    ),
    Gap(
        key="ipi",
        area="concurrency",
        kernel="tlb_remove_table_sync_one waits for CPUs in IRQ-off sections such as GUP-fast",
        model="no other CPU is ever in one, so a missing call leaves nothing to see; tlb = ipi and broadcast act alike",
        where="kmm.kernel.barrier",
    ),
    Gap(
        key="daemon",
        area="drivers",
        kernel="khugepaged walks a list of address spaces, sleeps, and counts pages against its quota",
        model="one scan of one table",
        where="kmm.scenario.run",
    ),
    Gap(
        key="madvise-loop",
        area="drivers",
        kernel="MADV_COLLAPSE drains the LRU batches of every CPU, visits each range of its argument and goes on after failures",
        model="one scan of one table, without the drain",
        where="kmm.scenario.run",
    ),
    Gap(
        key="file",
        area="drivers",
        kernel="file and shmem mappings collapse too",
        model="anonymous memory only",
        where="kmm.mm.khugepaged.scan",
    ),
    Gap(
        key="one-vma",
        area="address space",
        kernel="several VMAs may lie in the range of one table",
        model="exactly one VMA, which covers the table; an event may replace it by a shorter one",
        where="kmm.scenario.model",
    ),
    Gap(
        key="one-pmd",
        area="address space",
        kernel="an address space has many tables",
        model="one PMD entry and one table in each address space",
        where="kmm.scenario.build",
    ),
    Gap(
        key="vma-flags",
        area="address space",
        kernel="VMAs may be locked, droppable, growing, PROT_NONE by fault or special",
        model="read, write, exec, hugepage, nohugepage, uffd_missing and uffd_wp",
        where="kmm.scenario.model",
    ),
    Gap(
        key="mlock",
        area="address space",
        kernel="pages of locked VMAs go to the mlock batch and are counted",
        model="no locked VMA",
        where="kmm.mm.swap",
    ),
    Gap(
        key="siblings-at-rest",
        area="address space",
        kernel="the other address spaces that map a page run, fork and exit",
        model="up to three, which do nothing; fork is not an event",
        where="kmm.scenario.build",
    ),
    Gap(
        key="exit",
        area="address space",
        kernel="the last user of an address space tears it down",
        model="the exit event drops the last user; nothing is torn down before the run ends",
        where="kmm.mm.madvise",
    ),
    Gap(
        key="faults",
        area="address space",
        kernel="user accesses fault pages in, copy on write and report to userfaultfd",
        model="no fault but the one by which collapse swaps a page in; userfaultfd is the VMA's registration and a bit of the entry",
        where="kmm.mm.memory",
    ),
    Gap(
        key="prctl-except-advised",
        area="address space",
        kernel="PR_SET_THP_DISABLE may spare advised VMAs",
        model="the prctl event disables all; the other flag is read, never set",
        where="kmm.mm.madvise",
    ),
    Gap(
        key="markers",
        area="pages",
        kernel="entries may be guard, poison or uffd-wp markers, hwpoison, migration or device-private entries",
        model="an entry is none, present, or an ordinary swap entry",
        where="kmm.scenario.page",
    ),
    Gap(
        key="prot-none",
        area="pages",
        kernel="NUMA balancing and mprotect make present entries without access",
        model="no such entry, although pte_present knows it",
        where="kmm.scenario.page",
    ),
    Gap(
        key="ksm",
        area="pages",
        kernel="KSM merges pages and places zero pages, which are dirty and counted",
        model="no KSM page; the zero page is clean",
        where="kmm.scenario.page",
    ),
    Gap(
        key="lazyfree",
        area="pages",
        kernel="MADV_FREE leaves anonymous pages that are not backed by swap",
        model="every page is",
        where="kmm.scenario.build",
    ),
    Gap(
        key="special-pages",
        area="pages",
        kernel="VM_MIXEDMAP and the like have entries without a folio, or with one that is not anonymous",
        model="a present entry maps an anonymous folio or the zero page",
        where="kmm.scenario.page",
    ),
    Gap(
        key="contents",
        area="pages",
        kernel="a page holds bytes",
        model="a page holds one token; equal tokens are equal bytes, and 0 is zeros",
        where="kmm.mm.folio",
    ),
    Gap(
        key="memory-failure",
        area="pages",
        kernel="memory_failure unmaps a poisoned page",
        model="a poisoned source is queued; nothing takes it from there, and nobody is signalled",
        where="kmm.mm.memory",
    ),
    Gap(
        key="idle",
        area="pages",
        kernel="idle page tracking keeps a young bit of its own",
        model="it is not built in",
        where="kmm.mm.folio",
    ),
    Gap(
        key="node-reclaim",
        area="allocation",
        kernel="with node reclaim a table that is spread over distant nodes is refused",
        model="node reclaim is off, so SCAN_SCAN_ABORT does not occur",
        where="kmm.mm.khugepaged.alloc",
    ),
    Gap(
        key="buddy",
        area="allocation",
        kernel="allocation compacts, reclaims, honours the node mask and the cpuset, and may fail",
        model="it takes the preferred node, and fails exactly where the scenario injects a failure",
        where="kmm.mm.page_alloc",
    ),
    Gap(
        key="memcg-limit",
        area="allocation",
        kernel="a charge above the limit reclaims, and may be refused",
        model="one cgroup without a limit; a refused charge is injected",
        where="kmm.mm.memcontrol",
    ),
    Gap(
        key="swap-device",
        area="swap",
        kernel="several devices, with read-ahead unless they are synchronous",
        model="one synchronous device without read-ahead; errors and lock contention are injected",
        where="kmm.mm.memory",
    ),
    Gap(
        key="large-swapcache",
        area="swap",
        kernel="large folios may be in the swap cache",
        model="only small ones may",
        where="kmm.scenario.page",
    ),
    Gap(
        key="lru",
        area="reclaim",
        kernel="active, inactive and generational lists",
        model="a folio is on a list, in a batch of one of two CPUs, or off",
        where="kmm.mm.swap",
    ),
    Gap(
        key="split",
        area="reclaim",
        kernel="the deferred-split shrinker splits what is queued",
        model="the queue is kept; nobody takes from it",
        where="kmm.mm.deferred_split",
    ),
    Gap(
        key="migration",
        area="reclaim",
        kernel="reclaim, compaction and migration unmap pages behind the owner's back",
        model="none of them runs; what they leave is given by the scenario",
        where="kmm.scenario.page",
    ),
    Gap(
        key="architecture",
        area="architecture",
        kernel="many architectures",
        model="x86-64, and one whose cache hook walks the live tables; entries have the bits of x86-64 at every page size",
        where="kmm.mm.pte",
    ),
    Gap(
        key="highpte",
        area="architecture",
        kernel="32-bit kernels may keep page tables in high memory",
        model="mapping a table is an RCU read section, nothing more",
        where="kmm.mm.pgtable",
    ),
    Gap(
        key="pt-reclaim",
        area="architecture",
        kernel="with PT_RECLAIM, MADV_DONTNEED frees tables that it emptied",
        model="only the free_table event does, of the whole table; a zap leaves the empty table",
        where="kmm.mm.madvise",
    ),
    Gap(
        key="sparsemem",
        area="architecture",
        kernel="with classic sparse memory, folio_pfn reads the folio",
        model="it is arithmetic, as with a vmemmap",
        where="kmm.mm.folio",
    ),
    Gap(
        key="upper-levels",
        area="architecture",
        kernel="four or five levels of tables",
        model="a PMD page is there or absent; nothing stands above it",
        where="kmm.mm.pgtable",
    ),
    Gap(
        key="secondary-mmu",
        area="observation",
        kernel="devices and guests translate through MMUs of their own",
        model="none is attached; the windows announced to them are observed, and none reports a young page",
        where="kmm.mm.mmu_notifier",
    ),
    Gap(
        key="user-accesses",
        area="observation",
        kernel="threads read and write while the collapse goes on",
        model="two CPUs with TLBs filled at the start; the owner's memory is read once, at the end",
        where="kmm.scenario.quiescence",
    ),
    Gap(
        key="private-locals",
        area="observation",
        kernel="speed, stack use and code size differ between versions",
        model="none of them is observed, nor are time, lock hold times and the order of lock operations",
        where="kmm.judge.observe",
    ),
)
"""Sorted by area, in the order of :data:`AREAS`."""
