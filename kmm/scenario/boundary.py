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
        model="one table, scanned as often as the scenario says, with the batches drained between two passes",
        where="kmm.scenario.run",
    ),
    Gap(
        key="madvise-loop",
        area="drivers",
        kernel="MADV_COLLAPSE drains the LRU batches of every CPU, visits each range of its argument and goes on after failures",
        model="one table, without the drain before the first pass",
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
        key="vma-neighbours",
        area="address space",
        kernel="VMAs merge, split and move, and lie beside mappings of files",
        model="anonymous VMAs as the scenario draws them; an event may unmap all of them, or put one in their place",
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
        kernel="VMAs have some flags more, of which none matters to the collapse of anonymous memory",
        model="the flags that a scenario may name",
        where="kmm.scenario.model",
    ),
    Gap(
        key="mlock",
        area="address space",
        kernel="mlock and munlock run at any time",
        model="locked VMAs and mlocked pages as they are; the batches of mlock change them, no system call does",
        where="kmm.mm.mlock",
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
        model="no fault but the one by which collapse swaps a page in; where userfaultfd would be asked for a missing page it retries",
        where="kmm.mm.memory",
    ),
    Gap(
        key="ksm",
        area="pages",
        kernel="ksmd merges and unmerges pages, through stable and unstable trees",
        model="merged pages and KSM-placed zero pages as they are; nobody merges, and a merged folio has no stable node to be found by",
        where="kmm.mm.ksm",
    ),
    Gap(
        key="lazyfree",
        area="pages",
        kernel="reclaim drops lazyfree pages that were not written again",
        model="lazyfree pages as they are; nobody reclaims them, so they keep their contents",
        where="kmm.scenario.place",
    ),
    Gap(
        key="device-memory",
        area="pages",
        kernel="devices migrate pages to their memory and back",
        model="small pages in device memory as they are; a fault on one that only the device reaches moves it to memory at once",
        where="kmm.mm.migrate",
    ),
    Gap(
        key="prot-none",
        area="pages",
        kernel="x86-64 stores the frame number of an entry without access inverted",
        model="it is stored plainly",
        where="kmm.mm.pte",
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
        model="pages that it unmapped are there; a source that turns out to be poisoned is queued, nothing takes it "
        "from there, and nobody is signalled",
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
        key="buddy",
        area="allocation",
        kernel="allocation compacts, reclaims, honours the node mask and the cpuset, and may fail",
        model="it takes the preferred node, and fails exactly where the scenario injects a failure",
        where="kmm.mm.page_alloc",
    ),
    Gap(
        key="numa",
        area="allocation",
        kernel="firmware tells how far nodes are from each other, and which are online",
        model="four nodes, all online: 0 and 1 are near each other, as are 2 and 3; the others are farther than the reclaim distance",
        where="kmm.mm.geometry",
    ),
    Gap(
        key="memcg-reclaim",
        area="allocation",
        kernel="a charge above the limit reclaims first, along a hierarchy of cgroups",
        model="one cgroup; a charge above its limit is refused at once",
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
        model="a folio is on a list, the evictable or the unevictable one, in a batch of one of two CPUs, or off",
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
        model="none of them runs; what they leave is given by the scenario, and a migration that a fault waits for gives up "
        "and maps the old page again (or, injected, begins anew)",
        where="kmm.mm.migrate",
    ),
    Gap(
        key="architecture",
        area="architecture",
        kernel="many architectures",
        model="x86-64, and one whose cache hook walks the live tables; entries have the bits of x86-64 at every page size",
        where="kmm.mm.pte",
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
        model="the windows announced to them are observed, and the pages that the scenario says are young in one; none translates anything",
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
